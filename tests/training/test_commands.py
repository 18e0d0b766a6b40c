"""The commands as a user runs them, on a real SQLite log."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from forethought.models.bundle import PolicyBundle
from forethought.router.log import LogWriter, Store
from forethought.router.records import LoggedDecision
from forethought.router.registry import Registry
from forethought.training import commands, comparison, lineage, operations, run
from forethought.training.dataset import from_log, is_held_out
from forethought.training.lineage import starting_point
from tests.training.synthetic import EQUAL, EXPLORING, judged, make_log

DATA = Path("data")


@pytest.fixture(autouse=True)
def nothing_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Independent of the bundle that ships; returns where a test may put one."""
    folder = tmp_path / "pretrained"
    monkeypatch.setattr(lineage, "pretrained_dir", lambda: folder)
    return folder


@pytest.fixture
def unstaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge on held-out contexts alone, in tests of what comes after: four fits less each."""
    for module in (run, comparison):
        monkeypatch.setattr(module, "staged", lambda *_: [])


@pytest.fixture(scope="module")
def helpful_log() -> list[LoggedDecision]:
    return make_log(150, seed=21)


def _write(log: Sequence[LoggedDecision], folder: Path = DATA) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Store.open(str(folder / "forethought.sqlite")) as store, LogWriter(store) as writer:
        records = [(one.decision, one.outcome, *one.feedback) for one in log]
        writer.write_sync(*(record for own in records for record in own if record is not None))


def _run(*args: str) -> Result:
    app = typer.Typer()
    given = (commands.train, commands.evaluate, commands.promote, commands.challenge)
    for command in (*given, commands.rollback, operations.export, operations.drift):
        app.command()(command)
    folder = [] if "--data-dir" in args else ["--data-dir", str(DATA)]
    return CliRunner().invoke(app, [args[0], *folder, *args[1:]])


def _json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def test_train_evaluate_rollback_promote_end_to_end(helpful_log: list[LoggedDecision]) -> None:
    _write(helpful_log)
    trained = _run("train", "--mlflow", "off", "--json")
    figures = _json(trained)
    version = figures["version"]
    assert figures["promoted"], trained.output
    assert figures["champion"] == "direct"
    assert f"Policy {version} serves now, instead of direct." in trained.stdout
    assert "Promoted: at 97.5% confidence" in trained.stdout
    # Many of the contexts that it was fitted on prove something, too.
    assert figures["evaluation"]["contexts"] > 1.5 * figures["data"]["held_out_contexts"]
    assert "policies that were fitted like it on fewer contexts" in trained.stdout
    registry = Registry(DATA)
    assert registry.champion() == version

    evaluated = _run("evaluate", version)
    assert evaluated.exit_code == 0, evaluated.output
    assert "would have chosen as the champion did" in evaluated.stdout

    assert "ships with Forethought serves again" in _run("rollback").stdout
    assert registry.champion() is None
    worth = _run("evaluate")
    assert "Worth promoting: at 97.5% confidence" in worth.stdout
    assert f"Policy {version} serves now" in _run("promote", version).stdout
    assert registry.champion() == version


@pytest.mark.usefixtures("unstaged")
def test_a_run_is_recorded_in_a_local_mlflow_quietly(
    helpful_log: list[LoggedDecision], capfd: pytest.CaptureFixture[str]
) -> None:
    _write(helpful_log)
    trained = _run("train", "--no-promote", "--json")
    figures = _json(trained)
    assert figures["mlflow_run"], trained.output
    assert not figures["promoted"]
    assert "as asked by --no-promote" in trained.stdout
    assert capfd.readouterr().err == ""
    assert trained.stderr == ""
    with sqlite3.connect(DATA / "mlflow.db") as database:
        metrics = dict(database.execute("select key, value from metrics").fetchall())
        tags = dict(database.execute("select key, value from tags").fetchall())
        status = database.execute("select status from runs").fetchall()
    database.close()
    assert metrics["evaluation.decisions"] == figures["evaluation"]["decisions"]
    assert 0 < metrics["held_out.fitted.quality.brier"] < 0.3
    assert tags["data_fingerprint"] == figures["data"]["fingerprint"]
    assert status == [("FINISHED",)]
    assert {path.name for path in (DATA / "mlruns").rglob("*.png")} == {
        "calibration.png",
        "importance.png",
        "pareto.png",
        "weights.png",
    }
    (manifest,) = (DATA / "mlruns").rglob("manifest.json")
    assert PolicyBundle.load(manifest.parent).version == figures["version"]
    assert logging.getLogger("mlflow").level in {logging.NOTSET, logging.INFO}


def test_no_proven_gain_keeps_the_champion_and_force_says_so_loudly() -> None:
    _write(make_log(70, seed=22, right=EQUAL | {"direct": 0.55}))
    refused = _run("train", "--mlflow", "off")
    assert refused.exit_code == 0
    assert "Not promoted: " in refused.stdout
    assert "Policy direct goes on serving" in refused.stdout
    assert Registry(DATA).champion() is None
    forced = _run("train", "--mlflow", "off", "--force")
    assert "WARNING: --force lets policy" in forced.stderr
    assert "FORCED: policy" in forced.stdout
    assert Registry(DATA).champion() is not None


def test_each_training_is_a_test_and_evaluating_again_is_not() -> None:
    _write(make_log(60, seed=23, right=EQUAL))
    trained = [
        _json(_run("train", "--seed", str(seed), "--mlflow", "off", "--json")) for seed in (0, 1)
    ]
    tests = [one["gate"]["test"] for one in trained]
    assert [test["number"] for test in tests] == [1, 2]
    assert [test["level"] for test in tests] == pytest.approx([0.05 / 2, 0.05 / 6])
    again = _json(_run("evaluate", "--json"))
    assert again["gate"]["test"]["number"] == 2
    # Another answer to the same question would be a second look.
    assert again["evaluation"] == trained[1]["evaluation"]
    stored = json.loads((DATA / "policies" / "gate.json").read_text())
    assert [test["candidate"] for test in stored["tests"]] == [t["candidate"] for t in tests]


def test_after_a_promotion_only_new_decisions_count(helpful_log: list[LoggedDecision]) -> None:
    _write(helpful_log)
    assert _json(_run("train", "--mlflow", "off", "--json"))["promoted"]
    again = _json(_run("train", "--seed", "1", "--mlflow", "off", "--json"))
    assert not again["promoted"]
    assert "made before the champion served" in again["gate"]["reason"]
    assert again["gate"]["test"] is None


def test_missing_support_refuses_and_names_the_strategy() -> None:
    never = EXPLORING | {"direct": 0.55, "effort:low": 0.0}
    _write(make_log(90, seed=23, propensities=never))
    refused = _run("train", "--mlflow", "off")
    assert refused.exit_code == 0
    assert "Not promoted: The log cannot tell" in refused.stdout
    assert "effort:low" in refused.stdout


@pytest.mark.usefixtures("unstaged")
def test_an_unreachable_tracking_server_does_not_stop_training(
    helpful_log: list[LoggedDecision], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    _write(helpful_log)
    trained = _run("train", "--mlflow", "http://127.0.0.1:9")
    assert trained.exit_code == 0
    assert "Not recorded in MLflow (http://127.0.0.1:9): " in trained.stdout
    assert Registry(DATA).versions()


@pytest.mark.usefixtures("unstaged")
def test_an_export_teaches_what_the_log_teaches(helpful_log: list[LoggedDecision]) -> None:
    _write(helpful_log)
    exported = _json(_run("export", "out", "--json"))
    assert exported["redacted"]
    assert sum(exported["days"].values()) == len(helpful_log)
    by_store, by_export = (
        _json(_run("train", "--from", origin, "--mlflow", "off", "--no-promote", "--json"))
        for origin in ("store", "out")
    )
    assert by_export["data"]["fingerprint"] == by_store["data"]["fingerprint"]
    assert by_export["held_out"] == by_store["held_out"]
    day = _json(_run("export", "some", "--since", "1970-01-02", "--json"))
    assert day["days"] == {}


@pytest.mark.usefixtures("unstaged")
def test_a_dry_run_says_what_would_be_and_changes_nothing(
    helpful_log: list[LoggedDecision],
) -> None:
    _write(helpful_log)
    trained = _run("train", "--no-promote", "--challenge", "--mlflow", "off", "--json")
    version, registry = _json(trained)["version"], Registry(DATA)
    assert registry.challenger() == version
    said = _run("promote", version, "--dry-run")
    assert said.exit_code == 0, said.output
    assert "Dry run: nothing was changed. By the gate" in said.stdout
    assert "it scored no live traffic" in said.stdout
    assert registry.champion() is None
    assert registry.challenger() == version
    _run("promote", version, "--mlflow", "off")
    assert (registry.champion(), registry.challenger()) == (version, None)
    _run("challenge", version, "--mlflow", "off")
    assert registry.challenger() == version
    assert "No policy challenges" in _run("challenge", "--stop", "--mlflow", "off").stdout
    assert registry.challenger() is None


@pytest.mark.usefixtures("unstaged")
def test_mlflows_aliases_follow_and_a_tampered_bundle_is_refused(
    helpful_log: list[LoggedDecision], tmp_path: Path
) -> None:
    _write(helpful_log)
    version = _json(_run("train", "--no-promote", "--challenge", "--json"))["version"]
    assert _alias_of("challenger") == version
    _run("promote", version)
    assert (_alias_of("champion"), _alias_of("challenger")) == (version, None)
    url = f"sqlite:///{(DATA / 'mlflow.db').absolute()}"
    elsewhere = ["--data-dir", str(tmp_path / "elsewhere"), "--mlflow", url]
    assert "serves now" in _run("promote", "@champion", *elsewhere).stdout
    assert Registry(tmp_path / "elsewhere").champion() == version
    (text,) = (DATA / "mlruns").rglob("outcome_quality.txt")
    text.write_text(text.read_text() + " ")
    refused = _run("promote", "@champion", "--data-dir", str(tmp_path / "third"), "--mlflow", url)
    assert refused.exit_code == 2
    assert "does not have the sha256" in refused.stderr
    assert Registry(tmp_path / "third").versions() == []
    _run("rollback")
    assert _alias_of("champion") is None


def _alias_of(alias: str) -> str | None:
    """The policy that MLflow's registry calls so."""
    with sqlite3.connect(DATA / "mlflow.db") as database:
        found = database.execute(
            "select t.value from registered_model_aliases a join model_version_tags t "
            "on t.name = a.name and t.version = a.version where a.alias = ?",
            (alias,),
        ).fetchone()
    database.close()
    return None if found is None else str(found[0])


