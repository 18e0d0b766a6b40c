"""Every reply is what the openai SDK's types say that it is, strictly: nothing missing or wrong."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject
from pydantic import BaseModel, TypeAdapter, ValidationError

from tests.api.described import Described, replies


class Models(BaseModel):
    object: str
    data: list[Model]


class Error(BaseModel):
    error: ErrorObject


TYPES: Final[dict[str, TypeAdapter[Any]]] = {
    "CreateChatCompletionResponse": TypeAdapter(ChatCompletion),
    "CreateChatCompletionStreamResponse": TypeAdapter(ChatCompletionChunk),
    "CreateCompletionResponse": TypeAdapter(Completion),
    "CreateEmbeddingResponse": TypeAdapter(CreateEmbeddingResponse),
    "ErrorResponse": TypeAdapter(Error),
    "ListModelsResponse": TypeAdapter(Models),
    "Model": TypeAdapter(Model),
    "Response": TypeAdapter(Response),
    "ResponseStreamEvent": TypeAdapter(ResponseStreamEvent),
}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> list[Described]:
    return list(replies(tmp_path_factory.mktemp("described")))


def test_every_reply_has_the_sdks_type(described: list[Described]) -> None:
    wrong: list[str] = []
    for one in described:
        try:
            TYPES[one.schema].validate_json(json.dumps(one.said), strict=True)
        except ValidationError as error:
            wrong += [f"{one.case}: {e['loc']}: {e['msg']}" for e in error.errors()[:3]]
    assert wrong == []
    assert {one.schema for one in described} == TYPES.keys()
