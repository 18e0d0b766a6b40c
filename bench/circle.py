"""The whole circle on recorded outcomes: serve, log, train, gate, and again, from a cold start.

In each round every query on the train contexts comes a few times. The policy that serves draws a
strategy (the first round has none, so it draws evenly), the recorded outcome is logged with the
propensity, a policy is fitted on the whole log so far, and serves only if the gate says so. What it
is then worth is measured on the other contexts, where every strategy's outcome is known: utility a
query in output tokens, the sleep's share counted, beside never sleeping, always sleeping, the best
fixed strategy and hindsight. Notes are at hand wherever sleep found any while the log is made.

Needs: bench/recorded/*.parquet (ship with the repository).
Takes: some minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.circle_rounds import Round, plot
from bench.costs import WHOLE
from bench.layout import table
from bench.policies import ARMS, N_AWAKE, Cases, Outcome, Router, fixed, oracle, outcome, read_cases
from bench.publish import DATASETS, RECORDED, golds
from bench.recorder import context_messages
from bench.recordings import HELD_OUT, Floats, read_recordings
from bench.resampling import draws, estimate, means
from bench.training_rows import read_training
from forethought.models.bundle import PolicyBundle
from forethought.models.features import FEATURE_VERSION
from forethought.router.allocation import Preferences, with_propensities
from forethought.router.candidates import predict_candidates
from forethought.router.pricing import Prices, cost
from forethought.router.records import (
    Candidate,
    Decision,
    Feedback,
    LoggedDecision,
    Usage,
)
from forethought.router.records import Outcome as LoggedOutcome
from forethought.training import progressive
from forethought.training.comparison import serving_target
from forethought.training.dataset import Dataset, from_log
from forethought.training.evaluation import evaluate
from forethought.training.fit import fit_bundle
from forethought.training.gate import GateRule, judge
from forethought.training.judged import AS_LOGGED

T: Final = 2.0
QUERIES: Final = 10.0
VALUE: Final = 3_000.0
"""Of a right answer, in output tokens at sleep time, as bench/allocation shows."""

EXPLORATION: Final = 0.1
PRICES: Final = Prices(input=T * WHOLE.input, cached_input=T * WHOLE.cached, output=T)
PREFERENCES: Final = Preferences(
    value_usd=VALUE / 1e6, latency_usd_per_s=0.0, quality_margin=1.0, exploration=EXPLORATION
)


def served(
    cases: Cases, bundle: PolicyBundle | None, visits: int, rng: np.random.Generator, start: int
) -> list[LoggedDecision]:
    """The log of one round."""
    log = []
    for visit in range(visits):
        for q in range(len(cases)):
            n = start + visit * len(cases) + q
            log.append(_logged(cases, bundle, q, rng, n))
    return log


def _logged(
    cases: Cases, bundle: PolicyBundle | None, q: int, rng: np.random.Generator, n: int
) -> LoggedDecision:
    asleep = cases.asleep[q]
    features = cases.awake[q] if asleep is None else asleep
    excluded = {
        arm.strategy: None if asleep is not None or i < N_AWAKE else "no notes"
        for i, arm in enumerate(ARMS)
    }
    candidates = _candidates(cases, bundle, q, features, excluded)
    chosen = candidates[int(rng.choice(len(candidates), p=[c.propensity for c in candidates]))]
    arm = [a.strategy for a in ARMS].index(chosen.strategy)
    spent = float(T * cases.price[q, arm]) / 1e6
    usage = cases.usage[q][chosen.strategy]
    output = round(1e6 * (spent - (cost(usage, PRICES) or 0.0)) / T)
    decision = Decision(
        id=f"dec_{n}", created_at=1_000.0 + n, tenant="bench",
        context_id=cases.context_ids[cases.context[q]], learned_context_id=None, query="",
        model="recorded", strategy=chosen.strategy, propensity=chosen.propensity, mode="explored",
        policy_version="none" if bundle is None else bundle.version,
        feature_version=FEATURE_VERSION, features=dict(features), candidates=candidates,
        predictability=None, expected_queries=None, reason="",
    )  # fmt: skip
    quality = float(cases.quality[q, arm])
    given = Feedback(id=f"fb_{n}", decision_id=decision.id, created_at=0.0, quality=quality)
    result = LoggedOutcome(
        decision_id=decision.id, status="ok", http_status=200, cost_usd=spent, latency_ms=1.0,
        usage=Usage(input_tokens=usage.input_tokens, cached_tokens=usage.cached_tokens,
                    output_tokens=max(1, output)),
    )  # fmt: skip
    return LoggedDecision(decision=decision, outcome=result, quality=quality, feedback=(given,))


def _candidates(
    cases: Cases,
    bundle: PolicyBundle | None,
    q: int,
    features: object,
    excluded: dict[str, str | None],
) -> tuple[Candidate, ...]:
    if bundle is not None:
        predicted = predict_candidates(
            bundle, features, excluded, cases.usage[q], PRICES, PREFERENCES  # type: ignore[arg-type]
        )  # fmt: skip
        return with_propensities(predicted, PREFERENCES)
    even = 1.0 / sum(why is None for why in excluded.values())
    return tuple(
        Candidate(strategy=name, excluded=why)
        if why is not None
        else Candidate(
            strategy=name, propensity=even, output_tokens=0.0,
            cost_usd=cost(cases.usage[q][name], PRICES),
        )
        for name, why in excluded.items()
    )  # fmt: skip


def trained(
    log: Sequence[LoggedDecision], champion: PolicyBundle | None, seed: int
) -> tuple[PolicyBundle, bool, str]:
    """What a round of training fits, whether it may serve, and what the gate said."""
    dataset = from_log(log)
    candidate = fit_bundle(dataset, seed=seed, init=None)
    target = serving_target(PREFERENCES, lambda _: PRICES)

    def fit(part: Dataset) -> PolicyBundle:
        return fit_bundle(part, seed=seed, init=None)

    stages = progressive.stages(dataset, fit, champion)
    verdict, _ = judge(
        lambda: evaluate(
            # Before any promotion, what serves is the even draw that the log was made by.
            dataset, candidate=candidate, champion=champion or AS_LOGGED, preferences=PREFERENCES,
            target=target, stages=stages, seed=seed,
        ),
        GateRule(margin=1.0),  # as for the router: here quality has its price
    )  # fmt: skip
    return candidate, verdict.promote, verdict.reason


def routed(cases: Cases, bundle: PolicyBundle | None) -> Outcome:
    """What the policy gets on contexts that it never saw; without one, the mean of all arms."""
    if bundle is None:
        every = [fixed(cases, arm, t=T, queries=QUERIES) for arm in range(len(ARMS))]
        quality = np.mean([one.quality for one in every], axis=0)
        return Outcome(quality, np.mean([one.cost for one in every], axis=0))
    router = Router(cases, bundle, WHOLE, t=T)
    slept = router.sleeps(VALUE, QUERIES)
    return outcome(cases, slept, router.chooses(VALUE, slept), t=T, queries=QUERIES)


def worth(found: Outcome) -> Floats:
    """Utility of each query, in output tokens at sleep time."""
    return np.asarray(VALUE * found.quality - found.cost)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.circle", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--visits", type=int, default=6, help="times each query comes a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="where to draw it, such as circle.png")
    args = parser.parse_args()

    recording = read_recordings(args.recorded)[args.model]
    _, rows = read_training(args.recorded, DATASETS, model=args.model)
    contexts = golds(DATASETS)
    texts = {name: context_messages(row)[0]["content"] for name, (row, _) in contexts.items()}
    seen, cases = (
        read_cases(recording, recording.datasets(), rows, texts, splits, WHOLE)
        for splits in (("train",), HELD_OUT)
    )
    drawn = draws(len(cases.context_ids), seed=args.seed)

    def repeats(found: Outcome) -> Floats:
        return means(drawn, cases.context, worth(found)[:, None])[:, 0]

    # Chosen where the policies learn, as an operator would.
    known = [float(worth(fixed(seen, a, t=T, queries=QUERIES)).mean()) for a in range(len(ARMS))]
    best_awake = int(np.argmax(known[:N_AWAKE]))
    best_asleep = N_AWAKE + int(np.argmax(known[N_AWAKE:]))
    best = int(np.argmax(known))
    simple = {
        f"never sleep ({ARMS[best_awake].strategy})": fixed(
            cases, best_awake, t=T, queries=QUERIES
        ),
        f"always sleep ({ARMS[best_asleep].strategy})": fixed(
            cases, best_asleep, t=T, queries=QUERIES
        ),
        f"best fixed ({ARMS[best].strategy})": fixed(cases, best, t=T, queries=QUERIES),
        "hindsight": oracle(cases, VALUE, t=T, queries=QUERIES),
    }
    rng = np.random.default_rng(args.seed)
    champion: PolicyBundle | None = None
    log: list[LoggedDecision] = []
    start = repeats(routed(cases, None))
    rounds = [Round(0, "none", promoted=False, utility=start, candidate=start)]
    for number in range(1, args.rounds + 1):
        log += served(seen, champion, args.visits, rng, len(log))
        candidate, promoted, reason = trained(log, champion, args.seed)
        own = repeats(routed(cases, candidate))
        if promoted:
            champion = candidate
        version = "none" if champion is None else champion.version
        utility = own if promoted else rounds[-1].utility
        rounds.append(Round(len(log), version, promoted, utility, own))
        print(f"round {number}: {reason}", flush=True)
    print(f"\n{len(cases)} held-out queries on {len(cases.context_ids)} contexts, t = {T:g}, "
          f"{QUERIES:g} queries a context, {VALUE:,.0f} tokens a right answer\n")  # fmt: skip
    lines = [
        [str(i), f"{one.n_logged:,}", one.version, "yes" if one.promoted else "",
         estimate(one.utility).show(0), estimate(one.candidate).show(0)]
        for i, one in enumerate(rounds)
    ]  # fmt: skip
    print(
        table(["round", "logged", "serves", "promoted", "utility a query", "without a gate"], lines)
    )
    known_lines = {name: repeats(found) for name, found in simple.items()}
    print(table(["beside", "utility a query"], [
        [name, estimate(found).show(0)] for name, found in known_lines.items()
    ]))  # fmt: skip
    if args.plot is not None:
        plot(rounds, {n: float(v[0]) for n, v in known_lines.items()}, args.plot,
             unit="output tokens")  # fmt: skip
    last = float(rounds[-1].utility[0])
    fixed_best = float(known_lines[f"best fixed ({ARMS[best].strategy})"][0])
    top = float(known_lines["hindsight"][0])
    figures = {
        f"utility_round_{i}": round(float(one.utility[0]), 1) for i, one in enumerate(rounds)
    }
    figures |= {
        "utility_best_fixed": round(fixed_best, 1),
        "utility_hindsight": round(top, 1),
        "utility_without_gate": round(float(rounds[-1].candidate[0]), 1),
        "share_of_hindsight_gain": round((last - fixed_best) / (top - fixed_best), 4),
        "promotions": sum(one.promoted for one in rounds),
    }
    print(json.dumps({"bench": "circle", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
