"""What a plan says a run will ask of models, beside what the run asks."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from curate.models.ledger import Ledger
from curate.models.ledger_spent import grouped
from curate.planning import outlook
from curate.recipe import read_recipe
from curate.run import run_recipe

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
    planned = {step.step: step.calls for step in outlook(recipe, store) if step.calls}
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
