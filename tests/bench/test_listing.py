"""`make bench` lists what the benches say of themselves, without importing them."""

from __future__ import annotations

from pathlib import Path

from bench.__main__ import Bench, list_benches

BENCH = '''"""Measure a thing.

Needs: nothing
Takes: a second
"""
raise SystemExit("imported")

def main() -> None: ...
'''


def test_a_bench_is_listed_by_its_docstring(tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text(BENCH)
    (tmp_path / "shared_part.py").write_text('"""No bench."""')
    (tmp_path / "_private.py").write_text(BENCH)
    expected = Bench(name="thing", summary="Measure a thing", needs="nothing", takes="a second")
    assert list_benches(tmp_path) == [expected]


def test_the_benches_of_this_repository_can_be_listed() -> None:
    folder = Path(__file__).resolve().parents[2] / "bench"
    assert all(bench.summary != "not said" for bench in list_benches(folder))
