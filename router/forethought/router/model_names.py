"""Names of models where there are several upstreams: ``name/model``."""

from __future__ import annotations

from collections.abc import Container


def placed(model: str, upstreams: Container[str], default: str = "") -> tuple[str, str]:
    """The upstream that ``model`` is of, and its name there: ``claude/haiku`` is ``haiku`` there.

    A name that begins with none of ``upstreams`` is one of ``default``, slashes and all.
    """
    head, _, rest = model.partition("/")
    return (head, rest) if rest and head in upstreams else (default, model)
