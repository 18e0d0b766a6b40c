"""The tables of bench/ope: public logs and full-feedback tables, as compact Parquet.

``python -m bench.ope_data --source FOLDER`` makes them anew from the files as published; what they
are and under which licence is said in bench/traces/*/README.md.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

TRACES: Final = Path(__file__).parent / "traces"
N_ITEMS: Final = 34
N_POSITIONS: Final = 3

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditLog:
    """n logged rounds of one policy of the Open Bandit Dataset, each of shape (n,).

    ``impression`` numbers the page views: the three positions of a page share it.
    """

    item: Codes
    position: Codes
    click: Floats
    propensity: Floats
    impression: Codes
    user: NDArray[np.int16]
    """Codes of the four user features, shape (n, 4)."""

    def __len__(self) -> int:
        return len(self.item)

    def shares(self) -> Floats:
        """How often each item was shown at each position, shape (positions, items)."""
        cells = np.bincount(self.position * N_ITEMS + self.item, minlength=N_POSITIONS * N_ITEMS)
        counts = cells.reshape(N_POSITIONS, N_ITEMS).astype(np.float64)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class FullFeedback:
    """n questions answered by each of k models: ``scores`` in [0, 1] of shape (n, k)."""

    models: tuple[str, ...]
    scores: Floats
    topic: Codes


def read_obd(name: str) -> BanditLog:
    table = pq.read_table(TRACES / "obd" / f"{name}.parquet")
    user = [table[f"user_{i}"].to_numpy() for i in range(4)]
    return BanditLog(
        item=table["item"].to_numpy().astype(np.intp),
        position=table["position"].to_numpy().astype(np.intp),
        click=table["click"].to_numpy().astype(np.float64),
        propensity=table["propensity"].to_numpy(),
        impression=np.unique(table["timestamp"].to_numpy(), return_inverse=True)[1],
        user=np.stack(user, axis=1),
    )


def read_full_feedback(name: str) -> FullFeedback:
    table = pq.read_table(TRACES / "routing" / f"{name}.parquet")
    models = tuple(one for one in table.column_names if one != "topic")
    scores = np.stack([table[one].to_numpy().astype(np.float64) for one in models], axis=1)
    return FullFeedback(
        models=models, scores=scores, topic=table["topic"].to_numpy().astype(np.intp)
    )


def _obd(source: Path, out: Path) -> None:
    tables = {
        "random": pacsv.read_csv(source / "obd_men_random.csv"),
        "thompson": pacsv.read_csv(source / "obd_men_bts.csv"),
    }
    features = [f"user_feature_{i}" for i in range(4)]
    # One code for both files, in the order of the hashes.
    values = {
        one: sorted({value for t in tables.values() for value in t[one].to_pylist()})
        for one in features
    }
    for name, table in tables.items():
        columns: dict[str, Any] = {
            "timestamp": table["timestamp"],
            "item": table["item_id"].cast(pa.int8()),
            "position": pa.array(table["position"].to_numpy() - 1, pa.int8()),
            "click": table["click"].cast(pa.int8()),
            "propensity": table["propensity_score"],
        }
        for number, one in enumerate(features):
            code = {value: index for index, value in enumerate(values[one])}
            columns[f"user_{number}"] = pa.array(
                [code[v] for v in table[one].to_pylist()], pa.int16()
            )
        pq.write_table(pa.table(columns), out / f"{name}.parquet", compression="zstd")


def _routing(source: Path, out: Path) -> None:
    rows = json.loads((source / "llmrouter_9models_train.json").read_text("utf-8"))
    models = list(rows[0]["scores"])
    nine: dict[str, Any] = {
        one: pa.array([row["scores"][one] for row in rows], pa.float32()) for one in models
    }
    nine["topic"] = pa.array([row["cluster_id"] for row in rows], pa.int16())
    pq.write_table(pa.table(nine), out / "llmrouter.parquet", compression="zstd")
    with (source / "routellm_gsm8k_responses.csv").open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    two = [one for one in answers[0] if one != "prompt" and not one.endswith("_response")]
    pair: dict[str, Any] = {
        one: pa.array([float(row[one] == "True") for row in answers], pa.float32()) for one in two
    }
    pair["topic"] = pa.array([0] * len(answers), pa.int16())
    pq.write_table(pa.table(pair), out / "routellm.parquet", compression="zstd")


def convert() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ope_data", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of the published files")
    source = parser.parse_args().source
    for name, make in (("obd", _obd), ("routing", _routing)):
        out = TRACES / name
        out.mkdir(parents=True, exist_ok=True)
        make(source, out)


if __name__ == "__main__":
    convert()
