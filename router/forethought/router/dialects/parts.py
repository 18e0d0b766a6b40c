"""Pieces of content: text, images and files, both ways."""

from __future__ import annotations

import re
from typing import Any, Final

from forethought.router.dialects.base import Json, a_string, an_object, cache_mark, objects, refused

_DATA_URL: Final = re.compile(r"data:(?P<kind>[\w.+-]+/[\w.+-]+);base64,", re.IGNORECASE)
_OPENAI_ONLY: Final = ("input_audio", "refusal")


def blocks_of(content: Any, param: str, warnings: list[str]) -> list[Json]:
    """A message's content as Anthropic's blocks; empty text is left out, it is refused there."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = []
    for i, part in enumerate(objects(content, param)):
        block = _block(part, f"{param}[{i}]", warnings)
        if block.get("type") != "text" or block.get("text"):
            blocks.append(block)
    return blocks


def content_of(blocks: Any, param: str, *, native: bool, warnings: list[str]) -> str | list[Json]:
    """Anthropic's blocks as a message's content: plain text where they are no more than that."""
    if isinstance(blocks, str):
        return blocks
    parts = [
        _part(block, f"{param}[{i}]", native=native, warnings=warnings)
        for i, block in enumerate(objects(blocks, param))
    ]
    if len(parts) == 1 and set(parts[0]) == {"type", "text"} and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _block(part: Json, param: str, warnings: list[str]) -> Json:
    kind = part.get("type")
    if kind == "text":
        text = a_string(part.get("text"), f"{param}.text")
        return {"type": "text", "text": text} | cache_mark(part)
    if kind == "refusal":
        return {"type": "text", "text": a_string(part.get("refusal"), f"{param}.refusal")}
    if kind == "image_url":
        image = an_object(part.get("image_url"), f"{param}.image_url")
        if image.get("detail") not in (None, "auto"):
            warnings.append(f"{param}.image_url.detail: left out")
        source = _source(a_string(image.get("url"), f"{param}.image_url.url"), param)
        return {"type": "image", "source": source} | cache_mark(part)
    if kind == "file":
        return _document(an_object(part.get("file"), f"{param}.file"), param) | cache_mark(part)
    if kind is None or kind in _OPENAI_ONLY:
        raise refused(f"{param}.type", f"{kind!r} cannot be sent to Anthropic")
    return part  # a block of Anthropic's own


def _source(url: str, param: str) -> Json:
    match = _DATA_URL.match(url)
    if match is not None:
        return {"type": "base64", "media_type": match["kind"].lower(), "data": url[match.end() :]}
    if not url.startswith(("https://", "http://")):
        raise refused(f"{param}.image_url.url", "is neither a base64 data URL nor an http address")
    return {"type": "url", "url": url}


def _document(file: Json, param: str) -> Json:
    match = _DATA_URL.match(str(file.get("file_data", "")))
    if match is None:
        raise refused(f"{param}.file", "needs file_data as a base64 data URL for Anthropic")
    data = file["file_data"][match.end() :]
    source = {"type": "base64", "media_type": match["kind"].lower(), "data": data}
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": source} | title


def _part(block: Json, param: str, *, native: bool, warnings: list[str]) -> Json:
    kind = block.get("type")
    if kind == "text" and not (native and block.get("citations")):
        text = a_string(block.get("text"), f"{param}.text")
        return {"type": "text", "text": text} | _kept_mark(block, native=native)
    source = block.get("source")
    if kind == "image" and isinstance(source, dict):
        if source.get("type") == "url":
            return _image(a_string(source.get("url"), f"{param}.source.url"), block, native=native)
        if source.get("type") == "base64":
            kind = a_string(source.get("media_type"), f"{param}.source.media_type")
            data = a_string(source.get("data"), f"{param}.source.data")
            return _image(f"data:{kind};base64,{data}", block, native=native)
    if native:
        return block
    if kind == "document" and isinstance(source, dict):
        return _file(block, source, param, warnings)
    raise refused(f"{param}.type", f"{block.get('type')!r} needs an Anthropic upstream")


def _file(block: Json, source: Json, param: str, warnings: list[str]) -> Json:
    if block.get("citations") or block.get("context"):
        warnings.append(f"{param}: citations and context are left out")
    data = source.get("data")
    if source.get("type") == "text" and isinstance(data, str):
        return {"type": "text", "text": data}
    if source.get("type") == "base64" and isinstance(data, str):
        name = str(block.get("title") or "document.pdf")
        url = f"data:{source.get('media_type', 'application/pdf')};base64,{data}"
        return {"type": "file", "file": {"filename": name, "file_data": url}}
    raise refused(f"{param}.source.type", f"{source.get('type')!r} needs an Anthropic upstream")


def _image(url: str, block: Json, *, native: bool) -> Json:
    return {"type": "image_url", "image_url": {"url": url}} | _kept_mark(block, native=native)


def _kept_mark(block: Json, *, native: bool) -> Json:
    return cache_mark(block) if native else {}
