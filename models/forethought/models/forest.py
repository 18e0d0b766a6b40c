"""The trees of several LightGBM models, evaluated at once for the candidates of one decision.

LightGBM walks every tree for every row: at each split it waits for memory and guesses a branch,
which between two requests, with nothing of it in the processor's caches, takes 100 µs. The
candidates of a decision differ in the strategy's own features only, and in whether the learned
context is read. So here every split is compared once, all of them in one pass over arrays, and
what a strategy decides by itself is worked out when the models are read.

The form is QuickScorer's (Lucchese et al., SIGIR 2015): a tree's leaves are the bits of a number,
from left to right; a split whose answer is no loses the leaves of its left side; the lowest bit
that is not lost is the leaf. Scores are those of LightGBM to the last bit: the leaves are summed in
its order.
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
    DECISION_FEATURES,
    FEATURE_NAMES,
    KNOWN_STRATEGIES,
    STRATEGY_FEATURES,
    strategy_features,
)

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]
Places = NDArray[np.intp]

_LEAVES: Final = 8
"""Leaves of a tree at most: the bits of a byte. LightGBM itself predicts models with more."""

_FIRST: Final = np.array([(~n & (n + 1)).bit_length() - 1 for n in range(256)], np.intp)
"""The place of the lowest bit that is not set, of every byte. A tree never loses all its leaves."""

_TREE: Final = re.compile(r"^Tree=\d+$", re.MULTILINE)
_FIELD: Final = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)

# How LightGBM's decision types take NaN: as 0 (no value was missing in training), to the left or
# to the right. The input is held in these three forms, so that one comparison serves all.
_AS_ZERO, _LEFT, _RIGHT = range(3)
_TYPES: Final[Mapping[int, int]] = {0: _AS_ZERO, 2: _AS_ZERO, 8: _RIGHT, 10: _LEFT}

_FILL: Final = np.array([[0.0], [-np.inf], [np.nan]])
"""What stands for NaN in each of the three. Nothing is at or below a threshold that NaN is not: one
of infinity, as LightGBM has it where only NaN goes to the right, lets all numbers pass."""

_COLUMN: Final = {name: place for place, name in enumerate(FEATURE_NAMES)}
_WIDTH: Final = len(DECISION_FEATURES)
_ARTEFACT: Final = frozenset(_COLUMN[feature.name] for feature in ARTEFACT_FEATURES)
_OWN: Final = {_COLUMN[f.name]: place for place, f in enumerate(STRATEGY_FEATURES)}
_VALUES: Final = [tuple(strategy_features(name).values()) for name in KNOWN_STRATEGIES]
_READS: Final = np.array(
    [int(strategy_features(n)["strategy_uses_learned"]) for n in KNOWN_STRATEGIES], np.intp
)


class _Split(NamedTuple):
    """``column`` <= ``threshold``, else the leaves of ``lost`` are lost."""

    column: int
    missing: int
    threshold: float
    lost: int

    def holds(self, value: float) -> bool:
        if np.isnan(value):
            return self.missing == _LEFT or (self.missing == _AS_ZERO and self.threshold >= 0.0)
        return value <= self.threshold


class _Tree(NamedTuple):
    splits: list[_Split]
    leaves: list[float]


class Forest:
    """Several models over ``FEATURE_NAMES``, or over some of them. Make one with ``forest_of``."""

    def __init__(self, models: Sequence[Sequence[_Tree]]) -> None:
        trees = [tree for model in models for tree in model]
        k = len(KNOWN_STRATEGIES)
        # Of each tree the splits that no strategy decides by itself; one with fewer than the others
        # has some that hold.
        compared = [[s for s in tree.splits if s.column not in _OWN] for tree in trees]
        shape = (max(map(len, compared), default=0), len(trees))
        self._places = np.zeros(shape, np.intp)
        self._thresholds = np.full(shape, np.inf)
        # What a split loses where the learned context is not read, and where it is.
        self._lost = np.zeros((2, *shape), np.uint8)
        for place, splits in enumerate(compared):
            for row, split in enumerate(splits):
                self._places[row, place] = split.missing * _WIDTH + split.column
                self._thresholds[row, place] = split.threshold
                self._lost[int(split.column in _ARTEFACT) :, row, place] = split.lost
        self._own = np.array([[_lost(t, n) for t in trees] for n in range(k)], np.uint8)
        # From here on a row is a tree, and a column a strategy.
        self._leaves = np.zeros((len(trees), _LEAVES))
        for values, tree in zip(self._leaves, trees, strict=True):
            values[: len(tree.leaves)] = tree.leaves
        first = np.arange(len(trees)) * _LEAVES
        self._first = np.repeat(first[:, None], k, axis=1)
        model = np.repeat(np.arange(len(models)), [len(own) for own in models])
        self._sums = (model[:, None] * k + np.arange(k)).ravel()
        self._n_sums = len(models) * k

    def scores(self, row: Floats) -> Floats:
        """The raw score of each model for each of ``KNOWN_STRATEGIES``, (n_models, n_strategies).

        ``row`` has the ``features.decision_row`` of a decision.
        """
        inputs = np.where(np.isnan(row), _FILL, row)
        fails = ~(inputs.take(self._places) <= self._thresholds)
        lost = np.bitwise_or.reduce(self._lost * fails.view(np.uint8), axis=1).take(_READS, axis=0)
        lost |= self._own
        leaf = _FIRST.take(lost.T)
        leaf += self._first
        values = self._leaves.take(leaf)
        # It adds one by one, in LightGBM's order: np.sum would add pairwise.
        sums = np.bincount(self._sums, values.ravel(), self._n_sums)
        return np.asarray(sums, np.float64).reshape(-1, len(KNOWN_STRATEGIES))


@lru_cache(maxsize=4)
def forest_of(boosters: tuple[Booster, ...]) -> Forest | None:
    """The models as one forest; None where one has what a forest has no form for."""
    found = [_trees(booster) for booster in boosters]
    models = [trees for trees in found if trees]
    return Forest(models) if len(models) == len(boosters) else None


def _trees(booster: Booster) -> list[_Tree] | None:
    if not _COLUMN.keys() >= set(booster.feature_names):
        return None
    columns = [_COLUMN[name] for name in booster.feature_names]
    head, *texts = _TREE.split(booster.text.split("\nend of trees")[0])
    if "num_tree_per_iteration=1\n" not in head or "average_output" in head:
        return None
    trees = [_tree(dict(_FIELD.findall(text)), columns) for text in texts]
    return None if None in trees else [tree for tree in trees if tree is not None]


def _tree(fields: Mapping[str, str], column: Sequence[int]) -> _Tree | None:
    n_leaves = int(fields["num_leaves"])
    if n_leaves > _LEAVES or fields["num_cat"] != "0" or fields.get("is_linear", "0") != "0":
        return None
    values = [float(value) for value in fields["leaf_value"].split()]
    if n_leaves == 1:
        return _Tree([], values)
    features, types, lefts, rights = (
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
        tree.splits.append(_Split(column[features[node]], missing, thresholds[node], lost))

    add(0)
    return tree


def _lost(tree: _Tree, strategy: int) -> int:
    """The leaves that are lost by what a strategy decides by itself."""
    lost = 0
    for split in tree.splits:
        own = _OWN.get(split.column)
        value = None if own is None else _VALUES[strategy][own]
        if split.column in _ARTEFACT and not _READS[strategy]:
            value = np.nan  # as features.matrix has it
        if value is not None and not split.holds(value):
            lost |= split.lost
    return lost
