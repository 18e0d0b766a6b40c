"""What each way of exploring costs, and what its log is worth: regret beside the estimators' error.

Queries of recorded contexts come one by one; a policy that was fitted on other contexts draws a
strategy, the recorded outcome is judged, and the tenant's own answers move what it predicts next
(blending). Twice: on held-out contexts of the kinds that it knows, and on a data set that it has
never seen. As every strategy's outcome is recorded, nothing has to be estimated:

- *utility* a query, in output tokens at sleep time, as in bench/circle: what serving so is worth,
  and its difference to the same policy that explores nothing, paired by stream;
- *error*: the standard deviation that the draws give the inverse-propensity estimate of another
  policy's utility, from one decision of this log: ``sqrt(mean_i (u_ia^2 / p_ia - u_ia^2))`` for
  "always strategy a", in the quadratic mean over a; and the doubly robust one's, u less what the
  policy predicts. A log with twice the error needs four times as many decisions.

Needs: bench/recorded/*.parquet (ship with the repository).
Takes: four minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.circle import PREFERENCES, PRICES, VALUE, T
from bench.costs import WHOLE
from bench.layout import table
from bench.policies import ARMS, Cases, read_cases
from bench.publish import DATASETS, RECORDED, golds
from bench.recorder import context_messages
from bench.recordings import HELD_OUT, Floats, read_recordings
from bench.training_rows import read_training
from forethought.models.bundle import PolicyBundle
from forethought.router.allocation import Preferences, with_propensities
from forethought.router.blending import Blending, Offsets
from forethought.router.candidates import predict_candidates
from forethought.router.records import Candidate, GradedAnswer
from forethought.training.fit import fit_bundle

NAMES: Final = tuple(arm.strategy for arm in ARMS)
_EVERY: Final[Mapping[str, str | None]] = dict.fromkeys(NAMES)


def _ways() -> dict[str, Preferences]:
    def way(kind: Any, exploration: float, temperature: float = 1e-4) -> Preferences:
        return replace(
            PREFERENCES, exploration_kind=kind, exploration=exploration, temperature_usd=temperature
        )

    return {
        "greedy": way("epsilon", 0.0),
        "epsilon 0.05": way("epsilon", 0.05),
        "epsilon 0.1": way("epsilon", 0.1),
        "epsilon 0.2": way("epsilon", 0.2),
        "softmax 0.03, floor 0.05": way("softmax", 0.05, 0.03 * PREFERENCES.value_usd),
        "softmax 0.05, floor 0.05": way("softmax", 0.05, 0.05 * PREFERENCES.value_usd),
        "softmax 0.1, floor 0.05": way("softmax", 0.05, 0.1 * PREFERENCES.value_usd),
        "thompson, floor 0.05": way("thompson", 0.05),
        "thompson, floor 0.02": way("thompson", 0.02),
    }


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Queries of one tenant in order, n of them, with notes at hand.

    ``utility`` (n, k) in output tokens is what each strategy got, ``expected`` (n, k) what the
    policy itself predicts of it.
    """

    cases: Cases
    bundle: PolicyBundle
    queries: Sequence[int]
    utility: Floats
    expected: Floats


@dataclass(frozen=True, slots=True)
class Served:
    """What a way of exploring got from a stream: means over its queries."""

    utility: float
    ips: float
    dr: float


def candidates(
    cases: Cases, bundle: PolicyBundle, q: int, preferences: Preferences, offsets: Offsets | None
) -> tuple[Candidate, ...]:
    features = cases.asleep[q]
    assert features is not None
    return predict_candidates(
        bundle, features, _EVERY, cases.usage[q], PRICES, preferences, offsets
    )


def stream_of(cases: Cases, bundle: PolicyBundle, visits: int, rng: np.random.Generator) -> Stream:
    """Every query with notes, ``visits`` times, in random order."""
    known = [q for q in range(len(cases)) if cases.asleep[q] is not None]
    order = np.concatenate([rng.permutation(known) for _ in range(visits)]).tolist()
    worth = {
        q: [1e6 * (c.utility or 0.0) for c in candidates(cases, bundle, q, PREFERENCES, None)]
        for q in known
    }
    return Stream(
        cases=cases, bundle=bundle, queries=order,
        utility=(VALUE * cases.quality - T * cases.price)[order],
        expected=np.array([worth[q] for q in order]),
    )  # fmt: skip


