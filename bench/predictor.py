"""Does the predictor know which queries sleep serves? Held-out contexts, beside simple rules.

Two questions, as the router asks them. *Before sleep*, of the context alone: how often will
``learned:low`` be right (the predictability model)? *When the query has come* and the notes are
there: will it be right, and what does it gain over the same effort without notes (the outcome
model)? Every context is judged by models that were fitted on the contexts of other folds; then
those of one data set by models that were fitted on the two others. All that is asked of a context
whose tenant has no other, as on a new install; then again with the other contexts as one tenant's
traffic (``bench.past``), and with the queries' surprisal where it was scored (``bench.surprisal``).
Beside it: how many answers are no longer, and took no more time, than the outcome model says of
nine in ten.

Needs: bench/recorded/*.parquet (ship with the repository).
Takes: four minutes.
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

from bench.journal import Row
from bench.judging import REPEATS, Judgement, judge
from bench.layout import table
from bench.past import Past
from bench.publish import DATASETS, RECORDED, golds
from bench.recorder import NO_SLEEP, context_messages
from bench.recordings import Floats
from bench.resampling import Estimate, draws, estimate, means
from bench.surprisal import read_surprisals
from bench.training_rows import MAIN_LEVEL, read_training
from forethought.models.boosting import grouped_folds
from forethought.models.bundle import PolicyBundle
from forethought.models.calibration import group_codes
from forethought.models.concentration import covered
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import KNOWN_STRATEGIES, matrix
from forethought.router.sleep.writer import is_quantitative
from forethought.training.dataset import Dataset
from forethought.training.fit import fit_bundle

Flags = NDArray[np.bool_]
LEARNED: Final = "learned:low"
SAME_EFFORT: Final = "effort:low"
NEIGHBOURS: Final = 15


@dataclass(frozen=True, kw_only=True)
class Material:
    """The rows of one model as the predictor sees them, and what the simple rules see.

    ``dataset`` is fitted on; ``asked`` are the features of its rows when they are asked about.
    One entry a learned answer, n of them; ``learned`` are their places in ``dataset``.
    ``same_effort`` is the quality that the same effort had without notes, ``direct`` that of a
    plain answer; ``context_vectors`` and ``query_vectors`` are embeddings of shape (n, dim).
    """

    dataset: Dataset
    asked: Sequence[Mapping[str, float]]
    learned: NDArray[np.intp]
    names: NDArray[np.str_]
    levels: NDArray[np.str_]
    same_effort: Floats
    direct: Floats
    context_vectors: Floats
    query_vectors: Floats
    quantitative: Flags
    lengths: Floats

    @property
    def quality(self) -> Floats:
        return np.asarray(self.dataset.quality[self.learned])

    @property
    def groups(self) -> list[str]:
        return [self.dataset.groups[int(i)] for i in self.learned]

    def rows(self, chosen: Flags) -> list[Mapping[str, float]]:
        return [self.asked[i] for i in self.learned[chosen].tolist()]

    def column(self, name: str) -> Floats:
        """A feature of all entries, (n,)."""
        return np.array([self.asked[i][name] for i in self.learned.tolist()], float)


def read_material(
    recorded: Path,
    datasets: Path,
    model: str,
    *,
    past: Past = "alone",
    surprisals: Mapping[str, float] | None = None,
) -> Material:
    """Read the recorded rows of ``model``; one entry a greedy answer of ``learned:low``."""

    def read(known: Past) -> tuple[Dataset, list[Row]]:
        return read_training(recorded, datasets, model=model, past=known, surprisals=surprisals)

    (dataset, rows), (asked, _) = read("mixed"), read(past)
    without = {
        (row["query_id"], row["strategy"]): row["quality"] for row in rows
        if row["level"] == row["seen_at"] == NO_SLEEP
    }  # fmt: skip
    learned = np.array([i for i, row in enumerate(rows) if row["strategy"] == LEARNED])
    own: list[Row] = [rows[i] for i in learned.tolist()]
    contexts = golds(datasets)
    embedder = WordLlamaEmbedder().load()
    texts = {
        c: context_messages(contexts[c][0])[0]["content"] for c in {r["context_id"] for r in own}
    }
    queries = [contexts[r["context_id"]][1][r["query_id"]]["query"] for r in own]
    vectors = dict(zip(texts, embedder.embed(list(texts.values())), strict=True))
    return Material(
        dataset=dataset,
        asked=asked.rows,
        learned=learned,
        names=np.array([row["dataset"] for row in own]),
        levels=np.array([row["level"] for row in own]),
        same_effort=np.array([without[row["query_id"], SAME_EFFORT] for row in own], float),
        direct=np.array([without[row["query_id"], "direct"] for row in own], float),
        context_vectors=np.array([vectors[row["context_id"]] for row in own], float),
        query_vectors=np.array(embedder.embed(queries), float),
        quantitative=np.array([is_quantitative(texts[row["context_id"]]) for row in own]),
        lengths=np.array([len(texts[row["context_id"]]) for row in own], float),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is asked of a bundle and of rules that know the contexts of ``seen`` alone; (n,)."""

    bundle: PolicyBundle
    seen: Flags
    asked: Flags