@pytest.mark.usefixtures("unstaged")
def test_a_policy_that_is_wrong_about_its_answers_is_taken_back(
    helpful_log: list[LoggedDecision],
) -> None:
    _write(helpful_log)
    version = _json(_run("train", "--force", "--mlflow", "off", "--json"))["version"]
    now = time.time()
    wrong = [
        judged(
            replace(
                one,
                decision=replace(
                    one.decision,
                    policy_version=version,
                    id=f"late_{n}",
                    created_at=now - 1000 + n,
                    candidates=tuple(replace(c, quality=0.9) for c in one.decision.candidates),
                ),
                outcome=one.outcome and replace(one.outcome, decision_id=f"late_{n}"),
            ),
            0.0,
        )
        for n, one in enumerate(helpful_log)
    ]
    _write(wrong)
    alarm = _run("drift", "--json")
    assert alarm.exit_code == 1
    assert "wrong about its own answers" in alarm.stdout
    assert Registry(DATA).champion() == version
    demoted = _run("drift", "--demote", "--json")
    assert json.loads(demoted.stdout.splitlines()[-1])["demoted_to"] == "pretrained"
    assert Registry(DATA).champion() is None
    status = json.loads((DATA / "policies" / "drift.json").read_text())
    assert status["alarm"]


def _recorded_rows() -> list[dict[str, Any]]:
    """Every strategy on 40 contexts of 2 queries: learned:low is right, direct is not."""
    return [
        {
            "context_id": f"c{context}",
            "query_id": f"q{query}",
            "strategy": strategy,
            "features": {"ctx_chars": 10.0 * context, "art_notes": 4},
            "quality": float(strategy == "learned:low" or (context + query) % 3 == 0),
            "output_tokens": 300 if strategy == "effort:high" else 12,
            "input_tokens": 200,
            "cached_tokens": 100,
            "latency_ms": 2000 if strategy == "effort:high" else 150,
            "model": "qwen2.5-coder-1.5b",
            "split": "train" if context < 25 else "validation",
        }
        for context in range(40)
        for query in range(2)
        for strategy in ("direct", "effort:high", "learned:low")
    ]


