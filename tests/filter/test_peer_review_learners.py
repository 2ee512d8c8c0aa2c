"""`peer_review` by models other than heads: two implied margins, and a sequence classifier trained whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import ids, tables
from curate.errors import CurateError, UsageError
from curate.filter.fine_tuned import conversations, texts_of
from curate.filter.peer_review import MEASURES, PeerReview
from curate.maths.noise_rate import area_under_curve
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.planning import outlook
from curate.recipe import read_recipe
from curate.run import run_recipe
from curate.store.store import Store
from tests.models import tiny
from tests.models.tiny import answer

FAST: dict[str, Any] = {"learner": "fine_tuned", "model": "rm", "learning_rate": 3e-3, "rounds": 3, "warm": 1, "folds": 2}


def measures(found: pa.Table, by: str = "p") -> dict[str, np.ndarray]:
    return {name: tables.value_of(found["evidence"], by=by, name=name) for name in (*MEASURES, "noise")}


def scored(rate: float, pairs: int = 400) -> tuple[pa.Table, np.ndarray]:
    """Both sides with the rewards that two policies imply; the labels of some are turned."""
    random = np.random.default_rng(0)
    wrong = random.random(pairs) < rate
    rows: list[dict[str, Any]] = []
    for number in range(pairs):
        prompt = [{"role": "user", "content": f"question {number}"}]
        better = np.abs(random.normal(0, 2)) + random.normal(0, 0.5, 2)
        rewards = [better, random.normal(0, 0.5, 2)]
        chosen, rejected = rewards[::-1] if wrong[number] else rewards
        row: dict[str, Any] = {"prompt": prompt, "prompt_id": ids.prompt_id(prompt), "pair_id": f"p{number}"}
        row |= {"chosen": f"one {number}", "rejected": f"other {number}"}
        for side, values in (("chosen_scores", chosen), ("rejected_scores", rejected)):
            row[side] = [{"rater": r, "aspect": "dpo", "value": float(v)} for r, v in zip("ab", values, strict=True)]
        rows.append(row)
    return tables.from_rows(rows, "pairs"), wrong


def test_two_policies_judge_each_others_pairs_by_the_rewards_they_imply() -> None:
    table, wrong = scored(0.3)
    found = PeerReview(name="p", learner="implicit", use=["a:dpo", "b:dpo"])(table)
    told = measures(found)
    assert area_under_curve(told["flip_prob"], wrong) > 0.9 and abs(told["noise"][0] - 0.3) < 0.1
    flagged = np.array([bool(flags) for flags in found["flags"].to_pylist()])
    assert wrong[flagged].mean() > 0.8 and flagged[wrong].mean() > 0.6
    mirrored = measures(PeerReview(name="p", learner="implicit", use=["b:dpo", "a:dpo"])(table))
    assert np.array_equal(told["margin_a"], mirrored["margin_b"]) and not np.array_equal(told["margin_a"], told["margin_b"])


@pytest.mark.parametrize(
    "parameters",
    [{}, {"use": ["a:dpo"]}, {"use": ["a:dpo", "length"]}, {"use": ["a:dpo", "b:dpo"], "model": "words"}],
)
def test_implied_margins_are_two_and_nothing_else(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="rewards of two policies"):
        PeerReview(learner="implicit", **parameters)


RECIPE = """
name: reviewed
models:
  one: {backend: fake, name: one}
  other: {backend: fake, name: other}
  start: {backend: fake, name: start}
source: {path: rows.jsonl, rows: pairs, columns: {prompt: prompt, chosen: chosen, rejected: rejected}}
steps:
  - likelihood: {name: a, model: one, reference: start}
  - likelihood: {name: b, model: other, reference: start}
  - peer_review: {learner: implicit, use: ["a:dpo", "b:dpo"], threshold: 1}
