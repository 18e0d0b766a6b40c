"""What is served: which models, under which names, by which upstream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forethought.router.errors import InvalidRequest, ModelNotFound
from forethought.router.incoming import AUTO, takes_effort
from forethought.router.model_names import placed


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedUpstream:
    """What is known of an upstream by whose name its models begin.

    The fields mean what they mean in ``Serving``.
    """

    speaks_anthropic: bool = False
    native_effort: bool | None = None
    native_responses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What is served.

    ``model``: what ``forethought/auto`` stands for; ``models``: all that the upstream without a
    name has, None where it is asked itself. ``aliases``: the upstream's name, or
    ``forethought/auto``, by the clients' one. ``fallbacks``: the models that are asked where one
    fails, in this order. ``upstreams``: those that have a name; ``default`` is the name of the one
    that takes models which name none, empty where that has no name.
    ``provider_url`` finds the prices of a remote upstream without a name.
    ``log_text``: keep queries and answers.
    ``ask_usage``: ask streams for their usage where the client did not. ``recall``: let notes
    answer without the model.

    Of the upstream without a name: ``speaks_anthropic``: it is asked by the Messages API.
    ``native_effort``: whether its models take ``reasoning_effort``; None judges by their names.
    ``native_responses``: it has a Responses API of its own.
    """

    model: str | None
    models: frozenset[str] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    upstreams: Mapping[str, NamedUpstream] = field(default_factory=dict)
    default: str = ""
    provider_url: str | None = None
    speaks_anthropic: bool = False
    native_effort: bool | None = None
    native_responses: bool = False
    log_text: bool = True
    ask_usage: bool = True
    recall: bool = False

    def upstream_of(self, model: str) -> NamedUpstream | Serving:
        """What is known of the upstream that has ``model``."""
        name, _ = placed(model, self.upstreams, self.default)
        return self.upstreams[name] if name else self

    def takes_effort(self, model: str) -> bool:
        """Whether ``model`` takes ``reasoning_effort``, as far as is known."""
        configured = self.upstream_of(model).native_effort
        return takes_effort(model) if configured is None else configured


def upstream_name(model: str, serving: Serving) -> str | None:
    """The name of the upstream that has ``model``; None where there is only one."""
    if not serving.upstreams:
        return None
    return placed(model, serving.upstreams, serving.default)[0] or "default"


def served_model(name: str, serving: Serving) -> str:
    """The name of a model that a request names, by which its upstream is found.

    Raises:
        InvalidRequest: ``forethought/auto`` stands for no model here.
        ModelNotFound: The upstream is known not to serve it.
    """
    found = _resolved(name, serving)
    if found is None:
        raise InvalidRequest(
            f"{AUTO!r} stands for no model here.",
            param="model",
            remedy="Name a model, or start the server with --model.",
        )
    ours = not placed(found, serving.upstreams, serving.default)[0]
    if ours and serving.models is not None and found not in serving.models:
        names = ", ".join(sorted({*serving.models, *serving.aliases, AUTO}))
        raise ModelNotFound(
            f"The model {found!r} is not served here.",
            param="model",
            remedy=f"Name one of {names}.",
        )
    return found


def asked_model(body: Mapping[str, Any], serving: Serving) -> str:
    """``served_model`` of a request that has not been checked yet; nothing is refused."""
    return _resolved(str(body.get("model")), serving) or ""


def _resolved(name: str, serving: Serving) -> str | None:
    if serving.aliases:
        name = serving.aliases.get(name, name)
    if name == AUTO:
        return serving.model
    if not serving.default:
        return name
    return "/".join(placed(name, serving.upstreams, serving.default))
