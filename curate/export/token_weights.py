"""Carry weights of spans of characters over to the tokens of a conversation that is tokenised as a whole."""

import math
from typing import Any, NamedTuple

import numpy as np

from curate.errors import ExportError

Message = dict[str, Any]
Span = dict[str, Any]
Answer = tuple[list[Message], list[Span]]
MARK = "[[the place of the response]]"
"""Stands for a response while its place is sought: text that no template changes."""


class Weighted(NamedTuple):
    """The tokens of a conversation and their weights."""

    ids: list[int]
    weights: list[float]


def weigh_characters(length: int, spans: list[Span]) -> np.ndarray:
    """Weight of each character, (length,): the lowest of the spans it is in, 1 outside all. ValueError for a span elsewhere."""
    weights = np.ones(length)
    for start, end, weight in ((span["start"], span["end"], span["weight"]) for span in spans):
        if start is None or end is None or not 0 <= start <= end <= length:
            raise ValueError(f"span {start}..{end} does not lie in its text of {length} characters")
        if weight is None or not math.isfinite(weight):
            raise ValueError(f"span {start}..{end} has the weight {weight}, which is no number")
        weights[start:end] = np.minimum(weights[start:end], weight)
    return weights


def weigh_tokens(characters: np.ndarray, offsets_T2: list[tuple[int, int]]) -> np.ndarray:
    """Weight of each token, (T,): the lowest of its characters, so that what touches a masked span is masked; 1 for no text.

    characters: (N,) weights. offsets_T2: first character of each token, and the one after its last.
    """
    weights = np.ones(len(offsets_T2))
    for token, (start, end) in enumerate(offsets_T2):
        if end > start:
            weights[token] = characters[start:end].min()
    return weights


def completions(reader: Any, asked: list[Message], answers: list[Answer], tools: Any) -> tuple[int, list[Weighted]]:
    """The tokens of a prompt with each of its answers, and where the answers begin: after what all share with the prompt alone.

    That is where TRL's trainers take completions to begin. reader, tools: as in `tokens_of`.
    """
    alone = reader.apply_chat_template(asked, tools=tools, tokenize=False, add_generation_prompt=True)
    found = [tokens_of(reader, asked, said, spans, tools) for said, spans in answers]
    prompt = list(reader(alone, add_special_tokens=False)["input_ids"])
    return min(shared(prompt, whole.ids) for whole in found), found


def tokens_of(reader: Any, asked: list[Message], answer: list[Message], spans: list[Span], tools: Any) -> Weighted:
    """Every token of a conversation, and its weight by the spans of the last message's text.

    reader: a fast tokenizer with a chat template. The template's text is tokenised as a whole and spans are found in it by
    character, since the same words may be other tokens alone than in their place. ExportError if the template changes the text.
    """

    def rendered(said: str | None) -> str:
        last = answer[-1] if said is None else answer[-1] | {"content": said}
        whole: str = reader.apply_chat_template([*asked, *answer[:-1], last], tools=tools, tokenize=False)
        return whole

    whole = rendered(None)
    characters = np.ones(len(whole))
    if spans:
        start, own = _place(whole, rendered(MARK), answer[-1]["content"], spans)
        characters[start : start + len(own)] = own
    encoded = reader(whole, add_special_tokens=False, return_offsets_mapping=True)
    return Weighted(list(encoded["input_ids"]), weigh_tokens(characters, encoded["offset_mapping"]).tolist())


def _place(whole: str, marked: str, text: str, spans: list[Span]) -> tuple[int, np.ndarray]:
    """Where a response's text begins in the conversation, and the weights of its characters there.

    marked: the conversation with MARK in the text's place. Some templates strip the text.
    """
    head, found, tail = marked.rpartition(MARK)
    kept = text if whole == head + text + tail else text.strip()
    if not found or whole != head + kept + tail:
        raise ExportError("the chat template changes the response's text, so no span can be found in it; use another tokenizer")
    cut = 0 if kept == text else len(text) - len(text.lstrip())
    return len(head), weigh_characters(len(text), spans)[cut : cut + len(kept)]


def shared(first: list[int], second: list[int]) -> int:
    """Tokens that both begin with."""
    length = min(len(first), len(second))
    differs = np.flatnonzero(np.array(first[:length]) != np.array(second[:length]))
    return int(differs[0]) if len(differs) else length
