"""Answers against references: each check, what cannot be read, what cannot be checked."""

import json
from typing import Any

import pyarrow as pa
import pytest

from curate import tables
from curate.score.verify import Verify

SCHEMA = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


def responses(*rows: tuple[str | None, str | None], **columns: list[Any]) -> pa.Table:
    """Text and reference a row."""
    listed = [
        {"response": text, "reference": reference} | {name: values[i] for name, values in columns.items()}
        for i, (text, reference) in enumerate(rows)
    ]
    return tables.from_rows(listed, "responses")


def verdicts(table: pa.Table, check: str, column: str = "scores", **parameters: Any) -> list[tuple[Any, ...] | None]:
    """Value, rationale and error of each row's score; None where it got none."""
    out = Verify.model_validate({"name": "verify", "check": check} | parameters)(table)
    found: list[tuple[Any, ...] | None] = []
    for row in out[column].to_pylist():
        assert all((score["rater"], score["aspect"]) == ("verify", "correct") for score in row)
        found.append((row[0]["value"], row[0]["rationale"], row[0]["error"]) if row else None)
    return found


def test_a_number_is_right_whatever_form_it_is_written_in() -> None:
    table = responses(
        ("So 3 + 4 = 7.", "7"), ("The answer is 1,000.5", "1000.5"), (r"\boxed{\frac{1}{2}}", "0.5"), ("I get 8.", "7")
    )
    assert verdicts(table, "number") == [(1.0, "7", None), (1.0, "1,000.5", None), (1.0, r"\frac{1}{2}", None), (0.0, "8", None)]


def test_a_reference_may_be_a_whole_solution() -> None:
    solution = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nThat makes 48+24 = 72 clips.\n#### 72"
    assert [found and found[0] for found in verdicts(responses(("It is 72.", solution), ("It is 24.", solution)), "number")] == [
        1.0,
        0.0,
    ]
    assert verdicts(responses(("3 boxes", "3 boxes of 12")), "number") == [(1.0, "3", None)]


def test_numbers_in_arabic_digits_beside_emoji_are_read() -> None:
    table = responses(("الجواب هو ٤٢ 👍", "42"), ("\u202bالجواب هو ٣٫٥\u202c", "3.5"))
    assert [found and found[0] for found in verdicts(table, "number")] == [1.0, 1.0]


def test_a_text_without_a_number_is_unreadable_not_wrong() -> None:
    table = responses(("I do not know.", "7"))
    assert verdicts(table, "number") == [(None, None, "no number found")]
    assert verdicts(table, "number", unreadable="wrong") == [(0.0, None, None)]


def test_a_number_no_memory_holds_is_unreadable() -> None:
    table = responses(("9" * 3000 + "^999", "7"))
    assert verdicts(table, "number") == [(None, None, "no number found")]


def test_a_choice_is_right_if_its_letter_is() -> None:
    table = responses(("The answer is (B).", "B"), ("The answer is (B).", "C"), ("I choose option C.", "(c)"), ("No idea.", "A"))
    assert [found and found[0] for found in verdicts(table, "choice")] == [1.0, 0.0, 1.0, None]
    assert verdicts(table, "choice")[0] == (1.0, "B", None)
    assert verdicts(table, "choice")[3] == (None, None, "no choice found")


def test_only_the_letters_offered_are_choices() -> None:
    table = responses(("The answer is (E).", "E"))
    assert verdicts(table, "choice", letters="ABCDE") == [(1.0, "E", None)]
    (found,) = verdicts(table, "choice", letters="ABCD")
    assert found == (None, None, "reference cannot be used: 'E' is none of ABCD")


def test_a_pattern_is_looked_for_in_the_text() -> None:
    table = responses(("In 2026-06-03 it rained", r"\d{4}-\d\d-\d\d"), ("no date", r"\d{4}"), ("سلام", r"\A\p{Arabic}+\Z"))
    assert verdicts(table, "regex") == [(1.0, None, None), (0.0, None, None), (1.0, None, None)]


def test_json_is_held_against_a_schema_and_what_breaks_it_is_told() -> None:
    table = responses(('{"n": 4}', SCHEMA), ('{"n": "four"}', SCHEMA), ("four", SCHEMA))
    right, broken, none = verdicts(table, "json_schema")
    assert right == (1.0, None, None)
    assert broken is not None and broken[0] == 0.0 and broken[1].startswith("$.n: 'four' is not")
    assert none is not None and none[0] == 0.0 and none[1].startswith("not JSON")


@pytest.mark.parametrize(
    ("check", "reference", "complaint"),
    [
        ("number", "seven", "must hold a number"),
        ("choice", "BC", "is none of"),
        ("choice", "", "is none of"),
        ("regex", "(", "not a regular expression"),
        ("json_schema", "{", "reference cannot be used"),
        ("json_schema", "[]", "a JSON schema is an object"),
        ("json_schema", '{"type": 5}', "not a JSON schema"),
        ("json_schema", '{"$ref": "#"}', "refers to itself"),
    ],
)
@pytest.mark.parametrize("unreadable", ["error", "wrong"])
def test_a_reference_that_cannot_be_used_is_never_the_answers_fault(
    check: str, reference: str, complaint: str, unreadable: str
) -> None:
    (found,) = verdicts(responses(("7", reference)), check, unreadable=unreadable)
    assert found is not None and found[:2] == (None, None) and complaint in found[2]


