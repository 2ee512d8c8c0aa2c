"""Repeats of rows that earlier versions kept."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curate.errors import StepError, UnknownName
from curate.planning import outlook
from curate.publish.why import why
from curate.recipe import read_recipe
from curate.run import Done, run_recipe
from curate.store.versions import read_version
from tests.filter.test_near_duplicate import LONG

PAIRS = "rows: pairs, columns: {prompt: prompt, chosen: good, rejected: bad}"
MODELS = "models: {words: {backend: hashing, name: words}}\n"
OTHER = "Nothing of the kind was ever said in the house by the sea."


def recipe(folder: Path, name: str, rows: list[dict[str, str]], *steps: str, of: str = PAIRS) -> Path:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / f"{name}.yaml"
    listed = "".join(f"  - {step}\n" for step in steps)
    path.write_text(f"name: {name}\n{MODELS}source: {{path: {name}.jsonl, {of}}}\nsteps:\n{listed}")
    return path


def run(path: Path) -> Done:
    return run_recipe(read_recipe(path), path.parent / "store")


def rows_of(done: Done, table: str) -> dict[str, dict[str, Any]]:
    rows = [row for part in read_version(done.version, table) for row in part.to_pylist()]
    return {row["chosen"][-1]["content"] if "chosen" in row else row["prompt"][-1]["content"]: row for row in rows}


def pair(good: str, asked: str = "q") -> dict[str, str]:
    return {"prompt": asked, "good": good, "bad": "no"}


NEAR = "near_duplicate: {column: chosen, against: old@v1}"
SEMANTIC = "semantic_duplicate: {model: words, column: chosen, threshold: 0.8, against: [old@v1]}"


@pytest.mark.parametrize("step", [NEAR, SEMANTIC])
def test_a_repeat_names_the_earlier_version_and_its_row(tmp_path: Path, step: str) -> None:
    old = run(recipe(tmp_path, "old", [pair(LONG), pair(OTHER)], "near_duplicate"))
    new = run(recipe(tmp_path, "new", [pair(LONG + " today"), pair("Quite another answer, and a new one.")], step))
    assert list(rows_of(new, "pairs")) == ["Quite another answer, and a new one."]
    dropped = rows_of(new, "dropped/pairs")[LONG + " today"]
    assert dropped["other"] == f"old@v1 {rows_of(old, 'pairs')[LONG]['pair_id']}"
    assert dropped["value"] >= 0.8 and dropped["reason"] == step.partition(":")[0]
    assert f"lost to {dropped['other']}" in str(why(new.version, dropped["pair_id"]).events)


@pytest.mark.parametrize("keep", ["first", "longest"])
def test_a_copy_of_an_earlier_row_is_dropped_whatever_ranks(tmp_path: Path, keep: str) -> None:
    old = run(recipe(tmp_path, "old", [pair("Yes"), pair(OTHER)], "exact_duplicate"))
    step = f"exact_duplicate: {{column: chosen, normalise: text, keep: {keep}, against: old@v1}}"
    new = run(recipe(tmp_path, "new", [pair("yes!!!"), pair("New."), pair("new"), pair("yes", "another question")], step))
    assert sorted(rows_of(new, "pairs")) == sorted(["New.", "yes"])
    dropped = rows_of(new, "dropped/pairs")
    assert dropped["yes!!!"]["other"] == f"old@v1 {rows_of(old, 'pairs')['Yes']['pair_id']}"
    assert (dropped["yes!!!"]["value"], dropped["new"]["value"]) == (2, 2)  # the copies of the text, both versions' together
    assert f"lost to {dropped['yes!!!']['other']}" in str(why(new.version, dropped["yes!!!"]["pair_id"]).events)


def test_prompts_of_an_earlier_version_are_dropped_by_their_content(tmp_path: Path) -> None:
    run(recipe(tmp_path, "old", [pair("yes", LONG)], "exact_duplicate"))
    prompts = "rows: prompts, columns: {prompt: prompt}"
    new = run(recipe(tmp_path, "new", [{"prompt": LONG}, {"prompt": OTHER}], "exact_duplicate: {against: [old@v1]}", of=prompts))
    assert list(rows_of(new, "prompts")) == [OTHER] and list(rows_of(new, "dropped/prompts")) == [LONG]


def test_rows_that_the_earlier_version_dropped_are_not_compared_with(tmp_path: Path) -> None:
    run(recipe(tmp_path, "old", [pair(LONG, "p"), pair(LONG, "q")], "near_duplicate: {column: chosen, within: all}"))
    new = run(recipe(tmp_path, "new", [pair(LONG, "p"), pair(LONG, "q")], NEAR))
    assert [row["prompt"][-1]["content"] for row in rows_of(new, "dropped/pairs").values()] in (["p"], ["q"])


def test_several_versions_are_compared_with_and_the_first_of_equals_is_named(tmp_path: Path) -> None:
    for name, texts in (("a", [OTHER]), ("b", [LONG, OTHER])):
        run(recipe(tmp_path, name, [pair(text) for text in texts], "near_duplicate"))
    step = "near_duplicate: {column: chosen, against: [a@v1, b@v1]}"
    dropped = rows_of(run(recipe(tmp_path, "new", [pair(LONG), pair(OTHER)], step)), "dropped/pairs")
    assert {text: row["other"][:4] for text, row in dropped.items()} == {LONG: "b@v1", OTHER: "a@v1"}


def test_prompts_are_compared_with_those_of_pairs(tmp_path: Path) -> None:
    old = run(recipe(tmp_path, "old", [pair("yes", LONG)], "near_duplicate"))
    prompts = "rows: prompts, columns: {prompt: prompt}"
    step = "near_duplicate: {against: old@v1}"
    new = run(recipe(tmp_path, "new", [{"prompt": LONG + " now"}, {"prompt": OTHER}], step, of=prompts))
    assert list(rows_of(new, "prompts")) == [OTHER]
    assert rows_of(new, "dropped/prompts")[LONG + " now"]["other"] == f"old@v1 {rows_of(old, 'pairs')['yes']['prompt_id']}"


def test_rows_of_another_grain_cannot_be_compared(tmp_path: Path) -> None:
    run(recipe(tmp_path, "old", [pair("yes")], "near_duplicate"))
    responses = "rows: candidates, columns: {prompt: prompt, response: good}"
    with pytest.raises(StepError, match="old@v1 holds no responses"):
        run(recipe(tmp_path, "new", [pair("yes")], "near_duplicate: {against: old@v1}", of=responses))


@pytest.mark.parametrize("operator", ["near_duplicate", "exact_duplicate"])
@pytest.mark.parametrize("reference", ["old@v7", "none@v1"])
def test_a_version_that_is_not_there_is_told_before_anything_runs(tmp_path: Path, reference: str, operator: str) -> None:
    for rows in ([pair("yes")], [pair("yes"), pair("another one")]):
        run(recipe(tmp_path, "old", rows, "near_duplicate"))
    path = recipe(tmp_path, "new", [pair("yes")], f"{operator}: {{against: {reference}}}")
    told = "against: 'old' has no version v7; it has v1 to v2" if "old" in reference else "there: old"
    before = sorted((tmp_path / "store" / "steps").iterdir())
    with pytest.raises(UnknownName, match=told):
        outlook(read_recipe(path), tmp_path / "store")
    with pytest.raises(UnknownName, match=told):
        run(path)
    assert sorted((tmp_path / "store" / "steps").iterdir()) == before  # not even the source was read


def test_a_plan_shows_what_is_compared_with(tmp_path: Path) -> None:
    run(recipe(tmp_path, "old", [pair("yes")], "near_duplicate"))
    path = recipe(tmp_path, "new", [pair("yes")], "near_duplicate: {against: old@v1}")
    assert outlook(read_recipe(path), tmp_path / "store")[1].parameters == {"against": "old@v1"}
    run(path)
    assert outlook(read_recipe(path), tmp_path / "store")[1].done


@pytest.mark.parametrize(("told", "threshold"), [("", 0.95), (", column: prompt", 0.9), (", threshold: 0.8", 0.8)])
def test_a_plan_shows_the_threshold_that_goes_with_what_is_compared(tmp_path: Path, told: str, threshold: float) -> None:
    path = recipe(tmp_path, "new", [pair("yes")], f"semantic_duplicate: {{model: words{told}}}")
    assert outlook(read_recipe(path), tmp_path / "store")[1].parameters["threshold"] == threshold


def test_another_version_of_the_same_name_is_another_question(tmp_path: Path) -> None:
    path = recipe(tmp_path, "new", [pair(LONG), pair(OTHER)], NEAR)
    for kept in (LONG, OTHER):
        run(recipe(tmp_path, "old", [pair(kept)], "near_duplicate"))
        assert list(rows_of(run(path), "dropped/pairs")) == [kept]
        shutil.rmtree(tmp_path / "store" / "datasets" / "old")


def test_another_version_is_searched_and_measures_no_row_again(tmp_path: Path) -> None:
    run(recipe(tmp_path, "old", [pair("yes")], "near_duplicate"))
    run(recipe(tmp_path, "old", [pair("yes"), pair(LONG + " today")], "near_duplicate"))
    rows = [pair(LONG), pair(OTHER)]
    one = run(recipe(tmp_path, "new", rows, "near_duplicate: {column: chosen, against: old@v1}"))
    two = run(recipe(tmp_path, "new", rows, "near_duplicate: {column: chosen, against: old@v2}"))
    assert (len(rows_of(one, "pairs")), len(rows_of(two, "pairs"))) == (2, 1)
    first, second = (set(done.stages[1].snapshot.extra["objects"]) for done in (one, two))
    assert len(first & second) == 1  # the features of the rows
