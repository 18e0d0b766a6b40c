"""Validate every reply by OpenAI's published OpenAPI description.

``python -m tests.clients.published_description openapi.json``: the file is that of the repository
openai/openai-openapi on GitHub (JSON; the YAML is the same). It is not part of this project. Prints
what does not fit and ends with a failure where anything does not.

The description is read as its authors mean it: it calls itself OpenAPI 3.1 and still writes
``nullable``, which the JSON Schema of 3.1 does not know.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.api.described import Described, replies

URI = "urn:openai"


class Description:
    """The schemas of a description, by name."""

    def __init__(self, described: dict[str, Any]) -> None:
        self.version = str(described["info"]["version"])
        schemas = described["components"]["schemas"]
        self._events = {
            kind: name
            for name, schema in schemas.items()
            if name.startswith("Response") and name.endswith("Event")
            for kind in schema.get("properties", {}).get("type", {}).get("enum", ())
        }
        resource = DRAFT202012.create_resource(with_null(described))
        self._registry: Registry[Any] = Registry().with_resource(URI, resource)

    def complaint(self, one: Described) -> str | None:
        """What is wrong with a reply, None where it fits."""
        # Of an event by its own schema: "is none of these" tells a reader nothing.
        known = one.schema == "ResponseStreamEvent" and self._events.get(one.said["type"])
        schema = {"$ref": f"{URI}#/components/schemas/{known or one.schema}"}
        validator = Draft202012Validator(schema, registry=self._registry)
        error = best_match(validator.iter_errors(one.said))
        return None if error is None else f"{error.json_path}: {error.message[:300]}"


def with_null(schema: Any) -> Any:
    """A schema in which ``nullable`` says so in JSON Schema's words."""
    if isinstance(schema, list):
        return [with_null(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: with_null(one) for name, one in schema.items()}
    if rest.pop("nullable", None) is True:
        return {"anyOf": [rest, {"type": "null"}]}
    return rest


def complaints(
    description: Description, said: Iterable[Described]
) -> tuple[Counter[str], list[str]]:
    """How many replies of each schema were held against it, and what does not fit."""
    held: Counter[str] = Counter()
    wrong: list[str] = []
    for one in said:
        held[one.schema] += 1
        if found := description.complaint(one):
            wrong.append(f"{one.case} ({one.schema}): {found}")
    return held, wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.clients.published_description")
    parser.add_argument("path", type=Path, help="the description, in JSON")
    description = Description(json.loads(parser.parse_args().path.read_text()))
    with tempfile.TemporaryDirectory() as folder:
        held, wrong = complaints(description, replies(Path(folder)))
    for line in dict.fromkeys(wrong):
        print(f"    {line}")
    for schema, n in sorted(held.items()):
        print(f"{schema:40} {n:4} replies and events")
    figures = {"held": held.total(), "wrong": len(wrong), "version": description.version}
    print(json.dumps({"published_description": figures}))
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
