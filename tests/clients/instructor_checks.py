"""instructor against the proxy: a typed answer, whole and in parts. Knows nothing of ours."""

import sys

import instructor
from openai import OpenAI
from pydantic import BaseModel


class City(BaseModel):
    city: str


client = OpenAI(base_url=sys.argv[1], api_key="any", max_retries=0)
ASKED = {"model": "json", "messages": [{"role": "user", "content": "Where?"}]}


def by_json_schema() -> None:
    typed = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    assert typed.chat.completions.create(response_model=City, **ASKED).city == "Zürich"


def by_json() -> None:
    typed = instructor.from_openai(client, mode=instructor.Mode.JSON)
    assert typed.chat.completions.create(response_model=City, **ASKED).city == "Zürich"


def in_parts() -> None:
    typed = instructor.from_openai(client, mode=instructor.Mode.JSON)
    parts = list(typed.chat.completions.create_partial(response_model=City, **ASKED))
    assert parts[-1].city == "Zürich"


for check in (by_json_schema, by_json, in_parts):
    try:
        check()
        print(f"ok {check.__name__}")
    except Exception as error:  # every check is told of
        print(f"not ok {check.__name__}: {type(error).__name__}: {str(error)[:200]!r}")
