"""Tests that SDKs bring for their API resources, run against the proxy.

They send every parameter that the SDK knows and validate the replies strictly. Written for a mock
that answers anything, they are left out where they ask what a real server has to refuse.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from tests.clients.environments import python_with, source_of
from tests.clients.result import Result


@dataclass(frozen=True, slots=True)
class OwnTests:
    """The tests of ``package``, in its installed version, that are in ``files``.

    ``left_out`` are pytest expressions by file; ``extras`` what the tests need beside it.
    ``root``: the SDK adds ``/v1`` to its base URL itself.
    """

    package: str
    files: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    extras: tuple[str, ...] = ()
    root: bool = False

    def __call__(self, base_url: str, models: Sequence[str]) -> Result:
        del models
        own = version(self.package)
        python = python_with(
            f"{self.package}-tests", f"{self.package}[aiohttp]=={own}", "pytest==9.0.3",
            "pytest-asyncio==1.4.0", *self.extras,
        )  # fmt: skip
        source = source_of(f"{self.package}-source", self.package, own)
        found = Result(client=f"{self.package}, its own tests", version=own)
        url = base_url.removesuffix("/v1") if self.root else base_url
        for name in self.files:
            found += self._file(python, source, name, url)
        return found

    def _file(self, python: Path, source: Path, name: str, url: str) -> Result:
        chosen = ["-k", f"not ({self.left_out[name]})"] if name in self.left_out else []
        ran = subprocess.run(
            [
                str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=",
                f"tests/api_resources/{name}", *chosen,
            ],
            cwd=source, env={**os.environ, "TEST_API_BASE_URL": url}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        lines = ran.stdout.splitlines()
        closing = next((x for x in reversed(lines) if " in " in x), ran.stderr[-500:])
        counts = {what: int(n) for n, what in re.findall(r"(\d+) (\w+)", closing)}
        failures = re.findall(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
        if not counts.get("passed"):
            failures.append(f"{name}: {closing}")
        return Result(
            client="", version="", passed=counts.get("passed", 0), failures=tuple(failures),
            left_out=counts.get("deselected", 0),
        )  # fmt: skip


# Not test_responses.py: it asks for nothing at all, or names a stored response with each request.
OPENAI = OwnTests(
    "openai",
    ("chat/test_completions.py", "test_completions.py", "test_embeddings.py", "test_models.py"),
    {
        # What OpenAI stores: it is passed on only where the upstream keeps it.
        "chat/test_completions.py": "retrieve or update or list or delete",
        "test_models.py": "delete",
        # The SDK asks for base64, and checks before it decodes that it got no base64.
        "test_embeddings.py": "test_method_create and not all_params or raw_response_create or "
        "streaming_response_create",
    },
    ("inline-snapshot", "rich", "trio"),
)
ANTHROPIC = OwnTests(
    "anthropic",
    ("test_messages.py", "test_models.py"),
    {
        # A container can only run at Anthropic: refused by name before another upstream.
        "test_messages.py": "create_with_all_params",
        # Pages after a model that is not there.
        "test_models.py": "list_with_all_params",
    },
    ("respx", "inline-snapshot", "dirty-equals", "http-snapshot", "rich", "trio"),
    root=True,
)