Predict = Callable[[Material, PolicyBundle, Flags, Flags], Mapping[str, Floats]]


def cross_fitted(material: Material, seed: int) -> list[Part]:
    """Every context is asked of what was fitted on the contexts of the other folds."""
    folds = grouped_folds(material.groups, seed=seed)
    return [
        Part(bundle=fit(material, folds != k, seed), seen=folds != k, asked=folds == k)
        for k in range(int(folds.max()) + 1)
    ]


def fit(material: Material, seen: Flags, seed: int) -> PolicyBundle:
    """A bundle fitted on the contexts of the learned rows that ``seen`` marks, and no others."""
    contexts = {g for g, s in zip(material.groups, seen.tolist(), strict=True) if s}
    held_out = np.array([group not in contexts for group in material.dataset.groups])
    return fit_bundle(replace(material.dataset, held_out=held_out), seed=seed, init=None)


def before_sleep(
    material: Material, bundle: PolicyBundle, seen: Flags, asked: Flags
) -> dict[str, Floats]:
    """Predictions of the quality of ``learned:low`` from the context alone, by predictor."""
    y = material.quality
    main = seen & (material.levels == MAIN_LEVEL)
    own = bundle.predictability.predict(material.rows(asked)).mean
    return {
        "predictability": own,
        "kind and length": by_kind_and_length(material, main, asked),
        f"{NEIGHBOURS} nearest contexts": nearest(material.context_vectors, main, asked, y),
    }


def with_the_query(
    material: Material, bundle: PolicyBundle, seen: Flags, asked: Flags
) -> dict[str, Floats]:
    """Predictions of the same once the query and the notes are there."""
    rows = material.rows(asked)
    own = bundle.outcome.predict(matrix(rows, [LEARNED] * len(rows))).quality
    both = np.hstack([material.query_vectors, material.context_vectors])
    surprisal = material.column("q_surprisal")[asked]
    alone = {} if np.isnan(surprisal).any() else {"surprisal of the query alone": -surprisal - 1}
    return {
        "outcome model": own,
        **alone,
        "nearest note's cosine alone": np.array([row["art_similarity_max"] for row in rows]) - 2,
        "kind and length": by_kind_and_length(material, seen, asked),
        f"{NEIGHBOURS} nearest queries": nearest(both, seen, asked, material.quality),
    }


def gains(
    material: Material, bundle: PolicyBundle, _seen: Flags, asked: Flags
) -> dict[str, Floats]:
    """Predicted gain of ``learned:low`` over the same effort without notes."""
    rows = material.rows(asked)
    predicted = [
        bundle.outcome.predict(matrix(rows, [name] * len(rows))).quality
        for name in (LEARNED, SAME_EFFORT)
    ]
    return {"gain": predicted[0] - predicted[1]}


def coverage(material: Material, parts: Sequence[Part], where: Flags) -> float:
    """How many contexts have a share of right answers inside their predicted 90% interval."""
    found = []
    for part in parts:
        asked = part.asked & where & (material.levels == MAIN_LEVEL)
        model = part.bundle.predictability
        codes = group_codes(_only(material.groups, asked))
        n = np.bincount(codes)
        mean = np.bincount(codes, model.predict(material.rows(asked)).mean) / n
        right = np.bincount(codes, material.quality[asked] >= 0.5).astype(np.intp)
        found.append(covered(mean, model.concentration, right, n))
    return float(np.concatenate(found).mean())


LIMITS: Final = ("output tokens", "latency")


