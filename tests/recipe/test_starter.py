"""A recipe to start from, for small files and for every real one."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate.cli.main import app
from curate.errors import UsageError
from curate.packaged import samples_folder
from curate.recipe import init_text, read_recipe
from curate.recipe.starter import starter
from curate.run import run_recipe

PROMPTS = [{"qid": 1, "question": "One?"}, {"qid": 2, "question": "Two?"}]
ANSWERS = [{"qid": 1, "output": "a", "generator": "m"}, {"qid": 2, "output": "b", "generator": "m"}]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_prompts_in_a_file_beside_are_joined(tmp_path: Path) -> None:
    write(tmp_path / "asked.jsonl", PROMPTS)
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    found = starter(write(tmp_path / "outputs.jsonl", ANSWERS), base=tmp_path)
    assert "the prompts were found beside it, in asked.jsonl, by qid" in found.notes
    recipe = read_recipe(found.text, base=tmp_path)
    (join,) = recipe.source[0].join
    assert (join.path, join.on) == ("asked.jsonl", {"qid": "qid"})
    done = run_recipe(recipe, tmp_path / "store")
    assert done.version.manifest["splits"] == {"train": 2}


def test_answers_whose_prompts_are_nowhere_are_named_with_their_key(tmp_path: Path) -> None:
    write(tmp_path / "asked.jsonl", [PROMPTS[0], PROMPTS[0]])  # a key that repeats tells no prompt
    with pytest.raises(UsageError, match=r"answers \(output\) but not their prompts.*source\.join: \{path: FILE, on: qid\}"):
        init_text(write(tmp_path / "outputs.jsonl", ANSWERS), base=tmp_path)


def test_sample_data_is_named_as_sample_data(tmp_path: Path) -> None:
    text = init_text(samples_folder() / "responses.jsonl", base=tmp_path)
    assert "samples:responses.jsonl" in text
    assert str(samples_folder()) not in text + init_text(base=tmp_path)
    recipe = read_recipe(text, base=tmp_path)
    assert [join.path for join in recipe.source[0].join] == ["samples:prompts.jsonl"]


def test_programs_are_compared_to_the_letter(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"prompt": "p", "samples": ["    return 1\n", "    return 2\n"]}])
    assert read_recipe(init_text(path, base=tmp_path), base=tmp_path).steps[0].operator.parameters()["normalise"] == "none"


def test_references_that_can_be_checked_make_pairs(tmp_path: Path) -> None:
    rows = [{"question": "1 + 1?", "response": text, "reference": "2"} for text in ("It is 2.", "It is 3.")]
    recipe = read_recipe(init_text(write(tmp_path / "rows.jsonl", rows), base=tmp_path), base=tmp_path)
    assert [step.operator.name for step in recipe.steps] == ["exact_duplicate", "verify", "pair", "split"]
    assert run_recipe(recipe, tmp_path / "store").version.manifest["splits"] == {"train": 1}


def test_a_files_values_cannot_leave_their_comment(tmp_path: Path) -> None:
    trap = "b\nsource: {path: /etc/passwd}"
    rows = [{"prompt": "q?", "x{y}": 1, "z\nname: evil": 1, "answer_a": "x", "answer_b": "y", "winner": w} for w in ("A", trap)]
    text = init_text(write(tmp_path / "rows.jsonl", rows), base=tmp_path)
    recipe = read_recipe(text, base=tmp_path)
    assert (recipe.name, recipe.source[0].path) == ("rows", "rows.jsonl")
    assert recipe.source[0].label is not None
    assert recipe.source[0].label.second == (trap,)


def test_what_to_check_is_said_on_the_terminal_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = "\n\nHuman: hi\n\nAssistant: "
    data = write(tmp_path / "rows.jsonl", [{"chosen": f"{talk}yes", "rejected": f"{talk}no"}])
    app(["init", str(tmp_path / "r.yaml"), "--data", str(data)], standalone_mode=False)
    assert "cannot take apart into messages yet" in " ".join(capsys.readouterr().err.split())
    assert "transcripts" in (tmp_path / "r.yaml").read_text(encoding="utf-8")


REAL = {
    "alpaca_eval/model_outputs.parquet": "responses",
    "alpaca_eval/prompts.jsonl.gz": "prompts",
    "gsm8k/train.jsonl.gz": "prompts",
    "hh_rlhf/harmless_base.test.jsonl.gz": "pairs",
    "humaneval_samples/codegen16B_samples.jsonl.gz": "responses",
    "humaneval_samples/problems.jsonl.gz": "prompts",
    "llmbar/instances.llmbar.jsonl.gz": "pairs",
    "mmlu_pro/candidates.dev.parquet": "pairs",
    "mmlu_pro/questions.dev.jsonl.gz": "prompts",
    "oasst_samples/outputs.jsonl.gz": "responses",
    "pandalm/testset-v1.jsonl.gz": "pairs",
    "tulu_human_eval/annotations.jsonl.gz": "pairs",
    "tulu_human_eval/instances.jsonl.gz": "responses",
    "ukp_convarg/pairs.dev.jsonl.gz": "pairs",
}
"""Real files that make a recipe, and what it ends in."""
NOT_REAL = {
    "alpaca_eval/annotations.parquet": r"columns \(.*preference.*\) are not ones",
    "humour_pairs/votes.jsonl.gz": r"columns \(preferred, other\) are not ones",
    "wildbench/model_outputs.parquet": r"answers \(model_output\) but not their prompts.*session_id",
    "wildbench/scores.parquet": r"columns \(.*score.*\) are not ones",
}
"""Real files that lack the texts, and what is said of them."""


@pytest.mark.slow
@pytest.mark.parametrize("file", REAL)
def test_the_recipe_for_a_real_file_runs(file: str, real_data: Path, tmp_path: Path) -> None:
    recipe = read_recipe(init_text(real_data / file, base=tmp_path), base=tmp_path)
    assert recipe.grain_out == REAL[file]
    done = run_recipe(recipe, tmp_path / "store", limit=200)
    assert sum(done.version.manifest["splits"].values()) > 30
    assert done.version.manifest["rejects"]["rejected"] <= 10


@pytest.mark.parametrize("file", NOT_REAL)
def test_a_real_file_without_texts_is_refused_with_what_it_has(file: str, real_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=NOT_REAL[file]):
        init_text(real_data / file, base=tmp_path)
