"""openai-node: chat, streams, tools, abort, responses, embeddings, models, errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.clients.environments import done, node_with
from tests.clients.result import Result

VERSION: Final = "7.57.0"
SCRIPT: Final = Path(__file__).with_suffix(".mjs")


def run(base_url: str, models: Sequence[str]) -> Result:
    """Run the script against ``base_url``."""
    del models
    folder = node_with("openai-node", f"openai@{VERSION}")
    lines = done(["node", str(SCRIPT), str(folder), base_url]).splitlines()
    return Result(
        client="openai-node",
        version=VERSION,
        passed=sum(line.startswith("ok ") for line in lines),
        failures=tuple(line for line in lines if line.startswith("not ok ")),
    )
