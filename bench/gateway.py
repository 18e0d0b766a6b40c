"""What the proxy costs a request, beside a bare pass-through and LiteLLM, in one run.

All are in front of the same mock upstream, which answers at once. A round asks each of them one
request after the other, in random order, and what counts is the difference to the upstream itself
in the same round. Then throughput: one of them at a time, in random order, several times. Ours
predicts, decides and logs durably, as it does for users; sleep is off, since the mock has nothing
to say asleep. It also runs with the log, the prediction and both switched off. Each was started
once before, so that the time until it is ready is that of compiled modules, as pip leaves them.

Needs: a quiet machine (refuses on a busy one). LiteLLM installs itself; --no-litellm: without it.
Takes: 5 minutes, and 4 the first time for LiteLLM's environment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.gateway_load import Connection, per_second, request
from bench.gateway_servers import BARE, DIRECT, LITE, OFF, OURS, Server, litellm_in, servers
from bench.layout import table
from bench.recordings import Floats

BUSY: Final = 0.15
"""Of the machine's time: above it, nothing that is measured here means anything."""

Timed = Mapping[str, Floats]


def busy_share(seconds: float = 2.0) -> float:
    """The share of all cores' time that was not idle."""

    def read() -> tuple[int, int]:
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(fields), fields[3] + fields[4]

    all_before, idle_before = read()
    time.sleep(seconds)
    all_after, idle_after = read()
    return 1.0 - (idle_after - idle_before) / max(1, all_after - all_before)


