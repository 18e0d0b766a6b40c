"""What the durable log costs a request, in processor time, and how long the request waits for it.

The writer alone, as the gateway uses it: a decision is queued, the upstream answers (here after up
to 4 ms of sleep), the context's query is counted, and the outcome is awaited until it is on the
disk. Decisions of the shipped policy on recorded queries, made beforehand. Several requests at
once and one at a time, each beside the same without a log, in turns. Processor time is that of the
event loop's thread and of the writer's; on a busy machine it is steadier than the waits.

Needs: bench/recorded/*.parquet (ship with the repository).
Takes: half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import uvloop

from bench.decision import PRICES, situations
from bench.layout import table
from bench.publish import RECORDED
from bench.recordings import read_recordings
from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import FeatureExtractor
from forethought.router.allocation import Preferences
from forethought.router.decision import Decider
from forethought.router.log import LogWriter, Store
from forethought.router.pricing import PriceTable
from forethought.router.records import Context, Decision, Outcome, Usage

USAGE = Usage(input_tokens=300, output_tokens=20)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run: microseconds of processor time a request, and milliseconds of waiting."""

    loop_us: float
    writer_us: float
    waits_ms: Sequence[float]
    per_transaction: float


def outcome(decision: Decision) -> Outcome:
    return Outcome(
        decision_id=decision.id, status="ok", http_status=200, usage=USAGE, cost_usd=1e-4,
        latency_ms=3.0, finish_reason="stop", finished_at=decision.created_at + 0.003,
        answer="She sells 9 eggs a day.",
    )  # fmt: skip


async def _run(writer: LogWriter | None, decisions: Sequence[Decision], at_once: int) -> Cost:
    waits: list[float] = []
    dice, following = random.Random(0), iter(decisions)

    async def serve() -> None:
        for decision in following:
            if writer is not None:
                writer.begin(decision)
            await asyncio.sleep(0.004 * dice.random())
            done = outcome(decision)
            if writer is not None:
                began = time.perf_counter()
                writer.context_touched(str(decision.context_id), decision.created_at)
                await writer.write(done)
                waits.append(1000 * (time.perf_counter() - began))

    before = 0 if writer is None else writer.stats.transactions
    loop, process = time.thread_time(), time.process_time()
    await asyncio.gather(*(serve() for _ in range(at_once)))
    loop, process = time.thread_time() - loop, time.process_time() - process
    n = len(decisions)
    after = 1 if writer is None else writer.stats.transactions
    return Cost(1e6 * loop / n, 1e6 * (process - loop) / n, waits, n / max(1, after - before))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.log", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--requests", type=int, default=600, help="in each run")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    over = situations(read_recordings(args.recorded)[args.model])
    decider = Decider(
        extractor=FeatureExtractor(WordLlamaEmbedder().load()),
        bundle=PolicyBundle.load(pretrained_dir()),
        prices=PriceTable({"m": PRICES}),
        preferences=Preferences(),
        rng=random.Random(0),
    )
    figures: dict[str, float] = {}
    lines: list[list[str]] = []
    with (
        tempfile.TemporaryDirectory(prefix="forethought-bench-") as folder,
        Store.open(f"{folder}/log.sqlite") as store,
        LogWriter(store) as writer,
    ):
        contexts = {s.context.id: s.context for s in over if isinstance(s.context, Context)}
        writer.write_sync(*contexts.values())
        endless = itertools.cycle(over)
        for at_once, name in ((16, "_16"), (1, "_alone")):
            found: list[tuple[Cost, Cost]] = []
            for _ in range(args.rounds):
                made = [
                    decider.decide(replace(s, now=time.time()))
                    for s in itertools.islice(endless, args.requests)
                ]
                without = uvloop.run(_run(None, made, at_once))
                found.append((without, uvloop.run(_run(writer, made, at_once))))
            loop = float(np.median([w.loop_us - o.loop_us for o, w in found]))
            thread = float(np.median([w.writer_us - o.writer_us for o, w in found]))
            waits = np.concatenate([w.waits_ms for _, w in found])
            shared = float(np.median([w.per_transaction for _, w in found]))
            p50, p99 = np.percentile(waits, (50, 99))
            lines.append(
                [str(at_once), f"{loop:.0f}", f"{thread:.0f}", f"{loop + thread:.0f}",
                 f"{shared:.1f}", f"{p50:.2f}", f"{p99:.2f}"]
            )  # fmt: skip
            figures |= {
                f"cpu_us{name}": loop + thread, f"loop_us{name}": loop,
                f"requests_per_transaction{name}": shared,
                f"wait_p50_ms{name}": float(p50), f"wait_p99_ms{name}": float(p99),
            }  # fmt: skip
    print(f"{args.rounds} times {args.requests} requests; microseconds of processor time each")
    head = ["at once", "the loop", "the writer", "both", "a transaction", "wait p50", "p99, ms"]
    print(table(head, lines))
    print()
    rounded = {name: round(value, 2) for name, value in figures.items()}
    print(json.dumps({"bench": "log", "figures": rounded, "targets": {}}))


if __name__ == "__main__":
    main()