@pytest.mark.parametrize("unreadable", ["error", "wrong"])
def test_nothing_to_check_or_to_check_against_is_null(unreadable: str) -> None:
    table = responses((None, "7"), ("7", None), (None, None))
    assert verdicts(table, "number", unreadable=unreadable) == [
        (None, None, "no text"),
        (None, None, "no reference"),
        (None, None, "no text"),
    ]


def test_auto_takes_the_check_that_meta_names_and_skips_rows_without_one() -> None:
    meta = ['{"check": "number"}', '{"check": "choice"}', '{"check": null}', "{}", None, "[1]", "not json", '{"check": "tests"}']
    table = responses(*[("The answer is B: 7", "7"), ("The answer is B", "B")], *[("7", "7")] * 6, meta=meta)
    assert verdicts(table, "auto") == [
        (1.0, "7", None),
        (1.0, "B", None),
        *[None] * 5,
        (None, None, "unknown check 'tests'; there are number, choice, regex, json_schema"),
    ]


def test_the_reference_may_stand_in_another_column() -> None:
    table = responses(("I get 7.", "8"), domain=["7"])
    assert verdicts(table, "number", reference="domain") == [(1.0, "7", None)]
    assert "domain" in Verify(reference="domain").reads("responses")


def test_both_sides_of_a_pair_are_checked() -> None:
    table = tables.from_rows([{"chosen": "I get 7.", "rejected": "I get 8.", "reference": "7"}], "pairs")
    assert verdicts(table, "number", "chosen_scores") == [(1.0, "7", None)]
    assert verdicts(table, "number", "rejected_scores") == [(0.0, "8", None)]


def test_wrong_answers_are_dropped_if_wanted_unread_ones_are_not() -> None:
    table = responses(("7", "7"), ("8", "7"), ("unknown", "7"), (None, "7"))
    out = Verify(name="v", check="number", drop_wrong=True)(table)
    assert out["flags"].to_pylist() == [[], [{"by": "v", "reason": "wrong", "value": 0.0, "other": None}], [], []]
    counted = Verify(name="v", check="number", drop_wrong=True, unreadable="wrong")(table)
    assert [len(flags) for flags in counted["flags"].to_pylist()] == [0, 1, 1, 0]
    assert Verify(name="v", check="number")(table).column_names == ["scores"]


def test_a_pair_is_dropped_for_its_chosen_side_alone() -> None:
    rows = [{"chosen": "7", "rejected": "8", "reference": "7"}, {"chosen": "8", "rejected": "7", "reference": "7"}]
    out = Verify(name="v", check="number", drop_wrong=True)(tables.from_rows(rows, "pairs"))
    assert [len(flags) for flags in out["flags"].to_pylist()] == [0, 1]


def test_a_long_rationale_is_cut() -> None:
    digits = "1" * 500
    ((_, rationale, _),) = (found or (None, None, None) for found in verdicts(responses((digits, digits)), "number"))
    assert rationale == "1" * 200


@pytest.mark.parametrize("grain", ["responses", "pairs"])
@pytest.mark.parametrize("check", ["number", "choice", "regex", "json_schema", "auto"])
def test_an_empty_table_stays_empty(grain: tables.Grain, check: str) -> None:
    step = Verify.model_validate({"name": "v", "check": check, "drop_wrong": True})
    assert step(tables.empty(grain).select(step.columns(grain))).num_rows == 0


def test_shards_check_as_the_whole_and_the_input_stays() -> None:
    table = responses(("7", "7"), (None, "7"), ("👍", "7"), ("8", "7"), meta=['{"check": "number"}', None] * 2)
    before = table.to_pylist()
    for check in ("auto", "number"):
        step = Verify.model_validate({"name": "v", "check": check, "drop_wrong": True})
        parts = [table.slice(0, 1), table.slice(1, 0), table.slice(1)]
        assert pa.concat_tables([step(part) for part in parts]).to_pylist() == step(table).to_pylist() == step(table).to_pylist()
        assert step(pa.concat_tables(parts).select(step.columns("responses"))).to_pylist() == step(table).to_pylist()
    assert table.to_pylist() == before


def test_earlier_scores_stay_in_front() -> None:
    earlier = [{"rater": "rm", "aspect": "score", "value": 1.0}]
    out = Verify(name="v", check="number")(responses(("7", "7"), scores=[earlier]))
    assert [score["rater"] for score in out["scores"].to_pylist()[0]] == ["rm", "v"]


def test_what_is_read_and_written_is_told_by_grain() -> None:
    assert Verify(check="number").reads("responses") == {"response", "reference"}
    assert Verify().reads("pairs") == {"chosen", "rejected", "reference", "meta"}
    assert Verify(name="v", drop_wrong=True).writes("pairs") == {"chosen_scores.v.correct", "rejected_scores.v.correct", "flags"}


def test_letters_are_letters() -> None:
    with pytest.raises(ValueError, match="letters"):
        Verify(letters="1234")
