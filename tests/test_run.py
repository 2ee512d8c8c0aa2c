"""The runner: what it reuses, what it refuses, how it previews."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate.errors import DataError, GateClosed, StepError, TooManyRejects
from curate.publish.version import Stage
from curate.recipe import read_recipe
from curate.run import Done, Run, Silence, run_recipe
from curate.store.store import Store
from curate.store.versions import Versions, damage, read_version

STEPS = """
  - exact_duplicate
  - pair: {by: rm, how: all_gap}
  - margin: {min: 2}
"""


def recipe(folder: Path, steps: str = STEPS, source: str = "", rows: list[dict[str, Any]] | None = None) -> Path:
    if rows is None:
        rows = [
            {"prompt": f"p{i}", "response": f"answer {j}", "model": "m", "rm": j * (i % 3)} for i in range(20) for j in range(3)
        ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    mapping = "columns: {prompt: prompt, response: response, model: model}, scores: {rm: rm}"
    path.write_text(f"name: d\nsource: {{path: rows.jsonl, rows: candidates, {mapping}{source}}}\nsteps:{steps or ' []'}\n")
    return path


class Told(Silence):
    def __init__(self) -> None:
        self.reused: dict[str, bool] = {}

    def finished(self, stage: Stage, seconds: float, reused: bool) -> None:
        self.reused[stage.name] = reused


def run(path: Path, *overrides: str, **options: Any) -> tuple[Done, dict[str, bool]]:
    told = Told()
    done = run_recipe(read_recipe(path, overrides=overrides), path.parent / "store", watch=told, **options)
    return done, told.reused


def test_a_second_run_redoes_and_publishes_nothing(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    first, reused = run(path)
    assert first.published and not any(reused.values())
    second, reused = run(path)
    assert not second.published and second.version == first.version and all(reused.values())


def test_a_changed_threshold_redoes_its_step_alone(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    run(path)
    done, reused = run(path, "margin.min=3")
    assert done.published and str(done.version) == "d@v2"
    assert reused == {"source": True, "exact_duplicate": True, "pair": True, "margin": False}


def test_other_words_for_the_same_rows_publish_nothing(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    run(path)
    path.write_text("# a comment\n" + path.read_text())
    assert not run(path)[0].published


def test_small_shards_give_the_same_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ids(folder: Path) -> list[str]:
        folder.mkdir()
        done, _ = run(recipe(folder))
        return [row for batch in read_version(done.version, "pairs") for row in batch["pair_id"].to_pylist()]

    whole = ids(tmp_path / "whole")
    monkeypatch.setenv("CURATE_SHARD_MB", "0.002")
    assert ids(tmp_path / "parts") == whole
    assert len(Store(tmp_path / "parts" / "store").snapshot(_last_snapshot(tmp_path / "parts")).shards) > 3


def _last_snapshot(folder: Path) -> str:
    (version,) = Versions(folder / "store").all("d")
    snapshot: str = version.manifest["steps"][-1]["snapshot"]
    return snapshot


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    done, _ = run(recipe(tmp_path))
    kept = sum(batch.num_rows for batch in read_version(done.version, "pairs"))
    dropped = sum(batch.num_rows for batch in read_version(done.version, "dropped/pairs"))
    used = sum(batch.num_rows for batch in read_version(done.version, "responses"))
    unused = sum(batch.num_rows for batch in read_version(done.version, "dropped/responses"))
    made = done.version.manifest["steps"][2]["made"]
    assert kept + dropped == made and used + unused == 60
    assert damage(done.version) == []


def test_a_preview_is_whole_prompts_and_no_version(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    done, _ = run(path, limit=7)
    assert done.version.label == "preview" and Versions(tmp_path / "store").numbers("d") == []
    assert done.version.manifest["steps"][1]["rows_in"] == 9  # three prompts of three answers
    run(path, limit=1)
    assert run(path)[0].version.number == 1


@pytest.mark.parametrize(("steps", "grain"), [("", "responses"), (STEPS, "pairs")])
def test_an_empty_source_makes_an_empty_version_with_all_its_columns(tmp_path: Path, steps: str, grain: str) -> None:
    import polars as pl

    done, _ = run(recipe(tmp_path, steps, rows=[]))
    assert done.version.manifest["splits"] == {"train": 0}
    frame = pl.read_ipc(done.version.path / grain / "train-00000.arrow")
    assert frame.height == 0 and {"prompt_id", "prompt"} <= set(frame.columns)


def test_too_many_rejects_stop_the_run_even_if_the_source_was_read_before(tmp_path: Path) -> None:
    path = recipe(
        tmp_path, source=", max_rejects: 1", rows=[{"prompt": "p", "response": "a", "model": "m", "rm": 1}, {"prompt": "p"}]
    )
    run(path)
    with pytest.raises(TooManyRejects, match="1 of 2 rows"):
        run(path, "source.max_rejects=0")


def test_a_failing_operator_names_step_and_shard(tmp_path: Path) -> None:
    path = recipe(tmp_path, "\n  - attach: {name: review, file: review.jsonl, scores: {mark: people}}")
    (tmp_path / "review.jsonl").write_text('{"response_id": "x", "mark": 1}\n{not json\n')
    with pytest.raises(StepError, match="step review, shard 0: .*review.jsonl"):
        run(path)


def test_a_closed_gate_publishes_nothing_unless_told_to(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    path.write_text(path.read_text() + 'gates: {rows: "> 1_000_000"}\n')
    with pytest.raises(GateClosed, match="1 of 1 gate is closed"):
        run(path)
    assert Versions(tmp_path / "store").numbers("d") == []
    done = Run(read_recipe(path), Store(tmp_path / "store"), publish_anyway=True)()
    assert done.version.manifest["published_anyway"] is True


def test_the_run_is_recorded_as_it_ended(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    done, _ = run(path)
    with pytest.raises(TooManyRejects):
        (tmp_path / "rows.jsonl").write_text("{}\n")
        run(path)
    states = [json.loads(p.read_text())["state"] for p in sorted((tmp_path / "store" / "runs").glob("*/run.json"))]
    assert sorted(states) == ["done", "failed"]
    assert Run(read_recipe(path), Store(tmp_path)).id != done.run


def test_a_field_that_no_row_has_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    with pytest.raises(
        DataError, match=r"rows\.jsonl: no row has the field 'modle' that the recipe maps; did you mean 'model'\?"
    ):
        run(path, "source.columns.model=modle")


def test_answers_that_asking_again_would_not_bring_are_told(tmp_path: Path) -> None:
    said: list[str] = []

    class Listens(Silence):
        def said(self, text: str) -> None:
            said.append(text)

    path = recipe(tmp_path, "\n  - judge: {model: m, rubric: helpfulness}\n")
    path.write_text(path.read_text() + "models:\n  m: {backend: fake, name: f, options: {refuse_share: 1.0}}\n")
    run_recipe(read_recipe(path), tmp_path / "store", watch=Listens())
    assert any("judge: 60 of 60 rows have no usable answer (refused 60)" in text for text in said)
