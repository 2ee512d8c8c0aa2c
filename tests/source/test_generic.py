"""The generic mapping: pairs, candidates, lists, prompts, scores, votes."""

import pytest
from pydantic import TypeAdapter, ValidationError

from curate.source import Source, Sources, grain_of, provides

USER = {"role": "user", "content": "Hi"}
GOOD = {"role": "assistant", "content": "Hello!"}
BAD = {"role": "assistant", "content": "Go away."}


def plain(messages):
    return [{k: v for k, v in message.items() if v is not None} for message in messages]


def votes(row):
    return [(vote["rater"], vote["p_chosen"]) for vote in row["votes"]]


def test_candidates_read_their_fields(reading, jsonl):
    name = jsonl({"q": "2+2?", "out": {"text": "4"}, "by": "m1", "gold": 4})
    columns = {"prompt": "q", "response": "out.text", "model": "by", "reference": "gold"}
    (row,) = reading({"path": name, "columns": columns}).rows
    assert plain(row["prompt"]) == [{"role": "user", "content": "2+2?"}]
    assert (row["response"], row["model"], row["reference"], row["source"], row["row"]) == ("4", "m1", "4", "rows.jsonl", 0)


def test_fields_of_our_names_need_no_mapping(reading, jsonl):
    name = jsonl({"prompt": "2+2?", "response": "4", "model": "m1", "seed": 7, "other": 1})
    (row,) = reading({"path": name, "rows": "candidates"}).rows
    assert (row["response"], row["model"], row["seed"]) == ("4", "m1", 7)


def test_templates_number_a_list_with_letters(reading, jsonl):
    name = jsonl({"question": "Which {one}?", "options": ["a cat", "a dog"]})
    (row,) = reading({"path": name, "columns": {"prompt": "{question}\n\n{options:letters}"}}).rows
    assert row["prompt"][0]["content"] == "Which {one}?\n\nA) a cat\nB) a dog"


def test_a_field_that_a_template_lacks_rejects_the_row(reading, jsonl):
    outcome = reading({"path": jsonl({"a": "x"}), "columns": {"prompt": "{a} {b}"}, "max_rejects": 1})
    assert outcome.rows == []
    assert (outcome.rejects[0]["column"], outcome.rejects[0]["reason"]) == ("b", "missing field")


def test_constants_meta_and_system_are_filled(reading, jsonl):
    name = jsonl({"prompt": "Hi", "sys": "Be brief.", "tags": ["a"], "when": {"year": 2024}})
    source = {
        "path": name,
        "columns": {"prompt": "prompt", "system": "sys"},
        "constants": {"license": "MIT"},
        "meta": ["tags", "when.year"],
    }
    (row,) = reading(source).rows
    assert plain(row["prompt"]) == [{"role": "system", "content": "Be brief."}, USER]
    assert (row["license"], row["meta"]) == ("MIT", '{"tags":["a"],"when.year":2024}')


def test_lists_become_one_candidate_each(reading, jsonl):
    name = jsonl({"prompt": "Hi", "responses": ["a", "b"], "scores": [3, "bad"], "models": ["m1", "m2"]})
    source = {"path": name, "rows": "lists", "scores": {"rm": "scores"}}
    first, second = reading(source).rows
    assert [(row["row"], row["response"], row["model"]) for row in (first, second)] == [(0, "a", "m1"), (1, "b", "m2")]
    assert first["scores"][0]["value"] == 3
    assert (second["scores"][0]["value"], second["scores"][0]["error"]) == (None, "not a number: bad")


def test_lists_of_objects_are_read_entry_by_entry(reading, jsonl):
    name = jsonl({"prompt": "Hi", "answers": [{"text": "a", "mark": 1}, {"text": "b", "mark": 2}]})
    rows = reading({"path": name, "columns": {"responses": "answers[].text"}, "scores": {"rm": "answers[].mark"}}).rows
    assert [(row["response"], row["scores"][0]["value"]) for row in rows] == [("a", 1), ("b", 2)]


def test_lists_of_other_length_are_rejected(reading, jsonl):
    name = jsonl({"prompt": "Hi", "responses": ["a", "b"], "scores": [3]})
    outcome = reading({"path": name, "rows": "lists", "scores": {"rm": "scores"}, "max_rejects": 1})
    assert outcome.reasons == {"lists differ in length": 1}


@pytest.mark.parametrize("value", ["N/A", float("nan"), float("inf"), 1e300, "nan", [5]])
def test_what_is_no_finite_number_is_null_with_its_text(reading, jsonl, value):
    name = jsonl({"prompt": "Hi", "response": "a", "mark": value})
    (row,) = reading({"path": name, "rows": "candidates", "scores": {"rm": "mark"}}).rows
    (score,) = row["scores"]
    assert score["value"] is None
    assert score["error"].startswith("not a number: ")