def served(stream: Stream, preferences: Preferences, rng: np.random.Generator) -> Served:
    """Serve the stream, each answer judged before the next query comes."""
    cases, version = stream.cases, stream.bundle.version
    blending = Blending()
    blending.begin(version, concentration=stream.bundle.predictability.concentration)
    p = np.zeros(stream.utility.shape)
    got = np.zeros(len(p))
    for i, q in enumerate(stream.queries):
        offsets = blending.of(version, "t", "m")
        drawn = with_propensities(
            candidates(cases, stream.bundle, q, preferences, offsets), preferences
        )
        p[i] = [c.propensity for c in drawn]
        arm = int(rng.choice(len(NAMES), p=p[i] / p[i].sum()))
        got[i] = (p[i] * stream.utility[i]).sum()  # expected over the draw: less noise to compare
        blending.judged(
            version,
            GradedAnswer(
                decision_id=str(i), tenant="t", model="m", candidate=drawn[arm],
                context_id=cases.context_ids[cases.context[q]],
                quality=float(cases.quality[q, arm]),
            ),
        )  # fmt: skip
    if p.min() <= 0:  # nothing can be estimated from a log without support
        return Served(float(got.mean()), np.nan, np.nan)
    return Served(
        float(got.mean()),
        estimator_error(p, stream.utility),
        estimator_error(p, stream.utility - stream.expected),
    )


def estimator_error(p: Floats, values: Floats) -> float:
    """The error of one decision's weighted value, the quadratic mean over "always this one".

    Args:
        p: Logged propensities, shape (n, k).
        values: What each strategy would have earned, or that less its prediction, (n, k).
    """
    variance = (values**2 * (1.0 / p - 1.0)).mean(axis=0)
    return float(np.sqrt(variance.mean()))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.exploration", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--visits", type=int, default=1, help="times each query comes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    recording = read_recordings(args.recorded)[args.model]
    dataset, rows = read_training(args.recorded, DATASETS, model=args.model)
    texts = {name: context_messages(r)[0]["content"] for name, (r, _) in golds(DATASETS).items()}
    split = np.array([row["split"] for row in rows])
    names = np.array([row["dataset"] for row in rows])

    def fitted(held_out: np.ndarray[Any, np.dtype[np.bool_]]) -> PolicyBundle:
        return fit_bundle(replace(dataset, held_out=held_out), seed=args.seed, init=None)

    def read(datasets: Sequence[str], splits: Sequence[str]) -> Cases:
        return read_cases(recording, datasets, rows, texts, splits, WHOLE)

    everything = ("train", *HELD_OUT)
    tenants = {"known kinds": (read(recording.datasets(), HELD_OUT), fitted(split != "train"))}
    for name in recording.datasets():
        tenants[f"{name}, unseen"] = (read([name], everything), fitted(names == name))
    figures: dict[str, float] = {}
    found: dict[str, dict[str, list[Served]]] = {}
    for tenant, (cases, bundle) in tenants.items():
        runs: dict[str, list[Served]] = {way: [] for way in _ways()}
        streams = [
            stream_of(cases, bundle, args.visits, np.random.default_rng([args.seed, repeat]))
            for repeat in range(args.repeats)
        ]
        for repeat, stream in enumerate(streams):
            for way, preferences in _ways().items():
                rng = np.random.default_rng([args.seed, repeat, 1])
                runs[way].append(served(stream, preferences, rng))
        found[tenant] = runs
        print(f"{tenant}: {len(streams[0].queries)} queries, {args.repeats} streams\n")
        print(table(["", "utility a query", "against greedy", "IPS error", "DR error"],
                    [_line(way, runs) for way in runs]), "\n", flush=True)  # fmt: skip
    lines = []
    for way in _ways():
        lost = [-_against(way, runs)[0] for runs in found.values()]
        error = [np.mean([one.dr for one in runs[way]]) for runs in found.values()]
        lines.append([way, f"{np.mean(lost):.1f}", f"{np.mean(error):.0f}"])
        key = way.replace(", floor", "").replace(" ", "_")
        figures[f"cost_{key}"] = float(np.mean(lost))
        if way != "greedy":
            figures[f"dr_error_{key}"] = float(np.mean(error))
    print("means over the tenants: tokens a query lost against greedy, DR error of one decision\n")
    print(table(["", "lost", "DR error"], lines))
    rounded = {name: round(value, 3) for name, value in figures.items()}
    print(json.dumps({"bench": "exploration", "figures": rounded, "targets": {}}))


def _against(way: str, runs: Mapping[str, Sequence[Served]]) -> tuple[float, float]:
    """The paired difference to serving greedily, and its standard error over streams."""
    differences = np.array(
        [one.utility - other.utility for one, other in zip(runs[way], runs["greedy"], strict=True)]
    )
    return float(differences.mean()), float(differences.std() / np.sqrt(len(differences)))


def _line(way: str, runs: Mapping[str, Sequence[Served]]) -> list[str]:
    mean, error = _against(way, runs)
    return [
        way,
        f"{np.mean([one.utility for one in runs[way]]):.0f}",
        f"{mean:+.1f} ± {error:.1f}",
        *(f"{np.mean([getattr(one, name) for one in runs[way]]):.0f}" for name in ("ips", "dr")),
    ]


if __name__ == "__main__":
    main()
