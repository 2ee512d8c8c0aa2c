"""Rewards on responses and on pairs, by one model and by several."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import tables
from curate.errors import UsageError
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.score.reward import Reward
from curate.store.versions import Versions, data_files
from tests.models import tiny

ROOT = Path(__file__).parent.parent.parent
PROMPT = [{"role": "user", "content": "word0"}]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """Two tiny reward models of one output, and one of two."""
    root = tmp_path_factory.mktemp("models")
    tiny.decoder(root / "a", pad=True, seed=1)
    tiny.decoder(root / "b", pad=True, seed=2)
    tiny.decoder(root / "many", heads=2, seed=3)
    options: dict[str, Any] = {"max_length": 12}
    made = {key: ModelSpec(backend="transformers", name=str(root / key), options=options) for key in ("a", "b", "many")}
    never = made["a"].model_copy(update={"options": options | {"truncate": "never"}})
    return made | {"never": never, "named": made["many"].model_copy(update={"options": {"heads": "help,brief"}})}


def run(step: Reward, table: pa.Table, models: dict[str, ModelSpec], root: Path) -> list[dict[str, Any]]:
    with Session(models, root) as session:
        made = step.with_models(session.for_step(step.name))(table)
    return made.to_pylist()


def responses(*texts: str | None) -> pa.Table:
    return tables.from_rows([{"prompt": PROMPT, "response": text} for text in texts], "responses")


def test_a_response_is_scored_as_the_model_would(models: dict[str, ModelSpec], tmp_path: Path) -> None:
    rows = run(Reward(name="reward", model="a"), responses("kind", "rude vague", None), models, tmp_path)
    with Session(models, tmp_path / "direct") as session:
        wanted = session.reward("a").score([tiny.conversation("kind", "word0"), tiny.conversation("rude vague", "word0")])
    (first,), (second,), (third,) = (row["scores"] for row in rows)
    assert (first["rater"], first["aspect"], first["value"]) == ("a", "reward", wanted[0, 0])
    assert second["value"] == wanted[1, 0] != first["value"]
    assert (third["value"], third["error"]) == (None, "no text")


def test_both_sides_of_a_pair_are_scored(models: dict[str, ModelSpec], tmp_path: Path) -> None:
    table = tables.from_rows([{"prompt": PROMPT, "chosen": "kind", "rejected": "rude vague"}], "pairs")
    (row,) = run(Reward(name="reward", model="a"), table, models, tmp_path)
    alone = run(Reward(name="reward", model="a"), responses("kind", "rude vague"), models, tmp_path)
    assert row["chosen_scores"] == alone[0]["scores"] and row["rejected_scores"] == alone[1]["scores"]


def test_the_whole_completion_is_scored_where_there_is_more_than_a_text(models: dict[str, ModelSpec], tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": "rude"}, *PROMPT, {"role": "assistant", "content": "kind"}]
    table = tables.from_rows([{"prompt": PROMPT, "response": "kind", "turns": turns}], "responses")
    (whole,) = run(Reward(name="reward", model="a"), table, models, tmp_path)
    (alone,) = run(Reward(name="reward", model="a"), responses("kind"), models, tmp_path)
    assert whole["scores"][0]["value"] != alone["scores"][0]["value"]


def test_every_output_is_an_aspect(models: dict[str, ModelSpec], tmp_path: Path) -> None:
    (row,) = run(Reward(name="reward", model="named"), responses("kind"), models, tmp_path)
    assert [(score["rater"], score["aspect"]) for score in row["scores"]] == [("named", "help"), ("named", "brief")]


def test_an_ensemble_tells_its_mean_and_spread(models: dict[str, ModelSpec], tmp_path: Path) -> None:
    rows = run(Reward(name="panel", model=("a", "b")), responses("kind", None), models, tmp_path)
    told = {(score["rater"], score["aspect"]): score["value"] for score in rows[0]["scores"]}
    a, b = told["a", "reward"], told["b", "reward"]
    assert told["panel", "reward"] == pytest.approx((a + b) / 2, abs=1e-6)
    assert told["panel", "reward_spread"] == pytest.approx(abs(a - b) / 2, abs=1e-6)
    assert [score["error"] for score in rows[1]["scores"]] == ["no text"] * 2 + ["no text (a)"] * 2


def test_an_ensemble_is_the_mean_of_outputs_that_all_have(models: dict[str, ModelSpec], tmp_path: Path) -> None:
    helps = models | {"helps": models["a"].model_copy(update={"options": {"heads": "help"}})}
    (row,) = run(Reward(name="panel", model=("named", "helps")), responses("kind"), helps, tmp_path)
    told = {(score["rater"], score["aspect"]): score["value"] for score in row["scores"]}
    assert {aspect for rater, aspect in told if rater == "panel"} == {"help", "help_spread"}
    assert told["panel", "help"] == pytest.approx((told["named", "help"] + told["helps", "help"]) / 2, abs=1e-6)
    with pytest.raises(UsageError, match=r"no mean \(a: reward; named: help, brief\); name them by options.heads"):
        run(Reward(name="panel", model=("a", "named")), responses("kind"), models, tmp_path)


def test_what_was_not_read_is_evidence_and_may_drop_the_row(models: dict[str, ModelSpec], tmp_path: Path) -> None:
    table = responses("kind", "word1 " * 10)  # six tokens of frame and question: 16 for a model that takes 12
    whole, long = run(Reward(name="reward", model="a", drop_cut=True), table, models, tmp_path)
    assert [entry["value"] for entry in (*whole["evidence"], *long["evidence"])] == [0, 4]
    assert not whole["flags"]
    assert [(flag["reason"], flag["value"]) for flag in long["flags"]] == [("cut", 4)]


def test_a_row_that_any_of_several_models_did_not_read_whole_is_dropped(models: dict[str, ModelSpec], tmp_path: Path) -> None:
    longer = models | {"b": models["b"].model_copy(update={"options": {}})}
    (row,) = run(Reward(name="panel", model=("a", "b"), drop_cut=True), responses("word1 " * 10), longer, tmp_path)
    assert [(entry["name"], entry["value"]) for entry in row["evidence"]] == [("a_cut", 4), ("b_cut", 0)]
    assert [(flag["reason"], flag["value"]) for flag in row["flags"]] == [("cut", 4)]


def test_what_may_not_be_cut_has_an_error_and_no_number(models: dict[str, ModelSpec], tmp_path: Path) -> None:
    (row,) = run(Reward(name="reward", model="never"), responses("word1 " * 10), models, tmp_path)
    assert (row["scores"][0]["value"], row["scores"][0]["error"]) == (None, "request: 16 tokens, and the model takes 12")


def test_models_are_different_ones() -> None:
    for wrong in ((), ("a", "a")):
        with pytest.raises(ValueError, match="`model` takes one or several different ones"):
            Reward(model=wrong)


def test_from_the_command_line_and_again_without_computing(tmp_path: Path) -> None:
    model = tiny.decoder(tmp_path / "rm", pad=True)
    import torch

    with torch.no_grad():  # kind is good and rude is bad, by construction: the words alone decide
        words = tiny.tokenizer(pad=True)
        model.model.embed_tokens.weight[words.convert_tokens_to_ids("rude")] *= -1
    model.save_pretrained(tmp_path / "rm")
    lines = [f'{{"prompt": "word{n}", "response": "{word} word1"}}' for n in range(6) for word in ("kind", "rude", "clear")]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "recipe.yaml").write_text(
        "name: rewarded\n"
        f"models: {{rm: {{backend: transformers, name: {tmp_path / 'rm'}}}}}\n"
        f"source: {{path: {tmp_path / 'rows.jsonl'}, columns: {{prompt: prompt, response: response}}}}\n"
        "steps:\n  - reward: {model: rm}\n  - pair: {by: rm, how: best_worst}\n"
    )

    def curate(recipe: str, path: Path = ROOT) -> str:
        command = [sys.executable, "-m", "curate.cli.main", "run", recipe, "--store", str(tmp_path / "store")]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(path)}, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    curate(str(tmp_path / "recipe.yaml"))
    version = Versions(tmp_path / "store").find("rewarded")
    pairs = pa.concat_tables([pa.ipc.open_file(path).read_all() for path in data_files(version, "pairs")])
    chosen, rejected = pairs["chosen_score_rm_reward"].to_numpy(), pairs["rejected_score_rm_reward"].to_numpy()
    assert pairs.num_rows == 6 and (chosen > rejected).all() and np.isfinite(chosen).all()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise RuntimeError('a model is loaded')")
    text = (tmp_path / "recipe.yaml").read_text().replace("{model: rm}", "{model: rm, drop_cut: true}")
    (tmp_path / "other.yaml").write_text(text)
    curate(str(tmp_path / "other.yaml"), tmp_path / "broken")  # another step, the same rewards
