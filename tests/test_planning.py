"""What a plan says a run will ask of models, beside what the run asks."""

import io
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from rich.console import Console

from curate.models.ledger import Ledger
from curate.models.ledger_spent import grouped
from curate.models.operator import ModelOperator
from curate.models.spec import ModelSpec
from curate.planning import Outlook, outlook, render
from curate.recipe import Recipe, Step, read_recipe
from curate.run import run_recipe
from curate.tables import Grain
from tests.models import tiny

PROMPTS = 6
MODELS = """
models:
  a: {backend: fake, name: a, options: {quality: 0.9}}
  b: {backend: fake, name: b, options: {quality: 0.3}}
"""
SOURCES = {
    "prompts": ("rows: prompts, columns: {prompt: prompt, reference: answer}", 1),
    "responses": ("rows: candidates, columns: {prompt: prompt, response: response}", 5),
    "pairs": ("rows: pairs, columns: {prompt: prompt, chosen: chosen, rejected: rejected}", 1),
}


def written(folder: Path, grain: str, steps: str) -> Path:
    mapping, each = SOURCES[grain]
    rows: list[dict[str, Any]] = [
        {
            "prompt": f"Question {place}?",
            "answer": f"It is {place}.",
            "response": f"Answer {place}, {which}.",
            "chosen": f"Yes {place}",
        }
        | {"rejected": f"No {place}"}
        for place in range(PROMPTS)
        for which in range(each)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = folder / "recipe.yaml"
    source = f"source: {{path: rows.jsonl, {mapping}}}"
    recipe.write_text(f"name: planned\n{MODELS}\n{source}\nsteps: {steps}\n", encoding="utf-8")
    return recipe


def planned_and_asked(folder: Path, grain: str, steps: str) -> tuple[dict[str, int | None], dict[str, int]]:
    """Calls by step: of the plan made when the source has been read, and of the run."""
    store = folder / "store"
    run_recipe(read_recipe(written(folder, grain, "[]")), store)
    recipe = read_recipe(written(folder, grain, "\n  - " + steps.replace("\n", "\n  - ")))
    planned: dict[str, int | None] = {step.step: step.calls for step in outlook(recipe, store) if step.calls}
    run_recipe(recipe, store)
    assert {step.step for step in outlook(recipe, store) if step.calls} == set()  # nothing is left to ask
    with closing(Ledger(store / "ledger")) as ledger:
        return planned, {str(row.step): row.calls for row in grouped(ledger.spent(), "step")}


@pytest.mark.parametrize(
    ("grain", "steps", "calls"),
    [
        ("pairs", "judge: {model: a}", {"judge": 12}),
        ("pairs", "judge: {model: [a, b], rubric: [overall, honesty], repeats: 2}", {"judge": 96}),
        ("pairs", "judge: {model: a, rubric: [overall, honesty], together: true}", {"judge": 12}),
        ("pairs", "judge: {model: a, how: listwise}", {"judge": 6}),
        ("pairs", "vote: {model: [a, b], repeats: 3}", {"vote": 72}),
        ("pairs", "vote: {model: a, orders: one}", {"vote": 6}),
        ("responses", "judge: {model: a}", {"judge": 30}),
        ("responses", "judge: {model: a, how: critique}", {"judge": 30}),
        ("responses", "judge: {model: a, how: listwise, per_call: 3}", {"judge": 12}),
        ("responses", "judge: {model: a, how: listwise, per_call: 5, rubric: [overall, honesty]}", {"judge": 12}),
        ("responses", "rewrite: {model: a, kind: rephrase}", {"rewrite": 6}),
        ("responses", "rewrite: {model: a, kind: back_translate}", {"rewrite": 30}),
        ("responses", "perturb: {model: a, how: [fact, shorten]}", {"perturb": 60}),
        ("responses", "perturb: {model: a, how: [fact, shorten, drop_sentences], per_response: 1}", None),
        ("prompts", "judge: {model: a, rubric: prompt_quality}", {"judge": 6}),
        ("prompts", "rewrite: {model: a, kind: evolve, rounds: 3, n: 2}", {"rewrite": 36}),
        (
            "prompts",
            "rewrite: {model: a, kind: rephrase, keep_original: true}\ngenerate: {model: a}",
            {"rewrite": 6, "generate": 12},
        ),
        ("prompts", "generate: {model: [a, b], n: 3}\njudge: {model: a, how: listwise}", {"generate": 36, "judge": 12}),
        ("prompts", "generate: {model: [a, b], models_per_prompt: 1, n: 3}\njudge: {model: a}", {"generate": 18, "judge": 18}),
        (
            "prompts",
            "generate: {model: [a, b], n: 2}\nperturb: {model: a, how: fact}\njudge: {model: a, how: listwise, per_call: 4}",
            {"generate": 24, "perturb": 24, "judge": 12},
        ),
        (
            "prompts",
            "generate: {model: [a, b], n: 2}\njudge: {model: a}\npair: {by: a, how: best_worst}\nvote: {model: b}",
            {"generate": 24, "judge": 24, "vote": 12},
        ),
    ],
)
def test_a_plan_tells_the_calls_that_a_run_makes(tmp_path: Path, grain: str, steps: str, calls: dict[str, int] | None) -> None:
    planned, asked = planned_and_asked(tmp_path, grain, steps)
    if calls is None:  # which kinds are drawn for a response is not known before
        assert planned["perturb"] is not None and abs(planned["perturb"] - asked["perturb"]) <= 10
    else:
        assert planned == calls == asked


def test_nothing_is_known_of_a_source_that_was_not_read(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, "pairs", "[judge: {model: a}]"))
    assert [step.calls for step in outlook(recipe, tmp_path / "store")] == [0, None]


