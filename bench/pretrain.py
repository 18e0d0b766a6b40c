"""Fit the bundle that a new install starts with, from the recorded outcomes.

Prints what context-grouped cross-validation says of it, then fits on all rows and writes
models/forethought/models/pretrained/default. Recorded latencies were measured with many calls
in parallel; they are replaced by what the catalogue's speeds give for a lone call, so that the
policy does not believe in a crowd that a new install does not have.

Needs: bench/recorded/*.jsonl (ship with the repository).
Takes: under a minute.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold

from bench.publish import DATASETS
from bench.training_rows import training_rows
from forethought.models.bundle import pretrained_dir
from forethought.router.catalogue import MODELS
from forethought.training.dataset import Dataset
from forethought.training.fit import fit_bundle
from forethought.training.recorded import read_recorded

RECORDED = Path(__file__).parent / "recorded" / "qwen2.5-coder-1.5b.jsonl"
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


def read(recorded: Path, model: str) -> Dataset:
    """The dataset of a file of rows with features, or of a folder of published tables."""
    if not recorded.is_dir():
        return read_recorded(recorded)
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / f"{model}.jsonl"
        with lines.open("w", encoding="utf-8") as out:
            out.writelines(
                json.dumps(row) + "\n" for row in training_rows(recorded, DATASETS, model=model)
            )
        return read_recorded(lines)


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
    parser.add_argument("--model", default="qwen2.5-coder-1.5b", help="of a folder's rows")
    parser.add_argument("--out", type=Path, default=pretrained_dir())
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    dataset = with_lone_latency(read(args.recorded, args.model))
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
