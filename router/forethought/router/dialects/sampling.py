"""``temperature``, ``top_p`` and ``top_k`` for Anthropic, as far as a model takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from forethought.router.dialects.base import Json, refused
from forethought.router.dialects.claude import takes_sampling

_DEFAULTS: Final[Mapping[str, float | None]] = {"temperature": 1, "top_p": 1, "top_k": None}
"""What a model does that is not told; to leave these out changes nothing."""


def sampled(body: Mapping[str, Any], sent: Json, warnings: list[str]) -> None:
    """Put what ``body`` says of sampling into ``sent``, and what was changed into ``warnings``.

    Raises:
        InvalidRequest: A value is no number.
    """
    model = str(sent["model"])
    thinks = (sent.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    for name, default in _DEFAULTS.items():
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise refused(name, "has to be a number")
        if not takes_sampling(model):
            if value != default:
                warnings.append(f"{name}: left out, {model} takes none")
        elif name != "temperature":
            sent[name] = value
        elif thinks and value != default:
            warnings.append("temperature: left out, a thinking model takes none")
        else:
            if value > 1:
                warnings.append("temperature: 1 is Anthropic's highest")
            sent[name] = min(1, value)
