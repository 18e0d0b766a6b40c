"""Recorded outcomes as arrays: who answered which query how well, for how many tokens.

A *recording* is all that one model answered, read from the published Parquet files. A *panel* is
the part of it that a comparison uses: the queries that every compared arm answered, one row a
query, one column an arm. An *arm* is a strategy at a sleep level.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.journal import Row
from bench.recorder import NO_SLEEP
from forethought.router.sleep.prompts import PROMPT_VERSION

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HELD_OUT: Final = ("validation", "test")
"""The splits that no prompt was tuned on."""

SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    "held out": HELD_OUT,
    "all": ("train", *HELD_OUT),
    "train": ("train",),
}

_USAGE: Final = ("input_tokens", "cached_tokens", "output_tokens")


class Arm(NamedTuple):
    """One way to answer: a strategy, and the level of the sleep before it."""

    strategy: str
    level: str = NO_SLEEP

    @property
    def slept(self) -> bool:
        return self.level != NO_SLEEP

    @property
    def without_sleep(self) -> Arm:
        """What the router does instead where sleep found no notes: the same effort without."""
        return Arm(self.strategy.replace("learned:", "effort:"))

    def __str__(self) -> str:
        return f"{self.strategy} {self.level}" if self.slept else self.strategy


DIRECT: Final = Arm("direct")
LOW: Final = Arm("effort:low")
HIGH: Final = Arm("effort:high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Queries that all ``arms`` answered: Q queries on C contexts, A arms.

    ``quality`` in [0, 1] and the token counts have shape (Q, A). ``context`` (Q,) is each
    query's place in ``context_ids``. ``fallbacks`` counts, for each arm, the queries on
    contexts where sleep found no notes and the same effort without sleep stands in.
    """

    arms: tuple[Arm, ...]
    query_ids: tuple[str, ...]
    context_ids: tuple[str, ...]
    context: Ints
    quality: Floats
    input_tokens: Floats
    cached_tokens: Floats
    output_tokens: Floats
    fallbacks: Mapping[Arm, int]

    def __len__(self) -> int:
        return len(self.query_ids)

    def at(self, arm: Arm) -> int:
        """The column of ``arm``."""
        return self.arms.index(arm)

    def only(self, kept: NDArray[np.bool_]) -> Panel:
        """The same panel with the queries that ``kept`` (Q,) marks, on the contexts they leave."""
        context_places = np.unique(self.context[kept])
        ids = np.flatnonzero(kept)
        return replace(
            self,
            query_ids=tuple(self.query_ids[i] for i in ids),
            context_ids=tuple(self.context_ids[i] for i in context_places),
            context=np.searchsorted(context_places, self.context[kept]),
            quality=self.quality[kept],
            input_tokens=self.input_tokens[kept],
            cached_tokens=self.cached_tokens[kept],
            output_tokens=self.output_tokens[kept],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """All rows of one model. Answers by (query, arm, seed); sleeps by (context, level)."""

    model: str
    answers: Mapping[tuple[str, Arm, int], Row]
    sleeps: Mapping[tuple[str, str], Row]

    def datasets(self) -> list[str]:
        """The data sets, the one with most answers first."""
        return [
            name for name, _ in Counter(r["dataset"] for r in self.answers.values()).most_common()
        ]

    def levels(self, dataset: str) -> list[str]:
        """The sleep levels recorded on ``dataset``, from the smallest to the largest by tokens."""
        spent: dict[str, list[int]] = {}
        for (_, level), row in self.sleeps.items():
            if row["dataset"] == dataset:
                spent.setdefault(level, []).append(row["output_tokens"])
        return sorted(spent, key=lambda level: float(np.mean(spent[level])))

    def arms(self, dataset: str) -> list[Arm]:
        """The arms with answers to at least half as many queries as the arm with most has.

        An arm that was recorded for a few queries only would shrink every comparison to these.
        So would a learned arm that was never asked: where there are no notes, others stand in.
        """
        learned = [
            Arm(f"learned:{effort}", level)
            for level in self.levels(dataset)
            for effort in ("low", "high")
        ]
        queries = self._queries(dataset, SCOPES["all"])
        asked = {
            arm
            for (_, arm, seed), row in self.answers.items()
            if seed == 0 and row["dataset"] == dataset
        }
        answered = {
            arm: sum(self.answered(*query, arm) is not None for query in queries.items())
            for arm in (LOW, HIGH, DIRECT, *learned)
            if arm in asked
        }
        most = max(answered.values())
        return [arm for arm, n in answered.items() if 2 * n >= most > 0]

    def samples(self, query_id: str) -> list[Row]:
        """The sampled answers of ``direct`` to a query, by seed."""
        found: list[Row] = []
        while (row := self.answers.get((query_id, DIRECT, len(found) + 1))) is not None:
            found.append(row)
        return found

    def notes(self, context_id: str, level: str) -> list[dict[str, Any]]:
        """The notes of a context's sleep; none where it did not sleep at ``level``."""
        row = self.sleeps.get((context_id, level))
        return [] if row is None else row["notes"]

    def sleep_usage(self, context_ids: Sequence[str], level: str) -> Floats:
        """Input, cached and output tokens of each context's sleep; shape (C, 3)."""
        rows = [self.sleeps[context_id, level] for context_id in context_ids]
        return np.array([[row[name] for name in _USAGE] for row in rows], float).reshape(-1, 3)

    def panel(self, dataset: str, arms: Sequence[Arm], splits: Iterable[str]) -> Panel:
        """The queries on contexts of ``splits`` that all ``arms`` answered."""
        queries = self._queries(dataset, splits)
        kept: dict[str, list[Row]] = {}
        fallbacks: Counter[Arm] = Counter()
        for query_id, context_id in queries.items():
            rows = [self.answered(query_id, context_id, arm) for arm in arms]
            if all(row is not None for row in rows):
                kept[query_id] = [row for row in rows if row is not None]
                fallbacks.update(
                    arm for arm, row in zip(arms, kept[query_id], strict=True)
                    if arm.slept and row["level"] == NO_SLEEP
                )  # fmt: skip
        contexts = list(dict.fromkeys(queries[query_id] for query_id in kept))
        place = {context_id: i for i, context_id in enumerate(contexts)}

        def column(name: str) -> Floats:
            values = [[row[name] for row in rows] for rows in kept.values()]
            return np.array(values, float).reshape(len(kept), len(arms))

        return Panel(
            arms=tuple(arms),
            query_ids=tuple(kept),
            context_ids=tuple(contexts),
            context=np.array([place[queries[q]] for q in kept], np.int64),
            quality=column("quality"),
            input_tokens=column("input_tokens"),
            cached_tokens=column("cached_tokens"),
            output_tokens=column("output_tokens"),
            fallbacks=dict(fallbacks),
        )

    def _queries(self, dataset: str, splits: Iterable[str]) -> dict[str, str]:
        """The context of each query that was answered at all."""
        allowed = frozenset(splits)
        return {
            query_id: row["context_id"]
            for (query_id, _, seed), row in self.answers.items()
            if seed == 0 and row["dataset"] == dataset and row["split"] in allowed
        }

    def answered(self, query_id: str, context_id: str, arm: Arm) -> Row | None:
        """The greedy answer of ``arm``, or of what stands in where sleep found no notes."""
        if not arm.slept:
            return self.answers.get((query_id, arm, 0))
        sleep = self.sleeps.get((context_id, arm.level))
        if sleep is None:
            return None
        if not sleep["notes"]:
            return self.answers.get((query_id, arm.without_sleep, 0))
        return self.answers.get((query_id, arm, 0))


def read_recordings(folder: Path, *, variant: str = PROMPT_VERSION) -> dict[str, Recording]:
    """The recordings in ``folder`` by model, of one form of the sleep prompts.

    Raises:
        FileNotFoundError: The recorded outcomes are not there.
        ValueError: They hold no row of this form.
    """
    answers, sleeps = (_read(folder, name, variant) for name in ("answers", "sleeps"))
    if not answers:
        raise ValueError(
            f"{folder} has no answers of sleep prompts {variant!r}: the prompts have changed "
            "since it was recorded; record them with python -m bench.record"
        )
    for row in sleeps:
        row["notes"] = json.loads(row["notes"])
    return {
        model: Recording(
            model=model,
            answers={
                (r["query_id"], Arm(r["strategy"], r["level"]), r["seed"]): r
                for r in answers
                if r["model"] == model
            },
            sleeps={(r["context_id"], r["level"]): r for r in sleeps if r["model"] == model},
        )
        for model in dict.fromkeys(row["model"] for row in answers)
    }


def _read(folder: Path, name: str, variant: str) -> list[Row]:
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: it ships with the repository; python -m bench.record and "
            "python -m bench.publish make it anew"
        )
    rows: list[Row] = pq.read_table(path).to_pylist()
    return [row for row in rows if row["variant"] in {variant, NO_SLEEP}]
