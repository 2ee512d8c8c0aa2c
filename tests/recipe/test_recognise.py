"""What is recognised in a file's columns, and what is said of the rest."""

from typing import Any

import pytest

from curate.errors import UsageError
from curate.recipe.layout import Layout
from curate.recipe.recognise import recognise

Row = dict[str, Any]
LONG = "An answer with more words than any name has."


def source(*rows: Row) -> dict[str, Any]:
    return recognise(rows, "rows.jsonl").source


def sided(*labels: Any, column: str = "winner") -> tuple[Row, ...]:
    """Two answers and a label a row."""
    return tuple({"prompt": "q?", "answer_a": "x", "answer_b": "y", column: label} for label in labels)


@pytest.mark.parametrize(
    ("first", "second", "tie"),
    [
        ("A", "B", "tie"),
        ("model_a", "model_b", "tie (bothbad)"),
        ("a1", "a2", "equal"),
        ("1", "2", "0"),
        ("1", "2", "3"),
        ("[[A>B]]", "[[A<B]]", "[[A=B]]"),
        ("A>>B", "B>>A", "A=B"),
        ("a-is-slightly-better", "b-is-slightly-better", "tie"),
        ("left", "right", "draw"),
        ("answer_1", "answer_2", "neither"),
    ],
)
def test_verdicts_are_understood(first: str, second: str, tie: str) -> None:
    said = {"column": "winner", "first": first, "second": second, "tie": tie}
    assert source(*sided(first, second, tie))["label"] == said


def test_verdicts_of_several_strengths_are_grouped() -> None:
    label = source(*sided("A is better", "A is much better", "B is better"))["label"]
    assert (label["first"], label["second"]) == (["A is better", "A is much better"], "B is better")


def test_numbers_and_truth_values_may_be_verdicts() -> None:
    assert source(*sided(1, 2, 0))["label"] == {"column": "winner", "first": "1", "second": "2", "tie": "0"}
    assert source(*sided(0, 1))["label"] == {"column": "winner", "first": "0", "second": "1"}


@pytest.mark.parametrize("labels", [("good", "bad"), ("A", "A"), ("A", "B", "who knows")])
def test_a_label_that_is_not_understood_is_named_with_its_values(labels: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=rf"answer_a and answer_b.*winner \(.*{sorted(labels)[-1]}.*not understood"):
        recognise(sided(*labels), "rows.jsonl")


def test_who_labelled_and_which_models_answered_are_kept() -> None:
    found = source(*(row | {"model_a": "m1", "model_b": "m2", "evaluator": "e1"} for row in sided("A", "B")))
    assert (found["columns"]["first_model"], found["columns"]["second_model"]) == ("model_a", "model_b")
    assert found["label"]["rater"] == "evaluator"


def test_votes_in_columns_of_their_own() -> None:
    rows = [{"prompt": "q?", "response1": "x", "response2": "y", "annotator1": 1, "annotator2": 2}] * 2
    assert source(*rows)["votes"] == {"columns": ["annotator1", "annotator2"], "first": "1", "second": "2"}


def test_votes_in_a_list_on_answers_inside_objects() -> None:
    votes = [{"workerID": "w1", "value": "a1"}, {"workerID": "w2", "value": "a2"}, {"workerID": "w3", "value": "equal"}]
    row = {"topic": "t", "about": {"title": "Is it?"}, "arg1": {"id": "1", "text": LONG}, "arg2": {"id": "2", "text": LONG}}
    found = source(row | {"crowd": votes})
    assert (found["columns"]["prompt"], found["columns"]["first"]) == ("about.title", "arg1.text")
    said = {"list": "crowd", "rater": "workerID", "value": "value", "first": "a1", "second": "a2", "tie": "equal"}
    assert found["votes"] == said


def test_names_of_two_models_are_no_answers() -> None:
    with pytest.raises(UsageError, match="are not ones that"):
        recognise([{"A": "gpt-4", "B": "claude", "task": "maths"}], "rows.jsonl")


def test_answers_in_a_list_of_objects() -> None:
    row = {"prompt": "q?", "completions": [{"model": "m", "completion": "x", "score": 1.5}, {"model": "n", "completion": "y"}]}
    found = source(row)
    assert found["columns"] == {"prompt": "prompt", "responses": "completions[].completion", "models": "completions[].model"}
    assert found["scores"] == {"score": "completions[].score"}


def test_an_instruction_has_its_input_and_a_question_its_options() -> None:
    alpaca = recognise(
        [
            {"instruction": "Shorten.", "input": "", "output": "x", "model": "m"},
            {"instruction": "s", "input": "i", "output": "y", "model": "m"},
        ],
        "f",
    )
    assert alpaca.source["columns"]["prompt"] == "{instruction}\n\n{input}"
    assert "where input is empty, the prompt ends in blank lines" in alpaca.notes
    assert (
        source({"question": "q?", "options": ["one", "2"], "answer": "A"})["columns"]["prompt"]
        == "{question}\n\n{options:letters}"
    )


def test_an_instruction_without_input_in_some_rows_stands_alone() -> None:
    rows = [{"instruction": "a", "input": None, "output": "x"}, {"instruction": "a", "input": "i", "output": "y"}]
    assert source(*rows)["columns"]["prompt"] == "instruction"


def test_right_answers_are_references_and_not_candidates() -> None:
    gold = [{"question": "1 + 1?", "answer": "It is 2. #### 2"}, {"question": "2 + 2?", "answer": "#### 4"}]
    assert source(*gold) == {"rows": "prompts", "columns": {"prompt": "question", "reference": "answer"}}
    assert source(*(row | {"model": "m"} for row in gold))["columns"]["response"] == "answer"
    assert source(gold[0], gold[0] | {"answer": "3"})["columns"]["response"] == "answer"


def test_answers_of_which_some_are_bare_numbers_are_texts() -> None:
    assert source({"prompt": "q?", "response": "4"}, {"prompt": "q?", "response": "four"})["columns"]["response"] == "response"


@pytest.mark.parametrize(("reference", "check"), [("B", "choice"), ("(B)", "choice"), ("1,200", "number"), ("Paris", None)])
def test_how_a_reference_can_be_checked(reference: str, check: str | None) -> None:
    assert recognise([{"prompt": "q?", "response": "x", "reference": reference}], "f").check == check


def test_a_truth_value_tells_right_from_wrong() -> None:
    rows = [{"prompt": "q?", "response": "x", "is_correct": right} for right in (True, False)]
    assert recognise(rows, "f").right_or_wrong
    assert not recognise([row | {"is_correct": 7} for row in rows], "f").right_or_wrong


def test_transcripts_are_told_apart_from_texts() -> None:
    def notes(text: str) -> str:
        layout: Layout = recognise([{"chosen": f"{text}yes", "rejected": f"{text}no"}], "f")
        assert layout.source == {"dialect": "trl"}
        return " ".join(layout.notes)

    assert "transcripts" in notes("\n\nHuman: hi\n\nAssistant: ")
    assert "transcripts" not in notes("The sky is ")


def test_programs_are_told_apart_from_prose() -> None:
    assert recognise([{"prompt": "p", "samples": ["    return x\n", "    for i in x:\n        pass\n"]}], "f").code
    assert not recognise([{"prompt": "p", "samples": ["Return it.", "No."]}], "f").code


def test_columns_that_are_not_used_are_named() -> None:
    notes = recognise([{"prompt": "q?", "response": "x", "elo": 3, "nothing": None}], "f").notes
    assert notes == ["not used: elo"]
