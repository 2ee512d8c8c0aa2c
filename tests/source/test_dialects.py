"""TRL's formats and the H4 binarized layout."""

import pytest

USER = {"role": "user", "content": "2+2?"}
GOOD = {"role": "assistant", "content": "4"}
BAD = {"role": "assistant", "content": "5"}
TRL = {"dialect": "trl"}


def sides(row):
    return [message["content"] for message in row["prompt"]], row["chosen"], row["rejected"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "2+2=", "chosen": " 4", "rejected": " 5"}, (["2+2="], " 4", " 5")),
        ({"chosen": "2+2= 4", "rejected": "2+2= 5"}, (["2+2="], " 4", " 5")),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, (["2+2?"], "4", "5")),
        ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, (["2+2?"], "4", "5")),
    ],
)
def test_trl_pairs_explicit_and_implicit(reading, jsonl, row, expected):
    (read,) = reading({"path": jsonl(row), **TRL}).rows
    assert sides(read) == expected
    assert [(vote["rater"], vote["p_chosen"]) for vote in read["votes"]] == [("source", 1.0)]


def test_trl_texts_that_are_the_same_have_no_prompt(reading, jsonl):
    outcome = reading({"path": jsonl({"chosen": "Q: 2+2? A: four", "rejected": "Q: 2+2? A: four"}), **TRL, "max_rejects": 1})
    assert outcome.reasons == {"identical sides": 1}


def test_trl_unpaired_rows_are_candidates_scored_by_their_label(reading, jsonl):
    name = jsonl({"prompt": [USER], "completion": [GOOD], "label": True}, {"prompt": "2+2?", "completion": "5", "label": False})
    rows = reading({"path": name, **TRL, "rows": "candidates"}).rows
    assert [(row["response"], row["scores"][0]["rater"], row["scores"][0]["value"]) for row in rows] == [
        ("4", "label", 1),
        ("5", "label", 0),
    ]


def test_trl_labels_must_be_true_or_false(reading, jsonl):
    name = jsonl({"prompt": "2+2?", "completion": "4", "label": 1})
    outcome = reading({"path": name, **TRL, "rows": "candidates", "max_rejects": 1})
    assert (outcome.rejects[0]["column"], outcome.reasons) == ("label", {"wrong type": 1})


def test_trl_rows_of_another_format_say_which(reading, jsonl):
    outcome = reading({"path": jsonl({"prompt": "2+2?"}), **TRL, "max_rejects": 1})
    assert outcome.rejects[0]["reason"] == "other format: rows: pairs need chosen and rejected; this row is of rows: prompts"


def test_trl_tools_and_tool_calls_are_carried(reading, jsonl):
    call = [{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]
    turns = [{"role": "assistant", "tool_calls": call}, {"role": "tool", "name": "add", "content": "4"}, GOOD]
    name = jsonl({"prompt": [USER], "chosen": turns, "rejected": [BAD], "tools": [{"name": "add"}]})
    (row,) = reading({"path": name, **TRL}).rows
    assert (row["chosen"], row["tools"]) == ("4", '[{"name":"add"}]')
    assert row["chosen_turns"][0]["tool_calls"] == '[{"function":{"arguments":{"a":2},"name":"add"},"type":"function"}]'


def test_binarized_rows_lose_the_repeated_prompt_and_keep_their_scores(reading, jsonl):
    row = {"prompt": "2+2?", "prompt_id": "x", "chosen": [USER, GOOD], "rejected": [USER, BAD], "messages": [USER, GOOD]}
    name = jsonl(row | {"score_chosen": 8.5, "score_rejected": "N/A"})
    (read,) = reading({"path": name, "dialect": "binarized"}).rows
    assert sides(read) == (["2+2?"], "4", "5")
    assert (read["chosen_scores"][0]["rater"], read["chosen_scores"][0]["value"]) == ("source", 8.5)
    assert (read["rejected_scores"][0]["value"], read["rejected_scores"][0]["error"]) == (None, "not a number: N/A")


def test_a_completion_of_another_prompt_is_rejected(reading, jsonl):
    name = jsonl({"prompt": "3+3?", "chosen": [USER, GOOD], "rejected": [USER, BAD]})
    assert reading({"path": name, "dialect": "binarized", "max_rejects": 1}).reasons == {"two prompts": 1}
