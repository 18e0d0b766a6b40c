"""The server's own OpenAPI description: what its routes take, beside what FastAPI sees of it.

Routes read their bodies on their own, so that unknown fields pass; here stands what they read.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute

from forethought.api.direct import DirectRoute
from forethought.api.routes.contexts import Registration, SleepWish
from forethought.api.routes.feedback import Judgement
from forethought.router.strategies import BY_NAME

Json = dict[str, Any]

_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Who asks these needs no key."""

_TEXT: Final[Json] = {"type": "string"}
_MODEL: Final[Json] = {
    "type": "string",
    "minLength": 1,
    "description": "A model of the upstream, an alias of one, or forethought/auto.",
}
_STREAM: Final[Json] = {"type": ["boolean", "null"]}
_PARTS: Final[Json] = {
    "type": "array",
    "items": {"type": "object", "required": ["type"], "properties": {"type": _TEXT}},
}
_MESSAGES: Final[Json] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {
                "type": "string",
                "enum": ["system", "developer", "user", "assistant", "tool"],
            },
            "content": {"anyOf": [_TEXT, _PARTS, {"type": "null"}]},
        },
    },
}


def _tools(item: Json) -> Json:
    return {"type": ["array", "null"], "items": item}


_FUNCTION: Final[Json] = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "minLength": 1}, "parameters": {"type": "object"}},
}
_NAMED_TYPE: Final[Json] = {"type": "string", "enum": ["function"]}
_CHAT_TOOLS: Final = _tools(
    {
        "type": "object",
        "required": ["type", "function"],
        "properties": {"type": _NAMED_TYPE, "function": _FUNCTION},
    }
)
_RESPONSE_TOOLS: Final = _tools(
    {
        **_FUNCTION,
        "required": ["type", "name"],
        "properties": {**_FUNCTION["properties"], "type": _NAMED_TYPE},
    }
)
_ANTHROPIC_TOOLS: Final = _tools(
    {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "input_schema": {"type": "object"},
        },
    }
)
_ITEMS: Final[Json] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            _MESSAGES["items"],
            {
                "type": "object",
                "required": ["type", "call_id", "name", "arguments"],
                "properties": {
                    "type": {"type": "string", "enum": ["function_call"]},
                    "call_id": _TEXT,
                    "name": _TEXT,
                    "arguments": _TEXT,
                },
            },
            {
                "type": "object",
                "required": ["type", "call_id", "output"],
                "properties": {
                    "type": {"type": "string", "enum": ["function_call_output"]},
                    "call_id": _TEXT,
                    "output": _TEXT,
                },
            },
            {"type": "object", "required": ["type"], "properties": {"type": _TEXT}},
        ]
    },
}
_WISH: Final[Json] = {
    "type": ["object", "null"],
    "description": "How to answer; without it the server decides.",
    "additionalProperties": False,
    "properties": {
        "strategy": {"type": ["string", "null"], "enum": [*BY_NAME, None]},
        "context": {
            "type": ["string", "null"],
            "description": "The id of a registered context, which goes in front.",
        },
    },
}