# -- models of this process


def screen(steps: Sequence[Outlook]) -> str:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as shown:
        console.print(render(list(steps), 200))
    return " ".join(shown.get().split())


def with_local(folder: Path, grain: str, step: str) -> Recipe:
    """A recipe of one step whose model `rm` is a reward model of this process; its source has been read."""
    tiny.decoder(folder / "rm", pad=True)
    run_recipe(read_recipe(written(folder, grain, "[]")), folder / "store")
    path = written(folder, grain, f"[{step}]")
    local = f"models:\n  rm: {{backend: transformers, name: {folder / 'rm'}}}"
    path.write_text(path.read_text(encoding="utf-8").replace("models:", local), encoding="utf-8")
    return read_recipe(path)


@pytest.mark.parametrize(
    ("grain", "model", "calls", "here"),
    [("responses", "rm", 0, 30), ("pairs", "rm", 0, 12), ("responses", "[a, rm]", 30, 30), ("pairs", "[b, a, rm]", 24, 12)],
)
def test_a_model_of_this_process_is_not_called(tmp_path: Path, grain: str, model: str, calls: int, here: int) -> None:
    pytest.importorskip("torch")
    recipe = with_local(tmp_path, grain, f"reward: {{model: {model}}}")
    steps = outlook(recipe, tmp_path / "store")
    assert (steps[-1].calls, steps[-1].scored_locally) == (calls, here)
    said = f"model calls: {f'at most {calls}' if calls else 'none'}; cost: {'unknown' if calls else 'none'}"
    assert said in screen(steps) and f"scored locally: at most {here} texts" in screen(steps)
    run_recipe(recipe, tmp_path / "store")
    assert [(step.calls, step.scored_locally) for step in outlook(recipe, tmp_path / "store")] == [(0, 0), (0, 0)]


def test_what_fakes_measure_is_measured_here_and_nothing_is_known_before_the_source_is(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, "responses", "[likelihood: {model: a, reference: b}]"))
    before = outlook(recipe, tmp_path / "store")
    assert (before[-1].calls, before[-1].scored_locally) == (0, None)
    assert "model calls: none; cost: none; scored locally: known once the source is read" in screen(before)
    planned, asked = planned_and_asked(tmp_path, "responses", "likelihood: {model: a, reference: b}")
    assert planned == asked == {}


class Near(ModelOperator):
    """A step that embeds."""

    takes: ClassVar[tuple[Grain, ...]] = ("responses",)
    model: str

    def models(self) -> set[str]:
        return {self.model}

    def reads(self, grain: Grain) -> set[str]:
        return {"response"}

    def writes(self, grain: Grain) -> set[str]:
        return set()

    def __call__(self, table: pa.Table, /) -> pa.Table:
        raise NotImplementedError


def test_a_step_that_compares_words_and_spelling_says_so(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, "responses", "[]"))
    step = Step("near", Near(name="near", model="words"), "responses", "responses", 9)
    for backend, told in (("hashing", "near (words: lexical)"), ("sentence_transformers", "near ")):
        models = {"words": ModelSpec(backend=backend, name="any")}  # type: ignore[arg-type]
        text = screen(outlook(replace(recipe, steps=(step,), models=models), tmp_path / "store"))
        assert told in text and ("lexical" in text) == (backend == "hashing")
