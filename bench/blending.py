"""Do a tenant's own graded answers mend predictions that are wrong for it? Before and after.

A tenant is played by a data set that the policy has never seen: fitted on the two others, asked
about the third. Beside it: the same data set as a tenant of a kind that the policy knows (fitted on
other contexts of all three), which blending should not harm, and a tenant that is simulated to lie
1 in log-odds above every prediction. Answers are judged one by one, each by a strategy drawn
evenly, on a random half of the tenant's contexts; what is then predicted is compared with the
outcomes on the other half. Beside blending: the policy alone, and the same offsets without
shrinkage.

Needs: bench/recorded/*.parquet (ship with the repository).
Takes: two minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.layout import table
from bench.publish import DATASETS, RECORDED
from bench.recordings import Floats
from bench.training_rows import MAIN_LEVEL, read_training
from forethought.models.boosting import grouped_folds
from forethought.models.calibration import expected_calibration_error, group_codes, sigmoid
from forethought.models.features import matrix
from forethought.router.blending import (
    STRENGTH,
    Blending,
    Strength,
    fit_strength,
    score,
)
from forethought.router.exploration import log_odds
from forethought.router.records import Candidate, GradedAnswer
from forethought.router.strategies import STRATEGIES
from forethought.training.dataset import Dataset
from forethought.training.fit import fit_bundle

Flags = NDArray[np.bool_]
ANSWERS: Final = (0, 10, 30, 100)
NAMES: Final = tuple(STRATEGIES)
NO_SHRINKAGE: Final = Strength(8.0, 8.0)
_VERSION: Final = "bench"


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """Answers of a tenant, n of them: what was predicted of each, and what came. All of (n,)."""

    name: str
    predicted: Floats
    quality: Floats
    strategies: Sequence[str]
    groups: Sequence[str]
    concentration: float

    @property
    def place(self) -> NDArray[np.intp]:
        return np.array([NAMES.index(name) for name in self.strategies], np.intp)

    @property
    def log_odds(self) -> Floats:
        return np.array([log_odds(p) for p in self.predicted.tolist()])

    @property
    def score(self) -> tuple[Floats, Floats]:
        codes = group_codes(self.groups)
        together = np.bincount(codes)[codes]
        weight = 1.0 / (1.0 + (together - 1) / (1.0 + self.concentration))
        return score(self.log_odds, self.quality, weight, self.place)


def predictions(dataset: Dataset, own: Flags, seed: int) -> tuple[Floats, float]:
    """What a policy that was fitted on all other rows predicts of ``own``; its concentration."""
    bundle = fit_bundle(replace(dataset, held_out=own), seed=seed, init=None)
    rows = dataset.take(own)
    found = bundle.outcome.predict(matrix(rows.rows, rows.strategies)).quality
    return found, bundle.predictability.concentration


def tenants_of(dataset: Dataset, names: NDArray[np.str_], asked: Flags, seed: int) -> list[Tenant]:
    """Each data set unseen, then each as a kind that is known; of its rows ``asked`` count."""
    found = []
    folds = grouped_folds(dataset.groups, seed=seed)
    kinds = list(dict.fromkeys(names.tolist()))
    for label, parts in (("unseen", [names == kind for kind in kinds]),
                         ("known", [folds == k for k in range(int(folds.max()) + 1)])):  # fmt: skip
        predicted, concentration = np.zeros(len(dataset)), 0.0
        for part in parts:
            predicted[part], own = predictions(dataset, part, seed)
            concentration += own / len(parts)
        for kind in kinds:
            kept = (names == kind) & asked
            rows = dataset.take(kept)
            found.append(
                Tenant(
                    name=f"{kind}, {label}", predicted=predicted[kept], quality=rows.quality,
                    strategies=rows.strategies, groups=rows.groups, concentration=concentration,
                )
            )  # fmt: skip
    return found


def shifted(tenant: Tenant, by: float, rng: np.random.Generator) -> Tenant:
    """The same, its outcomes drawn so that every prediction is too low by ``by`` log-odds."""
    right = rng.random(len(tenant.quality)) < sigmoid(tenant.log_odds + by)
    return replace(tenant, name=f"simulated, {by:+g} log-odds", quality=right.astype(float))


@dataclass(frozen=True, slots=True)
class Errors:
    """Of one run: calibration error, the mean's error by strategy, Brier score; by ``ANSWERS``."""

    calibration: Floats
    mean: Floats
    brier: Floats


