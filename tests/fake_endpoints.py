"""What the fake upstream has beside chat completions: a little of each, and deterministic."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from typing import Any

Body = dict[str, Any]


def other_endpoint(path: str, body: Body) -> tuple[int, Body | list[bytes]]:
    """The status and the reply of ``path``: one object, or the events of a stream."""
    name = path.removeprefix("/v1")
    if name == "/embeddings":
        return 200, _embeddings(body)
    if name == "/completions":
        return 200, _completion(body)
    if name.startswith("/responses"):
        return 200, _response(name, body)
    error = {"message": f"There is no {path}.", "type": "fake", "param": None, "code": "no_path"}
    return 404, {"error": error}


def _embeddings(body: Body) -> Body:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = []
    for index, text in enumerate(texts):
        vector: Any = [float(len(text)), 0.5]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<2f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": sum(len(t.split()) for t in texts), "total_tokens": 0}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _completion(body: Body) -> Body | list[bytes]:
    if body.get("echo") and body.get("logprobs"):  # the SDK's own tests ask for none, and no null
        return _echo(body)
    text = f"after {body['prompt']}"
    base = {"id": "cmpl-fake", "object": "text_completion", "created": 1, "model": body["model"],
            "unknown_reply_field": body.get("unknown_field")}  # fmt: skip

    def choice(said: str, reason: str | None) -> Body:
        return {**base, "choices": [
            {"index": 0, "text": said, "logprobs": None, "finish_reason": reason}
        ]}  # fmt: skip

    if not body.get("stream"):
        return {**choice(text, "stop"), "usage": {"prompt_tokens": 1, "completion_tokens": 2,
                                                  "total_tokens": 3}}  # fmt: skip
    events = [choice("after ", None), choice(body["prompt"], None), choice("", "stop")]
    return [*(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events), b"data: [DONE]\n\n"]


def _echo(body: Body) -> Body:
    """The prompt with log probabilities, as vLLM gives them. A token is a word."""
    prompt, written = body["prompt"], " and"
    words = [(m.start(), m[0]) for m in re.finditer(r"\S+\s*", prompt)]
    own = [-math.log(1 + len(word.strip())) for _, word in words]
    logprobs = {
        "tokens": [*(word for _, word in words), written],
        "token_logprobs": [None, *own[1:], -1.0],
        "text_offset": [*(at for at, _ in words), len(prompt)],
        "top_logprobs": None,
    }
    choice = {"index": 0, "text": prompt + written, "logprobs": logprobs, "finish_reason": "length"}
    usage = {"prompt_tokens": len(words), "completion_tokens": 1, "total_tokens": len(words) + 1}
    return {"id": "cmpl-fake", "object": "text_completion", "created": 1, "model": body["model"],
            "choices": [choice], "usage": usage}  # fmt: skip


def _response(name: str, body: Body) -> Body | list[bytes]:
    response = {
        "id": "resp_native", "object": "response", "created_at": 1, "status": "completed",
        "model": body.get("model", "fake"), "output": [], "parallel_tool_calls": True,
        "tool_choice": "auto", "tools": body.get("tools", []), "path": name, "echo": body,
    }  # fmt: skip
    if not body.get("stream"):
        return response
    event = {"type": "response.completed", "sequence_number": 0, "response": response}
    return [b"event: response.completed\ndata: " + json.dumps(event).encode() + b"\n\n"]
