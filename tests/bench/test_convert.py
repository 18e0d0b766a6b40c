"""Data sets that may not ship, converted to the recorder's form: tiny made-up files here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bench import convert, record
from bench.recorder import MAX_TOKENS
from forethought.router.grading import grade

Row = dict[str, Any]


def symbolic(path: Path, *, templates: int = 4, variants: int = 5) -> Path:
    problems = [
        {
            "id": template,
            "instance": instance,
            "question": f"Mrs. Moss  has {instance + 2} hens.\nEach lays 2 eggs. How many eggs?",
            "answer": f"{instance + 2} * 2 = {2 * instance + 4}\n#### {2 * instance + 4}",
        }
        for instance in range(variants)
        for template in range(templates)
    ]
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return path


def squad(path: Path, *questions: int) -> Path:
    paragraphs = [
        {
            "context": f"Pond {number} has frogs.\n",
            "qas": [
                {
                    "id": f"{number}{question}",
                    "question": f" Who lives in pond {question}?",
                    "answers": [{"text": "frogs"}, {"text": "frogs "}, {"text": "the frogs"}],
                }
                for question in range(count)
            ],
        }
        for number, count in enumerate(questions)
    ]
    path.write_text(json.dumps({"data": [{"title": "The Pond!", "paragraphs": paragraphs}]}))
    return path


def converted(tmp_path: Path, kind: str, source: Path, *options: str) -> list[Row]:
    out = tmp_path / "out.jsonl"
    convert.main([kind, str(source), str(out), *options])
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("problem", "context", "query"),
    [
        pytest.param("I have 3. How many?", "I have 3.", "How many?", id="last-sentence"),
        pytest.param("I have 3. Count them.", "I have 3.", "Count them.", id="no-question-mark"),
        pytest.param(
            "It costs $2.50. Is it Mr. X's?", "It costs $2.50.", "Is it Mr. X's?", id="dots"
        ),
        pytest.param("A. How many? Note B.", "A.", "How many? Note B.", id="a-note-after-it"),
        pytest.param("Why? I do. How many?", "Why? I do.", "How many?", id="last-of-two"),
        pytest.param('She said "go." How far?', 'She said "go."', "How far?", id="quotation"),
        pytest.param("How many?", "", "How many?", id="no-context"),
    ],
)
def test_a_problem_is_cut_before_what_it_asks(problem: str, context: str, query: str) -> None:
    assert convert.cut(problem) == (context, query)


def test_a_variant_becomes_a_context_with_its_final_question(tmp_path: Path) -> None:
    rows = converted(tmp_path, "gsm-symbolic", symbolic(tmp_path / "in.jsonl"))
    row = next(row for row in rows if row["id"] == "gsm-symbolic-p2-01-03")
    assert row["context"] == "Mrs. Moss has 5 hens. Each lays 2 eggs."
    assert row["queries"] == [
        {"id": f"{row['id']}-q0", "query": "How many eggs?", "answer": "10", "kind": "final"}
    ]
    assert grade(row["dataset"], "#### 10", row["queries"][0]) == 1.0


def test_variants_of_a_template_share_a_split(tmp_path: Path) -> None:
    source = symbolic(tmp_path / "in.jsonl", templates=30)
    rows = converted(tmp_path, "gsm-symbolic", source, "--variants", "3")
    splits: dict[str, list[str]] = {}
    for row in rows:
        splits.setdefault(row["id"].rpartition("-")[0], []).append(row["split"])
    assert len(splits) == len({row["id"].rpartition("-")[0] for row in rows[:30]}) == 30
    assert all(len(own) == 3 and len(set(own)) == 1 for own in splits.values())
    assert {split for own in splits.values() for split in own} == {"train", "validation", "test"}


def test_a_paragraph_becomes_a_context_with_its_questions(tmp_path: Path) -> None:
    [row] = converted(tmp_path, "xquad", squad(tmp_path / "in.json", 2, 4))
    assert row["id"] == "xquad-en-00-the-pond-1"
    assert row["context"] == "Pond 1 has frogs."
    assert row["queries"][0]["query"] == "Who lives in pond 0?"
    assert row["queries"][0]["answers"] == ["frogs", "the frogs"]
    assert grade(row["dataset"], "Answer: Frogs.", row["queries"][0]) == 1.0


@pytest.mark.parametrize("kind", ["xquad", "squadshifts"])
def test_the_sample_depends_on_the_seed_only(tmp_path: Path, kind: str) -> None:
    source = squad(tmp_path / "in.json", *[4] * 20)
    first, again, other = (
        [row["id"] for row in converted(tmp_path, kind, source, "--contexts", "6", "--seed", seed)]
        for seed in ("1", "1", "2")
    )
    assert first == again != other
    assert len(first) == 6


def test_the_split_is_the_rule_of_the_data_sets_that_ship() -> None:
    folder = Path(convert.__file__).parent / "datasets"
    lines = (folder / "gsm8k_multi.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(convert.split_of(row["id"]) == row["split"] for row in rows)
    assert int(hashlib.sha256(b"gsm8k-0005").hexdigest(), 16) % 10 < 6


def test_rows_do_not_go_into_the_repository(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(convert.__file__).parent / "datasets" / "xquad.jsonl"
    with pytest.raises(SystemExit):
        convert.main(["xquad", str(squad(tmp_path / "in.json", 4)), str(out)])
    assert "may not contain" in capsys.readouterr().err
    assert not out.exists()


def test_the_recorder_reads_what_was_converted(tmp_path: Path) -> None:
    converted(tmp_path, "gsm-symbolic", symbolic(tmp_path / "in.jsonl"))
    rows = record.contexts([tmp_path / "out.jsonl"], ["train", "validation", "test"], 3)
    assert len(rows) == 3
    assert all(MAX_TOKENS[row["dataset"]] for row in rows)
