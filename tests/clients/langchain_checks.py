"""langchain-openai against the proxy: chat, streams, tools, structure, embeddings, async."""

import asyncio
import sys

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

BASE = {"base_url": sys.argv[1], "api_key": "any", "max_retries": 0}
chat = ChatOpenAI(model="fake", **BASE)
SAID = "You said: Grüße, 世界"


class City(BaseModel):
    """A city."""

    city: str


class weather(BaseModel):
    """Today's weather."""

    city: str


def chat_whole() -> None:
    reply = chat.invoke("Grüße, 世界")
    assert reply.content == SAID
    assert reply.usage_metadata["output_tokens"] == 4


def chat_streamed() -> None:
    whole = None
    for chunk in chat.stream("Grüße, 世界", stream_usage=True):
        whole = chunk if whole is None else whole + chunk
    assert whole.content == SAID
    assert whole.usage_metadata["output_tokens"] == 4


def chat_async() -> None:
    assert asyncio.run(chat.ainvoke("Grüße, 世界")).content == SAID


def batched() -> None:
    assert [r.content for r in chat.batch(["a", "b"])] == ["You said: a", "You said: b"]


def tool_calls() -> None:
    asked = chat.bind_tools([weather]).bind(extra_headers={"x-fake": "calls=2"})
    assert [c["args"]["city"] for c in asked.invoke("?").tool_calls] == ["Zürich 0", "Zürich 1"]


def tool_calls_streamed() -> None:
    asked = chat.bind_tools([weather]).bind(extra_headers={"x-fake": "calls=2+interleaved"})
    whole = None
    for chunk in asked.stream("?"):
        whole = chunk if whole is None else whole + chunk
    assert [c["args"]["city"] for c in whole.tool_calls] == ["Zürich 0", "Zürich 1"]


def structured() -> None:
    typed = ChatOpenAI(model="json", **BASE).with_structured_output(City, method="json_schema")
    assert typed.invoke("Where?") == City(city="Zürich")


def responses_api() -> None:
    reply = ChatOpenAI(model="fake", use_responses_api=True, **BASE).invoke("Grüße, 世界")
    assert reply.text == SAID or reply.text() == SAID


def embeddings() -> None:
    vectors = OpenAIEmbeddings(model="fake", check_embedding_ctx_length=False, **BASE)
    assert vectors.embed_query("abc") == [3.0, 0.5]


for check in (
    chat_whole, chat_streamed, chat_async, batched, tool_calls, tool_calls_streamed, structured,
    responses_api, embeddings,
):  # fmt: skip
    try:
        check()
        print(f"ok {check.__name__}")
    except Exception as error:  # every check is told of
        print(f"not ok {check.__name__}: {type(error).__name__}: {str(error)[:200]!r}")
