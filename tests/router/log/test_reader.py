from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from forethought.router.errors import NotFound
from forethought.router.log import LogReader, LogWriter
from forethought.router.log import reader as reader_module
from forethought.router.records import LoggedDecision
from tests.router.log.factories import (
    TENANT,
    make_context,
    make_decision,
    make_feedback,
    make_learned,
    make_outcome,
)


def _ids(found: list[LoggedDecision]) -> list[str]:
    return [logged.decision.id for logged in found]


def test_what_is_not_there_is_none(reader: LogReader) -> None:
    assert reader.context("ctx_0", TENANT) is None
    assert reader.context_by_hash(TENANT, "hash_0") is None
    assert reader.learned_context("lc_0") is None
    assert reader.latest_learned("ctx_0") is None
    assert reader.decision("dec_0", TENANT) is None
    assert reader.query_counts() == []
    assert list(reader.logged_decisions()) == []


def test_a_tenant_sees_nothing_of_another(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(make_context(), make_decision())
    assert reader.context("ctx_0", "other") is None
    assert reader.context_by_hash("other", "hash_0") is None
    assert reader.contexts("other") == []
    assert reader.decision("dec_0", "other") is None
    assert list(reader.logged_decisions(tenant="other")) == []
    assert not reader.delete_context("ctx_0", "other")
    assert reader.context("ctx_0", TENANT) is not None


def test_contexts_are_listed_newest_first_page_by_page(
    writer: LogWriter, reader: LogReader
) -> None:
    same_time = [make_context(n, created_at=1_000.0) for n in range(3)]
    writer.write_sync(make_context(9), *same_time)
    seen: list[str] = []
    while page := reader.contexts(TENANT, limit=2, after=seen[-1] if seen else None):
        seen += [context.id for context in page]
    assert seen == ["ctx_9", "ctx_2", "ctx_1", "ctx_0"]


def test_a_page_after_an_unknown_context_is_not_found(reader: LogReader) -> None:
    with pytest.raises(NotFound) as caught:
        reader.contexts(TENANT, after="ctx_none")
    assert caught.value.param == "after"


def test_learned_contexts_are_versioned(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(make_context(), *(make_learned(n) for n in range(3)))
    assert [learned.version for learned in reader.learned_versions("ctx_0")] == [3, 2, 1]
    assert reader.latest_learned("ctx_0") == make_learned(2)


def test_the_latest_feedback_is_the_quality(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(
        make_decision(),
        make_feedback(0, created_at=20.0, quality=0.25),
        make_feedback(1, created_at=10.0, quality=1.0),
    )
    logged = reader.decision("dec_0", TENANT)
    assert logged is not None
    assert logged.quality == 0.25
    assert [given.id for given in logged.feedback] == ["fb_1", "fb_0"]


def test_a_decision_may_still_lack_its_outcome(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(make_decision())
    logged = reader.decision("dec_0", TENANT)
    assert logged == LoggedDecision(decision=make_decision())


def test_decisions_come_in_time_order_across_pages(
    writer: LogWriter, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_PAGE", 3)
    times = [5.0, 1.0, 3.0, 3.0, 3.0, 3.0, 2.0, 4.0, 3.0]
    decisions = [make_decision(n, created_at=at) for n, at in enumerate(times)]
    writer.write_sync(*decisions, *(make_outcome(n) for n in range(len(times))))
    found = list(reader.logged_decisions())
    expected = sorted(decisions, key=lambda decision: (decision.created_at, decision.id))
    assert [logged.decision for logged in found] == expected
    assert all(logged.outcome for logged in found)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param({}, ["dec_0", "dec_1", "dec_2", "dec_3"], id="all"),
        pytest.param({"since": 3_001.0}, ["dec_1", "dec_2", "dec_3"], id="since is inclusive"),
        pytest.param({"until": 3_001.0}, ["dec_0"], id="until is exclusive"),
        pytest.param({"tenant": "other"}, ["dec_3"], id="tenant"),
        pytest.param({"with_quality_only": True}, ["dec_2"], id="judged"),
    ],
)
def test_decisions_are_filtered(
    writer: LogWriter, reader: LogReader, filters: dict[str, float], expected: list[str]
) -> None:
    writer.write_sync(*(make_decision(n) for n in range(3)), make_decision(3, tenant="other"))
    writer.write_sync(*(make_feedback(n, decision_id="dec_2") for n in range(2)))
    assert _ids(list(reader.logged_decisions(**filters))) == expected  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_query_counts_leave_out_contexts_never_asked_about(
    writer: LogWriter, reader: LogReader
) -> None:
    writer.write_sync(*(make_context(n) for n in range(3)), make_context(3, tenant="other"))
    for context_id in ("ctx_0", "ctx_0", "ctx_1", "ctx_3"):
        writer.context_touched(context_id, 1.0)
    writer.flush()
    assert sorted(reader.query_counts()) == [1, 1, 2]
    assert sorted(reader.query_counts(TENANT)) == [1, 2]


def test_a_deleted_context_takes_its_learned_contexts_and_all_text_along(
    writer: LogWriter, reader: LogReader, path: Path
) -> None:
    secret = "rosebud"
    writer.write_sync(
        make_context(text=secret, messages=({"content": secret},)),
        make_learned(text=secret),
        make_decision(query=secret),
        make_outcome(answer=secret, error=secret),
        make_feedback(comment=secret),
    )
    assert reader.delete_context("ctx_0", TENANT)
    assert reader.context("ctx_0", TENANT) is None
    assert reader.learned_context("lc_0") is None
    with sqlite3.connect(path) as connection:
        assert not [line for line in connection.iterdump() if secret in line]
    connection.close()


def test_what_sleep_on_a_deleted_context_cost_stays_and_says_nothing_else(
    writer: LogWriter, reader: LogReader, path: Path
) -> None:
    writer.write_sync(
        *(make_context(n) for n in range(2)),
        make_learned(0, created_at=99.0, cost_usd=0.5),
        make_learned(1, created_at=100.0, cost_usd=None),
        make_learned(2, context_id="ctx_1", created_at=101.0, cost_usd=0.25),
    )
    before = sorted(reader.sleep_spending(0.0))
    assert not reader.delete_context("ctx_0", "other")
    assert reader.delete_context("ctx_0", TENANT)
    assert sorted(reader.sleep_spending(0.0)) == before == [(99.0, 0.5), (101.0, 0.25)]
    assert reader.sleep_spending(100.0) == [(101.0, 0.25)]
    with sqlite3.connect(path) as connection:
        dump = [line for line in connection.iterdump() if 'INTO "deleted_sleep"' in line]
    connection.close()
    assert len(dump) == 2
    assert not [line for line in dump if "ctx_" in line or "lc_" in line or TENANT in line]


def test_whether_a_context_may_be_slept_on_unasked_is_kept(
    writer: LogWriter, reader: LogReader
) -> None:
    writer.write_sync(make_context())
    reader.set_auto_sleep("ctx_0", allowed=False)
    writer.write_sync(make_context(id="ctx_again", registered=True))
    assert reader.context("ctx_0", TENANT) == make_context(registered=True, auto_sleep=False)


def test_a_deleted_contexts_decisions_stay_for_training(
    writer: LogWriter, reader: LogReader
) -> None:
    writer.write_sync(make_context(), make_decision(), make_outcome(), make_feedback())
    reader.delete_context("ctx_0", TENANT)
    logged = reader.decision("dec_0", TENANT)
    assert logged is not None
    assert (logged.decision.context_id, logged.decision.query) == (None, "")
    assert logged.decision.features == make_decision().features
    assert logged.quality == 1.0


def test_what_was_spent_is_read_with_its_times(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(
        make_context(),
        *(make_decision(n, created_at=100.0 + n) for n in range(4)),
        make_outcome(1, cost_usd=0.25, finished_at=105.0),
        make_outcome(2, cost_usd=None, finished_at=106.0),
        make_learned(0, created_at=99.0, cost_usd=1.0),
        make_learned(1, created_at=110.0, cost_usd=0.5),
        make_learned(2, created_at=111.0, cost_usd=None),
    )
    assert sorted(reader.spending(101.0), key=lambda found: found[0]) == [
        (101.0, 105.0, 0.25),
        (102.0, 106.0, None),
        (103.0, None, None),
    ]
    assert reader.sleep_spending(100.0) == [(110.0, 0.5)]


def test_graded_answers_are_the_latest_of_one_policy_in_the_order_of_judgement(
    writer: LogWriter, reader: LogReader
) -> None:
    writer.write_sync(*(make_decision(n) for n in range(5)), make_decision(9, policy_version="x"))
    writer.write_sync(*(make_outcome(n, model=None) for n in (0, 1, 2, 9)))
    writer.write_sync(make_outcome(3, model=None, status="cancelled"), make_outcome(4))
    for n, (decision, quality) in enumerate(
        [(0, 0.0), (1, 1.0), (2, 0.5), (0, 0.75), (3, 1.0), (4, 1.0), (9, 1.0)]
    ):
        writer.write_sync(make_feedback(n, decision_id=f"dec_{decision}", quality=quality))
    found = reader.graded_answers("a1b2", limit=10)
    # Neither one that was cut off nor one of a fallback says anything of the prediction.
    assert [(one.decision_id, one.quality) for one in found] == [
        ("dec_1", 1.0), ("dec_2", 0.5), ("dec_0", 0.75),
    ]  # fmt: skip
    assert found[0].candidate == make_decision().candidates[0]
    assert (found[0].tenant, found[0].model, found[0].context_id) == (TENANT, "small", "ctx_0")
    assert [one.decision_id for one in reader.graded_answers("a1b2", limit=1)] == ["dec_0"]
    assert reader.graded_answers("none", limit=10) == []
