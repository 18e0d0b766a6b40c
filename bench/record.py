"""Record real outcomes: every (context, query, strategy, sleep level) on a real model.

Runs the code that serves (the sleep writer, the strategies) against any OpenAI-compatible
server or a GGUF file, ``--parallel`` calls at a time, and appends every call to a journal.
A rerun, also after a kill, goes on where the journal ends. ``python -m bench.publish`` makes
the Parquet files of ``bench/recorded`` from journals.

Needs: an OpenAI-compatible server (--base-url), or weights (--gguf).
Takes: hours; the 1.5B writes about 48 tokens/s with llama.cpp on 2 cores, 110-220 with vLLM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from openai import OpenAI
from tqdm import tqdm

from bench.journal import Journal, Row
from bench.recorder import Recorder, Task, answer_tasks, sleep_tasks
from forethought.router.records import SleepLevel
from forethought.router.sleep.prompts import PROMPT_VERSION
from forethought.router.strategies import STRATEGIES
from forethought.router.upstream.llamacpp import EmbeddedUpstream

DATASETS = Path(__file__).parent / "datasets"
LEVELS = "k1r1 k3r1 k10r1"

# Output tokens of a call, to weigh the progress bar until the run has measured its own.
EXPECTED_TOKENS = {"sleep": 400.0, "direct": 220.0, "high": 250.0, "medium": 40.0, "low": 5.0}


def read_level(name: str) -> SleepLevel:
    found = re.fullmatch(r"k(\d+)r(\d+)", name)
    if found is None:
        raise argparse.ArgumentTypeError(f"{name!r} is no sleep level: write k3r1, for instance")
    return SleepLevel(drafts=int(found[1]), rounds=int(found[2]))


def contexts(files: Sequence[Path], splits: Sequence[str], limit: int | None) -> list[Row]:
    """The contexts of the data sets, interleaved, so that an early stop has some of each."""
    columns = []
    for file in files:
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        rows = [row for row in rows if row["split"] in splits][:limit]
        columns += [((i + 0.5) / len(rows), row) for i, row in enumerate(rows)]
    return [row for _, row in sorted(columns, key=lambda pair: pair[0])]


def run(recorder: Recorder, lanes: Sequence[Sequence[Task]], *, parallel: int, title: str) -> int:
    """Carry out the tasks, those of one lane in turn; returns how many failed.

    Those are tried again by a rerun.
    """
    failed = 0
    lock = threading.Lock()
    bar = tqdm(
        total=round(sum(map(_expected, chain(*lanes)))), desc=title, unit="tok", unit_scale=True,
        smoothing=0.05,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )  # fmt: skip

    def one(lane: Sequence[Task]) -> None:
        nonlocal failed
        for task in lane:
            try:
                recorder.run(task)
            except Exception as error:  # noqa: BLE001 - one call must not end a run of hours
                with lock:
                    failed += 1
                tqdm.write(f"{recorder.key(task)}: {error!r}", file=sys.stderr)
            with lock:
                bar.update(round(_expected(task)))

    with ThreadPoolExecutor(parallel) as pool, bar:
        list(pool.map(one, lanes))
    return failed


def _expected(task: Task) -> float:
    kind = "sleep" if task.strategy is None else task.strategy.rpartition(":")[2]
    drafts = task.level.drafts / 3 if kind == "sleep" and task.level else 1
    return drafts * EXPECTED_TOKENS[kind]


@contextmanager
def embedded(weights: Path, model: str, parallel: int) -> Iterator[tuple[str, str]]:
    """llama.cpp on ``weights``, for as long as the block runs: its address and key."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    upstream = EmbeddedUpstream(weights, alias=model, n_ctx=2048 * parallel, parallel=parallel)
    try:
        asyncio.run_coroutine_threadsafe(upstream.start(), loop).result()
        yield upstream.base_url, upstream.api_key
    finally:
        asyncio.run_coroutine_threadsafe(upstream.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.record", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("journal", type=Path, help="a .jsonl file; a rerun goes on with it")
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--base-url", help="an OpenAI-compatible server, with its /v1")
    server.add_argument("--gguf", type=Path, help="weights to serve with llama.cpp meanwhile")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", default="qwen2.5-coder-1.5b", help="the server's name of it")
    parser.add_argument(
        "--dataset", nargs="+", default=["gsm8k_multi", "fairytaleqa_multi", "tatqa_multi"],
        help="names in bench/datasets, or paths of files in the same form",
    )  # fmt: skip
    parser.add_argument("--split", nargs="+", default=["train", "validation", "test"])
    parser.add_argument("--limit", type=int, help="contexts of each data set")
    parser.add_argument("--queries", type=int, default=4, help="of each context, at most")
    parser.add_argument("--strategy", nargs="*", choices=list(STRATEGIES), default=None)
    parser.add_argument("--level", nargs="*", type=read_level, default=None, help=LEVELS)
    parser.add_argument("--samples", type=int, default=0, help="further answers by direct, sampled")
    parser.add_argument("--variant", default=PROMPT_VERSION, help="a name for this form of sleep")
    parser.add_argument("--parallel", type=int, default=8, help="calls at a time")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    strategies = list(STRATEGIES) if args.strategy is None else args.strategy
    levels = [read_level(n) for n in LEVELS.split()] if args.level is None else args.level
    files = [DATASETS / f"{n}.jsonl" if "/" not in n else Path(n) for n in args.dataset]
    rows = contexts(files, args.split, args.limit)
    journal = Journal(args.journal)
    answers = [
        [task]
        for task in answer_tasks(
            rows, strategies=strategies, levels=levels, samples=args.samples,
            max_queries=args.queries,
        )
    ]  # fmt: skip

    def record(base_url: str, api_key: str) -> int:
        client = OpenAI(base_url=base_url, api_key=api_key, max_retries=4, timeout=3600)
        recorder = Recorder(client, args.model, journal, variant=args.variant)
        failed = 0
        # Sleep first: its notes are what learned answers are given.
        for title, lanes in (("sleep", sleep_tasks(rows, levels)), ("answers", answers)):
            left = [[t for t in lane if journal.get(recorder.key(t)) is None] for lane in lanes]
            n, todo = sum(map(len, lanes)), sum(map(len, left))
            print(f"{title}: {n - todo} done before, {todo} to do", flush=True)
            failed += run(recorder, left, parallel=args.parallel, title=title)
        return failed

    if args.gguf is not None:
        with embedded(args.gguf, args.model, args.parallel) as (base_url, api_key):
            failed = record(base_url, api_key)
    else:
        failed = record(args.base_url, args.api_key)
    journal.close()
    print(f"{args.journal}: {len(journal)} rows")
    if failed:
        raise SystemExit(f"{failed} calls failed; run the same command again for them")


if __name__ == "__main__":
    main()