def run(tenant: Tenant, blending: Blending, rng: np.random.Generator) -> Errors:
    """Judge answers on half of the contexts, and compare with the other half after each."""
    codes = group_codes(tenant.groups)
    asked = (rng.permutation(int(codes.max()) + 1) % 2).astype(bool)[codes]
    blending.begin(_VERSION, concentration=tenant.concentration)
    order = rng.permutation(np.flatnonzero(asked)).tolist()
    found = []
    for n in range(max(ANSWERS) + 1):
        if n in ANSWERS:
            found.append(_errors(tenant, ~asked, blending))
        if n < len(order):
            blending.judged(_VERSION, _graded(tenant, order[n]))
    return Errors(*np.array(found).T)


def _graded(tenant: Tenant, i: int) -> GradedAnswer:
    candidate = Candidate(strategy=tenant.strategies[i], quality=float(tenant.predicted[i]))
    return GradedAnswer(
        decision_id=str(i), tenant="t", model="m", context_id=tenant.groups[i],
        candidate=candidate, quality=float(tenant.quality[i]),
    )  # fmt: skip


def _errors(tenant: Tenant, where: Flags, blending: Blending) -> tuple[float, float, float]:
    offsets = blending.of(_VERSION, "t", "m") or {}
    moved = np.array([offsets[name].mean for name in tenant.strategies])
    p = sigmoid(tenant.log_odds + moved)[where]
    y, place = tenant.quality[where], tenant.place[where]
    n = np.bincount(place, minlength=len(NAMES))
    gap = np.abs(np.bincount(place, p - y, len(NAMES)))
    return (
        expected_calibration_error(p, y),
        float(gap.sum() / n.sum()),
        float(((p - y) ** 2).mean()),
    )


def compare(tenant: Tenant, strength: Strength, repeats: int, seed: int) -> Mapping[str, Errors]:
    """Means over ``repeats`` splits and orders, by what is done with the answers."""
    found = {}
    for name, prior in (("blended", strength), ("without shrinkage", NO_SHRINKAGE)):
        runs = []
        for repeat in range(repeats):
            blending = Blending(prior) if name == "blended" else _Fixed(prior)
            runs.append(run(tenant, blending, np.random.default_rng([seed, repeat])))
        found[name] = Errors(
            *(np.mean([getattr(one, part) for one in runs], axis=0)
              for part in ("calibration", "mean", "brier"))
        )  # fmt: skip
    return found


class _Fixed(Blending):
    """The offsets of a strength that is not estimated."""

    def _estimate(self) -> None:
        self._estimate_at = 10**9


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.blending", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    dataset, rows = read_training(args.recorded, DATASETS, model=args.model)
    names = np.array([row["dataset"] for row in rows])
    # As the router meets them once there are notes: one row a query and strategy.
    asked = np.array([row["seen_at"] == MAIN_LEVEL for row in rows])
    tenants = tenants_of(dataset, names, asked, args.seed)
    likeliest = fit_strength([tenant.score for tenant in tenants])
    print(
        f"{args.model}: how far a data set lies from what is predicted of it, in log-odds, of the "
        f"three unseen and the three known: standard deviation {likeliest.shared_sd:g} shared by "
        f"its strategies, {likeliest.own_sd:g} of each strategy's own (Forethought starts from "
        f"{STRENGTH.shared_sd:g} and {STRENGTH.own_sd:g})\n"
    )
    figures: dict[str, float] = {"shared_sd": likeliest.shared_sd, "own_sd": likeliest.own_sd}
    known = next(one for one in tenants if one.name == "gsm8k, known")
    simulated = shifted(known, 1.0, np.random.default_rng(args.seed))
    lines = []
    for tenant in (*tenants, simulated):
        # The prior of a data set is what the others say of each other.
        kind = tenant.name.split(",")[0]
        others = [one.score for one in tenants if not one.name.startswith(kind)]
        found = compare(tenant, fit_strength(others), args.repeats, args.seed)
        for how, errors in found.items():
            cells = [f"{value:.3f}" for part in (errors.calibration, errors.mean, errors.brier)
                     for value in part]  # fmt: skip
            lines.append([tenant.name if how == "blended" else "", how, *cells])
        key = "simulated" if tenant is simulated else tenant.name.replace(", ", "_")
        for n, value in zip(ANSWERS, found["blended"].calibration.tolist(), strict=True):
            figures[f"calibration_error_{key}_{n}"] = value
    head = ["tenant", "", *(f"{part} {n}" for part in ("ECE", "by strategy", "Brier")
                            for n in ANSWERS)]  # fmt: skip
    print("on the other contexts, after so many judged answers: calibration error (10 bins), error "
          "of each strategy's mean, Brier score\n")  # fmt: skip
    print(table(head, lines))
    rounded = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps({"bench": "blending", "figures": rounded, "targets": {}}))


if __name__ == "__main__":
    main()