"""


def test_a_recipe_gives_the_two_margins_and_plans_no_call_for_the_review(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {n}?", "chosen": f"Yes {n} indeed", "rejected": f"No {n}"} for n in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = read_recipe(tmp_path / "recipe.yaml")
    done = run_recipe(recipe, tmp_path / "store")
    assert outlook(recipe, tmp_path / "store")[-1].calls == 0
    told = measures(pa.concat_tables(Store(tmp_path / "store").read(done.stages[-1].snapshot)), by="peer_review")
    assert len(told["flip_prob"]) == 30 and not any(np.isnan(values).any() for values in told.values())


# -- models trained whole


def taught(pairs: int, rate: float) -> tuple[pa.Table, np.ndarray]:
    """Chosen answers hold good words and rejected ones bad words; the labels of some are turned."""
    random = np.random.default_rng(0)
    wrong = random.random(pairs) < rate
    rows: list[dict[str, Any]] = []
    for number in range(pairs):
        prompt = [{"role": "user", "content": f"word{number % 24} word{number // 24 % 24}"}]
        sides = [answer(2, 0, random, 3), answer(0, 2, random, 3)]
        chosen, rejected = sides[::-1] if wrong[number] else sides
        rows.append({"prompt": prompt, "prompt_id": ids.prompt_id(prompt), "pair_id": f"p{number}", "chosen": chosen})
        rows[-1] |= {"rejected": rejected, "chosen_id": f"c{number}", "rejected_id": f"r{number}"}
    return tables.from_rows(rows, "pairs"), wrong


def reviewed(table: pa.Table, folder: Path, backend: str = "transformers", **told: Any) -> pa.Table:
    spec = ModelSpec(backend=backend, name=str(folder / "rm"), kind="reward")  # type: ignore[arg-type]
    with Session({"rm": spec}, folder / "store") as session:
        return PeerReview(name="p", **(FAST | told)).with_models(session.for_step("p"))(table)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    made: Path = tmp_path_factory.mktemp("tuned")
    tiny.decoder(made / "rm")
    return made


def test_a_model_trained_whole_finds_planted_flips(folder: Path) -> None:
    table, wrong = taught(160, 0.25)
    told = measures(found := reviewed(table, folder))
    assert area_under_curve(told["flip_prob"], wrong) > 0.8  # a coin: 0.5
    assert wrong[told["selected"] == 1].mean() < wrong.mean() / 1.5
    assert told["noise"][0] == pytest.approx(0.25, abs=0.15)
    assert not np.array_equal(told["margin_a"], told["margin_b"])
    assert [bool(flags) for flags in found["flags"].to_pylist()] == (told["flip_prob"] > 0.5).tolist()


def test_the_seed_decides_and_every_choice_of_review_runs(folder: Path) -> None:
    table, _ = taught(40, 0.2)
    settings: dict[str, Any] = {"noise": 0.25, "rounds": 2, "reviewer": "self", "curriculum": True}
    first, again, other = (measures(reviewed(table, folder, seed=seed, **settings)) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["margin_a"], other["margin_a"])


def test_pairs_that_the_model_cannot_read_have_no_measure_and_stay(folder: Path) -> None:
    table, _ = taught(40, 0.0)
    rows = table.to_pylist()
    rows[3]["chosen"], rows[7]["rejected"] = None, None
    found = reviewed(tables.from_rows(rows, "pairs"), folder, rounds=2, noise=0.0)
    missing = np.isnan(measures(found)["flip_prob"])
    assert np.flatnonzero(missing).tolist() == [3, 7]
    assert not found["flags"].to_pylist()[3]


def test_a_model_reads_the_prompt_and_all_turns_of_an_answer() -> None:
    rows = taught(2, 0.0)[0].to_pylist()
    rows[1]["chosen_turns"] = [{"role": "assistant", "content": "kind"}, {"role": "user", "content": "word1"}]
    rows[1]["chosen_turns"].append({"role": "assistant", "content": "true"})
    plain, turns = conversations(texts_of(tables.from_rows(rows, "pairs")), "chosen")
    assert [message["role"] for message in plain] == ["user", "assistant"] and plain[1]["content"] == rows[0]["chosen"]
    assert [message["content"] for message in turns] == ["word1 word0", "kind", "word1", "true"]


def test_what_cannot_be_trained_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ValidationError, match="a model, or at least one entry"):
        PeerReview(learner="fine_tuned", use=["length"])
    with pytest.raises(UsageError, match="backend fake cannot be trained"):
        reviewed(taught(40, 0.0)[0], folder, backend="fake")
    with pytest.raises(CurateError, match="at least 20"):
        reviewed(taught(10, 0.0)[0], folder)
    assert reviewed(tables.empty("pairs"), folder).num_rows == 0
