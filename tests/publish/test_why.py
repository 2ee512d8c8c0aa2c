"""The story of one row."""

from pathlib import Path
from typing import Any

import pytest

from curate.errors import UnknownName
from curate.publish.show import show
from curate.publish.split import Split
from curate.publish.why import Why, why
from curate.store.versions import Version
from tests.publish.versions import SECRET, answer, make, steps, three_prompts, with_goal


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return make(tmp_path, three_prompts(), steps())


def told(story: Why) -> dict[str, str]:
    return {event.step: f"{event.did}: {event.text}" for event in story.events}


def test_a_kept_pair_is_followed_from_its_source_to_its_split(version: Version) -> None:
    story = why(version, 0)
    assert (story.table, story.kept, story.texts) == ("pairs", True, {"chosen": "good", "rejected": "fair"})
    assert story.prompt == "A?"
    events = told(story)
    assert list(events) == ["source", "prompt", "exact_duplicate", "pair", "margin", "version"]
    assert events["source"] == "came: answers, domain facts, license mit; came with rm help chosen 9, rejected 5"
    assert events["exact_duplicate"] == "saw: chosen: copies 2; rejected: copies 1"
    assert events["pair"].endswith("margin 4")
    assert events["margin"] == "saw: kept; margin 4 (kept if >= 2)"
    assert events["version"] == "ended: in demo@v1, pairs, split train"


def test_a_dropped_pair_says_by_what_with_value_and_threshold(version: Version) -> None:
    story = why(version, show(version, table="dropped").rows[0]["pair_id"])
    assert (story.table, story.kept) == ("dropped/pairs", False)
    assert told(story)["margin"] == "dropped: small_margin: 1, kept if >= 2"


def test_a_dropped_response_names_the_one_it_lost_to_and_what_did_not_see_it(version: Version) -> None:
    story = why(version, "responses:3")
    winner = show(version, table="responses").rows[0]["response_id"]
    assert f"lost to {winner[:10]} in responses, “good”" in told(story)["exact_duplicate"]
    assert told(story)["pair"] == "unseen: not given this row"


def test_a_kept_response_names_its_pairs_and_the_other_side(version: Version) -> None:
    fair = show(version, table="responses").rows[1]
    events = [event.text for event in why(version, fair["response_id"]).events if event.did == "ended"]
    assert len(events) == 2
    assert events[0].startswith("rejected in pair")
    assert events[0].endswith("by m1, margin 4; in pairs")
    assert events[1].startswith("chosen in pair")
    close = show(version, table="responses").rows[3]
    assert why(version, close["response_id"]).events[-1].text.endswith("dropped by margin: small_margin")


def test_a_pair_made_from_another_names_its_parent_goal_and_twin(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), [*with_goal(), Split(name="split", test=0.0)])
    rows = show(version).rows
    story = told(why(version, 1))
    parent = rows[0]["parent_id"]
    assert story["parent"] == f"came: made from {parent[:10]}, which it replaces"
    assert f"out of {parent[:10]}; made for the rejected side's goal" in story["goal"]
    assert f"its twin is {rows[0]['pair_id'][:10]} (pairs)" in story["goal"]
    assert '{"score":5}' in story["goal"]
    # the pair was good over fair before its sides were exchanged
    assert story["pair"] == f"made: paired {rows[1]['rejected_id'][:10]} over {rows[1]['chosen_id'][:10]}; margin 4"
    assert story["split"] == "saw: kept; split train"


def test_the_id_of_a_replaced_pair_leads_to_those_made_from_it(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), with_goal())
    rows = show(version).rows
    with pytest.raises(UnknownName, match=rows[0]["pair_id"]):
        why(version, rows[0]["parent_id"])


def test_a_parent_in_the_version_is_shown(tmp_path: Path) -> None:
    rows = [answer("A?", "first", 1), answer("A?", "second", 2)]
    rows[1]["parent_id"] = rows[0]["response_id"]
    version = make(tmp_path, rows, [])
    child = show(version, where="parent_id IS NOT NULL").rows[0]
    assert told(why(version, child["response_id"]))["parent"].endswith("which is in responses: first")