def test_recorded_outcomes_need_no_log_and_no_weights() -> None:
    Path("recorded.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in _recorded_rows()))
    figures = _json(_run("train", "--from", "recorded.jsonl", "--mlflow", "off", "--json"))
    found = figures["evaluation"]
    assert figures["promoted"], figures["gate"]
    assert found["decisions"] == 30
    assert found["champion"]["quality"] == pytest.approx(1 / 3, abs=0.01)
    assert found["candidate"]["quality"] > 0.9
    assert found["cost_known"]
    assert figures["data"]["source"] == "recorded.jsonl"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(["train"], "There is no log at data/forethought.sqlite", id="no log"),
        pytest.param(
            ["train", "--store", "sqlite:///nowhere.db"], "no log at nowhere.db", id="no store"
        ),
        pytest.param(["train", "--from", "x.jsonl"], "x.jsonl cannot be read", id="no file"),
        pytest.param(["evaluate"], "There is no policy in data/policies", id="none to evaluate"),
        pytest.param(["promote", "abcdef123456"], "no policy 'abcdef123456'", id="unknown"),
        pytest.param(["rollback"], "nothing to take back", id="nothing promoted"),
    ],
)
def test_errors_are_one_line_on_stderr_and_exit_status_2(args: list[str], message: str) -> None:
    result = _run(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert not DATA.exists()


def test_a_log_that_is_too_small_or_no_database_is_refused() -> None:
    _write([])
    assert "no decision to learn from" in _run("train").stderr
    _write(make_log(2, seed=0))
    assert "cannot be fitted" in _run("train").stderr
    (DATA / "forethought.sqlite").write_text("not a database, but long enough to be read as one")
    broken = _run("train")
    assert broken.exit_code == 2
    assert "forethought.sqlite" in broken.stderr


def test_fitting_never_starts_from_a_policy_that_saw_these_rows(
    bundle: PolicyBundle, tmp_path: Path, nothing_ships: Path
) -> None:
    registry = Registry(tmp_path)
    seen = from_log(make_log(10, seed=1))
    assert starting_point(registry, bundle, seen, []) is None
    shipped = PolicyBundle.build(
        predictability=bundle.predictability,
        outcome=bundle.outcome,
        demand=bundle.demand,
        info={"data": {"recorded": True, "until": 0.0}},
    )
    shipped.save(nothing_ships)
    started = starting_point(registry, shipped, seen, [])
    assert started is not None
    assert started.version == shipped.version
    info = bundle.manifest["info"]
    later = PolicyBundle.build(
        predictability=bundle.predictability,
        outcome=bundle.outcome,
        demand=bundle.demand,
        info={**info, "initial": shipped.version},
    )
    started = starting_point(registry, later, seen, [])
    assert started is not None
    assert started.version == shipped.version
    until = info["data"]["until"]
    new = [one for one in make_log(700, seed=2) if one.decision.created_at > until]
    assert starting_point(registry, bundle, from_log(new), []) is bundle


@pytest.mark.usefixtures("unstaged")
def test_a_damaged_champion_does_not_stop_training(helpful_log: list[LoggedDecision]) -> None:
    _write(helpful_log)
    version = _json(_run("train", "--mlflow", "off", "--json"))["version"]
    (DATA / "policies" / version / "demand.json").write_text("{}")
    again = _run("train", "--mlflow", "off")
    assert again.exit_code == 0, again.output
    assert "note: The champion cannot be used" in again.stdout
    assert any(is_held_out(one.decision.context_id or "") for one in helpful_log)