def below_p90(
    material: Material, parts: Sequence[Part], where: NDArray[np.bool_]
) -> dict[str, Mapping[str, Estimate]]:
    """By what is limited: the share of all answers, and of each strategy's, up to their p90.

    Answers of every strategy, on the contexts of the rows that ``where`` (n,) marks, each asked of
    its part. A strategy without sleep met each query twice; both count.
    """
    dataset = material.dataset
    below = np.full((len(dataset), len(LIMITS)), np.nan)
    for part in parts:
        own = set(_only(material.groups, part.asked & where))
        asked = [i for i, group in enumerate(dataset.groups) if group in own]
        rows = [dataset.rows[i] for i in asked]
        found = part.bundle.outcome.predict(matrix(rows, [dataset.strategies[i] for i in asked]))
        below[asked, 0] = dataset.output_tokens[asked] <= found.tokens_p90
        below[asked, 1] = dataset.latency_ms[asked] <= found.latency_ms_p90
    judged = np.flatnonzero(~np.isnan(below[:, 0]))
    codes = group_codes([dataset.groups[i] for i in judged.tolist()]).astype(np.int64)
    drawn = draws(int(codes.max()) + 1, repeats=REPEATS)
    strategies = np.array([dataset.strategies[i] for i in judged.tolist()])

    def share(column: int, kept: NDArray[np.bool_]) -> Estimate:
        return estimate(means(drawn, codes[kept], below[judged[kept], column]))

    every = np.ones(len(judged), dtype=bool)
    names = [name for name in KNOWN_STRATEGIES if name in strategies]
    return {
        limit: {"all": share(column, every), **{n: share(column, strategies == n) for n in names}}
        for column, limit in enumerate(LIMITS)
    }


def show_below_p90(found: Mapping[str, Mapping[str, Estimate]]) -> str:
    names = list(found[LIMITS[0]])
    lines = [
        [name, *(found[limit][name].scaled(100).show(1) for limit in LIMITS)] for name in names
    ]
    return "\n  % of the answers up to the p90 that was predicted\n" + table(["", *LIMITS], lines)


def by_kind_and_length(material: Material, seen: Flags, asked: Flags) -> Floats:
    """The mean of what was seen of the same kind (numbers or prose) and half by length."""
    cell = material.quantitative * 2 + (material.lengths > np.median(material.lengths[seen]))
    overall = material.quality[seen].mean()
    own = {
        c: material.quality[seen & (cell == c)].mean() if (seen & (cell == c)).any() else overall
        for c in range(4)
    }
    return np.array([own[c] for c in cell[asked].tolist()])


def nearest(vectors: Floats, seen: Flags, asked: Flags, y: Floats) -> Floats:
    """The mean outcome of the nearest rows seen, by cosine."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-(unit[asked] @ unit[seen].T), axis=1)[:, :NEIGHBOURS]
    return np.asarray(y[seen][order].mean(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one scope gave: each predictor's judgement, by question, and that of the gain."""

    before: Mapping[str, Judgement]
    after: Mapping[str, Judgement]
    gain: Mapping[str, Judgement]
    coverage: float


def find(material: Material, parts: Sequence[Part], where: Flags) -> Found:
    """Judge every predictor on the rows that ``where`` (n,) marks, each asked of its part."""

    def predicted(predict: Predict, on: Flags) -> dict[str, Floats]:
        full: dict[str, Floats] = {}
        for part in parts:
            asked = part.asked & on
            for name, values in predict(material, part.bundle, part.seen, asked).items():
                full.setdefault(name, np.full(len(on), np.nan))[asked] = values
        return full

    def judged(predict: Predict, actual: Floats, on: Flags) -> dict[str, Judgement]:
        groups = _only(material.groups, on)
        found = {name: p[on] for name, p in predicted(predict, on).items()}
        shuffled = np.random.default_rng(0).permutation(next(iter(found.values())))
        found["the first, shuffled"] = shuffled
        return {name: judge(p, actual[on], groups) for name, p in found.items()}

    def gained(on: Flags) -> Judgement:
        return judged(gains, material.quality - material.same_effort, on)["gain"]

    right = material.direct >= 0.5
    return Found(
        before=judged(before_sleep, material.quality, where & (material.levels == MAIN_LEVEL)),
        after=judged(with_the_query, material.quality, where),
        gain={
            "all": gained(where),
            "direct is right": gained(where & right),
            "direct is wrong": gained(where & ~right),
        },
        coverage=coverage(material, parts, where),
    )


def show(found: Found) -> str:
    head = ["", "queries, contexts", "Spearman", "AUROC", "calibration error"]

    def rows(judged: Mapping[str, Judgement]) -> list[list[str]]:
        return [[name, *own.cells()] for name, own in judged.items()]

    parts = (
        (f"right with notes, before sleep, from the context alone ({MAIN_LEVEL})", found.before),
        ("right with notes, when the query has come (notes of every level)", found.after),
        (f"gain over {SAME_EFFORT}, by the outcome model", found.gain),
    )
    inside = f"\n  contexts inside their 90% interval of predictability: {found.coverage:.1%}"
    return inside + "\n".join(
        f"\n  {title}\n{table(head, rows(judged))}" for title, judged in parts
    )