@pytest.mark.parametrize(("value", "number"), [("7", 7), (True, 1), (False, 0), ("1e-1", 0.1)])
def test_numbers_come_as_text_and_truth_values_too(reading, jsonl, value, number):
    name = jsonl({"prompt": "Hi", "response": "a", "mark": value})
    (row,) = reading({"path": name, "rows": "candidates", "scores": {"rm": {"value": "mark", "aspect": "quality"}}}).rows
    assert row["scores"][0]["value"] == pytest.approx(number)
    assert row["scores"][0]["aspect"] == "quality"


def test_values_that_are_no_number_or_mean_another_are_read_as_listed(reading, jsonl):
    rows = [{"prompt": "q?", "response": "a", "mark": mark} for mark in ("yes", "no", 0, 1.5, "maybe")]
    marks = {"mark": {"value": "mark", "values": {"yes": 1, "no": -1, "0": 0.5}}}
    outcome = reading({"path": jsonl(*rows), "columns": {"response": "response"}, "scores": marks})
    assert [row["scores"][0]["value"] for row in outcome.rows] == [1, -1, 0.5, 1.5, None]


def test_values_of_both_sides_are_read_as_listed(reading, jsonl):
    row = {"prompt": "q?", "chosen": "a", "rejected": "b", "ok_a": "yes", "ok_b": "no"}
    marks = {"ok": {"chosen": "ok_a", "rejected": "ok_b", "values": {"yes": 1, "no": 0}}}
    (pair,) = reading({"path": jsonl(row), "scores": marks}).rows
    assert (pair["chosen_scores"][0]["value"], pair["rejected_scores"][0]["value"]) == (1, 0)


def test_a_score_that_is_missing_is_no_score(reading, jsonl):
    name = jsonl({"prompt": "Hi", "response": "a"}, {"prompt": "Hi", "response": "b", "mark": 1})
    row, _ = reading({"path": name, "rows": "candidates", "scores": {"rm": "mark"}}).rows
    assert not row["scores"]


def test_pairs_carry_the_label_as_a_vote(reading, jsonl):
    name = jsonl({"prompt": "Hi", "chosen": "Hello!", "rejected": "Go away.", "s1": 2, "s2": 1})
    source = {"path": name, "rows": "pairs", "scores": {"rm": {"chosen": "s1", "rejected": "s2"}}}
    (row,) = reading(source).rows
    assert (row["chosen"], row["rejected"], row["origin"], row["flags"]) == ("Hello!", "Go away.", "observed", None)
    assert votes(row) == [("source", 1.0)]
    assert (row["chosen_scores"][0]["value"], row["rejected_scores"][0]["value"]) == (2, 1)


LABELLED = {
    "columns": {"first": "a", "second": "b", "first_model": "ma", "second_model": "mb"},
    "label": {"column": "better", "first": 1, "second": 2, "tie": 0},
    "scores": {"rm": {"first": "sa", "second": "sb"}},
}


@pytest.mark.parametrize(("better", "chosen", "model", "score"), [(1, "A", "x", 3), ("2", "B", "y", 4)])
def test_the_label_decides_which_side_is_chosen(reading, jsonl, better, chosen, model, score):
    name = jsonl({"prompt": "Hi", "a": "A", "b": "B", "ma": "x", "mb": "y", "better": better, "sa": 3, "sb": 4})
    (row,) = reading({"path": name, **LABELLED}).rows
    assert (row["chosen"], row["chosen_model"], row["chosen_scores"][0]["value"]) == (chosen, model, score)
    assert votes(row) == [("source", 1.0)]


UNKNOWN = {"ma": None, "mb": None, "sa": None, "sb": None}


def test_a_tie_is_kept_with_first_as_chosen_and_flagged(reading, jsonl):
    (row,) = reading({"path": jsonl({"prompt": "Hi", "a": "A", "b": "B", **UNKNOWN, "better": 0}), **LABELLED}).rows
    assert (row["chosen"], votes(row)) == ("A", [("source", 0.5)])
    assert (row["flags"][0]["by"], row["flags"][0]["reason"]) == ("source", "tie")


def test_a_pair_of_equal_sides_is_flagged(reading, jsonl):
    (row,) = reading({"path": jsonl({"prompt": "Hi", "chosen": "A", "rejected": "A"}), "rows": "pairs"}).rows
    assert row["flags"][0]["reason"] == "identical"


def test_an_unknown_label_rejects_the_row(reading, jsonl):
    outcome = reading({"path": jsonl({"prompt": "Hi", "a": "A", "b": "B", "better": 9}), **LABELLED, "max_rejects": 1})
    assert outcome.reasons == {"unknown label": 1}


