"""Responses with a column for each attribute."""

from pathlib import Path

import pytest

from curate.errors import ExportError, UsageError
from curate.export import export
from curate.export.check import check
from tests.export.conftest import MakeVersion, Row, messages, pair, read
from tests.publish.versions import answer


def rated(prompt: str, text: str, **ratings: float | None) -> Row:
    """A response rated by rm and judge; keywords are rater_aspect."""
    scores = [dict(zip(("rater", "aspect", "value"), (*name.split("_"), value), strict=True)) for name, value in ratings.items()]
    return answer(prompt, text, None, scores=scores)


def test_every_score_is_a_column_and_null_where_nobody_rated(listed: MakeVersion, tmp_path: Path) -> None:
    rows = [rated("A?", "good", rm_help=3.1, rm_clarity=4), rated("A?", "bad", rm_help=1), rated("B?", "ok", rm_clarity=2)]
    done = export(listed(rows, []), "attributes", tmp_path / "out")
    told = [(row["completion"][0]["content"], row["help"], row["clarity"]) for row in read(done.path)]
    assert told == [("good", 3.1, 4.0), ("bad", 1.0, None), ("ok", None, 2.0)]
    assert read(done.path)[0]["prompt"] == messages("A?")
    assert check(done.path).problems == []


def test_both_sides_of_a_pair_have_their_own_ratings_and_nothing_of_the_pair(listed: MakeVersion, tmp_path: Path) -> None:
    """The released HelpSteer2 converter copies the strength of the preference onto both responses."""
    rows = [rated("A?", "good", rm_help=4), rated("A?", "bad", rm_help=1)]
    good, bad = read(export(listed(rows), "attributes", tmp_path / "out").path)
    assert (good["help"], bad["help"]) == (4.0, 1.0)
    assert set(good) == set(bad) == {"prompt", "completion", "response_id", "help"}


def test_responses_that_the_pairs_left_over_are_rated_too(listed: MakeVersion, tmp_path: Path) -> None:
    rows = [rated("A?", text, rm_help=mark) for text, mark in (("good", 4), ("fair", 3), ("bad", 1))]
    assert [row["help"] for row in read(export(listed(rows), "attributes", tmp_path / "out").path)] == [4.0, 3.0, 1.0]


def test_a_name_that_two_raters_share_tells_the_rater(listed: MakeVersion, tmp_path: Path) -> None:
    rows = [rated("A?", "good", rm_help=3, judge_help=9, judge_prompt=1)]
    made = listed(rows, [])
    (row,) = read(export(made, "attributes", tmp_path / "out").path)
    assert {name: row[name] for name in set(row) - {"prompt", "completion", "response_id"}} == {
        "judge:help": 9.0,
        "judge:prompt": 1.0,
        "rm:help": 3.0,
    }
    (row,) = read(export(made, "attributes", tmp_path / "one", attribute=("judge:help",)).path)
    assert set(row) == {"prompt", "completion", "response_id", "help"} and row["help"] == 9.0


def test_names_of_aspects_are_only_text(listed: MakeVersion, tmp_path: Path) -> None:
    """An aspect may say anything; the card stays a card."""
    name = "help: 1\n  - name: 'x' 😀 مرحبا #"
    row = answer("A?", "good", None, scores=[{"rater": "rm", "aspect": name, "value": 2.5}])
    done = export(listed([row], []), "attributes", tmp_path / "out")
    assert read(done.path)[0][name] == 2.5
    assert check(done.path).problems == []


def test_an_unrated_response_is_refused_or_skipped(listed: MakeVersion, tmp_path: Path) -> None:
    rows = [rated("A?", "good", rm_help=3), rated("A?", "lost", rm_help=None)]
    made = listed(rows, [])
    with pytest.raises(ExportError, match=f"1 response has no score, first {rows[1]['response_id']}.*--skip unscored"):
        export(made, "attributes", tmp_path / "out")
    assert export(made, "attributes", tmp_path / "out", skip=("unscored",)).rows == {"train": 1}


def test_what_is_not_there_is_named(listed: MakeVersion, version: MakeVersion, tmp_path: Path) -> None:
    made = listed([rated("A?", "good", rm_help=3)], [])
    with pytest.raises(UsageError, match="no score --attribute rm:harm .scores: rm:help"):
        export(made, "attributes", tmp_path / "out", attribute=("rm:harm",))
    with pytest.raises(UsageError, match="has no scores"):
        export(listed([answer("A?", "good", None, scores=[])], [], root="bare"), "attributes", tmp_path / "out")
    with pytest.raises(ExportError, match="keeps no responses"):
        export(version([pair("A?", "good", "bad")], root="pairs"), "attributes", tmp_path / "out")
