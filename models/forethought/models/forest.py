"""The trees of several LightGBM models, evaluated at once for the candidates of one decision.

LightGBM walks every tree for every row: at each split it waits for memory and guesses a branch,
which between two requests, with nothing of it in the processor's caches, takes 100 µs. The
candidates of a decision differ in the strategy's own features only, and in whether the learned
context is read. So here every split is compared once, all of them in one pass over arrays, and
what a strategy decides by itself is worked out when the models are read.

The form is QuickScorer's (Lucchese et al., SIGIR 2015): a tree's leaves are the bits of a number,
from left to right; a split whose answer is no clears the bits of its left side; the lowest bit left
is the leaf. Scores are those of LightGBM to the last bit: the leaves are summed in its order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forethought.models.booster import Booster
from forethought.models.features import (
    ARTEFACT_FEATURES,
    FEATURE_NAMES,
    KNOWN_STRATEGIES,
    STRATEGY_FEATURES,
    strategy_features,
)

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]

_LEAVES: Final = 8
"""Leaves of a tree at most: the bits of a byte. LightGBM itself predicts models with more."""

_ALL: Final = 255
_LOWEST: Final = np.array([max((n & -n).bit_length() - 1, 0) for n in range(256)], np.intp)
"""The place of the lowest bit that is set, of every byte."""

_TREE: Final = re.compile(r"^Tree=\d+$", re.MULTILINE)
_FIELD: Final = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)

# How LightGBM's decision types take NaN: as 0 (no value was missing in training), to the left or
# to the right. The input is held in these three forms, so that one comparison serves all.
_AS_ZERO, _LEFT, _RIGHT = range(3)
_TYPES: Final[Mapping[int, int]] = {0: _AS_ZERO, 2: _AS_ZERO, 8: _RIGHT, 10: _LEFT}

_WIDTH: Final = len(FEATURE_NAMES)
_ARTEFACT: Final = frozenset(FEATURE_NAMES.index(feature.name) for feature in ARTEFACT_FEATURES)
_OWN: Final = {FEATURE_NAMES.index(f.name): place for place, f in enumerate(STRATEGY_FEATURES)}
_VALUES: Final = [tuple(strategy_features(name).values()) for name in KNOWN_STRATEGIES]
_READS: Final = [bool(strategy_features(n)["strategy_uses_learned"]) for n in KNOWN_STRATEGIES]


class _Split(NamedTuple):
    """``column`` <= ``threshold``, else only the leaves of ``kept`` are left."""

    column: int
    missing: int
    threshold: float
    kept: int

    def holds(self, value: float) -> bool:
        if np.isnan(value):
            return self.missing == _LEFT or (self.missing == _AS_ZERO and self.threshold >= 0.0)
        return value <= self.threshold


class _Tree(NamedTuple):
    splits: list[_Split]
    leaves: list[float]


class _Splits(NamedTuple):
    """Splits of all trees, shape (most of a tree, trees); a tree with fewer has some that hold."""

    places: NDArray[np.intp]
    thresholds: Floats
    kept: Bits

    @classmethod
    def of(cls, trees: Sequence[Sequence[_Split]]) -> _Splits:
        shape = (max(map(len, trees), default=0), len(trees))
        made = cls(np.zeros(shape, np.intp), np.full(shape, np.inf), np.full(shape, _ALL, np.uint8))
        for tree, splits in enumerate(trees):
            for row, split in enumerate(splits):
                made.places[row, tree] = split.missing * _WIDTH + split.column
                made.thresholds[row, tree] = split.threshold
                made.kept[row, tree] = split.kept
        return made

    def left(self, inputs: Floats) -> Bits:
        """The leaves that they leave of each tree, (trees,), for an input in its three forms."""
        holds = inputs.take(self.places) <= self.thresholds
        # From 1 to all bits.
        left = np.negative(holds.view(np.int8)).view(np.uint8)
        left |= self.kept
        return np.asarray(np.bitwise_and.reduce(left, axis=0))


class Forest:
    """Several models over ``FEATURE_NAMES``. Make one with ``forest_of``."""

    def __init__(self, models: Sequence[Sequence[_Tree]]) -> None:
        trees = [tree for model in models for tree in model]
        ends = np.cumsum([len(model) for model in models]).tolist()
        self._models = [slice(end - len(m), end) for end, m in zip(ends, models, strict=True)]
        self._shared = _Splits.of([[s for s in t.splits if _is_shared(s)] for t in trees])
        self._artefact = _Splits.of([[s for s in t.splits if s.column in _ARTEFACT] for t in trees])
        self._own = np.array([[_left(t, n) for t in trees] for n in range(len(_VALUES))], np.uint8)
        self._first = np.arange(len(trees)) * _LEAVES
        self._leaves = np.zeros((len(trees), _LEAVES))
        for row, tree in zip(self._leaves, trees, strict=True):
            row[: len(tree.leaves)] = tree.leaves

    def scores(self, row: Floats, strategies: Sequence[str]) -> list[Floats]:
        """The raw score of each model for each strategy, a list of arrays of shape (n,).

        ``row`` is one of ``features.matrix``, of a strategy that reads the learned context if
        there is any. Raises ValueError for a strategy without features.
        """
        places = [KNOWN_STRATEGIES.index(name) for name in strategies]
        inputs = np.empty((3, _WIDTH))
        inputs[:] = row
        missing = np.isnan(row)
        # NaN alone fails a threshold of infinity: so LightGBM writes "is it known?".
        for form, value in ((_AS_ZERO, 0.0), (_LEFT, -np.inf), (_RIGHT, np.nan)):
            inputs[form, missing] = value
        left = self._own[places]
        left &= self._shared.left(inputs)
        reading = [n for n, place in enumerate(places) if _READS[place]]
        if reading:
            left[reading] &= self._artefact.left(inputs)
        leaf = _LOWEST.take(left)
        leaf += self._first
        values = self._leaves.take(leaf)
        # A running sum, whose last is the sum in LightGBM's order: np.sum would add pairwise.
        return [np.add.accumulate(values[:, model], axis=1)[:, -1] for model in self._models]


@lru_cache(maxsize=4)
def forest_of(boosters: tuple[Booster, ...]) -> Forest | None:
    """The models as one forest; None where one has what a forest has no form for."""
    found = [_trees(booster) for booster in boosters]
    models = [trees for trees in found if trees]
    return Forest(models) if len(models) == len(boosters) else None


def _trees(booster: Booster) -> list[_Tree] | None:
    if booster.feature_names != list(FEATURE_NAMES):
        return None
    head, *texts = _TREE.split(booster.text.split("\nend of trees")[0])
    if "num_tree_per_iteration=1\n" not in head or "average_output" in head:
        return None
    trees = [_tree(dict(_FIELD.findall(text))) for text in texts]
    return None if None in trees else [tree for tree in trees if tree is not None]


def _tree(fields: Mapping[str, str]) -> _Tree | None:
    n_leaves = int(fields["num_leaves"])
    if n_leaves > _LEAVES or fields["num_cat"] != "0" or fields.get("is_linear", "0") != "0":
        return None
    values = [float(value) for value in fields["leaf_value"].split()]
    if n_leaves == 1:
        return _Tree([], values)
    columns, types, lefts, rights = (
        [int(value) for value in fields[name].split()]
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    thresholds = [float(value) for value in fields["threshold"].split()]
    if not _TYPES.keys() >= set(types):
        return None
    tree = _Tree([], [])

    def add(node: int) -> None:
        if node < 0:  # LightGBM's sign of a leaf
            tree.leaves.append(values[~node])
            return
        first = len(tree.leaves)
        add(lefts[node])
        lost = (1 << len(tree.leaves)) - (1 << first)
        add(rights[node])
        missing = _TYPES[types[node]]
        tree.splits.append(_Split(columns[node], missing, thresholds[node], _ALL & ~lost))

    add(0)
    return tree


def _is_shared(split: _Split) -> bool:
    return split.column not in _ARTEFACT and split.column not in _OWN


def _left(tree: _Tree, strategy: int) -> int:
    """The leaves that are left by what a strategy decides by itself."""
    left = _ALL
    for split in tree.splits:
        own = _OWN.get(split.column)
        value = None if own is None else _VALUES[strategy][own]
        if split.column in _ARTEFACT and not _READS[strategy]:
            value = np.nan  # as features.matrix has it
        if value is not None and not split.holds(value):
            left &= split.kept
    return left