def with_surprisal(args: argparse.Namespace, everywhere: Flags) -> dict[str, float]:
    """What the queries' surprisal is worth, alone and as a feature, by the model that scored it."""
    figures: dict[str, float] = {}
    for scorer, scored in read_surprisals(args.recorded).items():
        material = read_material(
            args.recorded, DATASETS, args.model, past="together", surprisals=scored
        )
        found = find(material, cross_fitted(material, args.seed), everywhere)
        print(f"\nall data sets, with the surprisal under {scorer}{show(found)}")
        print(f"\n  gain by surprisal, within each data set\n{gain_by_fifths(material)}")
        name, own = scorer.replace(".", "_"), -material.column("q_surprisal")
        gain = judge(own, material.quality - material.same_effort, material.groups)
        alone = found.after["surprisal of the query alone"]
        figures |= {
            f"auroc_surprisal_alone_{name}": alone.auroc.value,
            f"spearman_surprisal_alone_{name}": alone.spearman.value,
            f"gain_spearman_surprisal_alone_{name}": gain.spearman.value,
            f"auroc_with_surprisal_{name}": found.after["outcome model"].auroc.value,
            f"gain_spearman_with_surprisal_{name}": found.gain["all"].spearman.value,
            f"spearman_before_with_surprisal_{name}": (
                found.before["predictability"].spearman.value
            ),
        }
    return figures


def gain_by_fifths(material: Material) -> str:
    """Mean gain over the same effort of the least to the most surprising fifth of the queries."""
    gain, surprisal = material.quality - material.same_effort, material.column("q_surprisal")
    lines = []
    for name in dict.fromkeys(material.names.tolist()):
        on = np.flatnonzero((material.names == name) & (material.levels == MAIN_LEVEL))
        fifths = np.array_split(on[np.argsort(surprisal[on])], 5)
        lines.append([name, *(f"{100 * gain[fifth].mean():+.0f}" for fifth in fifths)])
    return table(["points", "least", "2", "3", "4", "most surprising"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.predictor", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    material = read_material(args.recorded, DATASETS, args.model)
    known = read_material(args.recorded, DATASETS, args.model, past="together")
    names = list(dict.fromkeys(material.names.tolist()))
    parts, everywhere = cross_fitted(material, args.seed), np.ones(len(material.names), dtype=bool)
    print(f"{args.model}: each context is judged by what was fitted on other contexts")
    whole = find(material, parts, everywhere)
    print(f"\nall data sets{show(whole)}")
    spearman: dict[str, float] = {}
    limits = below_p90(material, parts, everywhere)
    print(show_below_p90(limits))
    for name in names:
        found = find(material, parts, material.names == name)
        print(f"\n{name}{show(found)}")
        print(show_below_p90(below_p90(material, parts, material.names == name)))
        spearman[f"spearman_{name}"] = found.after["outcome model"].spearman.value
    for name in names:
        own = material.names == name
        part = Part(bundle=fit(material, ~own, args.seed), seen=~own, asked=own)
        found = find(material, [part], own)
        print(f"\n{name}, fitted on the other data sets only{show(found)}")
        spearman[f"spearman_{name}_unseen"] = found.after["outcome model"].spearman.value
        remembered = find(known, [part], own)
        print(f"\nthe same, the other contexts being the same tenant's{show(remembered)}")
        after = remembered.after["outcome model"]
        spearman[f"spearman_{name}_unseen_with_history"] = after.spearman.value
    history = find(known, parts, everywhere)
    print(f"\nall data sets, the other contexts being the same tenant's{show(history)}")
    surprising = with_surprisal(args, everywhere)
    before, after = whole.before["predictability"], whole.after["outcome model"]
    figures = {
        "spearman": before.spearman.value,
        "auroc": before.auroc.value,
        "calibration_error": before.calibration_error,
        "coverage_90": whole.coverage,
        "tokens_coverage_90": limits["output tokens"]["all"].value,
        "latency_coverage_90": limits["latency"]["all"].value,
        "auroc_with_the_query": after.auroc.value,
        "calibration_error_with_the_query": after.calibration_error,
        "gain_spearman": whole.gain["all"].spearman.value,
        **spearman,
        "spearman_with_history": history.before["predictability"].spearman.value,
        "auroc_with_history": history.before["predictability"].auroc.value,
        "auroc_with_history_and_query": history.after["outcome model"].auroc.value,
        "coverage_90_with_history": history.coverage,
        **surprising,
    }
    rounded = {name: round(value, 4) for name, value in figures.items()}
    targets = {
        "calibration_error": 0.05,
        **dict.fromkeys(("coverage_90", "tokens_coverage_90", "latency_coverage_90"), 0.9),
    }
    print(json.dumps({"bench": "predictor", "figures": rounded, "targets": targets}))


def _only(groups: Sequence[str], chosen: Flags) -> list[str]:
    return [group for group, wanted in zip(groups, chosen.tolist(), strict=True) if wanted]


if __name__ == "__main__":
    main()
