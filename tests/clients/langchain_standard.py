"""langchain-tests' integration suites, before an upstream that does what schemas ask for."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.clients.environments import python_with
from tests.clients.result import Result

VERSION: Final = "1.1.9"
SUITE: Final = Path(__file__).with_name("langchain_standard_checks.py")


def run(base_url: str, models: Sequence[str]) -> Result:
    """Run both suites."""
    del models
    python = python_with("langchain-tests", f"langchain-tests=={VERSION}", "langchain-openai")
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [
                str(python), "-m", "pytest", "-q", "--noconftest", "--rootdir", folder,
                "-c", os.devnull, "-p", "no:cacheprovider", "--tb=line", "-rf",
                "-o", "asyncio_mode=auto",
                # ChatOpenAI shares an asynchronous client between models: one loop for all.
                "-o", "asyncio_default_test_loop_scope=session",
                "-o", "asyncio_default_fixture_loop_scope=session",
                str(SUITE),
            ],
            cwd=folder, env={**os.environ, "PROXY_URL": base_url}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    closing = next((x for x in reversed(ran.stdout.splitlines()) if " in " in x), ran.stderr[-500:])
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (\w+)", closing)}
    failures = re.findall(r"^(?:FAILED|ERROR) (.+)", ran.stdout, re.MULTILINE)
    if not counts.get("passed"):
        failures.append(closing)
    return Result(
        client="langchain-tests",
        version=VERSION,
        passed=counts.get("passed", 0),
        failures=tuple(failures),
        left_out=counts.get("skipped", 0),
    )
