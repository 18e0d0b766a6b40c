"""Panels: who answered what, and what stands in where sleep found nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.recordings import DIRECT, HELD_OUT, LOW, Arm, read_recordings
from tests.bench.synthetic import answer, note, recording, sleep

LEARNED = Arm("learned:low", "k1r1")


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"answers\.parquet is not there"):
        read_recordings(tmp_path)


def test_only_the_asked_form_of_the_sleep_prompts_is_read(tmp_path: Path) -> None:
    rows = [answer("c-q0", "learned:low", 0.5, level="k1r1", variant="older")]
    with pytest.raises(ValueError, match="no answers of sleep prompts"):
        recording(tmp_path, rows)
    assert read_recordings(tmp_path, variant="older")["m"].answers


def test_a_panel_has_only_queries_that_every_arm_answered(tmp_path: Path) -> None:
    rows = [answer("a-q0", "effort:low"), answer("a-q0"), answer("b-q0", "effort:low")]
    panel = recording(tmp_path, rows).panel("gsm8k", [DIRECT, LOW], HELD_OUT)
    assert panel.query_ids == ("a-q0",)
    assert panel.context_ids == ("a",)


def test_splits_that_are_not_asked_for_are_left_out(tmp_path: Path) -> None:
    rows = [answer("a-q0"), answer("b-q0", split="train")]
    assert recording(tmp_path, rows).panel("gsm8k", [DIRECT], HELD_OUT).query_ids == ("a-q0",)


def test_without_notes_the_same_effort_without_sleep_answers(tmp_path: Path) -> None:
    rows = [
        sleep("a", "k1r1", []), answer("a-q0", "effort:low", 0.25),
        sleep("b", "k1r1", [note("How many?", "2")]), answer("b-q0", "effort:low", 0.5),
        answer("b-q0", "learned:low", 1.0, level="k1r1"),
        # Notes, but no learned answer: it was not recorded, and nothing may stand in.
        sleep("c", "k1r1", [note("How many?", "2")]), answer("c-q0", "effort:low", 0.5),
    ]  # fmt: skip
    panel = recording(tmp_path, rows).panel("gsm8k", [LOW, LEARNED], HELD_OUT)
    assert dict(zip(panel.query_ids, panel.quality[:, 1], strict=True)) == {
        "a-q0": 0.25, "b-q0": 1.0,
    }  # fmt: skip
    assert panel.fallbacks == {LEARNED: 1}


def test_levels_rise_with_their_tokens_and_rare_arms_are_left_out(tmp_path: Path) -> None:
    notes = [note("How many?", "2")]
    rows = [sleep("a", "k10r1", notes, tokens=900), sleep("a", "k1r1", notes, tokens=90)]
    for i in range(3):
        rows += [answer(f"a-q{i}", "effort:low")]
        rows += [answer(f"a-q{i}", "learned:low", level=level) for level in ("k1r1", "k10r1")]
    rows.append(answer("a-q0"))
    found = recording(tmp_path, rows)
    assert found.levels("gsm8k") == ["k1r1", "k10r1"]
    assert found.arms("gsm8k") == [LOW, LEARNED, Arm("learned:low", "k10r1")]


def test_an_arm_that_was_never_asked_is_left_out_though_others_stand_in_for_it(
    tmp_path: Path,
) -> None:
    rows = [sleep("a", "k1r1", []), sleep("b", "k1r1", [note("How many?", "2")])]
    for query in ("a-q0", "b-q0"):
        rows += [answer(query, "effort:low"), answer(query, "effort:high")]
    rows.append(answer("b-q0", "learned:low", level="k1r1"))
    # On "a" ``effort:high`` would stand in for this one, which only another data set has.
    rows.append(answer("d-q0", "learned:high", level="k1r1", dataset="tatqa"))
    found = recording(tmp_path, rows)
    assert found.arms("gsm8k") == [LOW, Arm("effort:high"), LEARNED]
    assert len(found.panel("gsm8k", found.arms("gsm8k"), HELD_OUT)) == 2


def test_a_part_of_a_panel_keeps_each_query_on_its_context(tmp_path: Path) -> None:
    rows = [answer("a-q0", quality=0.1), answer("b-q0", quality=0.2), answer("c-q0", quality=0.3)]
    panel = recording(tmp_path, rows).panel("gsm8k", [DIRECT], HELD_OUT)
    part = panel.only(np.array([False, True, True]))
    names = [part.context_ids[i] for i in part.context]
    assert names == ["b", "c"]
    assert part.quality[:, 0] == pytest.approx([0.2, 0.3])
