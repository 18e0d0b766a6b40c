"""How often the gate promotes by luck over 1,000 rounds of retraining, and when it promotes a gain.

A life is a champion that serves and explores, and a new candidate each round, judged on all
held-out decisions so far by the paired doubly robust terms, at the level that the ledger allows.
Nothing is better: how many lives have a false promotion within 1,000 rounds, under two kinds of
traffic; and the same where candidates are learned from the very log that judges them, stage by
stage. All candidates gain 5%: how many lives promote one, and after how many decisions. Beside it
gates without a ledger, and with a wider bound.

Needs: nothing.
Takes: fifteen minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.layout import table
from forethought.training import ope
from forethought.training.betting import betting_evidence
from forethought.training.dataset import HELD_OUT_SHARE
from forethought.training.gate import ALPHA
from forethought.training.intervals import empirical_bernstein, student_t
from forethought.training.ledger import level_of
from forethought.training.progressive import N_STAGES, ONLY_FITTED

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

N_ACTIONS: Final = 4
N_TYPES: Final = 8
"""Kinds of contexts that a candidate can tell apart."""

MAX_ROWS: Final = 3
"""No context counts for more: nine in ten have at most so many."""

CANDIDATE_EXPLORES: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How often the champion's log tries what, and how utilities are spread.

    ``worth``: the utility of a right answer; with ``rarely`` only one answer in that many is right,
    and worth that much more, so that the mean is the same.
    """

    name: str
    explored: float
    rarely: float = 1.0


