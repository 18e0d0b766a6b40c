"""List the benches: what each measures, what it needs and how long it takes.

A bench is a module of this folder whose docstring starts with what it measures and has one line
``Needs: ...`` and one line ``Takes: ...``. Nothing is imported to list them.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bench:
    """One line of the list."""

    name: str
    summary: str
    needs: str
    takes: str


def read_bench(path: Path) -> Bench:
    lines = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").splitlines()

    def field(label: str) -> str:
        found = (line.removeprefix(label).strip() for line in lines if line.startswith(label))
        return next(found, "not said")

    summary = lines[0].rstrip(".") if lines else "not said"
    return Bench(name=path.stem, summary=summary, needs=field("Needs:"), takes=field("Takes:"))


def list_benches(folder: Path) -> list[Bench]:
    paths = sorted(path for path in folder.glob("*.py") if not path.stem.startswith("_"))
    # A part of a bench that others import runs nothing and so has no `main`.
    return [read_bench(path) for path in paths if "\ndef main(" in path.read_text("utf-8")]


def main() -> None:
    benches = list_benches(Path(__file__).parent)
    for bench in benches:
        print(f"make bench-{bench.name}\n    {bench.summary}")
        print(f"    needs: {bench.needs}\n    takes: {bench.takes}")
    if not benches:
        print("There are no benches yet.")


if __name__ == "__main__":
    main()
