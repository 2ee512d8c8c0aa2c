"""Each detector's precision and recall on the labelled texts of data/samples, and on answers it was not written for."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from curate.maths import detectors
from curate.packaged import samples_folder


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (samples_folder() / name).read_text(encoding="utf-8").splitlines()]


def precision_and_recall(found: list[bool], wanted: list[bool]) -> tuple[float, float]:
    right = sum(f and w for f, w in zip(found, wanted, strict=True))
    return right / max(sum(found), 1), right / max(sum(wanted), 1)


DETECTORS: dict[str, Callable[[str], bool]] = {
    "refusal": detectors.refusal,
    "truncation": detectors.truncation,
    "template": lambda text: detectors.template_leftover(text) is not None,
    "repetition": lambda text: detectors.repetition(text) >= detectors.REPETITIVE,
}


@pytest.mark.parametrize("name", DETECTORS)
def test_precision_and_recall_on_labelled_texts(name: str) -> None:
    labelled = rows(f"detectors/{name}.jsonl")
    assert len(labelled) >= 100 and 0.3 < sum(row["label"] for row in labelled) / len(labelled) < 0.7
    precision, recall = precision_and_recall(
        [DETECTORS[name](row["text"]) for row in labelled], [row["label"] for row in labelled]
    )
    print(f"{name}: precision {precision:.3f}, recall {recall:.3f} on {len(labelled)} texts")  # noqa: T201
    assert precision >= 0.95 and recall >= 0.9


def test_languages_of_labelled_texts() -> None:
    labelled = rows("detectors/language.jsonl")
    told = [row for row in labelled if row["label"] is not None]
    right = sum(detectors.language(row["text"])[0] == row["label"] for row in told) / len(told)
    print(f"language: {right:.3f} right of {len(told)} texts in {len({row['label'] for row in told})} languages")  # noqa: T201
    assert len(labelled) >= 100 and right >= 0.97
    assert all(detectors.language(row["text"])[0] is None for row in labelled if row["label"] is None)


@pytest.mark.parametrize(
    ("quality", "detector", "precise", "complete"),
    [("refused", detectors.refusal, 0.95, 0.9), ("truncated", detectors.truncation, 0.6, 0.9)],
)
def test_answers_of_the_demo(quality: str, detector: Callable[[str], bool], precise: float, complete: float) -> None:
    """Truncation is judged by text alone here: sloppy answers without a last full stop look cut, and precision says so."""
    truth = {row["id"]: row["quality"] for row in rows("truth.jsonl")}
    answers = rows("responses.jsonl")
    found, wanted = [detector(row["response"]) for row in answers], [truth[row["id"]] == quality for row in answers]
    precision, recall = precision_and_recall(found, wanted)
    print(f"{quality} answers: precision {precision:.3f}, recall {recall:.3f} on {len(answers)}")  # noqa: T201
    assert precision >= precise and recall >= complete
