"""The gallery: every recipe reads without problems, and the demo does what its sample data was planted for."""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from curate.cli.main import app
from curate.packaged import gallery, samples_folder
from curate.recipe import read_recipe
from curate.store.versions import Version
from tests.recipes.conftest import RECIPES, check_sound, steps_of, table_of

NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
FILES = {
    "alpaca_eval": ("model_outputs.parquet", "prompts.jsonl.gz", "annotations.parquet"),
    "mmlu_pro": ("candidates.dev.parquet", "questions.dev.jsonl.gz"),
}
"""What a recipe wants below CURATE_TEST_DATA; reading it looks whether the files are there, not what is in them."""


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_reads_without_problems(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in FILES.get(name, ()):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).touch()
    monkeypatch.setenv("CURATE_TEST_DATA", str(tmp_path))
    recipe = read_recipe(RECIPES / f"{name}.yaml")
    assert recipe.grain_out == "pairs"
    assert recipe.steps


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_listed_by_its_first_comment_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    about = {entry.name: entry.about for entry in gallery()}[name]
    assert about == first[2:]
    app(["recipes"], standalone_mode=False)
    assert any(line.split() == [name, *about.split()] for line in capsys.readouterr().out.splitlines())


class Demo(NamedTuple):
    version: Version
    truth: dict[str, dict[str, Any]]
    """What was planted, by candidate."""
    texts: dict[str, tuple[str, str]]
    """Prompt and text by candidate."""
    named: dict[str, str]
    """Candidate by the version's response id."""

    def rows(self, folder: str, **where: str) -> pl.DataFrame:
        return table_of(self.version, folder).filter(**where)

    def candidates(self, rows: pl.DataFrame) -> set[str]:
        return {json.loads(meta)["id"] for meta in rows["meta"]}

    def verdicts(self, pairs: pl.DataFrame) -> Counter[str]:
        """How many pairs the true ratings call right, wrong or equal."""
        out = Counter[str]()
        for chosen, rejected in pairs.select("chosen_id", "rejected_id").rows():
            better, worse = (self.truth[self.named[side]]["rating"] for side in (chosen, rejected))
            out["right" if better > worse else "wrong" if better < worse else "equal"] += 1
        return out


@pytest.fixture(scope="module")
def demo(run: Callable[..., Version]) -> Demo:
    version = run("demo")
    folder = samples_folder()
    truth = {row["id"]: row for row in read_lines(folder / "truth.jsonl")}
    texts = {row["id"]: (row["prompt_id"], row["response"]) for row in read_lines(folder / "responses.jsonl")}
    tables = [table_of(version, name).select("response_id", "meta") for name in ("responses", "dropped/responses")]
    named = {response: json.loads(meta)["id"] for response, meta in pl.concat(tables).rows()}
    return Demo(version, truth, texts, named)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_demo_is_sound_and_its_card_tells_its_numbers(demo: Demo) -> None:
    check_sound(demo.version)
    assert steps_of(demo.version)["source"]["rows_in"] == len(demo.truth) == 806
    assert demo.version.manifest["rejects"]["rejected"] == 0


def test_all_planted_repeats_of_form_alone_are_found_and_nothing_else_is_merged(demo: Demo) -> None:
    """20 of the 40 planted repeats differ in case, spacing and punctuation alone; the others in words."""

    def bare(candidate: str) -> str:
        return "".join(c for c in unicodedata.normalize("NFKC", demo.texts[candidate][1]).casefold() if c.isalnum())

    planted = {(row["id"], row["repeat_of"]) for row in demo.truth.values() if row["repeat_of"]}
    alike = {frozenset(couple) for couple in planted if bare(couple[0]) == bare(couple[1])}
    assert (len(planted), len(alike)) == (40, 20)
    gone = demo.rows("dropped/responses", dropped_by="exact_duplicate")
    found = {frozenset((demo.named[one], demo.named[other])) for one, other in gone.select("response_id", "other").rows()}
    assert found == alike
    assert all(len({demo.texts[candidate][0] for candidate in couple}) == 1 for couple in found)


def test_what_is_dropped_as_a_refusal_was_written_as_one(demo: Demo) -> None:
    refused = demo.candidates(demo.rows("dropped/responses", dropped_by="features", reason="refusal"))
    assert {demo.truth[candidate]["quality"] for candidate in refused} == {"refused"}
    assert len(refused) >= 35


def test_the_planted_ratings_mislead_the_pairs_and_the_checks_mend_some(demo: Demo) -> None:
    checks = [demo.verdicts(demo.rows("dropped/pairs", dropped_by=by)) for by in ("consistency", "margin")]
    final = demo.verdicts(demo.rows("pairs", origin="goal_chosen"))
    before = final + checks[0] + checks[1]
    assert before.total() == steps_of(demo.version)["pair"]["made"]
    assert checks[0]["wrong"] > checks[0]["right"]
    assert checks[0].total() == steps_of(demo.version)["consistency"]["dropped"]["disagreement"]
    assert 0.05 < share(before) < 0.15
    assert share(final) < 0.75 * share(before)


def share(verdicts: Counter[str]) -> float:
    """Share of wrong pairs."""
    return verdicts["wrong"] / verdicts.total()


def test_where_the_answer_can_be_checked_no_pair_contradicts_it(demo: Demo) -> None:
    pairs = demo.rows("pairs", origin="goal_chosen")
    chosen, rejected = pairs["chosen_score_verify_correct"], pairs["rejected_score_verify_correct"]
    both = pairs.filter(chosen.is_not_null() & rejected.is_not_null())
    assert both.height > 30
    assert (both["chosen_score_verify_correct"] >= both["rejected_score_verify_correct"]).all()
    before = steps_of(demo.version)["consistency"]["dropped"]["disagreement"]
    assert before > 0


def test_each_pair_is_there_once_for_either_goal(demo: Demo) -> None:
    high, low = (demo.rows("pairs", origin=f"goal_{side}") for side in ("chosen", "rejected"))
    sides = ["parent_id", "chosen_id", "rejected_id"]
    assert set(high.select(sides).rows()) == set(low.select("parent_id", "rejected_id", "chosen_id").rows())
    goals = [
        dict(zip(rows["parent_id"], (json.loads(goal)["score"] for goal in rows["goal"]), strict=True)) for rows in (high, low)
    ]
    assert all(goals[0][pair] > goals[1][pair] for pair in goals[0])
    assert high["margin"].min() >= 3
