"""Labels of a text's sentences: how they are kept, found again in the text, and turned into spans with weights.

Source: Gu et al., "Mask-DPO: Generalizable Fine-grained Factuality Alignment of LLMs", 2025, arXiv:2503.02846.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from curate.ids import canonical_json
from curate.maths.equations import equations
from curate.maths.sentences import sentence_ends

Label = Literal["correct", "incorrect", "neutral"]
WORTH: Mapping[str, float] = {"correct": 1.0, "neutral": 0.5, "incorrect": 0.0}
"""Every label and its worth, by which `weighted` judges average."""


class Labelled(NamedTuple):
    """A text's sentences: they follow each other without a gap, so their ends alone tell where they are."""

    ends: tuple[int, ...]
    """Characters of the text, ascending; the last is its length."""
    labels: tuple[str, ...]

    def to_json(self, reasons: str | None = None) -> str:
        """As a rationale keeps it."""
        told: dict[str, Any] = {"ends": self.ends, "labels": self.labels}
        return canonical_json(told | ({"reasons": reasons} if reasons else {}))


class Span(NamedTuple):
    """A stretch of a text, in characters, and how much it counts in training."""

    start: int
    end: int
    weight: float


def share_correct(labels: Sequence[str]) -> float | None:
    """Correct sentences among the correct and incorrect ones; None where there is neither."""
    right, wrong = labels.count("correct"), labels.count("incorrect")
    return right / (right + wrong) if right + wrong else None


def read_labels(rationale: str, length: int) -> Labelled | None:
    """What a rationale keeps, if it is about a text of that many characters; None otherwise."""
    try:
        told = json.loads(rationale)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("ends"), list) or not isinstance(told.get("labels"), list):
        return None
    ends, labels = tuple(told["ends"]), tuple(told["labels"])
    ascend = all(type(end) is int for end in ends) and all(a < b for a, b in zip((0, *ends), ends, strict=False))
    known = len(ends) == len(labels) and all(isinstance(label, str) and label in WORTH for label in labels)
    return Labelled(ends, labels) if ends and ascend and known and ends[-1] == length else None


def find_sentences(text: str, found: Sequence[tuple[str, str]]) -> Labelled | None:
    """Where (sentence, label) stand in the text they were taken from, one after the other; None where one is not found,
    or the text has words that none of them holds.

    Blanks between two sentences belong to the first; a sentence of blanks alone is passed over.
    """
    ends: list[int] = []
    labels: list[str] = []
    at = 0
    for sentence, label in found:
        words = sentence.strip()
        start = text.find(words, at)
        if start < 0 or text[at:start].strip():
            return None
        if not words:
            continue
        if ends:
            ends[-1] = start
        at = start + len(words)
        ends.append(at)
        labels.append(label)
    if not ends or text[at:].strip():
        return None
    ends[-1] = len(text)
    return Labelled(tuple(ends), tuple(labels))


def check_equations(text: str) -> Labelled:
    """The sentences of a text, which is not empty: incorrect with an equation that does not hold, correct where all hold,
    neutral without any.
    """
    ends = sentence_ends(text) if "=" in text else [len(text)]
    found = [equations(text[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
    labels = tuple("neutral" if not holds else "correct" if all(holds) else "incorrect" for holds in found)
    return Labelled(tuple(ends), labels)


def spans_of(text: str, labelled: Labelled, dropped: set[str]) -> list[Span]:
    """The whole text in as few spans as can be: weight 0 where a sentence has a label in `dropped`, 1 elsewhere.

    Spaces between two spans go to the second, since that is where tokenizers put them: a token that begins with the space
    before a sentence is all of that sentence.
    """
    weights = [0.0 if label in dropped else 1.0 for label in labelled.labels]
    spans, start = [], 0
    for end, weight, after in zip(labelled.ends, weights, [*weights[1:], None], strict=True):
        if weight == after:
            continue
        if after is not None:
            end = start + len(text[start:end].rstrip(" "))
        if end > start:
            spans.append(Span(start, end, weight))
            start = end
    return spans
