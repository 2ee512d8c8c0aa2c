"""Rules that make a text worse without a model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curate.generate.wording import number_of
from curate.maths.sentences import sentences


def some(count: int, share: float, about: Sequence[Any]) -> set[int]:
    """At least one of so many places, but not all of several."""
    wanted = min(max(1, round(share * count)), max(1, count - 1))
    return set(sorted(range(count), key=lambda place: number_of(*about, place))[:wanted])


def drop_sentences(text: str, share: float, about: Sequence[Any]) -> str:
    """Without a share of its sentences; a text of one sentence stays as it is."""
    parts = sentences(text)
    gone = some(len(parts), share, about) if len(parts) > 1 else set()
    return "".join(part for place, part in enumerate(parts) if place not in gone)


def shuffle_sentences(text: str, share: float, about: Sequence[Any]) -> str:
    """Its sentences in another order; the spaces between stay where they were."""
    parts = sentences(text)
    order = sorted(range(len(parts)), key=lambda place: number_of(*about, place))
    if order == list(range(len(parts))):
        order = order[1:] + order[:1]
    return rearranged(parts, order)


def reverse_sentences(text: str, share: float, about: Sequence[Any]) -> str:
    """Its sentences from the last to the first."""
    parts = sentences(text)
    return rearranged(parts, list(range(len(parts)))[::-1])


def rearranged(parts: Sequence[str], order: Sequence[int]) -> str:
    """Sentences in an order, the space after each place kept."""
    return "".join(parts[at].rstrip() + parts[place][len(parts[place].rstrip()) :] for place, at in enumerate(order))


def truncate(text: str, share: float, about: Sequence[Any]) -> str:
    """Without its end, cut off wherever that happens to be."""
    return text[: max(1, round(len(text) * (1 - share)))]


def repeat(text: str, share: float, about: Sequence[Any]) -> str:
    """With a share of its sentences said twice."""
    parts = sentences(text)
    twice = some(len(parts), share, about)
    doubled = [f"{part.rstrip()} {part}" if place in twice else part for place, part in enumerate(parts)]
    return "".join(doubled)


RULES: Mapping[str, Callable[[str, float, Sequence[Any]], str]] = {
    "drop_sentences": drop_sentences,
    "shuffle_sentences": shuffle_sentences,
    "reverse_sentences": reverse_sentences,
    "truncate": truncate,
    "repeat": repeat,
}
