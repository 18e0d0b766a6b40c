"""The ``llm`` command-line tool, its model at the proxy's address as its manual says."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.clients.environments import done, python_with
from tests.clients.result import Result

VERSION: Final = "0.28"
ASKED: Final = "Grüße, 世界"


def run(base_url: str, models: Sequence[str]) -> Result:
    """Ask by the command line, streamed and not."""
    del models
    python = python_with("llm", f"llm=={VERSION}", "setuptools<81", "httpx")
    passed, failures = 0, []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "extra-openai-models.yaml").write_text(
            f"- model_id: proxied\n  model_name: fake\n  api_base: {base_url}\n"
        )
        env = {"LLM_USER_PATH": folder, "OPENAI_API_KEY": "any"}
        for more in ([], ["--no-stream"], ["-s", "Be kind."]):
            said = done([str(python), "-m", "llm", "-m", "proxied", *more, ASKED], env=env)
            if said.strip() == f"You said: {ASKED}":
                passed += 1
            else:
                failures.append(f"{' '.join(more) or 'streamed'}: {said[:200]!r}")
    return Result(client="llm", version=VERSION, passed=passed, failures=tuple(failures))
