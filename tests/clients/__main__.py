"""Run clients that others wrote against the proxy, before a scripted upstream.

``python -m tests.clients [name ...]``: each client is installed in an environment of its own
(kept between runs). Prints a table; ends with a failure where a check fails.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.api.server import ApiServer
from tests.clients import langchain_standard, llm_tool, openai_node, own_tests
from tests.clients.obedient import Obedient
from tests.clients.python_script import Run, Script
from tests.clients.result import Result
from tests.fake_upstream import FakeUpstreamServer

CLIENTS: Final[Mapping[str, Run]] = {
    "openai-python": own_tests.OPENAI,
    "anthropic-python": own_tests.ANTHROPIC,
    "openai-node": openai_node.run,
    "instructor": Script(
        "instructor_checks.py", ("instructor==1.13.0", "openai", "pydantic", "jsonref")
    ),
    "llm": llm_tool.run,
    "langchain-openai": Script("langchain_checks.py", ("langchain-openai", "pydantic")),
    "langchain-tests": langchain_standard.run,
}

UPSTREAMS: Final[Mapping[str, type[FakeUpstreamServer]]] = {"langchain-tests": Obedient}
"""Who needs another upstream than the plain one."""

MODELS: Final = (
    "fake",
    "json",
    "gpt-4o",
    "gpt-6-astra",
    "gpt-3.5-turbo-instruct",
    "string",
    "model_id",
)
"""What the upstream serves; the SDK's tests name models of OpenAI's."""


def answer(body: Mapping[str, Any]) -> str:
    """What the upstream says: JSON from the model ``json``, else the question back."""
    if body["model"] == "json":
        return '{"city": "Zürich"}'
    content = body["messages"][-1].get("content") or ""
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content)
    return f"You said: {content}"


def run(name: str) -> Result:
    """Run one client against a server of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        UPSTREAMS.get(name, FakeUpstreamServer)(answer=answer, models=MODELS) as fake,
        ApiServer(Path(folder), upstream_base_url=fake.base_url, model="fake") as server,
    ):
        return CLIENTS[name](f"{server.url}/v1", MODELS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(CLIENTS))
    names = parser.parse_args().names or list(CLIENTS)
    figures: dict[str, Any] = {}
    for name in names:
        began = time.monotonic()
        found = run(name)
        print(
            f"{found.client:30} {found.version:10} {found.passed:4} passed "
            f"{len(found.failures):3} failed {found.left_out:4} left out "
            f"{time.monotonic() - began:6.1f} s"
        )
        for failure in found.failures:
            print(f"    {failure}")
        figures[name] = {"passed": found.passed, "failed": len(found.failures)}
    print(json.dumps({"clients": figures}))
    raise SystemExit(any(one["failed"] for one in figures.values()))


if __name__ == "__main__":
    main()
