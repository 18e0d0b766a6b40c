from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from openai import BadRequestError

from forethought.router.records import Outcome
from tests.api.server import KEY, ApiServer
from tests.fake_upstream import FakeUpstreamServer

ASK = "How many eggs are left in the basket?"
DIRECT_ONLY = "In full, there are 7"
Said = list[str]


@pytest.fixture(scope="module")
def script() -> Said:
    """What the upstream answers next; ``DIRECT_ONLY`` when nothing is left."""
    return []


@pytest.fixture(scope="module")
def pair(
    script: Said, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ApiServer, FakeUpstreamServer]]:
    def answer(_: dict[str, Any]) -> str:
        return script.pop(0) if script else DIRECT_ONLY

    folder = tmp_path_factory.mktemp("several")
    with (
        FakeUpstreamServer(answer=answer) as fake,
        ApiServer(folder, upstream_base_url=fake.base_url, model="fake") as server,
    ):
        yield server, fake


@pytest.fixture
def ask(pair: tuple[ApiServer, FakeUpstreamServer], script: Said) -> Callable[..., Any]:
    server, fake = pair

    def asked(strategy: str, *answers: str, **more: Any) -> Any:
        fake.requests.clear()
        script[:] = answers
        return server.openai.chat.completions.with_raw_response.create(
            model="fake",
            messages=[{"role": "user", "content": ASK}],
            extra_body={"forethought": {"strategy": strategy}},
            **more,
        )

    return asked


@pytest.mark.parametrize(
    ("strategy", "answers", "said", "calls"),
    [
        pytest.param("vote:3", ["12", "12"], "12", 2, id="3-early"),
        pytest.param("vote:3", ["9", "so 12", "12"], "12", 3, id="3-all"),
        pytest.param("vote:5", ["9", "9", "9"], "9", 3, id="5-early"),
        pytest.param("vote:5", ["1", "2", "3", "2", "2"], "2", 5, id="5-all"),
        pytest.param("cascade", ["12", "12 eggs"], "12", 2, id="cascade-agrees"),
        pytest.param("cascade", ["12", "13"], DIRECT_ONLY, 3, id="cascade-escalates"),
    ],
)
def test_the_reply_is_the_majority_and_every_sample_is_billed(
    ask: Callable[..., Any],
    pair: tuple[ApiServer, FakeUpstreamServer],
    strategy: str,
    answers: list[str],
    said: str,
    calls: int,
) -> None:
    raw = ask(strategy, *answers)
    reply = raw.parse()
    text = reply.choices[0].message.content
    assert text in {said, f"so {said}", f"{said} eggs"}
    assert raw.headers["x-forethought-samples"] == str(calls)
    assert len(pair[1].requests) == calls
    written = sum(len(a.split()) for a in [*answers, DIRECT_ONLY][:calls])
    assert reply.usage.completion_tokens == written
    logged = pair[0].logged_as(raw.headers["x-forethought-decision"])
    assert logged.decision.strategy == strategy
    assert logged.outcome is not None
    assert logged.outcome.usage.output_tokens == written
    assert logged.outcome.calls == calls
    shown = pair[0].client.decisions.retrieve(logged.decision.id)
    assert shown.outcome is not None
    assert shown.outcome.calls == calls


def test_a_stream_is_the_chosen_sample_with_the_usage_of_all(ask: Callable[..., Any]) -> None:
    options = {"include_usage": True}
    raw = ask("vote:3", "9", "12", "12", stream=True, stream_options=options)
    chunks = list(raw.parse())
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "12"
    assert chunks[-1].usage.completion_tokens == 3


@pytest.mark.parametrize("strategy", ["vote:3", "cascade"])
def test_clients_of_anthropic_are_served_whole_and_streamed(
    pair: tuple[ApiServer, FakeUpstreamServer], script: Said, strategy: str
) -> None:
    server, _ = pair
    asked: Any = {
        "model": "fake", "max_tokens": 50, "messages": [{"role": "user", "content": ASK}],
        "extra_headers": {"x-forethought-strategy": strategy},
    }  # fmt: skip
    with Anthropic(base_url=server.url, api_key=KEY, max_retries=0) as client:
        script[:] = ["12", "12"]
        whole = client.messages.create(**asked)
        assert [block.text for block in whole.content if block.type == "text"] == ["12"]
        assert whole.usage.output_tokens == 2
        script[:] = ["12", "12"]
        with client.messages.stream(**asked) as stream:
            assert "".join(stream.text_stream) == "12"
            final = stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 2)


def test_a_failed_sample_falls_back_to_direct(
    ask: Callable[..., Any], pair: tuple[ApiServer, FakeUpstreamServer]
) -> None:
    pair[1].script("drop", "", "")
    raw = ask("cascade")
    assert raw.parse().choices[0].message.content == DIRECT_ONLY
    assert "temperature" not in pair[1].requests[-1].body
    outcome = pair[0].logged_as(raw.headers["x-forethought-decision"]).outcome
    assert outcome is not None
    assert outcome.status == "ok"
    assert "estimated" in str(outcome.error)
    assert raw.headers["x-forethought-samples"] == "3"


@pytest.mark.parametrize(
    "field",
    [
        {"n": 2},
        {"seed": 1},
        {"logprobs": True},
        {"temperature": 0},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    ],
    ids=lambda field: next(iter(field)),
)
@pytest.mark.parametrize("strategy", ["vote:3", "cascade"])
def test_what_several_calls_cannot_serve_is_refused(
    ask: Callable[..., Any], strategy: str, field: dict[str, Any]
) -> None:
    with pytest.raises(BadRequestError, match="cannot serve"):
        ask(strategy, **field)


def test_a_client_that_hangs_up_cancels_all_samples(
    pair: tuple[ApiServer, FakeUpstreamServer],
) -> None:
    server, fake = pair
    before = fake.disconnects
    fake.script("hang", "hang")
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(
            f"{server.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {KEY}", "x-forethought-strategy": "vote:3"},
            json={"model": "fake", "messages": [{"role": "user", "content": ASK}]},
            timeout=0.5,
            trust_env=False,
        )
    until = time.monotonic() + 5
    while fake.disconnects < before + 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert fake.disconnects == before + 2
    while (last := latest_outcome(server)).status != "cancelled" and time.monotonic() < until:
        time.sleep(0.05)
    assert last.status == "cancelled"
    assert last.calls == 2
    assert last.usage.input_tokens > 0


def latest_outcome(server: ApiServer) -> Outcome:
    logged = [d for d in server.services.reader.logged_decisions() if d.outcome is not None]
    outcome = max(logged, key=lambda d: d.decision.created_at).outcome
    assert outcome is not None
    return outcome
