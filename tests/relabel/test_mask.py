"""Masks over sentences: what carries loss, and that offsets are those of the text."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curate import tables
from curate.maths.sentence_labels import Labelled, find_sentences, read_labels, share_correct, spans_of
from curate.maths.sentences import sentence_ends, sentences
from curate.relabel.mask import Mask

BY = "judge:truthfulness_sentences"
LABELS = ("correct", "incorrect", "neutral")


def score(text: str, labels: str, **fields: Any) -> list[dict[str, Any]]:
    """A score of `judge_sentences`; labels by their first letters, one a sentence."""
    names = tuple(next(name for name in LABELS if name.startswith(letter)) for letter in labels)
    rationale = Labelled(tuple(sentence_ends(text)), names).to_json("because")
    return [{"rater": "judge", "aspect": "truthfulness_sentences", "value": 0.5, "rationale": rationale} | fields]


def pair(chosen: str, rejected: str, good: str = "", bad: str = "", **fields: Any) -> pa.Table:
    row: dict[str, Any] = {"chosen": chosen, "rejected": rejected}
    row |= {"chosen_scores": score(chosen, good) if good else [], "rejected_scores": score(rejected, bad) if bad else []}
    return tables.from_rows([row | fields], "pairs")


def mask(table: pa.Table, **parameters: Any) -> dict[str, Any]:
    made: dict[str, Any] = Mask(name="mask", **({"by": BY} | parameters if "meta" not in parameters else parameters))(
        table
    ).to_pylist()[0]
    return made


def parts(made: dict[str, Any], side: str, text: str) -> list[tuple[str, float]]:
    return [(text[one["start"] : one["end"]], one["weight"]) for one in made["spans"] if one["side"] == side]


GOOD, BAD = "Rome is in Italy. It has one river. It was founded in 1950.", "Rome is in Peru. It is old. Ask me more?"


def test_false_sentences_of_the_chosen_and_true_ones_of_the_rejected_side_carry_no_loss() -> None:
    made = mask(pair(GOOD, BAD, "cci", "icn"))
    assert parts(made, "chosen", GOOD) == [("Rome is in Italy. It has one river.", 1), (" It was founded in 1950.", 0)]
    assert parts(made, "rejected", BAD) == [("Rome is in Peru.", 1), (" It is old.", 0), (" Ask me more?", 1)]
    shares = {entry["name"]: round(entry["value"], 4) for entry in made["evidence"]}
    assert shares == {"chosen_masked": round(24 / len(GOOD), 4), "rejected_masked": round(11 / len(BAD), 4)}
    assert made["flags"] == []


def test_neutral_sentences_can_be_masked_too() -> None:
    made = mask(pair(GOOD, BAD, "cni", "iin"), neutral="mask")
    assert [weight for _, weight in parts(made, "chosen", GOOD)] == [1, 0]
    assert parts(made, "rejected", BAD)[-1] == (" Ask me more?", 0)


def test_a_side_without_labels_stays_unmasked_and_a_pair_without_any_has_no_spans() -> None:
    made = mask(pair(GOOD, BAD, "", "icn"))
    assert parts(made, "chosen", GOOD) == [(GOOD, 1)]
    assert [entry["value"] is None for entry in made["evidence"]] == [True, False]
    assert mask(pair(GOOD, BAD))["spans"] is None
    before = [{"side": "chosen", "start": 0, "end": 4, "weight": 0.5}]
    assert mask(pair(GOOD, BAD, spans=before))["spans"] == before


@pytest.mark.parametrize(
    "rationale",
    ["no JSON", "[]", '{"ends": [3], "labels": ["correct"]}', '{"ends": [59], "labels": ["fine"]}', '{"ends": [59, 59]}', None]
    + [
        '{"ends": [20, 20, 59], "labels": ["correct", "correct", "correct"]}',
        '{"ends": [true, 59], "labels": ["correct", "correct"]}',
    ],
)
def test_labels_that_do_not_fit_the_text_mask_nothing(rationale: str | None) -> None:
    assert len(GOOD) == 59
    broken = score(GOOD, "cci", rationale=rationale)
    assert parts(mask(pair(GOOD, BAD, "", "icn", chosen_scores=broken)), "chosen", GOOD) == [(GOOD, 1)]


def test_the_last_score_counts_and_failed_ones_do_not() -> None:
    scores = score(GOOD, "iii") + score(GOOD, "cci") + score(GOOD, "iii", error="server: down")
    assert [weight for _, weight in parts(mask(pair(GOOD, BAD, chosen_scores=scores)), "chosen", GOOD)] == [1, 0]


def test_a_side_masked_altogether_is_flagged_or_left_as_it_is() -> None:
    table = pair(GOOD, BAD, "iii", "icn")
    assert [flag["reason"] for flag in mask(table)["flags"]] == ["all_masked"]
    made = mask(table, empty="unmask")
    assert parts(made, "chosen", GOOD) == [(GOOD, 1)] and made["flags"] == []
    assert [flag["reason"] for flag in mask(pair(GOOD, BAD, "cci", "ccc"))["flags"]] == ["all_masked"]


def test_labels_of_the_source_are_found_in_the_text_by_characters() -> None:
    item = {"sents": ["Rome is in Italy.", "It has one river.", "It was founded in 1950."]}
    item |= {"type": ["no_hallucination", "no-fact", "hallucination"]}
    listed = [{"text": text.strip(), "label": "incorrect"} for text in sentences(BAD)]
    made = mask(pair(GOOD, BAD, meta=json.dumps({"good": item, "bad": listed})), meta=["good", "bad"])
    assert parts(made, "chosen", GOOD) == [("Rome is in Italy. It has one river.", 1), (" It was founded in 1950.", 0)]
    assert parts(made, "rejected", BAD) == [(BAD, 1)]


@pytest.mark.parametrize(
    "item",
    [
        {"sents": ["Rome is in Italy."], "type": ["correct"]},  # the rest of the text is in no sentence
        {"sents": ["Rome is in Italy.", "It was founded in 1950."], "type": ["correct", "incorrect"]},  # nor is its middle
        {"sents": ["It has one river.", "Rome is in Italy. "], "type": ["correct", "correct"]},
        {"sents": [GOOD], "type": ["probably"]},
        {"sents": [GOOD], "type": []},
        {"sents": GOOD, "type": ["correct"]},
        [{"text": GOOD}],
        "text",
        None,
    ],
)
def test_labels_of_the_source_that_cannot_be_read_mask_nothing(item: Any) -> None:
    assert mask(pair(GOOD, BAD, meta=json.dumps({"good": item, "bad": item})), meta=["good", "bad"])["spans"] is None


def test_sums_that_do_not_hold_are_masked_without_a_judge() -> None:
    good, bad = "There are 16 eggs. 16 - 3 = 13 are left. 13 * 2 = 27 dollars.", "3 + 4 = 7 eggs go. Then 16 - 7 = 8."
    made = mask(pair(good, bad), check="equations", by=None)
    assert parts(made, "chosen", good) == [("There are 16 eggs. 16 - 3 = 13 are left.", 1), (" 13 * 2 = 27 dollars.", 0)]
    assert parts(made, "rejected", bad) == [("3 + 4 = 7 eggs go.", 0), (" Then 16 - 7 = 8.", 1)]


@given(st.text(max_size=60), st.data())
def test_spans_put_together_are_the_text_in_any_script(text: str, data: st.DataObject) -> None:
    ends = tuple(sentence_ends(text))
    labels = tuple(data.draw(st.sampled_from(LABELS)) for _ in ends)
    again = read_labels(Labelled(ends, labels).to_json(), len(text))
    if not text:
        assert again is None
        return
    assert again == Labelled(ends, labels)
    spans = spans_of(text, again, {"incorrect"})
    assert "".join(text[span.start : span.end] for span in spans) == text
    weights = [span.weight for span in spans for _ in range(span.start, span.end)]
    for begin, end, label in zip([0, *ends], ends, labels, strict=False):
        worded = [weight for weight, character in zip(weights[begin:end], text[begin:end], strict=True) if character != " "]
        assert set(worded) <= {float(label != "incorrect")}
    stripped = [(part.strip(), label) for part, label in zip(sentences(text), labels, strict=True)]
    found = find_sentences(text, stripped)
    kept = [label for part, label in stripped if part]
    assert (found is None and not kept) or (found is not None and list(found.labels) == kept and found.ends[-1] == len(text))


def test_the_share_of_correct_sentences_leaves_neutral_ones_out() -> None:
    assert share_correct(["correct", "incorrect", "neutral", "correct", "correct"]) == 0.75
    assert share_correct(["neutral"]) is None


def test_labels_come_from_one_place() -> None:
    for wrong in ({}, {"by": BY, "meta": ["a", "b"]}, {"by": BY, "check": "equations"}, {"by": "judge"}):
        with pytest.raises(ValidationError, match="from one place|names rater and aspect"):
            Mask(**wrong)