def _takes(required: tuple[str, ...], **properties: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


_CHAT: Final = _takes(
    ("model", "messages"),
    model=_MODEL,
    messages=_MESSAGES,
    stream=_STREAM,
    stream_options={
        "type": ["object", "null"],
        "properties": {"include_usage": {"type": ["boolean", "null"]}},
    },
    n={"type": ["integer", "null"], "minimum": 1},
    max_tokens={"type": ["integer", "null"], "minimum": 1},
    max_completion_tokens={"type": ["integer", "null"], "minimum": 1},
    reasoning_effort={"type": ["string", "null"]},
    response_format={"type": ["object", "null"]},
    temperature={"type": ["number", "null"], "minimum": 0},
    tools=_CHAT_TOOLS,
    forethought=_WISH,
)
_ANTHROPICS: Final[dict[str, Json]] = {
    "model": _MODEL,
    "messages": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {
                "role": {"type": "string", "enum": ["user", "assistant", "system"]},
                "content": {"anyOf": [_TEXT, _PARTS]},
            },
        },
    },
    "system": {"anyOf": [_TEXT, _PARTS]},
    "tools": _ANTHROPIC_TOOLS,
    "thinking": {"type": "object"},
    "forethought": _WISH,
}
_MESSAGE: Final = _takes(
    ("model", "max_tokens", "messages"),
    max_tokens={"type": "integer", "minimum": 1},
    stream=_STREAM,
    **_ANTHROPICS,
)
_RESPONSE: Final = _takes(
    ("model",),
    model=_MODEL,
    input={"anyOf": [_TEXT, _ITEMS]},
    instructions={"type": ["string", "null"]},
    max_output_tokens={"type": ["integer", "null"], "minimum": 1},
    reasoning={"type": ["object", "null"]},
    store={"type": ["boolean", "null"]},
    stream=_STREAM,
    text={"type": ["object", "null"]},
    tools=_RESPONSE_TOOLS,
    forethought=_WISH,
)
_COMPLETION: Final = _takes(
    ("model", "prompt"),
    model=_MODEL,
    prompt={"anyOf": [_TEXT, {"type": "array"}]},
    stream=_STREAM,
)
_EMBEDDING: Final = _takes(
    ("model", "input"),
    model=_MODEL,
    input={"anyOf": [_TEXT, {"type": "array"}]},
    encoding_format={"type": "string", "enum": ["float", "base64"]},
)
_TAKEN: Final[Mapping[str, Json]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/route": _CHAT,
    "/v1/messages": _MESSAGE,
    "/v1/messages/count_tokens": _takes(("model", "messages"), **_ANTHROPICS),
    "/v1/responses": _RESPONSE,
    "/v1/completions": _COMPLETION,
    "/v1/embeddings": _EMBEDDING,
}
"""What POST to a path takes. Fields that are not named here pass on to the upstream."""

_SLEEP: Final = "/v1/contexts/{context_id}/sleep"
"""The one path whose body may be left out."""

_OURS: Final[Mapping[str, type[BaseModel]]] = {
    "/v1/contexts": Registration,
    _SLEEP: SleepWish,
    "/v1/feedback": Judgement,
}

_ERROR: Final[Json] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def describe(app: FastAPI) -> None:
    """Make ``/openapi.json`` complete."""

    def description() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=app.description,
                    routes=[*_as_fastapis(app.routes)],
                )
            )
        return app.openapi_schema

    app.openapi = description  # type: ignore[method-assign]


def _as_fastapis(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes, with those that FastAPI does not serve as it would see them."""
    for route in routes:
        if isinstance(route, DirectRoute) and route.tag:
            yield from _operations(route)
        else:
            yield route


def _operations(route: DirectRoute) -> Iterator[APIRoute]:
    in_path = {"in": "path", "required": True, "schema": _TEXT}
    parameters = [{"name": name, **in_path} for name in route.param_convertors]
    for method in sorted(route.methods):
        yield APIRoute(
            route.path,
            lambda: None,  # only what is said of it counts
            name=route.name,
            methods=[method],
            tags=[route.tag],
            description=inspect.getdoc(route.endpoint),
            response_class=Response,
            openapi_extra={"parameters": parameters} if parameters else None,
        )


def _completed(described: Json) -> Json:
    schemas: Json = {"Error": _ERROR}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if method == "post" and (schema := _schema_of(path, schemas)) is not None:
                operation["requestBody"] = _body(schema, required=path != _SLEEP)
            if path not in _OPEN:
                operation["security"] = [{"key": []}, {}]
            # Every wrong request is a 400 in OpenAI's shape, or Anthropic's below /v1/messages.
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "An error", **_json("Error")}
    key = {"type": "http", "scheme": "bearer"}
    described["components"] = {"schemas": schemas, "securitySchemes": {"key": key}}
    return described


def _schema_of(path: str, schemas: Json) -> Json | None:
    model = _OURS.get(path)
    if model is None:
        return _TAKEN.get(path)
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    if model is Registration:
        schema["properties"]["messages"] = {"anyOf": [_MESSAGES, {"type": "null"}]}
        schema["oneOf"] = [{"required": ["messages"]}, {"required": ["text"]}]
    schemas[model.__name__] = schema
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _body(schema: Json, *, required: bool) -> Json:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _json(name: str) -> Json:
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
