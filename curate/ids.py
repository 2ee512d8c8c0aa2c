"""Name rows, steps and files by what they contain: the same ids on every machine."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
ID_DIGITS = 32  # 128 bits of sha256: no collision to be expected below 10^18 rows, half the bytes of the full digest


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN, so that equal values give equal text."""
    return _ENCODER.encode(value)


def digest(value: Any) -> str:
    """Full sha256 (64 hex digits) of a value's canonical JSON: names steps, snapshots and manifests."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def short_id(text: str) -> str:
    """The first 128 bits of a text's sha256 as 32 hex digits: names rows."""
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def prompt_id(messages: Sequence[Mapping[str, Any]]) -> str:
    """Id of a prompt: its messages without their null fields. Equal prompts share one id."""
    return short_id(canonical_json([{k: v for k, v in message.items() if v is not None} for message in messages]))


def response_id(prompt: str, response: str | None, *about: Any) -> str:
    """Id of a candidate: its prompt's id, its text and whatever else tells it apart (turns, model, seed, sample)."""
    return short_id(canonical_json([prompt, response, *about]))


def pair_id(chosen: str, rejected: str, goal: str | None = None) -> str:
    """Id of a pair: the ids of both sides in order, and its goal where it has one. A flipped pair has another id."""
    return short_id(f"{chosen}>{rejected}" if goal is None else f"{chosen}>{rejected}@{goal}")
