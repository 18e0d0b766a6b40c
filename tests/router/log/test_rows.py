from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forethought.router.errors import StoreError
from forethought.router.log import LogReader, LogWriter
from forethought.router.log.rows import encode
from forethought.router.records import Candidate
from tests.router.log.factories import (
    TENANT,
    make_context,
    make_decision,
    make_feedback,
    make_learned,
    make_outcome,
)


def test_every_record_comes_back_as_it_was(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(
        make_context(n_queries=2, last_query_at=5.0, registered=True),
        make_learned(),
        make_decision(),
        make_outcome(),
        make_feedback(),
    )
    context = reader.context("ctx_0", TENANT)
    assert context == make_context(n_queries=2, last_query_at=5.0, registered=True)
    assert context is not None
    assert context.registered is True
    assert reader.learned_context("lc_0") == make_learned()
    logged = reader.decision("dec_0", TENANT)
    assert logged is not None
    assert (logged.decision, logged.outcome) == (make_decision(), make_outcome())
    assert logged.feedback == (make_feedback(),)


def test_a_missing_feature_comes_back_missing(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(make_decision(features={"artefact_tokens": math.nan, "words": 2.0}))
    logged = reader.decision("dec_0", TENANT)
    assert logged is not None
    assert math.isnan(logged.decision.features["artefact_tokens"])
    assert logged.decision.features["words"] == 2.0


def test_unset_fields_of_a_candidate_take_no_space() -> None:
    _, row = encode(make_decision())
    stored = json.loads(row[13])
    assert stored[1] == {
        "strategy": "learned:low",
        "propensity": 0.0,
        "excluded": "nothing is learned yet",
    }


def test_a_propensity_that_rounding_put_above_one_is_one() -> None:
    _, row = encode(make_decision(propensity=1.0 + 2e-16 * 8))
    assert row[8] == 1.0


@pytest.mark.parametrize(
    "features",
    [
        pytest.param({"bad": object()}, id="no JSON form"),
        pytest.param({"bad": math.inf}, id="infinite"),
        pytest.param({"bad": -math.inf, "missing": math.nan}, id="infinite beside a missing one"),
    ],
)
def test_a_value_without_a_json_form_is_refused(features: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="decisions") as caught:
        encode(make_decision(features=features))
    assert caught.value.param == "decisions"


def test_an_infinite_prediction_is_refused() -> None:
    with pytest.raises(StoreError, match="infinity"):
        encode(make_decision(candidates=(Candidate(strategy="direct", utility=math.inf),)))


def test_what_is_no_record_is_a_type_error() -> None:
    @dataclass
    class Stranger:
        id: str = "x"

    with pytest.raises(TypeError, match="Stranger is not a record"):
        encode(Stranger())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("plain", "plain", id="ascii"),
        pytest.param("naïve 🙂", "naïve 🙂", id="beyond the basic plane"),
        pytest.param("a\0b", "a\ufffdb", id="NUL"),
        pytest.param("é\0b", "é\ufffdb", id="NUL among others"),
        pytest.param("cut \ud83d", "cut \ufffd", id="lone surrogate"),
        pytest.param("\ud83d\ude42", "🙂", id="surrogate pair"),
    ],
)
def test_text_no_database_takes_is_mended(sent: str, kept: str) -> None:
    _, row = encode(make_decision(query=sent))
    assert row[5] == kept


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    value=st.floats(allow_nan=False, allow_infinity=False),
    message=st.dictionaries(st.text(), st.none() | st.booleans() | st.text()),
)
def test_any_text_number_and_message_round_trips(
    writer: LogWriter, reader: LogReader, text: str, value: float, message: dict[str, Any]
) -> None:
    n = writer.stats.written
    context = make_context(n, messages=(message,), text=text)
    decision = replace(make_decision(n), query=text, features={"any": value})
    writer.write_sync(context, decision)
    logged = reader.decision(decision.id, TENANT)
    assert reader.context(context.id, TENANT) == context
    assert logged is not None
    assert logged.decision == decision
