"""What a recipe's steps would only find out after models were paid: a rater with several aspects, the wrong grain."""

import json
from pathlib import Path

import pytest

from curate.errors import RecipeError
from curate.recipe import read_recipe

HEAD = """\
name: t
models: {j: {backend: fake, name: j}}
source: {path: rows.jsonl, ROWS, columns: {prompt: q, response: a}}
steps:
"""


def problems(folder: Path, *steps: str, rows: str = "rows: candidates") -> list[str]:
    """What is said of a recipe; nothing of a right one."""
    (folder / "rows.jsonl").write_text(json.dumps({"q": "?", "a": "!"}) + "\n", encoding="utf-8")
    head = HEAD.replace("ROWS", rows).replace(", response: a", "" if rows == "rows: prompts" else ", response: a")
    try:
        read_recipe(head + "".join(f"  - {step}\n" for step in steps), base=folder)
    except RecipeError as error:
        return error.problems
    return []


@pytest.mark.parametrize("step", ["pair: {by: j}", "prefer: {by: j}", "threshold: {by: j, min: 1}", "aggregate: {from: [j]}"])
def test_a_rater_with_several_aspects_is_named_with_one(tmp_path: Path, step: str) -> None:
    (told,) = problems(tmp_path, "judge: {model: j, rubric: [honesty, helpfulness]}", step)
    assert "j has several aspects (helpfulness, honesty): aggregate first, or say j:helpfulness" in told
    assert not problems(tmp_path, "judge: {model: j, rubric: [honesty, helpfulness]}", step.replace("j", '"j:honesty"', 1))
    assert not problems(tmp_path, "judge: {model: j}", step)


def test_a_pairs_sides_carry_the_aspects_of_their_responses(tmp_path: Path) -> None:
    steps = ["judge: {model: j, rubric: [honesty, helpfulness]}", 'pair: {by: "j:honesty"}', "margin: {by: j, write: false}"]
    assert ["j has several aspects" in told for told in problems(tmp_path, *steps)] == [True]


@pytest.mark.parametrize("how", ["listwise", "reference"])
def test_prompts_are_marked_by_themselves(tmp_path: Path, how: str) -> None:
    told = problems(tmp_path, f"judge: {{model: j, how: {how}}}", rows="rows: prompts")
    assert f"step 1 (judge): how: {how} is for responses" in told[0]


def test_responses_have_no_votes_to_prefer_by(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, "judge: {model: j}", "prefer: {by: j, how: votes}")
    assert "step 2 (prefer): responses have no votes" in told
