"""Off-policy estimates against the truth, and beside Vowpal Wabbit's and obp's.

1. Open Bandit Dataset, two policies that served at the same time: from the log of the uniform one,
   what the Thompson sampling one earned, and the reverse. The truth is the other log's own mean.
2. The same rows through other people's code: equal to 1e-6 where the definitions agree.
3. Two full-feedback tables of routed models, made into bandit logs again and again: the truth is
   known, so bias, error and coverage are measured.

Needs: bench/traces/obd and bench/traces/routing (ship with the repository); for part 2 a package
index, or it is skipped.
Takes: three minutes, and another to install the peers the first time.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from bench.ope_estimators import CONFIDENCE
from bench.ope_obd import directions, show_obd, show_peers
from bench.ope_tables import show_full_feedback

PEER_ENVIRONMENT: Final = Path(sys.prefix) / "peers"
"""Inside this project's own: ignored and cleaned with it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ope", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--logs", type=int, default=300, help="simulated logs a table")
    parser.add_argument("--contexts", type=int, default=600, help="contexts in each")
    parser.add_argument("--peers", type=Path, default=PEER_ENVIRONMENT, help="their environment")
    parser.add_argument("--no-peers", action="store_true", help="leave other people's code out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    print("Open Bandit Dataset, men's campaign: clicks")
    both = directions()
    covered = show_obd(both)
    differences = {} if args.no_peers else show_peers(both, args.peers)

    print("\nFull-feedback tables as bandit logs: right answers")
    coverage: dict[str, float] = {}
    for name in ("llmrouter", "routellm"):
        found = show_full_feedback(name, args.contexts, args.logs, args.seed)
        for label, share in found.items():
            coverage[label] = min(share, coverage.get(label, 1.0))
    figures: dict[str, float] = {"obd_interval_covers": float(covered), **differences}
    figures |= {
        "coverage_betting": coverage["dr: betting"],
        "coverage_betting_sequence": coverage["dr: betting sequence"],
        "coverage_bernstein": coverage["dr: empirical Bernstein"],
        "coverage_bootstrap": coverage["dr: bootstrap (approximate)"],
        "coverage_student_t": coverage["dr: Student-t (approximate)"],
    }
    targets = {
        "obd_interval_covers": 1.0,
        "max_abs_diff_vw": 1e-6,
        "max_abs_diff_obp": 1e-6,
        "coverage_betting": CONFIDENCE,
        "coverage_betting_sequence": CONFIDENCE,
        "coverage_bernstein": CONFIDENCE,
    }
    print(json.dumps({"bench": "ope", "figures": figures, "targets": targets}))


if __name__ == "__main__":
    main()