DENSE: Final = Traffic(name="10% each of three others, utility 0 or 1", explored=0.1)
SKEWED: Final = Traffic(
    name="1% each of three others, one answer in 33 earns", explored=0.01, rarely=20.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """All held-out decisions of one life, in the order of their contexts; shape (n,) each."""

    context: Codes
    kind: Codes
    action: Codes
    reward: Floats
    propensities: Floats
    expected: float
    """The mean reward: what a model fitted on other contexts would know."""
    ends: Codes
    """How many decisions there are after each round."""


def live(traffic: Traffic, rounds: int, per_round: int, gain: float, seed: int) -> Log:
    """``per_round`` held-out contexts a round; ``gain``: relative, of every strategy but 0."""
    rng = np.random.default_rng(seed)
    n_contexts = rounds * per_round
    sizes = np.minimum(rng.geometric(0.6, n_contexts), 8)
    context = np.repeat(np.arange(n_contexts), sizes)
    n = len(context)
    easy = rng.beta(3, 2, n_contexts)[context]  # mean 0.6, shared by a context's queries
    kind = rng.integers(N_TYPES, size=n_contexts)[context]
    p = np.full(N_ACTIONS, traffic.explored)
    p[0] = 1 - p[1:].sum()
    action = rng.choice(N_ACTIONS, size=n, p=p)
    right = easy * np.where(action == 0, 1.0, 1.0 + gain) / (1.0 + max(gain, 0.0))
    reward = (rng.random(n) < right / traffic.rarely).astype(np.float64)
    return Log(
        context=context,
        kind=kind,
        action=action,
        reward=reward,
        propensities=p,
        expected=0.6 / traffic.rarely,
        ends=np.cumsum(np.bincount(context // per_round, minlength=rounds)),
    )


def paired_terms(log: Log, end: int, choice: Codes) -> tuple[Floats, float, float]:
    """DR terms of candidate - champion over the first ``end`` decisions, and their range.

    ``choice``: the candidate's favourite for each kind of context, shape (N_TYPES,).
    """
    difference = np.full((N_TYPES, N_ACTIONS), CANDIDATE_EXPLORES / N_ACTIONS)
    difference[np.arange(N_TYPES), choice] += 1 - CANDIDATE_EXPLORES
    difference -= log.propensities  # the champion's own policy is the one that logged
    # The reward model knows the mean and no more; a difference of policies sums to 0, so that its
    # direct part vanishes.
    q = log.expected
    ratio = difference / log.propensities
    weight = ratio[log.kind[:end], log.action[:end]]
    low, high = ope.dr_term_bounds(
        np.tile(log.propensities, (N_TYPES, 1)),
        difference,
        np.full((N_TYPES, N_ACTIONS), q),
        reward_range=(0.0, 1.0),
    )
    return weight * (log.reward[:end] - q), float(low.min()), float(high.max())


Gate = Callable[[Floats, Codes, float, float, int], bool]
"""Whether it promotes, from terms, contexts, their range, and the number of the round."""


def ours(terms: Floats, context: Codes, low: float, high: float, number: int) -> bool:
    level = level_of(number, ALPHA)
    won = betting_evidence(terms, context, low=low, high=high, level=level, max_rows=MAX_ROWS)
    return bool(won >= np.log(1 / level))


def bernstein(terms: Floats, context: Codes, low: float, high: float, number: int) -> bool:
    confidence = 1 - 2 * level_of(number, ALPHA)
    return empirical_bernstein(terms, context, low=low, high=high, confidence=confidence).low > 0


def student(terms: Floats, context: Codes, low: float, high: float, number: int) -> bool:  # noqa: ARG001
    return student_t(terms, context, confidence=1 - 2 * ALPHA).low > 0


def spent_student(terms: Floats, context: Codes, low: float, high: float, number: int) -> bool:  # noqa: ARG001
    return student_t(terms, context, confidence=1 - 2 * level_of(number, ALPHA)).low > 0


GATES: Final[Mapping[str, Gate]] = {
    "betting, error spent (ours)": ours,
    "empirical Bernstein, error spent": bernstein,
    "Student-t, error spent": spent_student,
    "Student-t, 5% each round": student,
}


WITHOUT_GAIN: Final = {name: gate for name, gate in GATES.items() if gate is not bernstein}
"""Bernstein's bound is wider still."""


def first_promotions(
    log: Log, gates: Mapping[str, Gate], seed: int, *, gains: bool
) -> dict[str, int | None]:
    """The round in which each gate first promotes; None: never. A candidate a round.

    Ends when all have promoted that are as narrow as betting: Bernstein's is not waited for.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, int | None] = dict.fromkeys(gates)
    for number, end in enumerate(log.ends.tolist(), start=1):
        # With a gain, a candidate is one that found it; without, it is any other policy.
        choice = rng.integers(1 if gains else 0, N_ACTIONS, size=N_TYPES)
        waiting = [name for name, promoted in found.items() if promoted is None]
        if all(gates[name] is bernstein for name in waiting):
            break
        if not end:
            continue
        terms, low, high = paired_terms(log, end, choice)
        for name in waiting:
            if gates[name](terms, log.context[:end], low, high, number):
                found[name] = number
    return found


def learned_promotes(log: Log, number_of_contexts: int, seed: int) -> int | None:
    """The round in which a candidate that was fitted on the log itself first passes; None: never.

    As ``training.progressive`` does it: each stage's policy takes each kind's best action so far,
    on the contexts before its stage, and is judged on those of its stage.
    """
    place = np.random.default_rng(seed).random(number_of_contexts)
    aside = np.random.default_rng(seed + 1).random(number_of_contexts) < HELD_OUT_SHARE
    cuts = np.linspace(ONLY_FITTED, 1.0, N_STAGES + 1)
    by_context = np.where(aside, N_STAGES + 1, np.searchsorted(cuts, place, side="right"))
    stage = by_context[log.context]  # 0: only fitted on
    cell = log.kind * N_ACTIONS + log.action
    for number, end in enumerate(log.ends.tolist(), start=1):
        earned = np.zeros((N_STAGES + 2, N_TYPES * N_ACTIONS))
        np.add.at(earned, (stage[:end], cell[:end]), log.reward[:end] - log.expected)
        so_far = np.cumsum(earned, axis=0)
        terms, lows, highs = np.empty(end), np.empty(end), np.empty(end)
        for one in range(1, N_STAGES + 2):
            best = so_far[one - 1].reshape(N_TYPES, N_ACTIONS).argmax(axis=1)
            rows = stage[:end] == one
            every, lows[rows], highs[rows] = paired_terms(log, end, best)
            terms[rows] = every[rows]
        judged = stage[:end] > 0
        if not judged.any():
            continue
        level = level_of(number, ALPHA)
        won = betting_evidence(
            terms[judged], log.context[:end][judged], low=lows[judged], high=highs[judged],
            level=level, max_rows=MAX_ROWS, stage=stage[:end][judged],
        )  # fmt: skip
        if won >= np.log(1 / level):
            return number
    return None


def share(found: list[dict[str, int | None]], name: str) -> float:
    return float(np.mean([one[name] is not None for one in found]))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gate", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--lives", type=int, default=60, help="without a gain, a kind of traffic")
    parser.add_argument("--learning-rounds", type=int, default=150)
    parser.add_argument("--gaining-lives", type=int, default=40)
    parser.add_argument("--gaining-rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rates: dict[str, float] = {}
    for traffic in (DENSE, SKEWED):
        began = time.perf_counter()
        found = []
        for life in range(args.lives):
            log = live(traffic, args.rounds, 20, 0.0, args.seed + life)
            found.append(first_promotions(log, WITHOUT_GAIN, args.seed + life, gains=False))
        print(
            f"\nNo true gain; {traffic.name}: {args.lives} lives of {args.rounds:,} rounds, 20 "
            f"held-out contexts a round ({time.perf_counter() - began:.0f} s)"
        )
        rows = [[name, f"{share(found, name):.3f}"] for name in WITHOUT_GAIN]
        print(table(["gate", "lives with a false promotion"], rows))
        rates = {name: max(share(found, name), rates.get(name, 0.0)) for name in WITHOUT_GAIN}

    began = time.perf_counter()
    learned = {
        traffic.name: [
            learned_promotes(
                live(traffic, args.learning_rounds, 40, 0.0, args.seed + life),
                40 * args.learning_rounds, args.seed + life,
            )
            for life in range(args.lives)
        ]
        for traffic in (DENSE, SKEWED)
    }  # fmt: skip
    print(
        f"\nNo true gain; candidates learned from the log that judges them, stage by stage: "
        f"{args.lives} lives of {args.learning_rounds:,} rounds, 40 contexts a round "
        f"({time.perf_counter() - began:.0f} s)"
    )
    falsely = {
        name: float(np.mean([one is not None for one in found])) for name, found in learned.items()
    }
    print(table(["traffic", "lives with a false promotion"],
                [[name, f"{one:.3f}"] for name, one in falsely.items()]))  # fmt: skip

    began = time.perf_counter()
    gaining, sizes = [], []
    for life in range(args.gaining_lives):
        log = live(DENSE, args.gaining_rounds, 250, 0.05, args.seed + 10_000 + life)
        gaining.append(first_promotions(log, GATES, args.seed + life, gains=True))
        sizes.append(log.ends)
    print(
        f"\nEvery candidate gains 5%; {DENSE.name}: {args.gaining_lives} lives of at most "
        f"{args.gaining_rounds} rounds, 250 held-out contexts a round "
        f"({time.perf_counter() - began:.0f} s)"
    )
    needed: dict[str, float] = {}
    rows = []
    for name in GATES:
        taken = [
            float(ends[number - 1]) if (number := one[name]) is not None else np.inf
            for one, ends in zip(gaining, sizes, strict=True)
        ]
        needed[name] = float(np.median(taken))
        rows.append(
            [
                name,
                f"{share(gaining, name):.2f}",
                f"{needed[name]:,.0f}",
                f"{float(np.quantile(taken, 0.8, method='higher')):,.0f}",
                f"{needed[name] / HELD_OUT_SHARE:,.0f}",
            ]
        )
    print(
        table(
            [
                "gate",
                "promoted",
                "held-out decisions: median",
                "80% of lives",
                "logged in all, median",
            ],
            rows,
        )
    )
    mine, naive = "betting, error spent (ours)", "Student-t, 5% each round"
    figures = {
        "false_promotion_rate": rates[mine],
        "false_promotion_rate_in_stages": max(falsely.values()),
        "alpha": ALPHA,
        "power_at_5pct": share(gaining, mine),
        "held_out_decisions_at_5pct": needed[mine],
        "logged_decisions_at_5pct": needed[mine] / HELD_OUT_SHARE,
        "false_promotion_rate_without_ledger": rates[naive],
    }
    targets = {
        "false_promotion_rate": ALPHA,
        "false_promotion_rate_in_stages": ALPHA,
        "power_at_5pct": 0.8,
    }
    print(json.dumps({"bench": "gate", "figures": figures, "targets": targets}))


if __name__ == "__main__":
    main()
