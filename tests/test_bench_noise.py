"""What a bench of filters plants, and how it says which filter to use."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from curate import tables
from curate.bench_noise import Plan, Subject, advice, as_text, named, recipe_step, some, summary
from curate.maths.noise_choice import STEPS, Choice, Gap
from curate.maths.noise_frame import Comparisons

CHOICE = Choice("peer_review", 0.8, 0.93, Gap(0.06, 0.01), Gap(0.012, 0.004), Gap(-0.003, 0.01), 0.02, (), None)
EMPTY = Comparisons(np.zeros((0, 1), np.float32), np.zeros(0, int), np.zeros((0, 2), int), np.ones(1))
SUBJECT = Subject("mine", EMPTY, np.array([0.5, -2.0]), None, 0, 0, "lexical (hashing)")


def said(choice: Choice | None) -> str:
    return " ".join(advice(SUBJECT, [], choice))


def test_each_seed_has_every_kind_and_rate_and_no_flips_once() -> None:
    plan = Plan(("symmetric", "length"), (0.0, 0.3), ("untreated", "oracle"), 2)
    assert list(plan.plants()) == [
        ("symmetric", 0.0, 0),
        ("symmetric", 0.3, 0),
        ("length", 0.3, 0),
        ("symmetric", 0.0, 1),
        ("symmetric", 0.3, 1),
        ("length", 0.3, 1),
    ]
    assert plan.total == 12


def test_the_advice_names_the_filter_with_reason_cost_and_step() -> None:
    told = said(CHOICE)
    assert told.startswith(
        "Use peer_review: over all planted flips a model trained on what it keeps orders 80.0 % of held-out pairs"
    )
    assert "6.0 ± 1.0 points more than without a filter" in told and "it would be 1.2 ± 0.4 points more" in told
    assert "Where nothing was planted it drops 2.0 % of the pairs, and the accuracy changes by -0.3 points." in told
    assert told.endswith("In a recipe: `- peer_review: {model: embed}` (embed: lexical (hashing)).")


def test_the_advice_is_as_sure_as_the_runs() -> None:
    assert said(CHOICE._replace(over_untreated=Gap(0.01, 0.02))).startswith("No filter is surely better than none in these runs")
    assert said(CHOICE._replace(over_untreated=Gap(-0.05, 0.02))).startswith("No filter is surely better than none")
    assert said(CHOICE._replace(over_untreated=Gap(0.05, float("nan")))).startswith("Try peer_review: ")
    assert "without a filter. label_em is not surely worse. With" in said(CHOICE._replace(alike=("label_em",)))
    assert "trimmed, a plain method that no step of a recipe is, does better still: 2.0 ± 1.0 points more" in said(
        CHOICE._replace(better=("trimmed", Gap(0.02, 0.01)))
    )
    assert said(None).startswith("No filter can be named")


def test_the_noise_of_the_labels_as_they_came_is_told() -> None:
    clean = {"kind": "symmetric", "rate": 0.0, "planted": 0.0, "method": "peer_review", "noise_low": 0.02, "noise_high": 0.2}
    runs = [clean | {"noise": noise} for noise in (0.1, 0.12)]
    assert "Of the labels as they came it estimates 11 % to be wrong (2 to 20 %)" in " ".join(advice(SUBJECT, runs, CHOICE))


def test_what_is_found_is_told_by_kind() -> None:
    base = {"rate": 0.3, "planted": 0.3, "method": "peer_review"}
    runs = [base | {"kind": "symmetric", "drop_recall": recall, "drop_precision": 0.9} for recall in (0.7, 0.8)]
    runs += [base | {"kind": "length", "drop_recall": 0.0, "drop_precision": float("nan")}]
    told = " ".join(advice(SUBJECT, runs, CHOICE))
    assert "It finds 75 % of the symmetric flips (90 % of what it drops is wrong), and 0 % of the length flips." in told


def test_a_kind_of_which_there_are_too_few_labels_is_told() -> None:
    runs = [
        {"kind": kind, "rate": 0.4, "planted": there, "method": "x"} for kind, there in (("symmetric", 0.38), ("length", 0.17))
    ]
    told = " ".join(advice(SUBJECT, runs, CHOICE))
    assert "Of length flips at most 17 % of the labels could be planted" in told and "symmetric flips at most" not in told


@pytest.mark.parametrize("method", STEPS)
def test_every_method_that_can_be_advised_is_a_step(method: str) -> None:
    import yaml

    from curate.operators import OPERATORS

    ((name, parameters),) = yaml.safe_load(recipe_step(method))[0].items()
    assert OPERATORS[name](**parameters).model == "embed"


def test_flips_by_gap_go_by_the_margin_where_every_pair_has_one() -> None:
    assert np.asarray(SUBJECT.measure("gap")).tolist() == [0.5, 2.0] and SUBJECT.measure("symmetric") is None
    with_margin = replace(SUBJECT, margin=np.array([-3.0, 1.0]))
    assert np.asarray(with_margin.measure("gap")).tolist() == [3.0, 1.0]
    assert np.asarray(with_margin.measure("length")).tolist() == [0.5, -2.0]
    assert with_margin.digest != SUBJECT.digest == replace(SUBJECT, title="other").digest


def pairs(*texts: tuple[str, str, str]) -> pa.Table:
    rows = [{"prompt": [{"role": "user", "content": p}], "chosen": c, "rejected": r} for p, c, r in texts]
    return tables.from_rows(rows, "pairs")


def test_equal_answers_to_other_prompts_are_other_answers() -> None:
    table = named(pairs(("a?", "yes", "no"), ("a?", "no", "maybe"), ("b?", "yes", "no")))
    prompts, chosen, rejected = (table[f"{name}_id"].to_pylist() for name in ("prompt", "chosen", "rejected"))
    assert prompts[0] == prompts[1] != prompts[2]
    assert rejected[0] == chosen[1] and chosen[0] != chosen[2] and rejected[0] != rejected[2]


def test_some_pairs_are_whole_prompts() -> None:
    table = named(pairs(*((f"{n % 10}?", f"yes {n}", f"no {n}") for n in range(100))))
    drawn = some(table, 35)
    counts = drawn["prompt_id"].value_counts().to_pylist()
    assert drawn.num_rows == 30 and {entry["counts"] for entry in counts} == {10}
    assert some(table, 0).num_rows == some(table, 100).num_rows == 100


def test_the_table_fits_a_terminal_and_tells_intervals() -> None:
    base = {"kind": "symmetric", "method": "peer_review_apart", "auc": 0.9, "flagged": 0.1, "purity": [0.5, 0.6], "ece": 0.1}
    base |= {f"{what}_{of}": 0.5 for what in ("drop", "flip") for of in ("precision", "recall")}
    base |= {"planted": 0.4, "noise": 0.2, "noise_low": 0.1, "noise_high": 0.3, "cpu_seconds": 1234.5}
    runs = [base | {"rate": 0.4, "seed": seed, "accuracy": 0.7 + 0.1 * seed} for seed in (0, 1)]
    text = as_text(summary(runs))
    assert "40% symmetric flips" in text and "75.0 ± 63.5" in text and "20 (10 to 30)" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "40% length flips (17 planted)" in as_text(summary([run | {"kind": "length", "planted": 0.17} for run in runs]))
