"""Does choosing pay? The shipped policy against fixed ones, simple rules and hindsight.

All data sets' validation and test contexts are judged at once, as traffic mixes them, each by
policies that were fitted on the contexts of other folds (and on the train contexts). Each policy
is drawn along its whole frontier, by the value of a right answer; mixtures are allowed to all.
Costs count what is read (the notes each time) and each query's share of the sleep, with N queries
a context; a token at test time costs t times one at sleep time, as in the paper's section 5.3
(arXiv 2504.13171). What hindsight gains is in part luck, which nobody can foresee: the last
table says how much it would gain among answers of one and the same strategy, and how much who
sees the answers of all strategies.

Needs: bench/recorded/*.parquet (ship with the repository).
Takes: three minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench import curves
from bench.costs import LATENCY_PREMIUMS, UNCACHED, WHOLE, Prices
from bench.layout import table
from bench.policies import (
    ARMS,
    N_AWAKE,
    Cases,
    Outcome,
    Router,
    fixed,
    one_arm_a_context,
    oracle,
    outcome,
    read_cases,
)
from bench.predictor import NEIGHBOURS
from bench.publish import DATASETS, RECORDED, golds
from bench.recorder import context_messages
from bench.recordings import (
    HELD_OUT,
    SCOPES,
    Floats,
    Ints,
    Panel,
    Recording,
    read_recordings,
)
from bench.resampling import Estimate, draws, estimate, means
from bench.training_rows import read_training
from forethought.models.boosting import grouped_folds
from forethought.models.bundle import PolicyBundle
from forethought.models.embedding import WordLlamaEmbedder
from forethought.router.sleep.writer import is_quantitative
from forethought.router.voting import final_answer, leader
from forethought.training.dataset import Dataset
from forethought.training.fit import fit_bundle

VALUES: Final = tuple(round(10 ** (1 + i / 4)) for i in range(17))
"""Of a right answer, in output tokens at sleep time: 10 to 100,000."""

SHOWN_VALUE: Final = 3000
QUERIES: Final = 10.0
COUNTED: Final[Mapping[str, Prices]] = {"cached input at a tenth": WHOLE, "no cache": UNCACHED}

Policy = Callable[[float], Outcome]
"""From the value of a right answer to what the policy then gets."""


@dataclass(frozen=True, kw_only=True)
class Market:
    """All that a comparison at one price needs.

    ``context`` (Q,) is that of each query; ``policies`` go by name.
    """

    context: Ints
    fixed: Mapping[str, Outcome]
    policies: Mapping[str, Policy]
    hindsight: Policy


def estimated(seen: Cases, estimates: Floats, cases: Cases, *, t: float, queries: float) -> Policy:
    """The policy of a simple rule: ``estimates`` (Q, A, 2) of quality and price at t = 1."""
    sleep_price = float(seen.sleep_price.mean())
    n = np.bincount(cases.context)

    def policy(value: float) -> Outcome:
        worth = value * estimates[..., 0] - t * estimates[..., 1]
        gain = worth.max(axis=1) - worth[:, :N_AWAKE].max(axis=1)
        slept = queries * np.bincount(cases.context, gain) / n > sleep_price
        awake = worth[:, :N_AWAKE].argmax(axis=1)
        chosen = np.where(slept[cases.context], worth.argmax(axis=1), awake)
        return outcome(cases, slept, chosen, t=t, queries=queries)

    return policy


def by_kind_and_length(seen: Cases, cases: Cases) -> Floats:
    """Mean quality and price of each arm on what was seen of the same kind and half by length."""
    middle = np.median([len(seen.texts[c]) for c in seen.context.tolist()])

    def cells(of: Cases) -> list[tuple[bool, bool]]:
        own = [(is_quantitative(text), bool(len(text) > middle)) for text in of.texts]
        return [own[c] for c in of.context.tolist()]

    known = np.stack([seen.quality, seen.price], axis=-1)
    where = cells(seen)
    means_of = {cell: known[[other == cell for other in where]].mean(axis=0) for cell in set(where)}
    overall = known.mean(axis=0)
    return np.array([means_of.get(cell, overall) for cell in cells(cases)])


def by_neighbours(seen: Cases, cases: Cases, vectors: Mapping[str, Floats]) -> Floats:
    """Mean quality and price of each arm on the nearest queries seen; ``vectors`` by query."""
    own, other = (np.stack([vectors[q] for q in of.query_ids]) for of in (cases, seen))
    order = np.argsort(-(own @ other.T), axis=1)[:, :NEIGHBOURS]
    return np.asarray(np.stack([seen.quality, seen.price], axis=-1)[order].mean(axis=1))


def query_vectors(cases: Cases, queries: Mapping[str, str]) -> dict[str, Floats]:
    """A unit vector of each query with its context, by the query's id."""
    embedder = WordLlamaEmbedder().load()
    texts = embedder.embed(list(cases.texts))[cases.context]
    both = np.hstack([embedder.embed([queries[name] for name in cases.query_ids]), texts])
    unit = np.asarray(both / np.linalg.norm(both, axis=1, keepdims=True), float)
    return dict(zip(cases.query_ids, unit, strict=True))


