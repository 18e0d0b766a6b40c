"""What was acknowledged is there after the process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from forethought.router.log import LogReader, Store
from tests.packages import REPOSITORY
from tests.router.log.factories import TENANT

# Writes decisions and outcomes from 20 tasks and prints each id once it is acknowledged; every
# other decision is only queued, as the gateway does it.
_WRITE_UNTIL_KILLED = """
import asyncio, itertools, sys
from forethought.router.log import LogWriter, Store
from tests.router.log.factories import make_decision, make_outcome

writer = LogWriter(Store.open(sys.argv[1]))
numbers = itertools.count()

async def work():
    for n in numbers:
        if n % 2:
            writer.begin(make_decision(n))
        else:
            await writer.write(make_decision(n))
        await writer.write(make_outcome(n))
        print(f"dec_{n}", flush=True)

async def main():
    await asyncio.gather(*(work() for _ in range(20)))

asyncio.run(main())
"""


def test_no_acknowledged_record_is_lost_when_the_process_is_killed(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE_UNTIL_KILLED, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    # The last line may be cut by the kill.
    acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait()
    process.stdout.close()
    with Store.open(str(path)) as store:
        kept = {
            logged.decision.id: logged.outcome
            for logged in LogReader(store).logged_decisions(tenant=TENANT)
        }
    assert len(acknowledged) >= 300
    assert all(kept.get(decision_id) for decision_id in acknowledged)