def test_a_prefix_finds_a_row_if_it_is_the_only_one(version: Version) -> None:
    row_id = show(version).rows[2]["pair_id"]
    assert why(version, row_id[:6]).id == why(version, row_id.upper()).id == row_id


def test_an_ambiguous_prefix_lists_the_rows(tmp_path: Path) -> None:
    rows = [pair(f"abcdef{i:02d}") for i in range(12)]
    version = make(tmp_path, rows, [], grain="pairs")
    with pytest.raises(UnknownName, match=r"abcdef00 \(pairs\), abcdef01 \(pairs\).* and 2 more; give more digits"):
        why(version, "abcdef")
    assert why(version, "abcdef03").row == 3


def pair(name: str, **more: Any) -> dict[str, Any]:
    return {"prompt_id": "p", "prompt": [], "pair_id": name, "chosen": "a", "rejected": "b"} | more


def test_digits_that_are_both_a_number_and_an_id_are_ambiguous(tmp_path: Path) -> None:
    version = make(tmp_path, [pair("x"), pair("000001ab")], [], grain="pairs")
    assert why(version, "1").id == "000001ab"
    assert why(version, "000001").id == "000001ab"
    other = make(tmp_path, [pair("000001ab"), pair("x")], [], grain="pairs")
    with pytest.raises(UnknownName, match="row:NUMBER"):
        why(other, "000001")
    assert why(other, "row:1").id == "x"


def test_an_unknown_row_says_where_was_looked(version: Version) -> None:
    with pytest.raises(UnknownName, match="begins with abcdef12; looked in pairs, responses, dropped/pairs, dropped/responses"):
        why(version, "abcdef12")
    with pytest.raises(UnknownName, match="no row 99; pairs, kept and dropped, are numbered 0 to 3"):
        why(version, 99)
    with pytest.raises(UnknownName, match="at least the first 6 digits"):
        why(version, "abc")


def test_rows_of_one_id_are_told_once_and_listed(tmp_path: Path) -> None:
    version = make(tmp_path, [answer("A?", "same", 1), answer("A?", "same", 1)], steps()[:1])
    story = why(version, show(version).rows[0]["response_id"])
    assert story.kept
    assert story.also == ("responses:1",)


def test_a_prompt_is_followed_to_all_its_rows(version: Version) -> None:
    story = why(version, show(version).rows[0]["prompt_id"][:8])
    assert story.grain == "prompts"
    assert [event.text.split(":")[0] for event in story.events[1:]] == ["3 in pairs", "3 in responses", "1 in dropped/responses"]


def test_scores_rationales_errors_and_votes_are_told(tmp_path: Path) -> None:
    scores = [{"rater": "judge", "aspect": "style", "value": None, "error": "no mark", "rationale": "x" * 500}]
    votes = [{"rater": "panel", "p_chosen": 0.75, "p_swapped": 0.5}]
    version = make(tmp_path, [pair("abcdef", chosen_scores=scores, votes=votes)], [], grain="pairs")
    source = told(why(version, 0))["source"]
    assert "judge style chosen –" in source
    assert "chosen style error: no mark" in source
    assert f"chosen style rationale: {'x' * 160}…" in source
    assert "panel vote: chosen preferred with 0.75, 0.5 with sides exchanged" in source


def test_null_fields_and_strange_texts_have_a_story(tmp_path: Path) -> None:
    rows = [answer(SECRET, SECRET, 3), answer("?", None, None, model=None, source=None)]
    version = make(tmp_path, rows, steps())
    for row in show(version, table="dropped/responses").rows:
        assert why(version, row["response_id"]).events


def test_an_empty_version_has_no_rows(tmp_path: Path) -> None:
    version = make(tmp_path, [], steps())
    with pytest.raises(UnknownName, match="no row 0; it has no pairs"):
        why(version, 0)