def test_votes_in_a_list_speak_of_the_chosen_side(reading, jsonl):
    cast = [{"w": "ann", "v": "a2", "why": "clear"}, {"w": "bob", "v": "a2"}, {"w": "eve", "v": "a1"}, {"w": "joe", "v": "equal"}]
    name = jsonl({"prompt": "Hi", "a": "A", "b": "B", "votes": [*cast, {"w": "kim", "v": "?"}]})
    reads = {"list": "votes", "rater": "w", "value": "v", "rationale": "why", "first": "a1", "second": "a2", "tie": "equal"}
    (row,) = reading({"path": name, "columns": {"first": "a", "second": "b"}, "votes": reads}).rows
    assert row["chosen"] == "B"  # two votes of three
    assert votes(row) == [("ann", 1.0), ("bob", 1.0), ("eve", 0.0), ("joe", 0.5), ("kim", None)]
    assert (row["votes"][0]["rationale"], row["votes"][4]["error"]) == ("clear", "?")


def test_votes_in_columns_name_their_raters(reading, jsonl):
    name = jsonl({"prompt": "Hi", "a": "A", "b": "B", "v1": 1, "v2": "1", "v3": None})
    reads = {"columns": ["v1", "v2", "v3"], "first": 1, "second": 2, "tie": 0}
    (row,) = reading({"path": name, "columns": {"first": "a", "second": "b"}, "votes": reads}).rows
    assert votes(row) == [("v1", 1.0), ("v2", 1.0)]


def test_recorded_verdicts_are_read_as_they_are_laid_out(reading, jsonl):
    name = jsonl(
        {"prompt": "Hi", "a": "A", "b": "B", "gpt": "Output (b) is better.\n\nIt greets.", "falcon": "Both.", "palm": ""}
    )
    reads = {"columns": ["gpt", "falcon", "palm"], "first": "Output (a)", "second": "Output (b)", "layout": "choice"}
    (row,) = reading({"path": name, "columns": {"first": "a", "second": "b"}, "votes": reads}).rows
    assert row["chosen"] == "B" and votes(row) == [("gpt", 1.0), ("falcon", None)]
    assert (row["votes"][1]["error"], row["votes"][1]["rationale"]) == ("unparsable: no verdict", "Both.")


def test_marks_of_both_sides_are_votes(reading, jsonl):
    name = jsonl({"prompt": "Hi", "a": "A", "b": "B", "votes": [{"by": "ann", "marks": [8, 6]}, {"by": "bob", "marks": "7 7"}]})
    reads = {"list": "votes", "rater": "by", "value": "marks", "layout": "ratings"}
    (row,) = reading({"path": name, "columns": {"first": "a", "second": "b"}, "votes": reads}).rows
    assert row["chosen"] == "A" and votes(row) == [("ann", 1.0), ("bob", 0.5)]


def test_whole_conversations_give_their_shared_prefix_as_prompt(reading, jsonl):
    (row,) = reading({"path": jsonl({"chosen": [USER, GOOD], "rejected": [USER, BAD]}), "rows": "pairs"}).rows
    assert plain(row["prompt"]) == [USER]
    assert (row["chosen"], row["rejected"], row["chosen_turns"]) == ("Hello!", "Go away.", None)


def test_several_turns_are_kept_beside_the_last_text(reading, jsonl):
    more = [{"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "?"}, GOOD]
    (row,) = reading({"path": jsonl({"prompt": "Hi", "chosen": more, "rejected": [BAD]}), "rows": "pairs"}).rows
    assert (row["chosen"], plain(row["chosen_turns"])) == ("Hello!", more)
    assert row["rejected_turns"] is None


def test_a_prompt_may_be_json_text_of_messages(reading, jsonl):
    name = jsonl({"prompt": '[{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]', "response": "a"})
    (row,) = reading({"path": name, "rows": "candidates"}).rows
    assert plain(row["prompt"]) == [{"role": "system", "content": "S"}, USER]


def test_equal_content_has_equal_ids_and_a_text_prompt_is_one_user_message(reading, jsonl):
    a = {"prompt": "Hi", "response": "a"}
    rows = reading(
        {"path": jsonl(a, {"prompt": [USER], "response": [{"role": "assistant", "content": "a"}]}), "rows": "candidates"}
    ).rows
    assert rows[0]["response_id"] == rows[1]["response_id"]
    assert len(rows[0]["prompt_id"]) == 32


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ({"response": "a"}, "prompt", "missing field"),
        ({"prompt": "", "response": "a"}, "prompt", "empty field"),
        ({"prompt": "Hi", "response": 5}, "response", "wrong type"),
        ({"prompt": "Hi", "response": float("nan")}, "response", "wrong type"),
        ({"prompt": "Hi", "response": "a", "seed": "x"}, "seed", "wrong type"),
        ({"prompt": "Hi", "response": "a", "sample": 2**40}, "sample", "wrong type"),
        ({"prompt": "Hi", "response": "a\0"}, "response", "NUL character"),
        ({"prompt": "\ud800", "response": "a"}, "prompt", "lone surrogate"),
        ({"prompt": "Hi", "response": "a", "model": "\udfff"}, "model", "lone surrogate"),
        ({"prompt": [{"role": "human", "content": "Hi"}], "response": "a"}, "prompt[0]", "not a message"),
        ({"prompt": [{"role": "user"}], "response": "a"}, "prompt[0]", "not a message"),
        ({"prompt": [], "response": "a"}, "prompt", "empty field"),
    ],
)
def test_a_bad_row_names_its_line_and_column(reading, jsonl, row, column, reason):
    outcome = reading({"path": jsonl({"prompt": "ok", "response": "ok"}, row), "rows": "candidates", "max_rejects": 1})
    assert len(outcome.rows) == 1
    (reject,) = outcome.rejects
    assert (reject["file"], reject["line"], reject["column"]) == ("rows.jsonl", 2, column)
    assert reject["reason"].startswith(reason)


