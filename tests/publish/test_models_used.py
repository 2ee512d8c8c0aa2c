"""A recipe of two models of this process, and what is said of them: names, likeness, and what they did not read."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from curate import tables
from curate.models.operator import ModelOperator
from curate.models.session import Session
from curate.publish.models_used import models_used
from curate.publish.report import report
from curate.recipe import Recipe, Step, read_recipe
from curate.run import Run, Silence
from curate.store.store import Store
from curate.store.versions import Version, data_files
from curate.tables import Grain
from tests.models import tiny
from tests.publish.versions import make, steps, three_prompts

pytest.importorskip("torch")
LONG = "rude " * 40


class Heard(Silence):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def said(self, text: str) -> None:
        self.texts.append(text)


class Nearest(ModelOperator):
    """Evidence `likeness`: the cosine of each response to the nearest other one of its prompt."""

    takes: ClassVar[tuple[Grain, ...]] = ("responses",)
    model: str

    def models(self) -> set[str]:
        return {self.model}

    def reads(self, grain: Grain) -> set[str]:
        return {"prompt_id", "response"}

    def writes(self, grain: Grain) -> set[str]:
        return {f"evidence.{self.name}.likeness"}

    def __call__(self, table: pa.Table, /) -> pa.Table:
        vectors = self.called.embed(self.model).encode(table["response"].to_pylist())
        same = np.equal.outer(table["prompt_id"].to_pylist(), table["prompt_id"].to_pylist())
        cosines = np.where(same & ~np.eye(len(vectors), dtype=bool), vectors @ vectors.T, -1)
        return pa.table({"evidence": tables.add_evidence(table, cosines.max(axis=1), self.name, "likeness")})


def rows() -> Iterator[dict[str, Any]]:
    """Three answers to each of four prompts; the second of each is longer than the reward model reads."""
    for number in range(4):
        for place, text in enumerate(("kind clear", LONG, "clear kind true")):
            yield {"prompt": f"word{number}", "response": f"{text} word{number}", "model": "abc"[place]}


def rows_of(version: Version, folder: str) -> list[dict[str, Any]]:
    """The rows of a folder of a version."""
    found = pa.concat_tables([pa.ipc.open_file(path).read_all() for path in data_files(version, folder)])
    return list(found.to_pylist())


class Made(NamedTuple):
    version: Version
    said: list[str]
    recipe: Recipe
    root: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A version whose responses one model of this process scored and another compared, and what its run said."""
    root = tmp_path_factory.mktemp("used")
    tiny.decoder(root / "rm", pad=True)
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    recipe = f"""
name: used
models:
  rm: {{backend: transformers, name: {root / "rm"}, options: {{max_length: 24}}}}
  words: {{backend: hashing, name: words}}
source: {{path: rows.jsonl, rows: candidates, columns: {{prompt: prompt, response: response, model: model}}}}
steps:
  - reward: {{model: rm}}
  - pair: {{by: rm, how: best_worst}}
"""
    (root / "recipe.yaml").write_text(recipe, encoding="utf-8")
    read = read_recipe(root / "recipe.yaml")
    near = Step("near", Nearest(name="near", model="words"), "responses", "responses", 9)
    read = replace(read, steps=(read.steps[0], near, read.steps[1]))
    heard = Heard()
    return Made(Run(read, Store(root / "store"), watch=heard)().version, heard.texts, read, root)


def test_both_models_reach_the_pairs(made: Made) -> None:
    """The reward decides the pair; the vectors' measure stands beside the responses."""
    with Session(made.recipe.models, made.root / "elsewhere") as session:
        texts = [row["response"] for row in rows()]
        rewards = session.reward("rm").score([tiny.conversation(row["response"], row["prompt"]) for row in rows()])[:, 0]
        vectors = session.embed("words").encode(texts)
    pairs = rows_of(made.version, "pairs")
    assert len(pairs) == 4
    for pair in pairs:
        own = range(12)[3 * (number := int(pair["prompt"][0]["content"].removeprefix("word"))) : 3 * number + 3]
        best, worst = max(own, key=lambda row: rewards[row]), min(own, key=lambda row: rewards[row])
        assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == (texts[best], texts[worst])
        assert pair["margin"] == pytest.approx(rewards[best] - rewards[worst], abs=1e-5)
    for row in pa.concat_tables(
        [pa.ipc.open_file(path).read_all() for path in data_files(made.version, "responses")]
    ).to_pylist():
        place = texts.index(row["response"])
        others = [i for i in range(place // 3 * 3, place // 3 * 3 + 3) if i != place]
        (told,) = (entry["value"] for entry in row["evidence"] if entry["name"] == "likeness")
        assert told == pytest.approx(max(float(vectors[place] @ vectors[i]) for i in others), abs=1e-5)


def test_a_second_run_publishes_nothing(made: Made) -> None:
    assert not Run(made.recipe, Store(made.root / "store"))().published


def test_the_manifest_tells_the_models_apart_without_saying_where_they_lie(made: Made) -> None:
    by_step = {step["name"]: step.get("models") for step in made.version.manifest["steps"]}
    assert by_step["pair"] is None
    assert by_step["near"]["words"]["likeness"] == "lexical"
    identity = by_step["reward"]["rm"]
    assert (identity["name"], identity["backend"], identity["options"]) == ("rm", "transformers", {"max_length": 24})
    assert len(identity["content"]) == 32
    assert str(made.root) not in json.dumps(by_step)


def test_the_card_names_the_models_and_what_was_not_read(made: Made) -> None:
    """A long answer takes <s>, the asked word between two marks, and 41 words between two: 47 tokens, of which 24 are read."""
    card = (made.version.path / "README.md").read_text(encoding="utf-8").split("## Models that were asked")[1].split("\n## ")[0]
    assert "| `reward` | `rm` | `rm` | in the run's process |  | 4 of 12 rows, at most 23 tokens each |" in card
    remark = "lexical: it compares words and spelling, not meaning"
    assert f"| `near` | `words` | `words` | in the run's process | {remark} |  |" in card


def test_the_report_says_the_same(made: Made) -> None:
    page = report(made.version)
    assert "<td>4 of 12 rows, at most 23 tokens each</td>" in page
    assert "<td>lexical: it compares words and spelling, not meaning</td>" in page


def test_the_run_says_what_a_person_should_know(made: Made) -> None:
    assert "reward: rm did not read all of 4 of 12 rows, at most 23 tokens each" in made.said
    assert "near: words is lexical: it compares words and spelling, not meaning" in made.said


def test_dropped_rows_count_as_well(made: Made) -> None:
    """Of three answers of a prompt one is in no pair and lies among the dropped responses."""
    used = {one.key: one for one in models_used(made.version.path, made.version.manifest)}
    assert used["rm"].cut == (12, 4, 23)
    assert used["words"].cut is None and used["words"].lexical


def test_a_version_without_models_says_nothing_of_them(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), steps())
    assert models_used(version.path, version.manifest) == ()
    assert "asked" not in (version.path / "README.md").read_text(encoding="utf-8")
