"""A challenger scores live traffic without serving it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forethought.router.registry import Registry
from forethought.router.shadow import read_shadow
from tests.api.conftest import Bundles, Serve
from tests.api.test_policy import QUESTION, serving
from tests.waiting import wait_for


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in folder.rglob("*.jsonl")
        for line in path.read_text().splitlines()
    ]


def test_what_the_challenger_would_choose_is_logged_and_never_served(
    registry: Registry, serve: Serve, bundles: Bundles, tmp_path: Path
) -> None:
    served, challenger = (bundle.version for bundle in bundles)
    server = serve(exploration=0.2)
    server.chat(QUESTION)
    assert not (tmp_path / "data" / "shadow").exists()
    registry.challenge(challenger)
    wait_for(
        lambda: f'challenger_info{{version="{challenger}"}}' in server.http.get("/metrics").text
    )
    replies = [server.chat(QUESTION) for _ in range(5)]
    wait_for(lambda: len(_lines(tmp_path / "data" / "shadow" / challenger)) == 5)
    lines = {line["decision"]: line for line in _lines(tmp_path / "data" / "shadow" / challenger)}
    for reply in replies:
        decision = server.logged(reply).decision
        line = lines[decision.id]
        assert decision.policy_version == line["by"] == served
        assert line["served"] == decision.strategy
        assert sum(line["chances"].values()) == pytest.approx(1, abs=1e-5)
        assert line["own"] in line["chances"]
    summary = read_shadow(tmp_path / "data", challenger)
    assert summary is not None
    assert (summary.n_decisions, summary.n_failed) == (5, 0)
    assert "apples" not in str(lines)
    registry.dismiss()
    wait_for(lambda: challenger not in server.http.get("/metrics").text)
    server.chat(QUESTION)
    assert serving(server)["version"] == served
    assert len(_lines(tmp_path / "data" / "shadow" / challenger)) == 5


def test_a_challenger_that_fails_harms_no_request(
    registry: Registry,
    serve: Serve,
    bundles: Bundles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("forethought.router.shadow.target_probabilities", fail)
    registry.challenge(bundles[1].version)
    server = serve()
    assert server.chat(QUESTION).status_code == 200
    wait_for(
        lambda: 'shadow_failures_total{why="prediction"} 1.0' in server.http.get("/metrics").text
    )
    summary = read_shadow(tmp_path / "data", bundles[1].version)
    assert summary is not None
    assert (summary.n_decisions, summary.n_failed) == (0, 1)


def test_a_corrupt_challenger_never_scores(
    registry: Registry, serve: Serve, bundles: Bundles, tmp_path: Path
) -> None:
    registry.challenge(bundles[1].version)
    (registry.path(bundles[1].version) / "demand.json").write_text("{}")
    server = serve()
    assert server.chat(QUESTION).status_code == 200
    assert "challenger_info{" not in server.http.get("/metrics").text
    assert not (tmp_path / "data" / "shadow").exists()


def test_drift_that_was_found_shows_in_the_metrics(registry: Registry, serve: Serve) -> None:
    server = serve()
    found = {"policy": "p", "alarm": True, "psi_max": 0.5, "calibration_error": -0.25,
             "moved": {"q_chars": 0.5}, "calibration_alarm": False, "demoted_to": None}  # fmt: skip
    (registry.folder / "drift.json").write_text(json.dumps(found))
    wait_for(lambda: "forethought_drift_alarm 1.0" in server.http.get("/metrics").text)
    text = server.http.get("/metrics").text
    assert "forethought_drift_psi_max 0.5" in text
    assert "forethought_drift_calibration_error -0.25" in text
