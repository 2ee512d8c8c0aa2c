"""Planted noise: how much of which kind, and that nothing but the evidence tells."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError

from curate import tables
from curate.errors import RecipeError
from curate.maths.planted import TRUTH
from curate.operators import OPERATORS
from curate.recipe import read_recipe
from curate.relabel.evidence import evidence_of
from curate.relabel.inject_noise import InjectNoise


def pairs(count: int = 400, **columns: list[Any]) -> pa.Table:
    rows = []
    for n in range(count):
        row: dict[str, Any] = {
            "pair_id": f"p{n}",
            "chosen": "a" * (1 + n % 7),
            "rejected": "b" * (1 + n % 5),
            "chosen_id": f"c{n}",
        }
        row |= {"rejected_id": f"r{n}", "margin": 1.0 + n % 10, "domain": "xyz"[n % 3], "origin": "observed"}
        row["votes"] = [
            {"rater": f"w{n % 4}", "aspect": "preference", "p_chosen": 1.0},
            {"rater": "judge", "aspect": "overall", "p_chosen": 0.75},
        ]
        rows.append(row | {name: values[n] for name, values in columns.items()})
    return tables.from_rows(rows, "pairs")


def planted(made: pa.Table) -> np.ndarray:
    return np.asarray(tables.value_of(made["evidence"], by="plant", name=TRUTH) == 1)


def rates(made: pa.Table, groups: list[Any]) -> dict[Any, float]:
    told = planted(made)
    return {group: float(told[[other == group for other in groups]].mean()) for group in sorted(set(groups))}


def test_symmetric_flips_come_at_the_rate_asked_for() -> None:
    for rate in (0, 0.2, 0.4):
        share = planted(InjectNoise(name="plant", rate=rate, seed=1)(pairs(2000))).mean()
        assert share == pytest.approx(rate, abs=0.03)


def test_annotators_differ_evenly() -> None:
    made = InjectNoise(name="plant", rate=0.25, kind="annotator")(pairs(4000))
    assert list(rates(made, [f"w{n % 4}" for n in range(4000)]).values()) == pytest.approx([0.05, 0.1833, 0.3167, 0.45], abs=0.04)
    made = InjectNoise(name="plant", rate=0.25, kind="annotator", annotator="domain")(pairs(4000))
    assert list(rates(made, ["xyz"[n % 3] for n in range(4000)]).values()) == pytest.approx([0.05, 0.25, 0.45], abs=0.04)


def test_small_gaps_are_flipped_more_often() -> None:
    by_gap = list(rates(InjectNoise(name="plant", rate=0.3, kind="gap")(pairs(4000)), [n % 10 for n in range(4000)]).values())
    assert by_gap[0] > 0.5 > 0.1 > by_gap[-1] and sum(by_gap) / 10 == pytest.approx(0.3, abs=0.03)


def test_by_length_only_labels_that_prefer_the_shorter_side_are_flipped() -> None:
    shorter = [n % 7 < n % 5 for n in range(1000)]
    found = rates(InjectNoise(name="plant", rate=0.2, kind="length")(pairs(1000)), shorter)
    assert found[False] == 0 and found[True] > 0.5


def test_sides_are_exchanged_and_what_was_claimed_of_the_label_stays() -> None:
    given = pairs(label_prob=[0.9] * 400)
    made = InjectNoise(name="plant", rate=0.5, seed=2)(given)
    for before, after, turned in zip(given.to_pylist(), made.to_pylist(), planted(made), strict=True):
        assert (after["chosen"], after["chosen_id"]) == (
            (before["rejected"], before["rejected_id"]) if turned else (before["chosen"], before["chosen_id"])
        )
        for name in ("margin", "pair_id", "origin", "parent_id", "label_prob", "prompt_id"):
            assert after[name] == before[name]
        given_vote, judged = after["votes"]
        assert given_vote["p_chosen"] == 1  # the label itself
        assert judged["p_chosen"] == (0.25 if turned else 0.75)  # somebody who looked at the texts


def test_the_same_pairs_are_flipped_in_shards() -> None:
    step, given = InjectNoise(name="plant", rate=0.3, seed=5), pairs(100)
    state = step.decide(pa.concat_tables([step.features(given.slice(0, 40)), step.features(given.slice(40))]))
    parts = [step.apply(given.slice(0, 40), state.slice(0, 40)), step.apply(given.slice(40), state.slice(40))]
    assert pa.concat_tables(parts).to_pylist() == step(given).to_pylist()


def test_parameters_belong_to_their_kind() -> None:
    for wrong in ({"by": "rm"}, {"annotator": "domain"}, {"rate": 0.6}):
        with pytest.raises(ValidationError):
            InjectNoise(**{"rate": 0.2} | wrong)


# -- the truth

SOURCE = "source: {path: rows.jsonl, columns: {prompt: p, chosen: c, rejected: r}}\n"
READERS = {
    "flip": "{by: 'inject_noise:planted'}",
    "weight": "{how: confidence, by: 'inject_noise:planted'}",
    "order": "{by: 'inject_noise:planted'}",
    "soft_label": "{how: evidence, by: 'inject_noise:planted'}",
    "balance": "{by: evidence.inject_noise.planted, at_most: 5}",
}


@pytest.mark.parametrize("step", READERS)
def test_no_later_step_can_name_the_truth(step: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"p": "?", "c": "yes", "r": "no"}\n')
    text = f"name: noisy\n{SOURCE}steps:\n  - inject_noise: {{rate: 0.2}}\n"
    assert read_recipe(text, base=tmp_path).steps
    with pytest.raises(RecipeError, match="planted"):
        read_recipe(f"{text}  - {step}: {READERS[step]}\n", base=tmp_path)


@pytest.mark.parametrize("planter", ["inject_noise", "earlier_step"])
@pytest.mark.parametrize("step", READERS)
def test_the_truth_that_an_earlier_version_holds_is_refused_too_and_without_a_recipe(step: str, planter: str) -> None:
    parameters = READERS[step].replace("inject_noise", planter)
    with pytest.raises(ValidationError, match="is the planted truth: reports read it, no step does"):
        OPERATORS[step](**yaml.safe_load(parameters))
    with pytest.raises(RecipeError, match="is the planted truth"):  # no step of the recipe plants anything
        read_recipe(f"name: later\nsource: {{version: noisy@v1}}\nsteps:\n  - {step}: {parameters}\n")


def test_every_step_that_reads_evidence_by_name_is_among_those_refused() -> None:
    """A new reader of evidence shows by its parameters; it belongs into the list above."""
    readers = {
        name
        for name, operator in OPERATORS.items()
        if any(
            "vidence" in (field.description or "") and "step:name" in (field.description or "").lower().replace(".", ":")
            for field in operator.model_fields.values()
        )
    }
    assert readers <= set(READERS)


def test_the_truth_is_refused_even_without_a_recipe() -> None:
    with pytest.raises(ValueError, match="planted truth"):
        evidence_of(InjectNoise(name="plant", rate=0.2)(pairs(4)), "plant:planted")
