"""Faults of published code about pairs and training rows: each has a test that would fail if it were here, too.

Held elsewhere: sentences tokenised one by one (tests/export/test_masked_dpo.py).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import ids, tables
from curate.export import export
from curate.filter.consistency import Consistency
from curate.pair.pair import Pair
from curate.score.prefer import Prefer
from curate.store.versions import Version
from tests.recipes.conftest import table_of
from tests.recipes.test_model_recipes import by_prompt, sigmoid, value
from tests.recipes.test_reward_recipes import all_pairs, responses_of, told

Row = dict[str, Any]


def candidates(*marks: float) -> pa.Table:
    """Responses to one prompt, with these marks by rm."""
    rows = []
    for number, mark in enumerate(marks):
        scores = [{"rater": "rm", "aspect": "mark", "value": mark}]
        row = {"row": number, "prompt_id": "p", "prompt": [{"role": "user", "content": "p"}], "response": f"answer {number}"}
        rows.append(row | {"response_id": ids.response_id("p", f"answer {number}", number), "scores": scores})
    return tables.from_rows(rows, "responses")


# -- CodeUltraFeedback: where all ratings are equal, the same response is drawn as chosen and as rejected

POLICIES = ["best_worst", "best_random", "best_vs_k", "all_gap", "random_gap", "adjacent", "correct_incorrect", "levels"]


@pytest.mark.parametrize("how", POLICIES)
def test_equal_ratings_make_no_pair(how: Any) -> None:
    made = Pair(by="rm", how=how)(candidates(3, 3, 3, 3))
    assert made.rows.num_rows == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("how", ["best_worst", "best_random", "all_gap", "random_gap", "adjacent"])
def test_where_ties_are_kept_a_response_still_never_meets_itself(how: Any, seed: int) -> None:
    made = Pair(by="rm", how=how, ties="keep", seed=seed)(candidates(3, 3, 3, 3))
    sides = zip(made.rows["chosen_id"].to_pylist(), made.rows["rejected_id"].to_pylist(), strict=True)
    assert made.rows.num_rows and all(chosen != rejected for chosen, rejected in sides)


def test_codeultrafeedback_pairs_two_responses_and_none_of_equal_ratings(run: Callable[..., Version]) -> None:
    version = run("codeultrafeedback", "--set", "pair.min_gap=0")
    marks = {row["response_id"]: told(row, "preference", "score") for row in responses_of(version)}
    pairs = all_pairs(version)
    assert len(pairs) > 100
    assert all(marks[pair["chosen_id"]] > marks[pair["rejected_id"]] for pair in pairs)
    assert all(pair["chosen"][0]["content"] != pair["rejected"][0]["content"] for pair in pairs)


# -- SPPO: a response's comparison with itself, and a test split sampled from the training rows


def test_a_response_counts_against_itself_only_where_that_is_asked_for() -> None:
    scores = [2.0, 0.0, -1.0]
    others = [[sigmoid(one - other) for other in scores if other != one] for one in scores]
    for itself, expected in ((True, [(sum(row) + 0.5) / 3 for row in others]), (False, [sum(row) / 2 for row in others])):
        made = Prefer(name="prefer", by="rm", itself=itself)(candidates(*scores).drop_columns(["row"]))
        wins = tables.value_of(made["scores"], rater="prefer", aspect="win")
        assert wins.tolist() == pytest.approx(expected, abs=1e-6)
        assert wins.mean() == pytest.approx(0.5, abs=1e-6)  # what one wins another loses


def test_sppo_without_itself_is_the_mean_over_the_other_four(run: Callable[..., Version]) -> None:
    version = run("sppo", "--set", "prefer.itself=false")
    prompts = by_prompt(responses_of(version))
    for row in exported(version, "sppo"):
        marks = {each["response"]: value(each["scores"], "ranker", "overall") / 2 for each in prompts[row["prompt_id"]]}  # type: ignore[operator]
        for side, name in (("chosen", "chosen_probs_win"), ("rejected", "chosen_probs_lose")):
            own = marks[row[side][-1]["content"]]
            among = [sigmoid(own - mark) for mark in marks.values()]
            assert row[name] == pytest.approx((sum(among) - 0.5) / 4, abs=1e-5)


def test_sppo_is_tested_on_prompts_it_is_not_trained_on(run: Callable[..., Version]) -> None:
    version = run("sppo", "--set", "split.test=0.2")
    rows = exported(version, "sppo")
    train, test = ({row["prompt_id"] for row in rows if row["split"] == split} for split in ("train", "test"))
    assert len(test) > 10 and not train & test
    assert len({row["pair_id"] for row in rows}) == len(rows)


def exported(version: Version, to: str) -> list[Row]:
    """The rows that the recipe exported, each with its split and prompt."""
    prompts = {pair["pair_id"]: pair["prompt_id"] for pair in table_of(version, "pairs").to_dicts()}
    folder = version.path.parents[2] / "exports" / f"{version.name}-v{version.number}-{to}"
    rows = [(path.stem, json.loads(line)) for path in folder.glob("*.jsonl") for line in path.read_bytes().split(b"\n") if line]
    return [row | {"split": split, "prompt_id": prompts[row["pair_id"]]} for split, row in rows]


# -- HelpSteer2: the strength of a preference is copied onto both responses as their quality


def test_each_response_of_a_pair_is_exported_with_its_own_ratings(run: Callable[..., Version], tmp_path: Path) -> None:
    version = run("helpsteer2")
    done = export(version, "attributes", tmp_path / "out", attribute=("helpfulness", "correctness", "sum"))
    lines = [line for path in done.path.glob("*.jsonl") for line in path.read_bytes().split(b"\n") if line]
    rows = {row["response_id"]: row for row in map(json.loads, lines)}
    own = {row["response_id"]: row for row in responses_of(version)}
    pairs = table_of(version, "pairs").to_dicts()
    assert len(pairs) > 60
    for pair in pairs:
        chosen, rejected = rows[pair["chosen_id"]], rows[pair["rejected_id"]]
        assert chosen["sum"] - rejected["sum"] == pytest.approx(pair["margin"], abs=1e-4)  # > 0: never the same number on both
        for row in (chosen, rejected):
            for name in ("helpfulness", "correctness", "sum"):
                assert row[name] == pytest.approx(told(own[row["response_id"]], name, "score"), abs=1e-5)
    assert not any("margin" in row or "preference_strength" in row for row in rows.values())


# -- JudgeBench: a right verdict in one order and a tie in the other counts as right


def votes(*orders: tuple[float, float]) -> pa.Table:
    """Pairs with a judge's verdicts for the chosen side, in both orders."""
    rows = []
    for number, (shown, swapped) in enumerate(orders):
        vote = {"rater": "judge", "aspect": "overall", "p_chosen": shown, "p_swapped": swapped}
        row = {"row": number, "pair_id": f"pair {number}", "chosen": "right", "rejected": "wrong", "votes": [vote]}
        rows.append(row)
    return tables.from_rows(rows, "pairs")


