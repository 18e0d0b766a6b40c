"""The circle where a gain can be proven: which of nine models answers a question.

``bench.circle`` has 123 contexts to learn on, too few to prove anything by bounds that always hold.
Here 5,608 questions were answered by each of nine models (LLMRouter), in contexts of one to five
questions on a topic. Round 0 draws a model evenly. Each round brings contexts that never came
before; the policy that serves draws a model, its recorded score is logged with the propensity,
each topic's best model is estimated on the contexts that are not held out, and it serves only if
the product's gate and ledger say so. What it is then worth is measured on other contexts, whose
every score is known, beside the best fixed model, each topic's best, and hindsight.

Needs: bench/traces/routing (ships with the repository).
Takes: half a minute.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.circle_rounds import Round, plot
from bench.layout import table
from bench.ope_data import FullFeedback, read_full_feedback
from bench.ope_tables import World
from bench.resampling import draws, estimate, means
from forethought.training import ope, progressive
from forethought.training.dataset import is_held_out
from forethought.training.estimators import DR, Sample
from forethought.training.evaluation import Difference, Evaluation, PolicyValue, Staged
from forethought.training.gate import GateResult, GateRule, decide
from forethought.training.judged import usual_rows
from forethought.training.ledger import LEDGER, Ledger

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Flags = NDArray[np.bool_]

EXPLORATION: Final = 0.3
"""Of a policy that serves, over nine models: each of the others is drawn once in thirty."""

PSEUDO_ROWS: Final = 20.0
"""At the overall mean, that each model's mean on a topic starts with."""

UNSEEN: Final = 0.3
"""Of the contexts, where policies are measured and nothing is logged."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The model that it likes for each topic, shape (topics,); None: it draws evenly."""

    favourite: Codes | None

    @property
    def version(self) -> str:
        return "even" if self.favourite is None else "-".join(map(str, self.favourite.tolist()))

    def probabilities(self, topic: Codes, k: int, exploration: float) -> Floats:
        """Of each of k models for questions on these topics, shape (n, k)."""
        if self.favourite is None:
            return np.full((len(topic), k), 1.0 / k)
        found = np.full((len(topic), k), exploration / k)
        found[np.arange(len(topic)), self.favourite[topic]] += 1.0 - exploration
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """n decisions: rows of the table, the model that answered, and so on; (n,), or (n, k)."""

    row: Codes
    context: Codes
    action: Codes
    propensities: Floats
    number: Codes
    """The round in which each was made."""

    @classmethod
    def empty(cls, k: int) -> Log:
        none = np.zeros(0, np.intp)
        return cls(row=none, context=none, action=none, propensities=np.zeros((0, k)), number=none)

    def take(self, kept: NDArray[np.bool_]) -> Log:
        return Log(
            row=self.row[kept], context=self.context[kept], action=self.action[kept],
            propensities=self.propensities[kept], number=self.number[kept],
        )  # fmt: skip

    def joined(self, other: Log) -> Log:
        return Log(
            row=np.r_[self.row, other.row], context=np.r_[self.context, other.context],
            action=np.r_[self.action, other.action], number=np.r_[self.number, other.number],
            propensities=np.vstack([self.propensities, other.propensities]),
        )  # fmt: skip


