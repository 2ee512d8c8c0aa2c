"""Where a response begins among a conversation's tokens: what a likelihood is summed over, and nothing else.

The tokens before it are exactly those that the model is given when it answers: the chat template of all messages but the
last, with its opening of an answer. No merge of a tokenizer reaches across: if the conversation as a whole is tokenised
otherwise there, the response is tokenised by itself. Needs the standard library alone, for the worker uses it, too.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Measured(NamedTuple):
    """A conversation whose last message is to be measured."""

    ids: list[int]
    start: int
    """The first token of the response; what stands before it is given."""
    ends: list[int] | None = None
    """Character of the response at which each of its tokens ends, the first token beginning at 0 and each next one where the
    one before ends; a token that is a later part of a character, or no text, is of length 0. None if the tokenizer cannot tell.
    """


class Unmeasurable(ValueError):
    """A conversation without a response, or one that the chat template refuses or changes."""


def measured(tokenizer: Any, messages: Sequence[Mapping[str, Any]], end: bool = True) -> Measured:
    """The tokens of a conversation and where its last message begins. end: the token that ends an answer belongs to it."""
    given, answer = [told(message) for message in messages[:-1]], told(messages[-1]) if messages else {}
    text = answer.get("content")
    if not given or answer.get("role") != "assistant" or not isinstance(text, str) or not text:
        raise Unmeasurable("there is no answer to measure")
    if answer.get("tool_calls"):
        raise Unmeasurable("an answer with tool calls has no one text to measure")
    if not tokenizer.chat_template:
        raise Unmeasurable("the model has no chat template")
    before = rendered(tokenizer, given, True)
    tail = ending(tokenizer, rendered(tokenizer, [*given, answer], False), before, text) if end else ""
    prefix = encoded(tokenizer, before)
    whole, ends = spanned(tokenizer, before + text)
    response, at = whole[len(prefix) :], len(before)
    if whole[: len(prefix)] != prefix:
        (response, ends), at = spanned(tokenizer, text), 0
    if not response:
        raise Unmeasurable("the answer has no tokens")
    closing = encoded(tokenizer, tail) if tail else []
    if ends is not None:
        ends = rising([end - at for end in ends[-len(response) :]], len(text)) + [len(text)] * len(closing)
    return Measured([*prefix, *response, *closing], len(prefix), ends)


def rendered(tokenizer: Any, messages: list[dict[str, Any]], opened: bool) -> str:
    """The chat template's text."""
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened))
    except Exception as problem:  # a template is a program that came with the model: it may refuse in any way
        raise Unmeasurable(f"the chat template refuses this conversation: {str(problem)[:200]}") from None


def ending(tokenizer: Any, full: str, before: str, text: str) -> str:
    """The special token by which the model says that it is done, as the template writes it behind an answer; "" if none."""
    place = full.rfind(text.strip())
    if place < 0:
        raise Unmeasurable("the chat template changes the answer's text")
    behind = full[place + len(text.strip()) :].lstrip()
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values()}
    return max((token for token in special if token and behind.startswith(token)), key=len, default="")


def encoded(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text that brings its own special tokens."""
    return list(coded(tokenizer, text)["input_ids"])


def coded(tokenizer: Any, text: str, **told: Any) -> Any:
    """What the tokenizer makes of a text; it refuses half a surrogate pair."""
    try:
        return tokenizer(text, add_special_tokens=False, **told)
    except (TypeError, ValueError) as problem:
        raise Unmeasurable(f"the tokenizer refuses this text: {str(problem)[:200]}") from None


def spanned(tokenizer: Any, text: str) -> tuple[list[int], list[int] | None]:
    """The same, and the character at which each token ends; None from tokenizers that do not tell."""
    if not getattr(tokenizer, "is_fast", False):
        return encoded(tokenizer, text), None
    found = coded(tokenizer, text, return_offsets_mapping=True)
    return list(found["input_ids"]), [int(end) for _, end in found["offset_mapping"]]


def rising(ends: list[int], length: int) -> list[int]:
    """Ends that never fall and reach the end of a text, so that what lies between them is the text."""
    found, last = [], 0
    for end in ends:
        last = min(max(last, end), length)
        found.append(last)
    return [*found[:-1], length]


def told(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates take it: without what it does not have, and tool calls as values."""
    kept = {name: value for name, value in message.items() if value is not None}
    if isinstance(kept.get("tool_calls"), str):
        kept["tool_calls"] = json.loads(kept["tool_calls"])
    return kept
