"""A chat-completion stream as the events of OpenAI's Responses API, in OpenAI's order.

``response.created``, ``response.in_progress``; then for each item ``response.output_item.added``,
its parts and deltas, ``response.output_item.done``; at last ``response.completed`` or
``response.incomplete``. A stream that breaks off ends in ``response.failed``: no end is invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forethought.router.dialects import chat_to_response as made
from forethought.router.dialects.base import Json
from forethought.router.dialects.chunks import ChunksTranslation
from forethought.router.dialects.events import anthropic_event


class ChunksToResponse(ChunksTranslation):
    """Translates into the events of a response. ``asked`` is the client's request."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        super().__init__()
        self._asked = asked
        self._n_events = 0
        self._response: Json | None = None
        self._output: list[Json] = []
        self._open: Json | None = None
        self._calls: dict[int, int] = {}
        """The place in the output of each call, by its index in the chunks."""
        self._finish_reason: str | None = None

    def _start(self, chunk: Json) -> None:
        if self._response is None:
            self._response = made.begun(self._asked, chunk)
            self._say("response.created", response=self._response)
            self._say("response.in_progress", response=self._response)
        elif chunk.get("service_tier"):
            self._response["service_tier"] = chunk["service_tier"]

    def _choice(self, choice: Json) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            thought = delta.get("reasoning_content") or delta.get("reasoning")
            if isinstance(thought, str) and thought:
                self._thought(thought)
            if isinstance(delta.get("content"), str) and delta["content"]:
                self._text(delta["content"], made.logprobs_of(choice))
            if isinstance(delta.get("refusal"), str) and delta["refusal"]:
                self._refusal(delta["refusal"])
            calls = delta.get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict):
                    self._call(call)
        if isinstance(choice.get("finish_reason"), str):
            self._finish_reason = choice["finish_reason"]

    def _thought(self, text: str) -> None:
        item = self._opened("reasoning", made.reasoning_item(self._name("rs"), ""))
        if not item["content"]:
            self._add_part(item, {"type": "reasoning_text", "text": ""})
        item["content"][-1]["text"] += text
        self._say("response.reasoning_text.delta", **self._place(item), delta=text)

    def _text(self, text: str, logprobs: list[Json]) -> None:
        item = self._opened("message", made.message_item(self._name("msg"), [], "in_progress"))
        if not item["content"] or item["content"][-1]["type"] != "output_text":
            self._close_part(item)
            self._add_part(item, made.text_part("", []))
        item["content"][-1]["text"] += text
        item["content"][-1]["logprobs"] += logprobs
        place = self._place(item)
        self._say("response.output_text.delta", **place, delta=text, logprobs=logprobs)

    def _refusal(self, text: str) -> None:
        item = self._opened("message", made.message_item(self._name("msg"), [], "in_progress"))
        if not item["content"] or item["content"][-1]["type"] != "refusal":
            self._close_part(item)
            self._add_part(item, {"type": "refusal", "refusal": ""})
        item["content"][-1]["refusal"] += text
        self._say("response.refusal.delta", **self._place(item), delta=text)

    def _call(self, call: Json) -> None:
        said = call.get("function")
        function: Mapping[str, Any] = said if isinstance(said, dict) else {}
        index = call.get("index", 0)
        if index not in self._calls:
            # Calls may take turns: they stay open side by side until the end.
            self._close()
            self._calls[index] = len(self._output)
            new = made.call_item(
                self._name("fc"), call.get("id"), function.get("name"), "", "in_progress"
            )
            self._output.append(new)
            self._say("response.output_item.added", output_index=self._calls[index], item=new)
        item = self._output[self._calls[index]]
        arguments = function.get("arguments")
        if isinstance(arguments, str) and arguments:
            item["arguments"] += arguments
            self._say(
                "response.function_call_arguments.delta", item_id=item["id"],
                output_index=self._calls[index], delta=arguments,
            )  # fmt: skip

    def _opened(self, kind: str, new: Json) -> Json:
        """The open item where it is of this kind; else ``new``, after the open one is closed."""
        if self._open is not None and self._open["type"] == kind:
            return self._open
        self._close()
        self._open = new
        self._output.append(new)
        self._say("response.output_item.added", output_index=len(self._output) - 1, item=new)
        return new

    def _add_part(self, item: Json, part: Json) -> None:
        item["content"].append(part)
        self._say("response.content_part.added", **self._place(item), part=part)

    def _close_part(self, item: Json) -> None:
        if not item["content"]:
            return
        part, place = item["content"][-1], self._place(item)
        match part["type"]:
            case "output_text":
                done = {"text": part["text"], "logprobs": part["logprobs"]}
                self._say("response.output_text.done", **place, **done)
            case "refusal":
                self._say("response.refusal.done", **place, refusal=part["refusal"])
            case _:
                self._say("response.reasoning_text.done", **place, text=part["text"])
        self._say("response.content_part.done", **place, part=part)

    def _close(self, status: str = "completed") -> None:
        item, self._open = self._open, None
        if item is None:
            return
        self._close_part(item)
        if "status" in item:
            item["status"] = status
        at = len(self._output) - 1
        self._say("response.output_item.done", output_index=at, item=item)

    def _place(self, item: Json) -> Json:
        return {
            "item_id": item["id"],
            "output_index": self._output.index(item),
            "content_index": len(item["content"]) - 1,
        }

    def _name(self, kind: str) -> str:
        name = self._response["id"].removeprefix("resp_") if self._response else "0"
        return made.item_id(kind, name, len(self._output))

    @property
    def _finished(self) -> bool:
        return self._finish_reason is not None

    def _stop(self) -> None:
        if self._finish_reason is None or self._response is None:
            return
        if not self._output:
            item = self._opened("message", made.message_item(self._name("msg"), [], "in_progress"))
            self._add_part(item, made.text_part("", []))
        whole = made.ended(self._response, self._output, self._finish_reason, self._usage)
        self._close(whole["status"])
        for at in self._calls.values():
            item = self._output[at]
            item["status"] = whole["status"] if at == len(self._output) - 1 else "completed"
            self._say(
                "response.function_call_arguments.done", item_id=item["id"], output_index=at,
                name=item["name"], arguments=item["arguments"],
            )  # fmt: skip
            self._say("response.output_item.done", output_index=at, item=item)
        whole = made.ended(self._response, self._output, self._finish_reason, self._usage)
        self._say(f"response.{whole['status']}", response=whole)

    def _fail(self, error: Any, text: str) -> None:
        del error  # one code stands for all of them
        if self._response is None:
            self._say("error", code="server_error", message=text, param=None)
        else:
            said = {"code": "server_error", "message": text}
            failed = {**self._response, "status": "failed", "error": said, "output": self._output}
            self._say("response.failed", response=failed)

    def _say(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "sequence_number": self._n_events, **fields}
        self._n_events += 1
        self._out.append(anthropic_event(event))
