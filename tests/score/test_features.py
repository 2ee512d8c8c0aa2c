"""Measures of texts: what each says of planted cases, and which rows they drop."""

from typing import Any

import pyarrow as pa
import pytest

from curate import tables
from curate.maths import detectors
from curate.score.features import Features

ENGLISH = "What is the capital of France, and why did it become the capital of the country?"
ANSWER = "The capital of France is Paris, because the kings of the Middle Ages lived there."
FRENCH = "La capitale de la France est Paris, parce que les rois y habitaient déjà au Moyen Âge."
ARABIC = "عاصمة فرنسا هي باريس، لأن الملوك كانوا يعيشون هناك منذ العصور الوسطى."
REFUSAL = "I'm sorry, but I can't help with that request."
LOOP = "and then the cat sat down again " * 20 + "."
TEMPLATE = "<|im_start|>assistant The capital of France is Paris."
MEASURES = ("characters", "words", "refusal", "truncated", "language", "template", "repetition")


def responses(*texts: str | None, prompt: str = ENGLISH, **columns: list[Any]) -> pa.Table:
    rows = [
        {"prompt": [{"role": "user", "content": prompt}], "response": text}
        | {name: column[i] for name, column in columns.items()}
        for i, text in enumerate(texts)
    ]
    return tables.from_rows(rows, "responses")


def pairs(*sides: tuple[str | None, str | None]) -> pa.Table:
    rows = [{"prompt": [{"role": "user", "content": ENGLISH}], "chosen": c, "rejected": r} for c, r in sides]
    return tables.from_rows(rows, "pairs")


def values(table: pa.Table, measure: str, column: str = "scores", **parameters: Any) -> list[float | None]:
    """One measure of every row, to four digits."""
    out = Features(name="features", measures=(measure,), **parameters)(table)
    return [None if row[-1]["value"] is None else round(row[-1]["value"], 4) for row in out[column].to_pylist()]


def test_every_measure_is_a_score_of_its_own_in_the_order_asked() -> None:
    out = Features(name="f")(responses(ANSWER, FRENCH))
    for row in out["scores"].to_pylist():
        assert [(score["rater"], score["aspect"]) for score in row] == [("f", measure) for measure in MEASURES]
    assert [score["value"] for score in out["scores"].to_pylist()[1]] == [70.0, 17.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_earlier_scores_stay_in_front() -> None:
    earlier = [{"rater": "rm", "aspect": "score", "value": 1.0}]
    out = Features(name="f", measures=("words",))(responses("a b", "c", scores=[earlier, []]))
    assert [[score["rater"] for score in row] for row in out["scores"].to_pylist()] == [["rm", "f"], ["f"]]


def test_texts_are_counted_in_characters_a_reader_sees() -> None:
    assert values(responses("a b\n", "e\u0301", "مَرْحَبًا", "", "\u200f\u202b", "👍👍"), "characters") == [2, 1, 5, 0, 0, 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\u00a0b\u2028c\x1c\x85",
        "e\u0301\u0323",
        "\u1100\u1161\u11a8",
        "नमस्ते",
        "👨\u200d👩\u200d👧",
        "a\u20dd\u00ad\ufeff",
        "שָׁלוֹם",
        "ﬁ½²",
    ],
)
def test_characters_counted_at_once_are_those_the_detector_counts(text: str) -> None:
    assert values(responses(text), "characters") == [detectors.characters(text)]


def test_words_are_counted_in_any_script() -> None:
    assert values(responses("Hello, world", "مرحبا بالعالم", "你好", "😀", ""), "words") == [2, 2, 2, 0, 0]


def test_refusals_are_found() -> None:
    assert values(responses(REFUSAL, ANSWER, "很抱歉，我无法提供这方面的帮助。"), "refusal") == [1, 0, 1]


def test_truncation_believes_the_finish_reason_before_the_text() -> None:
    cut = "The capital of France is Paris. It became the"
    table = responses(ANSWER, ANSWER, cut, cut, finish_reason=["stop", "length", None, "stop"])
    assert values(table, "truncated") == [0, 1, 1, 0]


def test_sides_of_pairs_are_read_for_truncation() -> None:
    assert values(pairs((ANSWER, "Paris is the")), "truncated", "rejected_scores") == [1]


def test_the_language_wanted_is_that_of_the_last_user_message() -> None:
    messages = [
        [{"role": "user", "content": ENGLISH}, {"role": "assistant", "content": FRENCH}, {"role": "user", "content": FRENCH}],
        [{"role": "system", "content": FRENCH}, {"role": "user", "content": ENGLISH}, {"role": "assistant", "content": FRENCH}],
    ]
    rows = [{"prompt": prompt, "response": ANSWER} for prompt in messages]
    assert values(tables.from_rows(rows, "responses"), "language") == [0, 1]


def test_the_language_found_is_the_rationale_and_an_unknown_one_is_null() -> None:
    out = Features(name="f", measures=("language",))(responses(ANSWER, FRENCH, ARABIC, "x = 3"))
    found = [(row[0]["value"], row[0]["rationale"], row[0]["error"]) for row in out["scores"].to_pylist()]
    assert found == [(1.0, "en", None), (0.0, "fr", None), (0.0, "ar", None), (None, None, None)]


def test_a_prompt_of_unknown_language_asks_for_none() -> None:
    assert values(responses(ANSWER, prompt="2+2"), "language") == [None]
    rows = [{"prompt": [{"role": "system", "content": ENGLISH}], "response": ANSWER}, {"prompt": None, "response": ANSWER}]
    assert values(tables.from_rows(rows, "responses"), "language") == [None, None]


