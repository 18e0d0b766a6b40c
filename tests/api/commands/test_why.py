"""``forethought why`` against a real server."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from forethought.api.cli import main
from tests.api.server import KEY, ApiServer

QUESTION = {
    "messages": [
        {"role": "system", "content": "The shop sells 12 eggs for 3 dollars each. " * 8},
        {"role": "user", "content": "How many dollars?"},
    ]
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setenv("FORETHOUGHT_API_KEY", KEY)
    monkeypatch.setattr(sys, "argv", ["forethought", "why", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_it_prints_the_choice_the_candidates_and_what_would_change_it(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = server.chat(QUESTION).headers["x-forethought-decision"]
    url = f"{server.url}/v1"
    assert run(monkeypatch, decision, "--base-url", url) == 0
    shown = capsys.readouterr().out
    for part in (decision, "propensity", "What would change it", "would be chosen if", "odds ×"):
        assert part in shown
    for strategy in ("direct", "effort:low", "learned:high"):
        assert f"  {strategy}: " in shown
    assert max(map(len, shown.splitlines())) <= 110
    assert run(monkeypatch, decision, "--base-url", url, "--json") == 0
    explanation = json.loads(capsys.readouterr().out)["explanation"]
    assert explanation["candidates"][0]["strategy"] == "direct"


def test_what_cannot_be_asked_is_one_line_and_status_2(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "dec_0", "--base-url", f"{server.url}/v1") == 2
    assert "There is no decision 'dec_0'" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert run(monkeypatch, "dec_0", "--base-url", f"http://127.0.0.1:{port}/v1") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No server answers" in line
    assert "forethought serve" in line