def market(
    seen: Cases, cases: Cases, bundle: PolicyBundle, vectors: Mapping[str, Floats],
    prices: Prices, *, t: float, queries: float,
) -> Market:  # fmt: skip
    """Every policy at one price, judged on one fold; rules learn from ``seen``."""
    router = Router(cases, bundle, prices, t=t)
    n_contexts = len(cases.context_ids)

    def routed(value: float, slept: Floats | None = None) -> Outcome:
        asleep = router.sleeps(value, queries) if slept is None else slept.astype(bool)
        chosen = router.chooses(value, asleep)
        return outcome(cases, asleep, chosen, t=t, queries=queries)

    def dealt(value: float) -> Outcome:
        slept = router.sleeps(value, queries)
        return at_random(cases, slept, router.chooses(value, slept), t=t, queries=queries)

    kinds = by_kind_and_length(seen, cases)
    near = by_neighbours(seen, cases, vectors)
    return Market(
        context=cases.context,
        fixed={
            str(arm): fixed(cases, i, t=t, queries=queries) for i, arm in enumerate(ARMS)
        },
        policies={
            "router": routed,
            "router, never asleep": lambda value: routed(value, np.zeros(n_contexts)),
            "router, always asleep": lambda value: routed(value, np.ones(n_contexts)),
            "its choices, dealt at random": dealt,
            "rule by kind and length": estimated(seen, kinds, cases, t=t, queries=queries),
            f"{NEIGHBOURS} nearest queries": estimated(seen, near, cases, t=t, queries=queries),
            "one arm a context, in hindsight": lambda value: one_arm_a_context(
                cases, value, t=t, queries=queries
            ),
        },
        hindsight=lambda value: oracle(cases, value, t=t, queries=queries),
    )  # fmt: skip


def at_random(
    cases: Cases, slept: NDArray[np.bool_], chosen: Ints, *, t: float, queries: float
) -> Outcome:
    """What is expected where as many queries get each arm, but it is drawn which: same cost."""
    share = np.bincount(chosen, minlength=len(ARMS)) / len(chosen)
    sleep = float((np.where(slept, cases.sleep_price, 0.0)[cases.context]).mean()) / queries
    return Outcome(cases.quality @ share, t * (cases.price @ share) + sleep)