def test_an_empty_answer_is_an_answer(reading, jsonl):
    (row,) = reading({"path": jsonl({"prompt": "Hi", "response": ""}), "rows": "candidates"}).rows
    assert row["response"] == ""


def test_distinct_prompts_are_taken_once_over_all_sources(reading, jsonl):
    a = jsonl(
        {"prompt": "x", "response": "1"}, {"prompt": "y", "response": "2"}, {"prompt": "x", "response": "3"}, name="a.jsonl"
    )
    b = jsonl({"prompt": "y", "chosen": "1", "rejected": "2"}, {"prompt": "z", "chosen": "1", "rejected": "2"}, name="b.jsonl")
    rows = reading([{"path": a, "rows": "candidates", "as": "prompts"}, {"path": b, "rows": "pairs", "as": "prompts"}]).rows
    assert [(row["row"], row["prompt"][0]["content"]) for row in rows] == [(0, "x"), (1, "y"), (2, "z")]
    assert "response" not in rows[0]


def test_rows_of_a_list_of_sources_are_numbered_through(reading, jsonl):
    a, b = jsonl({"prompt": "x"}, name="a.jsonl"), jsonl({"prompt": "x"}, {"prompt": "y"}, name="b.jsonl")
    rows = reading([{"path": a, "rows": "prompts"}, {"path": b, "rows": "prompts"}]).rows
    assert [(row["row"], row["source"]) for row in rows] == [(0, "a.jsonl"), (1, "b.jsonl"), (2, "b.jsonl")]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({}, "give one of path, hf and version"),
        ({"path": "a", "hf": "b", "split": "train"}, "give one of path, hf and version"),
        ({"path": "a", "columns": {"promt": "q"}}, "did you mean prompt?"),
        ({"path": "a", "columns": {"prompt": "a..b"}}, "no field path"),
        ({"path": "a", "columns": {"prompt": "{a"}}, "brace"),
        ({"path": "a", "columns": {"prompt": "{a:upper}"}}, "no format 'upper'"),
        ({"path": "a", "columns": {"prompt": "q", "first": "a"}}, "second is missing"),
        ({"path": "a", "columns": {"prompt": "q", "first": "a", "second": "b"}}, "need a label or votes"),
        ({"path": "a", "rows": "candidates", "votes": {"columns": ["v"], "first": 1}}, "only for rows: pairs"),
        ({"path": "a", "rows": "pairs", "votes": {"columns": ["v"], "first": 1, "second": 1}}, "one side only"),
        ({"path": "a", "dialect": "trl", "columns": {"prompt": "q"}}, "only for the generic dialect"),
        ({"version": "demo"}, "name@v3"),
        ({"version": "../x@v1"}, "name@v3"),
        ({"path": "a", "split": "train"}, "only for hf"),
        ({"path": "a", "scores": {"rm": {"value": "v", "aspect": "a.b"}}}, "no dot or colon"),
    ],
)
def test_a_source_of_the_wrong_shape_says_what_is_wrong(source, says):
    with pytest.raises(ValidationError, match="(?s)" + says.replace("?", r"\?").replace(".", r"\.")):
        Source.model_validate(source)


def test_sources_of_different_grains_are_refused():
    with pytest.raises(ValidationError, match="must make the same rows"):
        TypeAdapter(Sources).validate_python([{"path": "a", "rows": "pairs"}, {"path": "b", "rows": "prompts"}])


def test_a_source_tells_what_it_can_provide():
    source = Source.model_validate({"path": "a", "columns": {"prompt": "q", "response": "r"}, "scores": {"rm.v2": "s"}})
    assert grain_of(source) == "responses"
    assert {"prompt", "response", "response_id", "scores.rm.v2.score"} <= provides(source)
    assert "model" not in provides(source)
