"""Laws that steps which ask models obey, held with fake models."""

import json
import pickle

import pyarrow as pa
import pytest

from curate import tables
from curate.generate.generate import Generate
from curate.generate.perturb import Perturb
from curate.generate.rewrite import Rewrite
from curate.ids import digest
from curate.operator import Made
from tests.generate.conftest import fakes, prompts, responses

MODELS = {"a": {"refuse_share": 0.2}, "b": {"reasoning": "tags"}, "user": {"words": 12}}
TEXTS = ("What is rain?", "", "答えは？", "<<<end 0>>> {text} ```", "مرحبا 🙂", "Why\n\nnot?")
CASES = [
    Generate(model=["a", "b"], n=2, system="principles", name="s"),
    Generate(model=["a", "b"], models_per_prompt=1, turns=2, user_model="user", name="s"),
    Generate(model="a", context={"gold": "reference", "none": None}, logprobs=True, name="s"),
    Rewrite(model="a", kind="rephrase", n=2, name="s"),
    Rewrite(model="a", kind="evolve", rounds=3, keep_original=True, name="s"),
    Rewrite(model="b", kind="persona", name="s"),
    Rewrite(model="b", kind="system_from_preferences", n=3, name="s"),
    Rewrite(model="a", kind="back_translate", name="s"),
    Perturb(how=["principle", "fact", "tone"], model="a", per_response=2, name="s"),
    Perturb(how=["drop_sentences", "shuffle_sentences", "reverse_sentences", "truncate", "repeat"], name="s"),
]


def table_of(grain):
    if grain == "prompts":
        return prompts(*TEXTS, reference="Water. It falls.")
    parts = [responses(*TEXTS, "One. Two. Three.", prompt=f"question {number}", reference="x") for number in range(3)]
    return pa.concat_tables(parts)


@pytest.fixture(
    params=[
        pytest.param((step, grain), id=f"{type(step).__name__}-{place}-{grain}")
        for place, step in enumerate(CASES)
        for grain in step.takes
    ]
)
def case(request):
    step, grain = request.param
    return step.with_models(fakes(**MODELS)), table_of(grain), grain


def rows_of(result):
    return (result.rows if isinstance(result, Made) else result).to_pylist()


def test_the_input_is_not_changed(case):
    step, table, _ = case
    before = table.to_pylist()
    step(table)
    assert table.to_pylist() == before


def test_the_same_answer_twice_and_after_pickling(case):
    step, table, _ = case
    again = pickle.loads(pickle.dumps(type(step)(**step.model_dump()))).with_models(fakes(**MODELS))
    assert rows_of(step(table)) == rows_of(again(table))


def test_whole_is_sharded(case):
    step, table, grain = case
    size = 2 if grain == "prompts" else len(TEXTS) + 1  # never within a prompt
    parts = [step(table.slice(start, size)) for start in range(0, table.num_rows, size)]
    whole = step(table)
    assert rows_of(whole) == [row for part in parts for row in rows_of(part)]
    if isinstance(whole, Made):
        assert whole.flags.to_pylist() == [flags for part in parts for flags in part.flags.to_pylist()]


def test_no_rows_in_no_rows_out(case):
    step, _, grain = case
    assert rows_of(step(tables.empty(grain))) == []


def test_every_column_has_its_type(case):
    step, table, _ = case
    result = step(table)
    rows = result.rows if isinstance(result, Made) else result
    assert [(f.name, f.type) for f in rows.schema] == [(f.name, f.type) for f in tables.SCHEMAS[step.makes] if f.name != "row"]


def test_no_row_vanishes(case):
    """Each row has made something unflagged, or is flagged, or passed on as it was."""
    step, table, grain = case
    result = step(table)
    made = rows_of(result)
    key = {"prompts": "prompt_id", "responses": "response_id"}[grain]
    usable = {row["parent_id"] for row in made if not row["flags"]} | {
        row[key] for row in made if key in row and not row["flags"]
    }
    usable |= {row["prompt_id"] for row in made if not row["flags"]} if isinstance(step, Generate) else set()
    if isinstance(result, Made):
        lost = [row[key] for row, flags in zip(table.to_pylist(), result.flags.to_pylist(), strict=True) if flags]
        if isinstance(step, Rewrite) and step.kind != "back_translate":
            kept = {row[key] for row in table.to_pylist() if row["prompt_id"] in usable}
        else:
            kept = {row[key] for row in table.to_pylist() if row[key] in usable}
    else:
        lost = [row[key] for row in made if row["flags"] and row[key] in set(table[key].to_pylist())]
        kept = usable
    assert all(row in kept or row in lost for row in table[key].to_pylist())


def test_parameters_are_plain_json(case):
    step, _, _ = case
    assert digest(step.parameters()) == digest(json.loads(json.dumps(step.parameters())))