def rounds(found: Sequence[Server], n: int, *, stream: bool, dice: random.Random) -> Timed:
    """Milliseconds of each server's replies, shape (n,): to the first byte where streamed."""
    connections = {server.name: Connection(server.port) for server in found}
    asked = {server.name: request(server.port, stream=stream) for server in found}
    warm = max(20, n // 20)
    times: dict[str, list[float]] = {server.name: [] for server in found}
    for _ in range(warm + n):
        for server in dice.sample(list(found), len(found)):
            reply = connections[server.name].ask(asked[server.name])
            if reply.status != 200:
                raise RuntimeError(f"{server.name} answered {reply.status}: {reply.body[:300]!r}")
            times[server.name].append(1000 * (reply.first_s if stream else reply.whole_s))
    return {name: np.array(own[warm:]) for name, own in times.items()}


def throughput(
    found: Sequence[Server], *, repeats: int, seconds: float, stream: bool, dice: random.Random
) -> Timed:
    """Replies (or streamed events) a second with 16 connections, shape (repeats,) each."""
    rates: dict[str, list[float]] = {server.name: [] for server in found}
    for _ in range(repeats):
        for server in dice.sample(list(found), len(found)):
            rate = asyncio.run(
                per_second(server.port, connections=16, seconds=seconds, stream=stream)
            )
            rates[server.name].append(rate)
    return {name: np.array(own) for name, own in rates.items()}


def latency_lines(times: Timed, first: Timed) -> list[list[str]]:
    lines = []
    for name, own in times.items():
        added = own - times[DIRECT]
        lines.append(
            [name, f"{np.median(own):.2f}", f"{np.median(added):+.2f}",
             f"{np.quantile(added, 0.99):+.2f}", f"{np.median(first[name] - first[DIRECT]):+.2f}"]
        )  # fmt: skip
    return lines


def rate_lines(
    rates: Timed, events: Timed, found: Sequence[Server], rss: Mapping[str, float]
) -> list[list[str]]:
    return [
        [s.name, f"{np.median(rates[s.name]):,.0f}", f"{np.ptp(rates[s.name]):,.0f}",
         f"{np.median(events[s.name]):,.0f}", f"{rss[s.name]:.0f}", f"{s.rss_mb():.0f}",
         f"{s.ready_s:.1f}"]
        for s in found
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--soak", type=int, default=100_000, help="requests between two looks at "
                        "our memory")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-litellm", action="store_true")
    parser.add_argument("--litellm", type=Path, help="its command, where it is installed already")
    parser.add_argument("--anyway", action="store_true", help="also on a busy machine")
    args = parser.parse_args()

    if not args.anyway and (busy := busy_share()) > BUSY:
        sys.exit(
            f"This machine is busy ({busy:.0%}): its times would say nothing. Wait, or --anyway."
        )
    environment = Path(__file__).parent / "results" / "litellm"
    litellm = None if args.no_litellm else args.litellm or litellm_in(environment)
    dice = random.Random(args.seed)
    with (
        tempfile.TemporaryDirectory(prefix="forethought-bench-") as folder,
        servers(Path(folder), litellm, parts=True) as found,
    ):
        whole = [s for s in found if s.name not in OFF]
        times = rounds(found, args.rounds, stream=False, dice=dice)
        first = rounds(found, args.rounds // 4, stream=True, dice=dice)
        rss = {s.name: s.rss_mb() for s in found}
        options = {"repeats": args.repeats, "seconds": args.seconds, "dice": dice}
        rates = throughput(found, stream=False, **options)
        events = throughput(found, stream=True, **options)
        print(f"\n{args.rounds} rounds in random order, one connection each, milliseconds")
        head = ["", "p50", "added p50", "added p99", "to the first token, added p50"]
        print(table(head, latency_lines(times, first)))
        print(f"\n16 connections, median of {args.repeats} times {args.seconds:g} s")
        head = [
            "",
            "requests/s",
            "range",
            "streamed events/s",
            "MB before",
            "MB after",
            "ready in s",
        ]
        print(table(head, rate_lines(rates, events, found, rss)))
        ours = next(s for s in whole if s.name == OURS)
        grown = soak(ours, args.soak) if args.soak else []
        if grown:
            sizes = ", ".join(f"{size:.0f}" for size in grown)
            print(f"\nour memory over {args.soak:,} requests: {sizes} MB")
        figures = summary(times, first, rates, events, ours, grown)
    targets = {
        "added_p50_ms": 1.5, "added_p99_ms": 4.0, "requests_per_s": 700, "ttft_added_ms": 2.0,
        "chunks_per_s": 20_000, "rss_mb": 200, "ready_s": 2.0, "log_and_prediction_share": 0.15,
    }  # fmt: skip
    print()
    print(json.dumps({"bench": "gateway", "figures": figures, "targets": targets}))


def soak(server: Server, requests: int) -> list[float]:
    """Resident memory in MB at every tenth of so many requests."""
    found, asked = [server.rss_mb()], 0
    for part in range(1, 11):
        while asked < requests * part // 10:
            rate = asyncio.run(per_second(server.port, connections=16, seconds=2.0, stream=False))
            asked += int(2.0 * rate)
        found.append(server.rss_mb())
    return found


def summary(
    times: Timed, first: Timed, rates: Timed, events: Timed, ours: Server, grown: Sequence[float]
) -> dict[str, float]:
    added = times[OURS] - times[DIRECT]
    rate = {name: float(np.median(own)) for name, own in rates.items()}
    found = {
        "added_p50_ms": float(np.median(added)),
        "added_p99_ms": float(np.quantile(added, 0.99)),
        "added_p50_ms_bare": float(np.median(times[BARE] - times[DIRECT])),
        "requests_per_s": rate[OURS],
        "requests_per_s_vs_bare": rate[OURS] / rate[BARE],
        "ttft_added_ms": float(np.median(first[OURS] - first[DIRECT])),
        "chunks_per_s": float(np.median(events[OURS])),
        "rss_mb": max(grown, default=ours.rss_mb()),
        "ready_s": ours.ready_s,
        "log_and_prediction_share": 1.0 - rate[OURS] / rate["without both"],
    }
    if grown:
        found["rss_growth_mb"] = grown[-1] - grown[1]
    if LITE in rates:
        found["requests_per_s_vs_litellm"] = rate[OURS] / rate[LITE]
        found["added_p50_ms_litellm"] = float(np.median(times[LITE] - times[DIRECT]))
    return {name: round(value, 3) for name, value in found.items()}


if __name__ == "__main__":
    main()
