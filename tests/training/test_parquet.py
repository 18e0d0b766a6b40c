from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forethought.router.records import LoggedDecision
from forethought.training.bulk import read_bulk
from forethought.training.dataset import from_log, from_signed
from forethought.training.errors import TrainingError
from forethought.training.parquet import parquet_files, read_parquet, scan, write_parquet
from forethought.training.signals import NO_SIGNS, Weights, with_signs
from tests.training.synthetic import judged, make_log, make_logged

DAY_S = 86_400.0


def _full() -> LoggedDecision:
    one = judged(make_logged(1, features={"ctx_chars": 1.5, "art_notes": float("nan")}), 0.25)
    assert one.outcome is not None
    said = replace(one.feedback[0], comment="it is a secret")
    outcome = replace(one.outcome, answer="a secret", error="the secret broke", ttft_ms=3.5)
    return replace(one, outcome=outcome, feedback=(said,))


def test_a_decision_comes_back_as_it_was_written(tmp_path: Path) -> None:
    one = _full()
    write_parquet([(one, NO_SIGNS)], tmp_path, with_text=True)
    ((found, signs),) = read_parquet(tmp_path)
    assert str(found) == str(one)  # NaN is not equal to itself
    assert signs == NO_SIGNS


def test_an_export_from_before_there_were_fallbacks_is_read(tmp_path: Path) -> None:
    write_parquet([(_full(), NO_SIGNS)], tmp_path)
    (file,) = parquet_files(tmp_path)
    table = pq.read_table(file).drop_columns(["outcome.model"])
    pq.write_table(table, file)
    ((found, _),) = read_parquet(tmp_path)
    assert found.outcome is not None
    assert found.outcome.model is None
    assert read_bulk(tmp_path, Weights()).usable.tolist() == [True]


def test_no_text_is_written_unless_asked_for(tmp_path: Path) -> None:
    one = _full()
    one = replace(one, decision=replace(one.decision, query="the secret question"))
    done = write_parquet([(one, NO_SIGNS)], tmp_path)
    assert done.redacted
    (file,) = parquet_files(tmp_path)
    table = pq.read_table(file)
    assert "secret" not in str(table.to_pylist())
    assert pq.read_schema(file).metadata[b"forethought.redacted"] == b"true"
    ((found, _),) = read_parquet(tmp_path)
    assert found.decision.query == ""
    assert found.quality == 0.25


def test_learning_from_the_export_is_learning_from_the_log(tmp_path: Path) -> None:
    log = make_log(40, seed=3)
    log += [make_logged(n, query="Why?", context_id="again", created_at=9e3 + n) for n in range(4)]
    pairs = list(with_signs(log, embed=None))
    write_parquet(pairs, tmp_path)
    exported = from_signed(read_parquet(tmp_path), source="log", weights=Weights())
    direct = from_signed(pairs, source="log", weights=Weights())
    assert exported.fingerprint == direct.fingerprint
    assert exported.judged_by == direct.judged_by
    assert set(exported.judged_by) == {"client", "retry", ""}
    assert exported.fingerprint != from_log(log).fingerprint


def test_a_day_is_a_folder_and_is_replaced_by_what_was_judged_late(tmp_path: Path) -> None:
    log = [make_logged(n, created_at=DAY_S * n) for n in range(3)]
    folder = tmp_path / "export"
    done = write_parquet(((one, NO_SIGNS) for one in log), folder)
    assert done.days == {"1970-01-01": 1, "1970-01-02": 1, "1970-01-03": 1}
    late = judged(log[1], 0.5)
    write_parquet([(late, NO_SIGNS)], folder)
    found = [one.quality for one, _ in read_parquet(folder)]
    assert found == [None, 0.5, None]
    assert {path.name for path in folder.iterdir()} == {f"day={day}" for day in done.days}


def test_features_of_another_version_are_kept(tmp_path: Path) -> None:
    new = make_logged(1)
    old = make_logged(0, features={"gone": 1.0}, feature_version="0")
    write_parquet([(old, NO_SIGNS), (new, NO_SIGNS)], tmp_path)
    found = [one.decision.features for one, _ in read_parquet(tmp_path)]
    assert found == [{"gone": 1.0}, {"ctx_chars": 100.0}]
    assert "feature.gone" in scan(tmp_path).schema.names


def test_an_export_of_another_schema_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no export"):
        list(read_parquet(tmp_path))
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1]}), foreign)
    with pytest.raises(TrainingError, match="has schema none, but this version reads 1"):
        list(read_parquet(foreign))
    foreign.write_text("no parquet")
    with pytest.raises(TrainingError, match="not a Parquet file that can be read"):
        list(read_parquet(foreign))
