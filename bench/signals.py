"""How often a different question passes for a rephrasing, and how many rephrasings are found.

The sign ``rephrase`` of a log (``forethought.training.signals``): cosine of the queries' word
vectors at or above a limit, and equal numbers. Different questions on one context, of every data
set; and each question in other words (``bench.rewording``).

Needs: bench/datasets (ship with the repository).
Takes: half a minute.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import combinations
from pathlib import Path

from bench.layout import table
from bench.publish import DATASETS, golds
from bench.rewording import rewrites
from forethought.models.embedding import WordLlamaEmbedder
from forethought.training.signals import SIMILARITY, sign_between

LIMITS = (0.85, 0.9, SIMILARITY)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.signals", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--datasets", type=Path, default=DATASETS)
    args = parser.parse_args()
    embed = WordLlamaEmbedder().load().embed
    taken: Counter[tuple[str, float]] = Counter()
    pairs: Counter[str] = Counter()
    for context, queries in golds(args.datasets).values():
        texts = [row["query"] for row in queries.values()]
        kinds = [(context["dataset"], pair) for pair in combinations(texts, 2)]
        kinds += [
            ("other words", (text, said))
            for text in texts
            for said in rewrites(text)
            if said.casefold().split() != text.casefold().split()
        ]
        for kind, (first, second) in kinds:
            pairs[kind] += 1
            for limit in LIMITS:
                taken[kind, limit] += sign_between(first, second, embed, limit) == "rephrase"
    share = {key: taken[key] / pairs[key[0]] for key in ((k, m) for k in pairs for m in LIMITS)}
    print("Share that passes for a rephrasing, by the limit of the cosine")
    rows = [[k, f"{n:,}", *(f"{share[k, m]:.1%}" for m in LIMITS)] for k, n in pairs.items()]
    print(table(["pairs", "n", *(f"{limit:g}" for limit in LIMITS)], rows))
    figures = {
        f"share_{kind.replace(' ', '_')}": round(share[kind, SIMILARITY], 4) for kind in pairs
    }
    print(json.dumps({"bench": "signals", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
