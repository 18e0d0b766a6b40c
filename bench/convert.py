"""Convert data sets that may not ship: GSM-Symbolic P2, XQuAD, SQuADShifts, for the recorder.

``python -m bench.convert KIND IN OUT`` writes one context a line, as in bench/datasets; then
``python -m bench.record JOURNAL --dataset OUT`` runs on it. The licences do not let these rows, or
outcomes recorded on them with their texts, into the repository: OUT has to be outside of it.

- ``gsm-symbolic``: `GSM_p2.jsonl` of apple/ml-gsm-symbolic (https://arxiv.org/abs/2410.05229), cut
  as sleep-time compute does (https://arxiv.org/abs/2504.13171): the last sentence is the query.
- ``xquad``: `xquad.en.json` of google-deepmind/xquad (https://arxiv.org/abs/1910.11856).
- ``squadshifts``: `new_wiki_v1.0.json` of SQuADShifts (https://arxiv.org/abs/2004.14444).

Needs: the original file, fetched by you; no model.
Takes: seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]

_TITLE = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Jr|Sr|St|Prof|vs|etc|No)\.$")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"”’')]*\s+")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How much of a data set to take."""

    seed: int
    variants: int | None
    """Of each GSM-Symbolic template; None for all."""
    contexts: int | None
    """Paragraphs of a SQuAD-like data set; None for all."""
    min_questions: int
    """On each of these paragraphs."""


def split_of(name: str) -> str:
    """The rule of bench/datasets: sha256, as an integer, modulo 10."""
    bucket = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    return "train" if bucket < 6 else "validation" if bucket < 8 else "test"


def cut(problem: str) -> tuple[str, str]:
    """Context and query of a word problem: its last sentence asks.

    Where that asks nothing ("Note that ..."), the query begins at the last question before it.
    """
    ends = _SENTENCE_END.finditer(problem)
    starts = [0, *(end.end() for end in ends if not _TITLE.search(problem[: end.start()]))]
    sentences = [problem[a:b] for a, b in zip(starts, [*starts[1:], len(problem)], strict=True)]
    asks = [start for start, text in zip(starts, sentences, strict=True) if "?" in text]
    start = asks[-1] if asks else starts[-1]
    return problem[:start].strip(), problem[start:].strip()


def gsm_symbolic(path: Path, sample: Sample) -> list[Row]:
    """Variants of the templates, each template's first one first, so that any start has them all.

    All variants of a template are in one split: they are near copies.
    """
    problems = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    rows: list[tuple[int, Row]] = []
    for template, group in groupby(sorted(problems, key=_template), key=_template):
        name = f"gsm-symbolic-p2-{template:02}"
        variants = list(group)
        random.Random(f"{sample.seed}/{name}").shuffle(variants)
        for place, problem in enumerate(variants[: sample.variants]):
            context, query = cut(" ".join(problem["question"].split()))
            if not context:
                continue
            identity = f"{name}-{problem['instance']:02}"
            answer = problem["answer"].rpartition("####")[2].strip()
            rows.append((place, {
                "id": identity, "dataset": "gsm_symbolic", "split": split_of(name),
                "context": context,
                "queries": [
                    {"id": f"{identity}-q0", "query": query, "answer": answer, "kind": "final"}
                ],
                "licence": "CC BY-NC-ND 4.0",
                "source": f"apple/ml-gsm-symbolic P2 template {template} "
                f"instance {problem['instance']}",
            }))  # fmt: skip
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def squad(path: Path, sample: Sample, *, name: str, licence: str, source: str) -> list[Row]:
    """Paragraphs with their questions, in an order drawn with the seed."""
    articles = json.loads(path.read_text("utf-8"))["data"]
    rows = []
    for place, article in enumerate(articles):
        for number, paragraph in enumerate(article["paragraphs"]):
            identity = f"{name}-{place:02}-{_slug(article['title'])}-{number}"
            queries = list(_queries(identity, paragraph["qas"]))
            if len(queries) >= sample.min_questions:
                rows.append({
                    "id": identity, "dataset": "squad", "split": split_of(identity),
                    "context": paragraph["context"].strip(), "queries": queries,
                    "licence": licence,
                    "source": f"{source}, {article['title']}, paragraph {number}",
                })  # fmt: skip
    random.Random(f"{sample.seed}/{name}").shuffle(rows)
    return rows[: sample.contexts]


def xquad(path: Path, sample: Sample) -> list[Row]:
    return squad(
        path, sample, name="xquad-en", licence="CC BY-SA 4.0", source="google-deepmind/xquad en"
    )


def squadshifts(path: Path, sample: Sample) -> list[Row]:
    return squad(
        path,
        sample,
        name="squadshifts-new-wiki",
        licence="none given",
        source="modestyachts/squadshifts-website new_wiki",
    )


KINDS: dict[str, Callable[[Path, Sample], list[Row]]] = {
    "gsm-symbolic": gsm_symbolic,
    "xquad": xquad,
    "squadshifts": squadshifts,
}


def _template(problem: Row) -> int:
    return int(problem["id"])


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _queries(identity: str, questions: Iterable[Row]) -> Iterable[Row]:
    asked: set[str] = set()
    for question in questions:
        text = " ".join(question["question"].split())
        answers = list(dict.fromkeys(answer["text"].strip() for answer in question["answers"]))
        if text in asked or not any(answers):
            continue
        yield {
            "id": f"{identity}-q{len(asked)}", "query": text, "answer": answers[0],
            "answers": answers, "kind": "extractive",
        }  # fmt: skip
        asked.add(text)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.convert", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("source", type=Path, metavar="IN", help="the original file")
    parser.add_argument("out", type=Path, metavar="OUT", help="a .jsonl outside the repository")
    parser.add_argument("--variants", type=int, default=10, help="of each template; 0 for all")
    parser.add_argument("--contexts", type=int, default=100, help="paragraphs; 0 for all")
    parser.add_argument("--min-questions", type=int, default=4, help="on each paragraph")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.out.resolve().is_relative_to(REPOSITORY):
        parser.error(f"{args.out} is in the repository, which may not contain these rows")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    sample = Sample(
        seed=args.seed,
        variants=args.variants or None,
        contexts=args.contexts or None,
        min_questions=args.min_questions,
    )
    rows = KINDS[args.kind](args.source, sample)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    args.out.write_text("".join(lines), encoding="utf-8")
    splits = Counter(row["split"] for row in rows)
    figures = {
        "contexts": len(rows),
        "queries": sum(len(row["queries"]) for row in rows),
        **{name: splits[name] for name in ("train", "validation", "test")},
    }
    for name, count in figures.items():
        print(f"{name:12} {count:6}")
    print(f"written to {args.out}")
    print(json.dumps({"bench": "convert", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