def served(
    feedback: FullFeedback, policy: Policy, contexts: list[Codes], first: int, number: int,
    rng: np.random.Generator,
) -> Log:  # fmt: skip
    """One round: every question of ``contexts``, which are numbered from ``first``."""
    row = np.concatenate(contexts)
    k = feedback.scores.shape[1]
    p = policy.probabilities(feedback.topic[row], k, EXPLORATION)
    action = (rng.random((len(row), 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    return Log(
        row=row,
        context=np.repeat(first + np.arange(len(contexts)), [len(one) for one in contexts]),
        action=np.minimum(action, k - 1),
        propensities=p,
        number=np.full(len(row), number),
    )


def fitted(feedback: FullFeedback, log: Log) -> Floats:
    """Each model's estimated mean score on each topic, shape (topics, k)."""
    k, n_topics = feedback.scores.shape[1], int(feedback.topic.max()) + 1
    score = feedback.scores[log.row, log.action]
    cell = feedback.topic[log.row] * k + log.action
    sums = np.bincount(cell, score, minlength=n_topics * k).reshape(n_topics, k)
    counts = np.bincount(cell, minlength=n_topics * k).reshape(n_topics, k)
    return np.asarray((sums + PSEUDO_ROWS * score.mean()) / (counts + PSEUDO_ROWS))


def judged(
    feedback: FullFeedback, log: Log, aside: Flags, champion: Policy, ledger: Ledger, since: int,
    n_stages: int,
) -> tuple[Policy, GateResult]:  # fmt: skip
    """The candidate of a log, and what the product's gate says of it.

    ``aside``: rows that are held out from the candidate, shape (n,). Contexts that came before the
    champion served are in every fit, and judge nothing.
    """
    old = log.number <= since
    groups = [str(one) for one in log.context.tolist()]
    parts = [
        (block.fitted, block.judged)
        for block in progressive.blocks(groups, held_out=aside, seen=old, n_stages=n_stages)
    ]
    parts.append((~aside, aside & ~old))
    stages = [
        _Stage.of(feedback, log.take(fitted_on), log.take(judged_by), champion)
        for fitted_on, judged_by in parts
    ]
    candidate = stages[-1].candidate
    base = log.take(parts[0][0])
    with ledger.turn():
        test = ledger.ask(
            scope=f"log since {since}", candidate=candidate.version, champion=champion.version,
            data=f"{len(groups)} decisions", alpha=GateRule().alpha, now=0.0,
        )  # fmt: skip
        evaluation = _evaluation(stages, champion, base, 1 - 2 * test.level)
        if evaluation.n_differ:
            ledger.record(test)
    return candidate, decide(evaluation, GateRule(), test)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """A candidate, judged by n decisions on contexts that it was not fitted on."""

    candidate: Policy
    reward: Floats
    log: Log
    new: Floats
    old: Floats
    predicted: Floats

    @classmethod
    def of(cls, feedback: FullFeedback, train: Log, test: Log, champion: Policy) -> _Stage:
        by_topic = fitted(feedback, train)
        candidate, topic = Policy(by_topic.argmax(axis=1)), feedback.topic[test.row]
        k = by_topic.shape[1]
        return cls(
            candidate=candidate,
            reward=feedback.scores[test.row, test.action],
            log=test,
            new=candidate.probabilities(topic, k, EXPLORATION),
            old=champion.probabilities(topic, k, EXPLORATION),
            predicted=by_topic[topic],
        )

    def terms(self) -> tuple[Floats, Floats, Floats]:
        """Paired DR terms and their bounds."""
        p, t = self.log.propensities, self.new - self.old
        bounds = ope.dr_term_bounds(p, t, self.predicted, reward_range=(0.0, 1.0))
        return ope.dr_terms(self.reward, self.log.action, p, t, self.predicted), *bounds


def _evaluation(
    stages: Sequence[_Stage], champion: Policy, base: Log, confidence: float
) -> Evaluation:
    own = stages[-1]
    each = [stage.terms() for stage in stages]
    names = [[str(one) for one in stage.log.context.tolist()] for stage in stages]
    terms, low, high = (np.concatenate([one[i] for one in each]) for i in range(3))
    numbers = np.repeat(np.arange(len(stages)), [len(one) for one in names])
    every = [name for part in names for name in part]
    gained = Difference.of(
        each[-1][0], names[-1], low=each[-1][1], high=each[-1][2], most=1.0,
        max_rows=usual_rows([str(one) for one in base.context.tolist()]), confidence=confidence,
        seed=0, staged=Staged(terms, every, low, high, numbers),
    )  # fmt: skip

    def value(version: str, t: Floats) -> PolicyValue:
        p = own.log.propensities
        sample = Sample.of(own.reward, own.log.action, p, t, own.predicted)
        right = DR().estimate(sample)
        return PolicyValue(
            version=version, utility_usd={"dr": right}, quality=right,
            largest_weight=ope.largest_possible_weight(p, t),
            effective_sample_size=ope.effective_sample_size(sample.weight),
        )  # fmt: skip

    differ = [np.abs(stage.new - stage.old).max(axis=1) > 1e-9 for stage in stages]
    taken = np.arange(len(own.new)), own.log.action
    return Evaluation(
        candidate=value(own.candidate.version, own.new),
        champion=value(champion.version, own.old),
        utility=gained, quality=gained, latency=None,
        n_decisions=len(terms), n_contexts=len(set(every)), n_held_out=len(own.reward),
        n_new=int(((own.new - own.old)[taken] > 1e-9).sum()),
        n_differ=int(np.concatenate(differ).sum()), n_stages=len(stages) - 1,
        cost_known=True, left_out={},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.circle_models", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--stages",
        type=int,
        default=progressive.N_STAGES,
        help="earlier fits that are judged, too; 0: the held-out contexts alone",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="where to draw it, such as circle.png")
    args = parser.parse_args()

    feedback = read_full_feedback("llmrouter")
    k = feedback.scores.shape[1]
    rng = np.random.default_rng(args.seed)
    contexts = World.of(feedback, rng).contexts
    order = rng.permutation(len(contexts))
    n_unseen = int(UNSEEN * len(order))
    unseen = [contexts[i] for i in order[:n_unseen]]
    traffic = [contexts[i] for i in order[n_unseen:]]
    rows = np.concatenate(unseen)
    place = np.repeat(np.arange(len(unseen)), [len(one) for one in unseen])
    drawn = draws(len(unseen), seed=args.seed)

    def repeats(chances: Floats) -> Floats:
        worth = (chances * feedback.scores[rows]).sum(axis=1)
        return means(drawn, place, worth[:, None])[:, 0]

    def worth(policy: Policy) -> Floats:
        return repeats(policy.probabilities(feedback.topic[rows], k, 0.0))

    champion, log, since = Policy(None), Log.empty(k), 0
    rounds = [Round(0, "even", promoted=False, utility=worth(champion), candidate=worth(champion))]
    promotions = 0
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / LEDGER)
        shares = np.array_split(np.arange(len(traffic)), args.rounds)
        for number, share in enumerate(shares, start=1):
            new = [traffic[i] for i in share.tolist()]
            log = log.joined(served(feedback, champion, new, int(share[0]), number, rng))
            aside = np.array([is_held_out(f"ctx_{one}") for one in log.context.tolist()])
            candidate, verdict = judged(feedback, log, aside, champion, ledger, since, args.stages)
            if verdict.promote:
                champion, since, promotions = candidate, number, promotions + 1
            rounds.append(
                Round(len(log.row), champion.version, verdict.promote, worth(champion),
                      worth(candidate))
            )  # fmt: skip
            print(f"round {number}: {verdict.reason.replace(' USD', '')}", flush=True)

    seen = np.concatenate(traffic)
    best = int(feedback.scores[seen].mean(axis=0).argmax())
    by = np.stack([feedback.scores[seen][feedback.topic[seen] == t].mean(axis=0).argmax()
                   for t in range(int(feedback.topic.max()) + 1)])  # fmt: skip
    hindsight = np.eye(k)[feedback.scores[rows].argmax(axis=1)]
    beside = {
        f"best fixed ({feedback.models[best]})": repeats(np.tile(np.eye(k)[best], (len(rows), 1))),
        "each topic's best": worth(Policy(by)),
        "hindsight": repeats(hindsight),
    }
    print(f"\n{len(rows):,} unseen questions in {len(unseen)} contexts: share answered right\n")
    print(table(["round", "logged", "serves", "promoted", "right", "without a gate"], [
        [str(i), f"{one.n_logged:,}", one.version, "yes" if one.promoted else "",
         estimate(one.utility).show(3), estimate(one.candidate).show(3)]
        for i, one in enumerate(rounds)
    ]))  # fmt: skip
    print(table(["beside", "right"], [[n, estimate(v).show(3)] for n, v in beside.items()]))
    if args.plot is not None:
        plot(rounds, {n: float(v[0]) for n, v in beside.items()}, args.plot, unit="share right")
    figures: dict[str, float] = {
        f"right_round_{i}": round(float(one.utility[0]), 4) for i, one in enumerate(rounds)
    }
    figures |= {
        "right_best_fixed": round(float(next(iter(beside.values()))[0]), 4),
        "right_hindsight": round(float(beside["hindsight"][0]), 4),
        "promotions": promotions,
    }
    print(json.dumps({"bench": "circle_models", "figures": figures, "targets": {"promotions": 1}}))


if __name__ == "__main__":
    main()
