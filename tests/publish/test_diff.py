"""What changed from one version to another."""

from pathlib import Path
from typing import Any

import pytest

from curate.errors import UsageError
from curate.publish.diff import diff, line_of
from curate.store.versions import Version
from tests.publish.versions import RECIPE, answer, make, steps, three_prompts, with_goal


def pair(name: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    """A pair as a source gives it; its id is its name."""
    prompt = [{"role": "user", "content": "A?"}]
    sides = {"chosen": chosen, "rejected": rejected, "chosen_id": f"id-{chosen}", "rejected_id": f"id-{rejected}"}
    return {"prompt_id": "p", "prompt": prompt, "pair_id": name, "origin": "observed"} | sides | more


def pairs(root: Path, *rows: dict[str, Any]) -> Version:
    return make(root, rows, [], grain="pairs")


def counts(found) -> dict[str, int]:
    return {kind: n for kind in ("unchanged", "changed", "flipped", "added", "removed") if (n := getattr(found, kind))}


def test_rows_added_and_removed_are_told_with_their_texts(tmp_path: Path) -> None:
    before = pairs(tmp_path, pair("1", "a", "b"), pair("2", "c", "d"))
    after = pairs(tmp_path, pair("1", "a", "b"), pair("3", "e", "f"))
    found = diff(before, after)
    assert counts(found) == {"unchanged": 1, "added": 1, "removed": 1}
    assert [(e.id, e.prompt, e.texts) for e in found.examples["added"]] == [("3", "A?", ("e", "f"))]
    assert [e.texts for e in found.examples["removed"]] == [("c", "d")]
    assert found.rows == (2, 2)
    assert found.source_changed


def test_a_pair_with_its_sides_exchanged_is_flipped(tmp_path: Path) -> None:
    found = diff(pairs(tmp_path, pair("1", "a", "b")), pairs(tmp_path, pair("2", "b", "a")))
    assert counts(found) == {"flipped": 1}
    assert found.examples["flipped"][0].texts == ("b", "a")


def test_exchanged_sides_of_another_prompt_are_no_flip(tmp_path: Path) -> None:
    found = diff(pairs(tmp_path, pair("1", "a", "b")), pairs(tmp_path, pair("2", "b", "a", prompt_id="q")))
    assert counts(found) == {"added": 1, "removed": 1}


def test_changed_numbers_are_told_by_column(tmp_path: Path) -> None:
    before = pairs(tmp_path, pair("1", "a", "b", margin=1.0, weight=0.5), pair("2", "c", "d", margin=2.0))
    after = pairs(tmp_path, pair("1", "a", "b", margin=1.0, weight=0.25), pair("2", "c", "d", margin=3.0))
    found = diff(before, after)
    assert counts(found) == {"changed": 2}
    assert found.changed_columns == {"margin": 1, "weight": 1}
    assert [e.changes for e in found.examples["changed"]] == [(("weight", 0.5, 0.25),), (("margin", 2.0, 3.0),)]


def test_null_equals_null_and_an_absent_column_is_null(tmp_path: Path) -> None:
    before = pairs(tmp_path, pair("1", "a", "b", margin=None), pair("2", "c", "d"))
    after = pairs(tmp_path, pair("1", "a", "b", margin=float("nan")), pair("2", "c", "d", goal='{"x":1}'))
    found = diff(before, after)
    assert found.changed_columns.get("goal") == 1
    assert found.examples["changed"][-1].changes == (("goal", None, '{"x":1}'),)


def test_scores_of_both_versions_are_compared_and_new_ones_named(tmp_path: Path) -> None:
    def scored(*raters: tuple[str, float]) -> dict[str, Any]:
        return {"chosen_scores": [{"rater": name, "aspect": "x", "value": value} for name, value in raters]}

    before = pairs(tmp_path, pair("1", "a", "b", **scored(("old", 1), ("rm", 1))))
    after = pairs(tmp_path, pair("1", "a", "b", **scored(("rm", 2), ("new", 1))))
    found = diff(before, after)
    assert found.changed_columns == {"chosen_score_rm_x": 1}
    assert found.new_scores == ("chosen_score_new_x",)
    assert found.gone_scores == ("chosen_score_old_x",)


def test_repeated_ids_are_matched_one_by_one(tmp_path: Path) -> None:
    twice = [pair("1", "a", "b"), pair("1", "a", "b")]
    assert counts(diff(pairs(tmp_path, *twice), pairs(tmp_path, twice[0]))) == {"unchanged": 1, "removed": 1}


def test_a_goal_is_a_change_of_the_same_texts(tmp_path: Path) -> None:
    plain, goals = make(tmp_path, three_prompts(), steps()), make(tmp_path, three_prompts(), with_goal())
    found = diff(plain, goals)
    assert counts(found) == {"changed": 3, "added": 3}
    assert found.changed_columns == {"goal": 3}


def test_the_recipe_line_that_did_it_is_named(tmp_path: Path) -> None:
    before = make(tmp_path, three_prompts(), steps(2))
    after = make(tmp_path, three_prompts(), steps(0.5), recipe=RECIPE.replace("min: 2", "min: 0.5"))
    found = diff(before, after)
    assert counts(found) == {"unchanged": 3, "added": 1}
    assert [str(change) for change in found.parameters] == ["steps.margin.min: 2.0 -> 0.5 (line 8)"]
    assert found.recipe[-2:] == ("-      min: 2", "+      min: 0.5")
    assert [(c.name, c.dropped()) for c in found.steps] == [("margin", [("small_margin", 1, 0)])]
    assert not found.source_changed


def test_steps_that_come_and_go_are_named(tmp_path: Path) -> None:
    plain, goals = make(tmp_path, three_prompts(), steps()), make(tmp_path, three_prompts(), with_goal())
    assert str(diff(plain, goals).parameters[0]) == "steps.goal: not there -> goal"
    assert str(diff(goals, plain).parameters[0]) == "steps.goal: goal -> not there"
    assert diff(goals, plain).steps[-1].after is None


def test_versions_of_responses_are_compared_by_their_id(tmp_path: Path) -> None:
    before = make(tmp_path, [answer("A?", "a", 1), answer("A?", "b", 2)], [])
    after = make(tmp_path, [answer("A?", "a", 5), answer("A?", "c", 2)], [])
    found = diff(before, after)
    assert counts(found) == {"changed": 1, "added": 1, "removed": 1}
    assert found.examples["changed"][0].changes == (("score_rm_help", 1.0, 5.0),)


def test_versions_of_prompts_are_compared_by_their_id(tmp_path: Path) -> None:
    rows = [{"prompt_id": name, "prompt": [{"role": "user", "content": name}]} for name in "ab"]
    found = diff(make(tmp_path, rows, [], grain="prompts"), make(tmp_path, rows[:1], [], grain="prompts"))
    assert counts(found) == {"unchanged": 1, "removed": 1}


def test_different_grains_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="demo@v1 holds pairs and demo@v2 holds responses"):
        diff(make(tmp_path, three_prompts(), steps()), make(tmp_path, three_prompts(), []))


def test_a_version_has_no_difference_from_itself(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), with_goal())
    found = diff(version, version)
    assert counts(found) == {"unchanged": 6}
    assert found.same_content
    assert (found.recipe, found.parameters, found.steps) == ((), (), ())


def test_an_empty_version_can_be_compared(tmp_path: Path) -> None:
    empty, full = make(tmp_path, [], steps()), make(tmp_path, three_prompts(), steps())
    assert counts(diff(empty, full)) == {"added": 3}
    assert counts(diff(full, empty)) == {"removed": 3}
    assert counts(diff(empty, empty)) == {}


def test_a_parameter_is_found_within_its_step() -> None:
    margin = "  - margin:\n      by: rm  # min: 3\n      min: 2\n"
    recipe = "steps:\n  - pair: {by: rm, min_gap: 1}\n" + margin + "  - goal: {by: rm, max: 3}\n"
    assert line_of(recipe, 3, "min") == 5
    assert line_of(recipe, 2, "min_gap") == 2
    assert line_of(recipe, 3, "max") == 3
    assert line_of(recipe, None, "min") is None
