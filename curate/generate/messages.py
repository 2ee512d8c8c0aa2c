"""The messages of a conversation: as tables keep them, as servers take them, and what was thought before they were said."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.ids import canonical_json
from curate.models.asking import Reply

THOUGHT = re.compile(r"\s*<think>(?P<thought>.*?)(?:</think>\s*|\Z)(?P<rest>.*)", re.DOTALL)
Message = dict[str, Any]


def messages_of(prompts: pa.ChunkedArray) -> list[list[Message]]:
    """The messages of each prompt as a server takes them; read column by column."""
    lists = tables.flat(prompts)
    entries = lists.flatten()
    ends = np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)).tolist()
    columns = {field.name: pc.struct_field(entries, field.name) for field in lists.type.value_type}
    told = {name: column for name, column in columns.items() if column.null_count < len(column)}
    if list(told) == ["role", "content"] and not any(column.null_count for column in told.values()):
        roles, contents = (column.to_pylist() for column in told.values())
        messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    else:
        messages = [without_nulls(message) for message in entries.to_pylist()]
    return [messages[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def with_images(messages: list[Message], images: Sequence[Mapping[str, str]] | None) -> list[Message]:
    """The messages with the prompt's images, by reference, after what the user says last."""
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if not images or not places:
        return messages
    parts: list[dict[str, Any]] = [{"type": "text", "text": messages[places[-1]].get("content") or ""}]
    parts += [{"type": "image_url", "image_url": {"url": image["path"]}, "inline": True} for image in images]
    return [{**m, "content": parts} if place == places[-1] else m for place, m in enumerate(messages)]


def without_nulls(message: Mapping[str, Any]) -> Message:
    """A stored message as a server takes it: only what it has, tool calls as values."""
    kept = {name: value for name, value in message.items() if value is not None}
    if "tool_calls" in kept:
        kept["tool_calls"] = json.loads(kept["tool_calls"])
    return kept


def stored(message: Mapping[str, Any]) -> Message:
    """The inverse of without_nulls."""
    if "tool_calls" in message:
        return {**message, "tool_calls": canonical_json(message["tool_calls"])}
    return dict(message)


def plain(message: Mapping[str, Any]) -> str:
    """The text of a message, without images."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content if part["type"] == "text")


def said(reply: Reply) -> str:
    """What a model says when it is done thinking; empty for no answer."""
    return storable(split_thought(reply.text or "")[1].strip())


def split_thought(text: str) -> tuple[str | None, str]:
    """Reasoning between <think> and </think> at the beginning, and the rest; one that does not end is all there is."""
    found = THOUGHT.fullmatch(text)
    return (found["thought"].strip() or None, found["rest"]) if found else (None, text)


def storable(text: str) -> str:
    """The text as a table may hold it: no NUL, no half characters."""
    if "\0" not in text and text.isascii():
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