def test_a_language_may_be_asked_for() -> None:
    assert values(responses(ANSWER, FRENCH, prompt="2+2"), "language", language="fr") == [0, 1]
    assert "prompt" not in Features(language="fr").reads("responses")


def test_what_a_template_left_behind_is_the_rationale() -> None:
    out = Features(name="f", measures=("template",))(responses(TEMPLATE, ANSWER))
    assert [(row[0]["value"], row[0]["rationale"]) for row in out["scores"].to_pylist()] == [(1.0, "<|im_start|>"), (0.0, None)]


def test_repetition_is_a_share() -> None:
    loop, plain = values(responses(LOOP, ANSWER), "repetition")
    assert loop is not None and 0.9 < loop <= 1 and plain == 0


def test_a_missing_text_has_null_measures_and_says_so() -> None:
    out = Features(name="f")(responses(None))
    assert {(score["value"], score["rationale"], score["error"]) for score in out["scores"].to_pylist()[0]} == {
        (None, None, "no text")
    }


def test_all_texts_missing_on_one_side_of_pairs() -> None:
    out = Features(name="f", drop=("refusal", "language"))(pairs((ANSWER, None), (FRENCH, None)))
    assert {score["value"] for row in out["rejected_scores"].to_pylist() for score in row} == {None}
    assert [len(row) for row in out["flags"].to_pylist()] == [0, 1]


def test_both_sides_of_a_pair_are_measured() -> None:
    table = pairs((ANSWER, REFUSAL), (FRENCH, ANSWER))
    assert values(table, "refusal", "chosen_scores") == [0, 0]
    assert values(table, "refusal", "rejected_scores") == [1, 0]
    assert values(table, "language", "chosen_scores") == [1, 0]


def test_a_row_is_dropped_once_for_the_first_fault_that_applies() -> None:
    out = Features(name="f", drop=("template", "refusal", "language", "repetition"))(
        responses(ANSWER, REFUSAL, FRENCH, TEMPLATE + " " + LOOP, LOOP, "😀", None)
    )
    reasons = [[flag["reason"] for flag in row] for row in out["flags"].to_pylist()]
    assert reasons == [[], ["refusal"], ["language"], ["template"], ["repetition"], [], []]
    assert out["flags"].to_pylist()[1] == [{"by": "f", "reason": "refusal", "value": 1.0, "other": None}]
    assert out["flags"].to_pylist()[2][0]["value"] == 0.0


def test_repetition_drops_from_its_threshold_on() -> None:
    table = responses(ANSWER + " " + ANSWER)
    share = values(table, "repetition")[0]
    assert share is not None and share >= detectors.REPETITIVE
    out = Features(name="f", drop=("repetition",))(table)
    assert [row[0]["value"] for row in out["flags"].to_pylist()] == [pytest.approx(share, abs=1e-4)]


def test_a_cut_text_is_dropped() -> None:
    out = Features(name="f", measures=("truncated",), drop=("truncated",))(
        responses(ANSWER, ANSWER, finish_reason=["length", "stop"])
    )
    assert [len(row) for row in out["flags"].to_pylist()] == [1, 0]


def test_either_side_of_a_pair_may_drop_it() -> None:
    out = Features(name="f", measures=("refusal",), drop=("refusal",))(
        pairs((ANSWER, ANSWER), (ANSWER, REFUSAL), (REFUSAL, ANSWER))
    )
    assert [len(row) for row in out["flags"].to_pylist()] == [0, 1, 1]


def test_no_flags_are_written_without_a_drop() -> None:
    step = Features(name="f")
    assert step(responses(REFUSAL)).column_names == ["scores"]
    assert "flags" not in step.writes("responses")
    assert "flags" in Features(drop=("refusal",)).writes("pairs")


@pytest.mark.parametrize("grain", ["responses", "pairs"])
@pytest.mark.parametrize("drop", [(), ("refusal", "language")])
def test_an_empty_table_stays_empty(grain: tables.Grain, drop: tuple[str, ...]) -> None:
    step = Features.model_validate({"name": "f", "drop": drop})
    assert step(tables.empty(grain).select(step.columns(grain))).num_rows == 0


def test_shards_score_as_the_whole_and_the_input_stays() -> None:
    table = responses(ANSWER, ARABIC, None, "👍", LOOP)
    before = table.to_pylist()
    step = Features(name="f", drop=("repetition",))
    parts = [table.slice(0, 2), table.slice(2, 0), table.slice(2, 1), table.slice(3)]
    assert pa.concat_tables([step(part) for part in parts]).to_pylist() == step(table).to_pylist() == step(table).to_pylist()
    assert table.to_pylist() == before
    assert step(pa.concat_tables(parts)).to_pylist() == step(table).to_pylist()


@pytest.mark.parametrize("grain", ["responses", "pairs"])
def test_it_needs_no_column_beyond_those_it_declares(grain: tables.Grain) -> None:
    table = {"responses": responses(ANSWER), "pairs": pairs((ANSWER, FRENCH))}[grain]
    step = Features(name="f", drop=("language",))
    assert step(table.select(step.columns(grain))).to_pylist() == step(table).to_pylist()


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"measures": []}, "at least 1"),
        ({"measures": ["words", "words"]}, "twice"),
        ({"measures": ["words"], "drop": ["refusal"]}, "refusal, which `measures` leaves out"),
        ({"drop": ["words"]}, "drop"),
        ({"language": "English"}, "language"),
    ],
)
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Features.model_validate(parameters)