def together(markets: Sequence[Market]) -> Market:
    """The folds as one: each policy is judged on all contexts, by its own fit to each."""
    starts = np.cumsum([0, *(int(m.context.max()) + 1 for m in markets)])

    def joined(found: Sequence[Outcome]) -> Outcome:
        quality, cost = ([getattr(o, name) for o in found] for name in ("quality", "cost"))
        return Outcome(np.concatenate(quality), np.concatenate(cost))

    def policy(name: str) -> Policy:
        return lambda value: joined([m.policies[name](value) for m in markets])

    return Market(
        context=np.concatenate(
            [m.context + start for m, start in zip(markets, starts.tolist(), strict=False)]
        ),
        fixed={name: joined([m.fixed[name] for m in markets]) for name in markets[0].fixed},
        policies={name: policy(name) for name in markets[0].policies},
        hindsight=lambda value: joined([m.hindsight(value) for m in markets]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A policy against the best fixed one, the best in utility at ``SHOWN_VALUE``.

    ``saving`` is at the accuracy of the most accurate fixed policy, ``saving_on_direct`` at that
    of ``direct``, which a client without a router gets; ``gain`` is in accuracy, at the cost of
    the most accurate; ``share`` is of what hindsight adds to the best fixed policy, in utility.
    ``aiq`` is the mean accuracy over all budgets from the cheapest fixed policy to the most
    accurate (RouterBench's AIQ), ``recovered`` the same from 0, the cheapest, to 100, the most
    accurate (RouteLLM's APGR, arXiv 2406.18665, over cost).
    """

    quality: Estimate
    cost: Estimate
    saving: Estimate
    saving_on_direct: Estimate
    gain: Estimate
    share: Estimate
    aiq: Estimate
    recovered: Estimate


def figures(of: Market, policy: Policy) -> Figures:
    drawn = draws(int(of.context.max()) + 1)

    def rows(found: Sequence[Outcome]) -> tuple[Floats, Floats]:
        cost = np.stack([o.cost for o in found], axis=1)
        quality = np.stack([o.quality for o in found], axis=1)
        return tuple(means(drawn, of.context, x) for x in (cost, quality))  # type: ignore[return-value]

    cost, quality = rows([policy(value) for value in VALUES])
    fixed_cost, fixed_quality = rows(list(of.fixed.values()))
    # The best is chosen on the data themselves and kept in every repeat: it favours the fixed.
    best = int(fixed_quality[0].argmax())
    best_cost, best_quality = fixed_cost[:, best], fixed_quality[:, best]
    ratio, _ = curves.equal_quality_ratio(cost, quality, best_cost, best_quality)
    direct_cost, direct_quality = fixed_cost[:, 0], fixed_quality[:, 0]  # the first of ARMS
    of_direct, _ = curves.equal_quality_ratio(cost, quality, direct_cost, direct_quality)
    reached = curves.best_within(cost, quality, best_cost)
    (own_cost, own_quality), (top_cost, top_quality) = (
        rows([p(SHOWN_VALUE)]) for p in (policy, of.hindsight)
    )
    cheap = int(fixed_cost[0].argmin())
    cheap_cost, cheap_quality = fixed_cost[:, cheap], fixed_quality[:, cheap]
    # Whoever has no point so cheap can still send a query to the cheapest fixed policy.
    with_cheap = (np.column_stack([cost, cheap_cost]), np.column_stack([quality, cheap_quality]))
    aiq = curves.mean_quality(*with_cheap, cheap_cost, best_cost)
    worth = (SHOWN_VALUE * fixed_quality - fixed_cost).max(axis=1)
    own = SHOWN_VALUE * own_quality[:, 0] - own_cost[:, 0]
    top = SHOWN_VALUE * top_quality[:, 0] - top_cost[:, 0]
    return Figures(
        quality=estimate(own_quality[:, 0]).scaled(100),
        cost=estimate(own_cost[:, 0]),
        saving=estimate(1 - ratio).scaled(100),
        saving_on_direct=estimate(1 - of_direct).scaled(100),
        gain=estimate(reached - best_quality).scaled(100),
        share=estimate((own - worth) / (top - worth)).scaled(100),
        aiq=estimate(aiq).scaled(100),
        recovered=estimate((aiq - cheap_quality) / (best_quality - cheap_quality)).scaled(100),
    )


def show(of: Market) -> tuple[str, dict[str, Figures]]:
    """The table of one price, and the figures by policy."""
    found = {name: figures(of, policy) for name, policy in of.policies.items()}
    simple = {name: figures(of, _always(o)) for name, o in of.fixed.items()}
    head = [
        f"at {SHOWN_VALUE:,} tokens a right answer", "right", "cost a query",
        "saving at equal accuracy, %", "on direct, %", "points at equal cost", "of hindsight, %",
    ]  # fmt: skip
    lines = [
        [name, f.quality.show(1), f.cost.show(0), f.saving.show(0, sign=True),
         f.saving_on_direct.show(0, sign=True), f.gain.show(1, sign=True), f.share.show(0)]
        for name, f in {**found, **simple}.items()
    ]  # fmt: skip
    for line in lines[len(found) :]:
        line[3:6] = ["", "", ""]
    top = figures(of, of.hindsight)
    lines.append(["best in hindsight", top.quality.show(1), top.cost.show(0), "", "", "", "100"])
    over_all = {**found, "fixed ones, mixed at random": figures(of, best_fixed(of)),
                "best in hindsight": top}  # fmt: skip
    areas = [[name, f.aiq.show(1), f.recovered.show(0)] for name, f in over_all.items()]
    over = table(["over all budgets", "accuracy (AIQ), %", "recovered (APGR), %"], areas)
    return f"{table(head, lines)}\n\n{over}", found


def best_fixed(of: Market) -> Policy:
    """The fixed policy that is best at a value; along all values, the frontier of mixtures."""

    def policy(value: float) -> Outcome:
        return max(of.fixed.values(), key=lambda o: float((value * o.quality - o.cost).mean()))

    return policy


def _always(found: Outcome) -> Policy:
    return lambda _: found


def fold_bundles(dataset: Dataset, folds: Mapping[str, int], seed: int) -> list[PolicyBundle]:
    """By fold, a bundle fitted on all contexts but those that ``folds`` puts in it."""
    found = []
    for fold in range(max(folds.values()) + 1):
        held_out = np.array([folds.get(group) == fold for group in dataset.groups])
        found.append(fit_bundle(replace(dataset, held_out=held_out), seed=seed, init=None))
    return found


def luck(recording: Recording, names: Sequence[str], queries: Mapping[str, str]) -> str:
    """What hindsight gains over the best fixed strategy, in points, and what no router can have.

    Answers of ``direct`` to one query, greedy and sampled, as many of them as there are
    strategies, differ by chance alone: what the best of them gains is luck. Who asks every
    strategy and returns what most of them say has seen all that there is to see, at five times
    the price; a router has to choose before.
    """
    lines = []
    for name in names:
        of = recording.panel(name, ARMS, HELD_OUT)
        best_fixed = of.quality.mean(axis=0).max()
        arms = of.quality.max(axis=1).mean() - best_fixed
        most = _of_most(recording, of, queries).mean() - best_fixed
        sampled = [recording.samples(query)[: len(ARMS) - 1] for query in of.query_ids]
        each = np.array(
            [
                [greedy, *(row["quality"] for row in found)]
                for greedy, found in zip(of.quality[:, 0].tolist(), sampled, strict=True)
                if len(found) == len(ARMS) - 1
            ]
        )
        equals = each.max(axis=1).mean() - each.mean(axis=0).max() if len(each) else None
        lines.append([name, str(len(of)), f"{100 * arms:+.1f}", f"{100 * most:+.1f}",
                      "-" if equals is None else f"{100 * equals:+.1f}"])  # fmt: skip
    head = ["points over the best fixed", "queries", "best strategy in hindsight",
            "what most strategies say", "best of five answers of direct"]  # fmt: skip
    return table(head, lines)


def _of_most(recording: Recording, of: Panel, queries: Mapping[str, str]) -> Floats:
    """The quality (Q,) of what most arms say; of equals, the arm that is right most often."""
    order = np.argsort(-of.quality.mean(axis=0)).tolist()
    chosen = []
    for q, query_id in enumerate(of.query_ids):
        context_id = of.context_ids[of.context[q]]
        found = [recording.answered(query_id, context_id, of.arms[a]) for a in order]
        votes = [
            None if row is None else final_answer(row["answer"], queries[query_id]) for row in found
        ]
        chosen.append(order[leader(votes) or 0])
    return of.quality[np.arange(len(of)), chosen]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.allocation", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--past", choices=("alone", "together"), default="alone", help="see bench.past"
    )
    args = parser.parse_args()

    recording = read_recordings(args.recorded)[args.model]
    dataset, _ = read_training(args.recorded, DATASETS, model=args.model)
    _, rows = read_training(args.recorded, DATASETS, model=args.model, past=args.past)
    contexts = golds(DATASETS)
    texts = {name: context_messages(row)[0]["content"] for name, (row, _) in contexts.items()}
    queries = {name: q["query"] for _, own in contexts.values() for name, q in own.items()}
    judged = sorted({row["context_id"] for row in rows if row["split"] in HELD_OUT})
    folds = dict(zip(judged, grouped_folds(judged, seed=args.seed).tolist(), strict=True))
    bundles = fold_bundles(dataset, folds, args.seed)
    vectors: dict[str, Floats] = {}
    printed: dict[str, float] = {}
    for counted, prices in COUNTED.items():
        every = read_cases(recording, recording.datasets(), rows, texts, SCOPES["all"], prices)
        vectors = vectors or query_vectors(every, queries)
        fold = np.array([folds.get(name, -1) for name in every.context_ids])
        parts = [(every.on(fold != k), every.on(fold == k)) for k in range(len(bundles))]
        for t in LATENCY_PREMIUMS:
            of = together([
                market(seen, cases, bundle, vectors, prices, t=t, queries=QUERIES)
                for (seen, cases), bundle in zip(parts, bundles, strict=True)
            ])  # fmt: skip
            text, found = show(of)
            print(f"\n{counted}, t = {t:g}, {QUERIES:g} queries a context; {len(of.context)} "
                  f"queries on {len(set(of.context.tolist()))} contexts\n{text}")  # fmt: skip
            if counted == next(iter(COUNTED)):
                printed[f"saving_vs_best_fixed_t{t:g}"] = found["router"].saving.value / 100
                printed[f"saving_on_direct_t{t:g}"] = found["router"].saving_on_direct.value / 100
                printed[f"share_of_oracle_gain_t{t:g}"] = found["router"].share.value / 100
                printed[f"points_at_equal_cost_t{t:g}"] = found["router"].gain.value
    print(f"\nwhat is luck in hindsight\n{luck(recording, recording.datasets(), queries)}\n")
    rounded = {name: round(value, 4) for name, value in printed.items()}
    targets = {"saving_vs_best_fixed_t2": 0.3, "share_of_oracle_gain_t2": 0.6}
    print(json.dumps({"bench": "allocation", "figures": rounded, "targets": targets}))


if __name__ == "__main__":
    main()
