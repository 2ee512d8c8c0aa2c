"""What a chat request looks like to an OpenAI-compatible server, and what its reply means. No network here."""

import base64
import json
import math
import time
from collections.abc import Mapping, Sequence
from email.utils import mktime_tz, parsedate_tz
from pathlib import Path
from typing import Any

import pydantic_core

from curate.models.asking import ErrorKind, Reply, Request
from curate.models.replies import reply_of
from curate.models.spec import Price

PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
LARGEST_PICTURE = 20 * 2**20
"""Bytes; providers refuse larger ones."""
FILTERED = frozenset({"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation", "safety"})
MISCONFIGURED = frozenset({"model_not_found", "invalid_api_key", "billing_not_active", "account_deactivated"})
REFUSED_TO_SEND = frozenset({400, 413, 414, 422})
THINK = ("<think>", "</think>")


class BadReply(Exception):
    """A reply that is not what the protocol promises; its text names the place."""


class BadQuestion(Exception):
    """A request that cannot be sent."""


# -- the question


def chat_body(
    name: str, request: Request, *, n: int = 1, limit_field: str = "max_tokens", extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The JSON body of a chat completion. Settings that are not given are not sent."""
    sampling = request.sampling
    body: dict[str, Any] = {"model": name, "messages": list(request.messages)}
    if n > 1:
        body["n"] = n
    for field in ("temperature", "top_p", "presence_penalty", "frequency_penalty", "top_k", "min_p", "repetition_penalty"):
        value = getattr(sampling, field)
        if value is not None:
            body[field] = value
    if sampling.max_tokens is not None:
        body[limit_field] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = sampling.logprobs
    if request.seed is not None:
        body["seed"] = request.seed
    if request.tools:
        body["tools"] = list(request.tools)
    if request.response_format is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"strict": True, **request.response_format}}
    return body | dict(extra) if extra else body


def with_pictures(messages: Sequence[Mapping[str, Any]], media: Path | None) -> tuple[Mapping[str, Any], ...]:
    """Messages whose image parts marked `inline: true` carry the picture itself; other parts stay references.

    Only files within `media` are read, and only pictures: messages come from datasets, which must not read this disk.
    """
    return tuple(with_inline(message, media) if isinstance(message.get("content"), list) else message for message in messages)


def with_inline(message: Mapping[str, Any], media: Path | None) -> Mapping[str, Any]:
    """A message whose marked images are data URLs."""
    parts = []
    for part in message["content"]:
        if isinstance(part, Mapping) and part.get("type") == "image_url" and "inline" in part:
            kept = {key: value for key, value in part.items() if key != "inline"}
            if part["inline"]:
                kept["image_url"] = {**part["image_url"], "url": data_url(str(part["image_url"]["url"]), media)}
            part = kept
        parts.append(part)
    return {**message, "content": parts}


def data_url(reference: str, media: Path | None) -> str:
    """A picture file as a data URL; an address stays as it is."""
    if reference.startswith(("http://", "https://", "data:")):
        return reference
    if media is None:
        raise BadQuestion("a local image is to be sent, but the model's options name no folder `media` that it may come from")
    file = (media / reference.removeprefix("file://")).resolve()
    if not file.is_relative_to(media.resolve()):
        raise BadQuestion(f"image {reference!r} is outside the folder of media")
    try:
        if file.stat().st_size > LARGEST_PICTURE:
            raise BadQuestion(f"image {reference!r} is larger than {LARGEST_PICTURE >> 20} MB")
        content = file.read_bytes()
    except OSError as error:
        raise BadQuestion(f"image {reference!r} cannot be read: {error.strerror}") from None
    kind = next((kind for magic, kind in PICTURES.items() if content.startswith(magic)), None)
    if kind is None:
        raise BadQuestion(f"{reference!r} is no PNG, JPEG, GIF or WebP image")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


# -- the reply


def decode(body: bytes) -> dict[str, Any]:
    """A JSON object; NaN, lone surrogates and what follows the object are refused with their place."""
    try:
        found = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadReply(f"not JSON: {error} ({len(body)} bytes)") from None
    if not isinstance(found, dict):
        raise BadReply(f"not a JSON object but {type(found).__name__}")
    return found


def at(value: Any, kind: type | tuple[type, ...], place: str) -> Any:
    """The value, if it is of the kind that belongs there."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise BadReply(f"{place}: expected {wanted}, got {type(value).__name__}")
    return value


def choices_of(body: Mapping[str, Any]) -> list[Any]:
    """The choices of a completion, in order of their index."""
    choices: list[Any] = at(body.get("choices"), list, "choices")
    if not choices:
        raise BadReply("choices: empty")
    for place, choice in enumerate(choices):
        at(choice, dict, f"choices[{place}]")
    if len(choices) == 1:
        return choices
    return sorted(choices, key=lambda choice: choice["index"] if isinstance(choice.get("index"), int) else 0)


def tokens_in(usage: Any, name: str) -> int | None:
    """A count of tokens; None where the server gave none that can be one: that is no reason to lose an answer."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def read_reply(
    choice: Mapping[str, Any],
    body: Mapping[str, Any],
    *,
    think: bool = False,
    price: Price | None = None,
    n: int = 1,
    seconds: float | None = None,
) -> Reply:
    """One choice of a completion as a reply.

    A choice of several carries its share of the cost and no count of its own tokens: the server counts them together.
    """
    usage = body.get("usage")
    asked, answered = tokens_in(usage, "prompt_tokens"), tokens_in(usage, "completion_tokens")
    cost = None if price is None or asked is None else (asked * price.into + (answered or 0) * price.out) / 1e6 / n
    raw = dict(choice)
    for name in ("id", "model", "usage", "system_fingerprint"):
        if body.get(name) is not None:
            raw[name] = body[name]
    finish = choice.get("finish_reason")
    if finish is not None:
        at(finish, str, "choices[].finish_reason")
    told: dict[str, Any] = {
        "finish_reason": finish,
        "prompt_tokens": asked,
        "response_tokens": answered if n == 1 else None,
        "cost_usd": cost,
        "seconds": seconds,
        "raw": raw,
    }
    try:
        told |= read_message(finish, choice, at(choice.get("message"), dict, "choices[].message"), think)
    except BadReply as error:  # it was answered and paid for, if not usably
        told |= {"error": "bad_reply", "detail": str(error)}
    return reply_of(told)


def read_message(finish: str | None, choice: Mapping[str, Any], message: Mapping[str, Any], think: bool) -> dict[str, Any]:
    """The message's text, reasoning, tool calls and log-probabilities as fields of a reply, or its error."""
    if message.get("refusal"):
        words = at(message["refusal"], str, "choices[].message.refusal")[:300]
        return {"error": "refused", "detail": f"the model refused: {words}"}
    if finish == "content_filter":
        return {"error": "refused", "detail": "the provider's content filter stopped the answer"}
    if finish in ("error", "abort"):
        return {"error": "server", "detail": f"the server gave up: finish_reason is {finish}"}
    text, reasoning = text_of(message)
    calls = message.get("tool_calls") or ()
    for place, call in enumerate(at(calls, (list, tuple), "choices[].message.tool_calls")):
        at(at(call, dict, f"tool_calls[{place}]").get("function"), dict, f"tool_calls[{place}].function")
    if text is None and not calls and finish != "length":
        raise BadReply("choices[].message.content: null, and nothing in its place")
    logprobs = logprobs_of(choice.get("logprobs"))
    if think and text is not None:
        thought, rest = split_thought(text, cut=finish == "length")
        if thought is not None:
            logprobs = logprobs and logprobs_from(logprobs, text, rest)
            text, reasoning = rest.strip(), thought.strip()
    elif text is None and not calls:
        text = ""  # the limit was reached while it was still reasoning
    return {"text": text, "reasoning": reasoning, "tool_calls": tuple(calls), "logprobs": logprobs}


def text_of(message: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Text and reasoning; servers write the latter under one of two names, or as parts of the content."""
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        reasoning = message.get("reasoning")
    content = message.get("content")
    if isinstance(content, list):
        parts = [at(part, dict, "choices[].message.content[]") for part in content]
        thoughts = [part_text(part) for part in parts if part.get("type") == "thinking"]
        content = "".join(part_text(part) for part in parts if part.get("type") == "text")
        reasoning = "".join(thoughts) if thoughts else reasoning
    if content is not None:
        at(content, str, "choices[].message.content")
    return content, reasoning if isinstance(reasoning, str) and reasoning else None


def part_text(part: Mapping[str, Any]) -> str:
    """The text of a part of a content, which may hold parts again."""
    inner = part.get("text", part.get("thinking"))
    if isinstance(inner, list):
        return "".join(part_text(at(one, dict, "choices[].message.content[]")) for one in inner)
    return str(at(inner, str, "choices[].message.content[].text"))


def split_thought(text: str, cut: bool) -> tuple[str | None, str]:
    """(reasoning, rest) of `<think>reasoning</think>rest`; chat templates that open the tag themselves leave only its end.

    Without an end, an answer that was cut off is all reasoning, and any other is all answer.
    """
    opened = text.lstrip().startswith(THINK[0])
    inner = text.lstrip().removeprefix(THINK[0])
    thought, end, rest = inner.partition(THINK[1])
    if end:
        return thought, rest
    return (inner, "") if opened and cut else (None, text)


def logprobs_of(found: Any) -> tuple[Mapping[str, Any], ...] | None:
    """Log-probabilities token by token."""
    if found is None:
        return None
    rows = at(found, dict, "choices[].logprobs").get("content")
    if rows is None:
        return None
    return tuple(logprob_of(row, f"logprobs.content[{place}]") for place, row in enumerate(at(rows, list, "logprobs.content")))


def logprob_of(row: Any, place: str) -> dict[str, Any]:
    """One token's."""
    at(row, dict, place)
    top = at(row.get("top_logprobs") or [], list, f"{place}.top_logprobs")
    return {
        "token": at(row.get("token"), str, f"{place}.token"),
        "logprob": float(at(row.get("logprob"), (int, float), f"{place}.logprob")),
        "top": {
            at(at(one, dict, f"{place}.top_logprobs").get("token"), str, f"{place}.top_logprobs"): float(
                at(one.get("logprob"), (int, float), f"{place}.top_logprobs")
            )
            for one in top
        },
    }


def logprobs_from(rows: tuple[Mapping[str, Any], ...], text: str, rest: str) -> tuple[Mapping[str, Any], ...] | None:
    """Those of the tokens that make up the answer behind the reasoning; None if tokens and text do not line up."""
    answer, wanted = rest.strip(), len(text) - len(rest.lstrip())
    if "".join(row["token"] for row in rows) != text:
        return None
    kept, position = [], 0
    for row in rows:
        position += len(row["token"])
        if position > wanted:
            kept.append(row)
    return tuple(kept) if answer else ()


# -- errors


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, never below zero; None if it did not say or said nothing that can be read."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            seconds = float(said) / unit
        except ValueError:
            date = parsedate_tz(said)
            try:
                seconds = mktime_tz(date) - time.time() if date else math.nan
            except (ValueError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None


def error_in(body: bytes) -> tuple[str, str]:
    """(code, message) of an error's body, as far as it says."""
    try:
        found = json.loads(body)
    except ValueError:
        return "", body[:300].decode(errors="replace") if b"<html" not in body[:500].lower() else ""
    found = found[0] if isinstance(found, list) and found else found
    inner = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(inner, dict):
        return "", str(inner)[:300]
    code = inner.get("code") or inner.get("type") or ""
    return str(code), str(inner.get("message") or inner.get("detail") or "")[:300]


def error_kind(status: int, code: str, message: str) -> ErrorKind:
    """What a status and an error's code mean for the one who asked.

    `request` is final, so it is kept for what is wrong with this very request. A key that is not accepted, a model or page
    that is not there and a redirect are mended outside of the request: they are `engine`.
    """
    known = code.lower().replace("_", "") in {name.replace("_", "") for name in FILTERED}
    if status == 429:
        return "rate_limit"
    if status in (408, 504, 524):
        return "timeout"
    if status in (400, 403, 422) and known:
        return "refused"
    if code in MISCONFIGURED or "api key" in message.lower()[:200]:
        return "engine"
    if status in REFUSED_TO_SEND:
        return "request"
    if status >= 500 or status in (409, 425):
        return "server"
    return "engine"
