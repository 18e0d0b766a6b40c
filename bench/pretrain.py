"""Fit the bundle that a new install starts with, from the recorded outcomes.

Prints what context-grouped cross-validation says of it, then fits on all its rows and writes
models/forethought/models/pretrained/default. Contexts of the test split stay unseen: the demo
draws from them, and ``bench.predictor`` judges by them. Recorded latencies were measured with
many calls in parallel; they are replaced by what the catalogue's speeds give for a lone call, so
that the policy does not believe in a crowd that a new install does not have.

Needs: bench/recorded/*.parquet (ship with the repository).
Takes: under a minute.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold

from bench.publish import DATASETS, RECORDED
from bench.training_rows import read_training
from forethought.models.bundle import pretrained_dir
from forethought.router.catalogue import MODELS
from forethought.training.dataset import Dataset
from forethought.training.fit import fit_bundle

FOLDS = 5


def with_lone_latency(dataset: Dataset) -> Dataset:
    """Latency of a lone call at the catalogue's speeds, from the tokens that were counted."""
    speed = {name: (m.prefill_tokens_per_s, m.decode_tokens_per_s) for name, m in MODELS.items()}
    latency = [
        1000 * ((u.input_tokens - u.cached_tokens) / prefill + u.output_tokens / decode)
        for u, (prefill, decode) in zip(
            dataset.usages, (speed[m] for m in dataset.models), strict=True
        )
    ]
    return replace(dataset, latency_ms=np.array(latency))


def cross_validate(dataset: Dataset, seed: int) -> dict[str, float]:
    """Mean of each head's held-out scores over folds that keep contexts whole."""
    scores: dict[str, list[float]] = {}
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for _, test in folds.split(np.zeros(len(dataset)), groups=dataset.groups):
        held_out = np.zeros(len(dataset), dtype=bool)
        held_out[test] = True
        bundle = fit_bundle(replace(dataset, held_out=held_out), seed=seed, init=None)
        for head, found in bundle.manifest["info"]["held_out"]["fitted"].items():
            for name, value in found.items():
                if isinstance(value, float):
                    scores.setdefault(f"{head}_{name}", []).append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--split", nargs="+", default=["train", "validation"])
    parser.add_argument("--out", type=Path, default=pretrained_dir())
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    dataset, rows = read_training(args.recorded, DATASETS, model=args.model)
    seen = np.array([row["split"] in args.split for row in rows])
    dataset = with_lone_latency(dataset.take(seen))
    everything = replace(dataset, held_out=np.zeros(len(dataset), dtype=bool))
    for name in sorted(set(dataset.strategies)):
        chosen = [i for i, s in enumerate(dataset.strategies) if s == name]
        quality, tokens = dataset.quality[chosen].mean(), dataset.output_tokens[chosen].mean()
        print(f"{name:14} n={len(chosen):4}  quality {quality:.3f}  output tokens {tokens:.0f}")
    figures = cross_validate(dataset, args.seed)
    for name, value in figures.items():
        print(f"{name:28} {value:8.3f}   ({FOLDS}-fold by context)")
    bundle = fit_bundle(everything, seed=args.seed, init=None)
    bundle.save(args.out)
    print(f"saved {bundle.version} in {args.out}")
    figures |= {"rows": len(dataset), "contexts": dataset.n_contexts}
    print(json.dumps({"bench": "pretrain", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