VERDICTS = [(1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (0.5, 0.5), (1.0, 0.0), (0.0, 0.5)]
"""Right twice, right and a tie, a tie and right, two ties, right and wrong, wrong and a tie."""


def test_right_and_a_tie_is_told_from_right_in_both_orders() -> None:
    """The published tally calls the first three right; `order_flip` says of which the judge was sure."""
    made = Consistency(name="tally", voters=["judge:overall"], how="share", min_agreement=0)(votes(*VERDICTS))
    tally, flip = (tables.value_of(made["evidence"], by="tally", name=name) for name in ("agreement", "order_flip"))
    assert tally.tolist() == [1.0, 1.0, 1.0, 0.5, 0.5, 0.0]
    assert flip.tolist() == [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    assert ((tally == 1) & (flip == 0)).tolist() == [True, False, False, False, False, False]


def test_right_and_a_tie_does_not_pass_where_both_orders_must_agree() -> None:
    made = Consistency(name="sure", voters=["judge:overall"], how="order")(votes(*VERDICTS))
    kept = [not flags for flags in made["flags"].to_pylist()]
    assert kept == [True, False, False, True, False, False]  # two ties agree, and speak for nobody


def test_right_and_a_tie_is_three_quarters_of_a_vote() -> None:
    made = Prefer(name="prefer", by="judge", how="votes", smoothing=0)(votes(*VERDICTS))
    assert made["label_prob"].to_pylist() == [1.0, 0.75, 0.75, 0.5, 0.5, 0.25]


def test_judgebench_tells_sure_verdicts_from_right_ones(run: Callable[..., Version]) -> None:
    pairs = all_pairs(run("judgebench"))
    orders = np.array([[pair["votes"][0]["p_chosen"], pair["votes"][0]["p_swapped"]] for pair in pairs])
    tally, flip = (
        np.array([next(e["value"] for e in pair["evidence"] if (e["by"], e["name"]) == ("tally", name)) for pair in pairs])
        for name in ("agreement", "order_flip")
    )
    sure = (tally == 1) & (flip == 0)
    assert np.array_equal(sure, (orders == 1).all(axis=1))
    assert sure.sum() < (tally == 1).sum()  # some were right once and tied once
