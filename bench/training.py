"""How fast training reads, fits and judges, and in how much memory, by the size of the log.

A generator writes exports of invented decisions: features of the kinds and ranges of the real ones,
an outcome that depends on the strategy and a few features, a known policy that drew the strategies.
They are fitted out of core (``forethought train --engine stream``); the estimators are timed on
arrays of as many decisions and five strategies. Each size runs in a process of its own, so that its
peak memory is its own.

Needs: some 0.1 GB of disk for each million decisions.
Takes: a quarter of an hour, most of it for 10^7; a few minutes with --sizes 1e5,1e6.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.layout import table

STRATEGIES: Final = ("direct", "effort:low", "effort:high", "learned:low", "learned:high")
CHANCES: Final = (0.6, 0.1, 0.1, 0.1, 0.1)
TOKENS: Final = (150.0, 15.0, 300.0, 15.0, 250.0)
PER_CONTEXT: Final = 4
CHUNK: Final = 50_000
JUDGED_CHUNK: Final = 500_000
THREADS: Final = int(os.environ.get("BENCH_THREADS", "1"))
STAGES: Final = ("read", "fit", "measure", "evaluate")
SECONDS_OPE: Final = 300.0
PEAK_GIB: Final = 8.0


def write_export(folder: Path, n: int, seed: int) -> None:
    """``n`` decisions in the form of ``forethought export``, some 100,000 a day."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from forethought.models.features import DECISION_FEATURES
    from forethought.training.parquet import FEATURE, empty_schema

    rng = np.random.default_rng(seed)
    names = [feature.name for feature in DECISION_FEATURES]
    schema = empty_schema(names)
    per_day = 2 * CHUNK
    for start in range(0, n, per_day):
        day = folder / f"day=2026-{1 + start // per_day // 28:02d}-{1 + start // per_day % 28:02d}"
        day.mkdir(parents=True)
        with pq.ParquetWriter(day / "part-0.parquet", schema, compression="zstd") as writer:
            for first in range(start, min(start + per_day, n), CHUNK):
                rows = min(CHUNK, n - first)
                columns = _invented(rng, first, rows, names, FEATURE)
                arrays = [
                    pa.array(columns[field.name], field.type)
                    if field.name in columns
                    else pa.nulls(rows, field.type)
                    for field in schema
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _invented(
    rng: np.random.Generator, first: int, n: int, names: list[str], prefix: str
) -> dict[str, Any]:
    from forethought.models.features import FEATURE_VERSION

    ids = np.arange(first, first + n)
    context = ids // PER_CONTEXT
    strategy = rng.choice(len(STRATEGIES), n, p=CHANCES)
    easy = np.round(rng.normal(size=n), 2)
    known = rng.random(n) < 0.5
    right = 1 / (1 + np.exp(-(easy + 0.6 * (strategy == 3) + 0.4 * (strategy == 2) - 0.3)))
    judged = rng.random(n) < 0.7
    tokens = np.maximum(1, np.array(TOKENS)[strategy] * rng.lognormal(0, 0.4, n)).astype(int)
    features = {prefix + name: np.round(rng.normal(size=n), 1) for name in names}
    features[prefix + "q_context_cosine"] = easy
    for name in names:
        if name.startswith("art_"):
            features[prefix + name] = np.where(known, features[prefix + name], np.nan)
    quality = (rng.random(n) < right).astype(float)
    at = 1.7e9 + 0.8 * ids
    candidates = [
        {"strategy": name, "propensity": p} for name, p in zip(STRATEGIES, CHANCES, strict=True)
    ]
    return {
        "id": [f"dec_{i}" for i in ids.tolist()],
        "created_at": at,
        "tenant": ["bench"] * n,
        "context_id": [f"ctx_{i}" for i in context.tolist()],
        "model": ["m"] * n,
        "strategy": np.array(STRATEGIES)[strategy],
        "propensity": np.array(CHANCES)[strategy],
        "mode": ["explored"] * n,
        "policy_version": ["aaaaaaaaaaaa"] * n,
        "feature_version": [FEATURE_VERSION] * n,
        "candidates": [candidates] * n,
        "outcome.status": ["ok"] * n,
        "outcome.http_status": np.full(n, 200),
        "outcome.latency_ms": 20.0 * tokens,
        "outcome.cost_usd": 1e-6 * tokens,
        "outcome.finished_at": at + 1,
        "outcome.calls": np.ones(n, dtype=int),
        "usage.output_tokens": tokens,
        "feedback": [
            [{"id": f"fb_{i}", "created_at": t, "quality": q, "source": "grader"}] if j else []
            for i, t, q, j in zip(
                ids.tolist(), at.tolist(), quality.tolist(), judged.tolist(), strict=True
            )
        ],
        "sign.abandoned": np.zeros(n, dtype=bool),
        **features,
    }


def fit(n: int, folder: str) -> dict[str, float]:
    """Seconds of each stage of ``train --engine stream``: the clock's, and the processor's.

    Of the clock: ``read`` (labels), ``fit`` (all predictors), ``measure`` (held-out decisions read,
    predictors measured), ``evaluate`` (every estimator and interval, both policies). ``cpu`` is the
    processor's of all together. ``peak``: GiB.
    """
    from forethought.models.demand import DemandModel
    from forethought.router.allocation import Preferences
    from forethought.training.comparison import compare
    from forethought.training.gate import GateRule
    from forethought.training.large import fit_large
    from forethought.training.sources import Source

    took: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    stages = {"reading the labels": "read", "reading held-out decisions": "measure"}
    under_way, began = "read", time.perf_counter()

    def say(stage: str) -> None:
        nonlocal under_way, began
        took[under_way] += time.perf_counter() - began
        under_way, began = stages.get(stage, "fit"), time.perf_counter()
        print(f"  {n:,} decisions: {stage}", file=sys.stderr, flush=True)

    dataset, bundle = fit_large(
        Source(data_dir=Path(folder), origin=Path(folder)), engine="stream", scheduler=None,
        seed=0, threads=THREADS, demand=DemandModel(), say=say,
    )  # fmt: skip
    say("judging")
    under_way = "evaluate"
    _, evaluation = compare(dataset, bundle, None, Preferences(), GateRule())
    took["evaluate"] += time.perf_counter() - began
    judged = 0 if evaluation is None else evaluation.n_decisions
    return {**took, "judged": judged, "cpu": time.process_time(), "peak": _peak_gib()}


def judge(n: int, _: str) -> dict[str, float]:
    """Seconds of each estimator and interval on ``n`` decisions, and the peak memory."""
    from forethought.training import betting, estimators, intervals, selection

    took: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        found = call()
        took[name] = took.get(name, 0.0) + time.perf_counter() - began
        return found

    parts, bounds = [], []
    for start in range(0, n, JUDGED_CHUNK):
        log = _drawn(min(JUDGED_CHUNK, n - start), seed=start)
        parts.append(timed("reduce", partial(estimators.Sample.of, *log)))
        bounds.append(timed("bounds", partial(_bounds, *log)))
    sample = estimators.Sample.concatenate(parts)
    del parts
    low, high = (np.concatenate([pair[i] for pair in bounds]) for i in (0, 1))
    del bounds
    contexts = np.arange(n) // 5
    tuned = selection.Tuned(estimators.DRos())
    for estimator in (
        estimators.DirectMethod(), estimators.IPS(), estimators.ClippedIPS(), estimators.SNIPS(),
        estimators.SNDR(), estimators.SwitchDR(), estimators.DRos(), tuned, estimators.DR(),
    ):  # fmt: skip
        name = "tuned DRos" if estimator is tuned else type(estimator).__name__
        timed(name, partial(estimator.fit, sample))
        terms = estimator.terms_
    timed("Bernstein", lambda: intervals.empirical_bernstein(terms, contexts, low=low, high=high))
    timed("betting", lambda: betting.betting(terms, contexts, low=low, high=high))
    timed("betting sequence", lambda: betting.betting_sequence(terms, contexts, low=low, high=high))
    timed("Student-t", lambda: intervals.student_t(terms, contexts))
    timed("bootstrap", lambda: intervals.cluster_bootstrap(terms, contexts))
    took["all"] = sum(took.values())
    return {**took, "peak": _peak_gib()}


def _drawn(n: int, *, seed: int) -> tuple[Any, ...]:
    """Rewards, actions, propensities, target and predictions of n logged decisions."""
    rng = np.random.default_rng(seed)
    k = len(STRATEGIES)
    target = np.full((n, k), 0.02)
    target[np.arange(n), rng.integers(0, k, n)] += 0.9
    action = rng.choice(k, n, p=CHANCES)
    return rng.random(n), action, np.tile(np.array(CHANCES), (n, 1)), target, np.full((n, k), 0.5)


def _bounds(_: Any, __: Any, propensities: Any, target: Any, predicted: Any) -> Any:
    from forethought.training import ope

    return ope.dr_term_bounds(propensities, target, predicted, reward_range=(0.0, 1.0))


def features(n: int, _: str) -> dict[str, float]:
    """Rows a second of computing a decision's features, its context's at hand."""
    from forethought.models.embedding import WordLlamaEmbedder
    from forethought.models.features import FeatureExtractor, HistoryFacts, RequestFacts

    extractor = FeatureExtractor(WordLlamaEmbedder().load())
    context = extractor.context(
        "Ann has 12 apples and sells half of them for 3 dollars each. " * 30
    )
    n = min(n, 20_000)
    began = time.perf_counter()
    for i in range(n):
        extractor.decision(
            context, f"How many dollars has Ann after {i} days?", None, HistoryFacts(),
            RequestFacts(),
        )  # fmt: skip
    return {"rows_per_s": n / (time.perf_counter() - began)}


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def alone(call: Callable[[int, str], dict[str, float]], n: int, folder: str) -> dict[str, float]:
    """Run in a new process: what another one took is not its memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, (n, folder))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.training", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--sizes", default="1e5,1e6,1e7", help="decisions to fit on")
    parser.add_argument("--judged", default="1e5,1e6,1e7", help="decisions to judge on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    figures: dict[str, float] = {}
    found = alone(features, 20_000, "")
    figures["rows_per_s_features"] = round(found["rows_per_s"])
    print(f"features of a decision: {found['rows_per_s']:,.0f} rows/s, one thread\n")
    print(f"Fit out of core, all predictors, {THREADS} thread(s) of {os.cpu_count()} cores")
    for size in filter(None, args.sizes.split(",")):
        n = int(float(size))
        with tempfile.TemporaryDirectory() as folder:
            write_export(Path(folder), n, args.seed)
            disk = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
            found = alone(fit, n, folder)
        whole = sum(found[stage] for stage in STAGES)
        figures["rows_per_s_fit"] = round(n / found["fit"])
        figures[f"rows_per_s_end_to_end_{size}"] = round(n / whole)
        figures[f"rows_per_cpu_s_{size}"] = round(n / found["cpu"])
        figures[f"peak_gib_fit_{size}"] = round(found["peak"], 2)
        # A row as soon as it is there: the next size takes ten times as long.
        print(table(
            ["decisions", "MiB", *(f"{stage}, s" for stage in STAGES), "judged on",
             "fit, rows/s", "all, rows/s", "all, rows/CPU s", "peak GiB"],
            [[f"{n:,}", f"{disk / 2**20:,.0f}", *(f"{found[stage]:,.1f}" for stage in STAGES),
              f"{found['judged']:,.0f}", f"{n / found['fit']:,.0f}", f"{n / whole:,.0f}",
              f"{n / found['cpu']:,.0f}", f"{found['peak']:.2f}"]],
        ), flush=True)  # fmt: skip
    rows, head = [], [""]
    for size in filter(None, args.judged.split(",")):
        n = int(float(size))
        found = alone(judge, n, "")
        peak = found.pop("peak")
        rows.append([f"{n:,}", *(f"{seconds:.2f}" for seconds in found.values()), f"{peak:.2f}"])
        head = ["decisions", *found, "peak GiB"]
        if n == 10**7:
            figures["seconds_ope_1e7"] = round(found["all"], 2)
            figures["peak_gib_1e7"] = round(peak, 2)
    turned = [list(column) for column in zip(head, *rows, strict=True)]
    if rows:
        print(f"\nEvery estimator and interval, {len(STRATEGIES)} strategies, seconds")
        print(table(turned[0], turned[1:]))
    targets = {"seconds_ope_1e7": SECONDS_OPE, "peak_gib_1e7": PEAK_GIB}
    print(json.dumps({"bench": "training", "figures": figures, "targets": targets}))


if __name__ == "__main__":
    main()
