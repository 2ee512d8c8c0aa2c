"""Joining files to a source by key."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import TooManyRejects

ANSWERS = {"rows": "candidates", "columns": {"prompt": "question", "response": "text"}}


def test_a_column_join_finds_its_partner_across_whole_and_real_numbers(reading, jsonl, tmp_path):
    pq.write_table(pa.table({"id": [1.0, 2.0], "question": ["one?", "two?"]}), tmp_path / "questions.parquet")
    name = jsonl({"id": 2, "text": "b"}, {"id": "1", "text": "a"})
    rows = reading({"path": name, **ANSWERS, "join": {"path": "questions.parquet", "on": "id"}}).rows
    assert [(row["prompt"][0]["content"], row["response"]) for row in rows] == [("two?", "b"), ("one?", "a")]


def test_a_row_without_a_partner_is_rejected_and_so_is_a_repeated_key(reading, jsonl):
    questions = jsonl({"id": 1, "question": "one?"}, {"id": 1, "question": "again?"}, name="q.jsonl")
    name = jsonl({"id": 1, "text": "a"}, {"id": 3, "text": "c"})
    outcome = reading({"path": name, **ANSWERS, "join": {"path": questions, "on": ["id"]}, "max_rejects": 5})
    assert [row["prompt"][0]["content"] for row in outcome.rows] == ["one?"]
    assert outcome.reasons == {"key repeats in joined file": 1, "no partner in q.jsonl": 1}


def test_named_columns_of_a_join_keep_clear_of_the_rows_own(reading, jsonl):
    questions = jsonl({"id": 1, "text": "one?"}, name="q.jsonl")
    source = {"path": jsonl({"id": 1, "text": "a"}), **ANSWERS}
    (row,) = reading(source | {"join": {"path": questions, "on": ["id"], "columns": {"question": "text"}}}).rows
    assert (row["prompt"][0]["content"], row["response"]) == ("one?", "a")


SCORES = {"rater": "judge", "value": "mark", "aspect": "preference"}


def test_joined_scores_attach_to_the_judged_text_only(reading, jsonl):
    judged = jsonl(
        {"model": "m", "chars": 1, "ok": True, "judge": "j1", "mark": 2},
        {"model": "m", "chars": 1, "ok": True, "judge": "j2", "mark": None},
        {"model": "m", "chars": 1, "ok": False, "judge": "j3", "mark": 2},
        {"model": "m", "chars": 9, "ok": True, "judge": "j4", "mark": 2},
        name="judged.jsonl",
    )
    join = {"path": judged, "on": {"model": "model", "chars": "chars(text)"}, "where": "ok", "scores": SCORES}
    source = {"path": jsonl({"question": "?", "text": "é", "model": "m"}), **ANSWERS, "join": [join], "max_rejects": 2}
    outcome = reading(source)
    (row,) = outcome.rows
    found = [(score["rater"], score["aspect"], score["value"], score["error"]) for score in row["scores"]]
    assert found == [("j1", "preference", 2, None), ("j2", "preference", None, "not a number: null")]
    assert [(r["file"], r["line"], r["reason"].split(":")[0]) for r in outcome.rejects] == [
        ("judged.jsonl", 3, "ok is not true"),
        ("judged.jsonl", 4, "no row matches the joined score"),
    ]


def test_scores_of_a_rejected_row_are_rejected_too(reading, jsonl):
    judged = jsonl({"model": "m", "judge": "j1", "mark": 2}, name="judged.jsonl")
    source = {"path": jsonl({"text": "a", "model": "m"}), **ANSWERS, "join": {"path": judged, "on": "model", "scores": SCORES}}
    outcome = reading(source | {"max_rejects": 2})
    assert outcome.reasons == {"missing field": 1, "no row matches the joined score": 1}


def test_a_constant_rater(reading, jsonl):
    judged = jsonl({"model": "m", "mark": 2}, name="judged.jsonl")
    join = {"path": judged, "on": "model", "scores": {"rater": {"value": "gpt-4.1"}, "value": "mark"}}
    (row,) = reading({"path": jsonl({"question": "?", "text": "a", "model": "m"}), **ANSWERS, "join": join}).rows
    assert [(score["rater"], score["aspect"]) for score in row["scores"]] == [("gpt-4.1", "score")]


def test_joined_scores_may_mean_another_number(reading, jsonl):
    judged = jsonl({"model": "m", "mark": 0}, {"model": "m", "mark": 2}, name="judged.jsonl")
    scores = {"rater": {"value": "j"}, "value": "mark", "values": {"0": 1.5}}
    source = {"path": jsonl({"question": "q?", "text": "a", "model": "m"}), **ANSWERS}
    (row,) = reading(source | {"join": {"path": judged, "on": "model", "scores": scores}}).rows
    assert [score["value"] for score in row["scores"]] == [1.5, 2]


def test_too_many_rejects_say_what_and_where(reading, jsonl):
    name = jsonl({"prompt": "a"}, {"prompt": ""}, "{", {"prompt": ""})
    with pytest.raises(
        TooManyRejects, match=r"3 of 4 rows \(75.0%\).*empty field \(2, first at rows.jsonl:2\).*invalid JSON.*max_rejects"
    ):
        reading({"path": name, "rows": "prompts", "max_rejects": 0.5})
