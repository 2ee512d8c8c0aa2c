"""Turn texts and message lists of a source into prompt messages and completions."""

import json
from collections.abc import Mapping
from typing import Any

from curate.source.fields import answer, json_text, kind_of, scalar_text, sound, text
from curate.source.rejects import BadRow

Message = dict[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
COMPLETING = ("assistant", "tool", "function")  # roles that a completion may begin with


def as_messages(value: Any, column: str) -> list[Message] | None:
    """The messages of a list, or of JSON text of such a list; None if the value is plain text."""
    if isinstance(value, str):
        value = _listed(value)
    if not isinstance(value, (list, tuple)):
        return None
    if not value:
        raise BadRow(column, "empty field")
    return [message(entry, f"{column}[{place}]") for place, entry in enumerate(value)]


def _listed(value: str) -> Any:
    if not value.lstrip().startswith("[{"):
        return None
    try:
        listed = json.loads(value)
    except (ValueError, RecursionError):
        return None  # a text that merely looks like a list
    return listed if all(isinstance(entry, Mapping) and "role" in entry for entry in listed) else None


def message(entry: Any, column: str) -> Message:
    """One message with the fields a table keeps; fields that are null are left out."""
    if not isinstance(entry, Mapping):
        raise BadRow(column, "not a message", f"an object with role and content expected, got {kind_of(entry)}")
    role = entry.get("role")
    if role not in ROLES:
        raise BadRow(column, "not a message", f"role must be one of {', '.join(ROLES)}, got {role!r:.40}")
    out: Message = {"role": role}
    content = content_text(entry.get("content"), column)
    calls = entry.get("tool_calls")
    if content is None and not calls:
        raise BadRow(column, "not a message", "content is missing")
    if content is not None:
        out["content"] = content
    if calls:
        out["tool_calls"] = json_text(calls, column)
    for field in ("name", "tool_call_id"):
        if entry.get(field) is not None:
            out[field] = scalar_text(entry[field], column)
    return out


def content_text(value: Any, column: str) -> str | None:
    """A message's text. Of a list of parts the texts are joined; image placeholders carry none."""
    if value is None or isinstance(value, str):
        return None if value is None else sound(value, column)
    if not isinstance(value, (list, tuple)):
        raise BadRow(column, "not a message", f"content must be text, got {kind_of(value)}")
    return "\n".join(piece for part in value if (piece := _part(part, column)) is not None)


def _part(part: Any, column: str) -> str | None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return sound(part["text"], column)
    if kind == "image":
        return None
    raise BadRow(column, "not a message", f"content parts must be text or image, got {kind!r:.40}")


def prompt_messages(value: Any, system: Any = None, column: str = "prompt") -> list[Message]:
    """A prompt's messages: a text is one user message; a system text goes first."""
    listed = as_messages(value, column)
    messages = [{"role": "user", "content": text(value, column)}] if listed is None else listed
    if all(not entry.get("content") and not entry.get("tool_calls") for entry in messages):
        raise BadRow(column, "empty field")
    if system is None or system == "":
        return messages
    if messages[0]["role"] == "system":
        raise BadRow("system", "two system messages", "the prompt has one already")
    return [{"role": "system", "content": text(system, "system")}, *messages]


def completion(value: Any, column: str, prompt: list[Message] | None = None) -> tuple[str, list[Message] | None]:
    """A completion's last assistant text, and all its messages where they are more than that text.

    A conversation that repeats the prompt first is cut down to what follows it.
    """
    listed = as_messages([value] if isinstance(value, Mapping) else value, column)
    if listed is None:
        return answer(value, column), None
    return ended(after(prompt, listed) if prompt else listed, column)


def after(prompt: list[Message], conversation: list[Message]) -> list[Message]:
    """The conversation behind its prompt, where it begins with it; a system message may stand in one of them only."""
    for start in (prompt, [entry for entry in prompt if entry["role"] != "system"]):
        if start and conversation[: len(start)] == start:
            return conversation[len(start) :]
    if conversation[0]["role"] == "system" and conversation[1 : 1 + len(prompt)] == prompt:
        # dropping a system message nobody mapped would change what the answer replied to
        raise BadRow("prompt", "two prompts", "the completion has a system message that the prompt lacks")
    return conversation


def ended(messages: list[Message], column: str) -> tuple[str, list[Message] | None]:
    """A completion's last assistant text, and its messages where they are more than that text."""
    if not messages or messages[-1]["role"] != "assistant":
        raise BadRow(column, "no assistant message", "the last message must be the assistant's")
    if messages[0]["role"] not in COMPLETING:
        raise BadRow(column, "two prompts", f"the completion begins with a {messages[0]['role']} message that is not the prompt")
    last = messages[-1]
    return last.get("content", ""), messages if len(messages) > 1 or set(last) != {"role", "content"} else None


def shared_prefix(first: list[Message], second: list[Message]) -> int:
    """Number of whole messages that both conversations begin with, at least one of each left over."""
    limit = min(len(first), len(second)) - 1
    same = 0
    while same < limit and first[same] == second[same]:
        same += 1
    while same and first[same]["role"] not in COMPLETING:
        same -= 1  # a completion begins with the assistant
    return same
