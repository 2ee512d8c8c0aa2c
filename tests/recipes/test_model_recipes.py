"""Recipes that ask models, run with fake ones: each shows what makes it the system it is named after."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable

import polars as pl
import pytest

from curate.store.versions import Version
from tests.recipes.conftest import check_sound, dropped, steps_of, table_of

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
CODE = ("instruction_following", "readability", "efficiency", "correctness", "explanation")
Score = dict[str, float | int | str | None]


def responses_of(version: Version) -> list[dict]:  # type: ignore[type-arg]
    """Every candidate, in a pair or not."""
    shown, gone = (table_of(version, folder) for folder in ("responses", "dropped/responses"))
    common = [column for column in shown.columns if column in gone.columns]
    return pl.concat([shown.select(common), gone.select(common)]).sort("row").to_dicts()


def value(scores: list[Score], rater: str, aspect: str) -> float | None:
    """The last score by a rater."""
    found = [score["value"] for score in scores if (score["rater"], score["aspect"]) == (rater, aspect)]
    return found[-1] if found else None  # type: ignore[return-value]


def by_prompt(rows: list[dict]) -> dict[str, list[dict]]:  # type: ignore[type-arg]
    together = defaultdict(list)
    for row in rows:
        together[row["prompt_id"]].append(row)
    return dict(together)


@pytest.fixture(scope="module")
def ultrafeedback(run: Callable[..., Version]) -> Version:
    return run("ultrafeedback-style")


def test_ultrafeedback_draws_four_of_the_pool_for_each_prompt(ultrafeedback: Version) -> None:
    check_sound(ultrafeedback)
    prompts = by_prompt(responses_of(ultrafeedback))
    assert len(prompts) == 152
    pools = [frozenset(row["model"] for row in rows) for rows in prompts.values()]
    assert all(len(rows) == 4 for rows in prompts.values()) and {len(pool) for pool in pools} == {4}
    assert len(set(pools)) > 10
    assert {model for pool in pools for model in pool} == {"one", "two", "three", "four", "five", "six"}
    told = Counter(
        name for rows in prompts.values() for row in rows for name in ("helpfulness", "honesty") if name in row["meta"]
    )
    assert told["helpfulness"] > 2 * told["honesty"] > 0  # shares 0.6 and 0.18


def test_ultrafeedback_marks_four_aspects_side_by_side_in_an_order_that_is_kept(ultrafeedback: Version) -> None:
    orders = Counter[tuple[int, ...]]()
    for rows in by_prompt(responses_of(ultrafeedback)).values():
        for aspect in ASPECTS:
            found = [score for row in rows for score in row["scores"] if (score["rater"], score["aspect"]) == ("judge", aspect)]
            assert all(1 <= score["value"] <= 5 for score in found)
            orders[tuple(score["position"] for score in found)] += 1
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len(orders) == 24  # every order was shown to the judge


def test_ultrafeedback_sets_the_best_mean_against_a_random_other(ultrafeedback: Version) -> None:
    rows = responses_of(ultrafeedback)
    means = {row["response_id"]: sum(value(row["scores"], "judge", aspect) or 0 for aspect in ASPECTS) / 4 for row in rows}
    prompts = by_prompt(rows)
    ranks = Counter[int]()
    for pair in table_of(ultrafeedback, "pairs").to_dicts():
        marks = sorted((means[row["response_id"]] for row in prompts[pair["prompt_id"]]), reverse=True)
        assert means[pair["chosen_id"]] == marks[0] > means[pair["rejected_id"]]
        ranks[marks.index(means[pair["rejected_id"]])] += 1
    assert min(ranks[1], ranks[2], ranks[3]) > 15  # not the worst alone
    assert all(value(row["scores"], "judge", "overall") is not None for row in rows)  # the critique's mark


@pytest.fixture(scope="module")
def coig(run: Callable[..., Version]) -> Version:
    return run("coig-p")


def test_coig_asks_only_queries_that_a_model_scores_five_or_more(coig: Version) -> None:
    check_sound(coig)
    gone = table_of(coig, "dropped/prompts").to_dicts()
    assert gone and all(value(row["scores"], "judge_1", "prompt_quality") < 5 for row in gone)  # type: ignore[operator]
    assert dropped(coig, "prompts", "query_filter") == {"low_score": len(gone)}
    asked = {row["prompt_id"] for row in responses_of(coig)}
    assert len(asked) == steps_of(coig)["generate"]["rows_in"] == 152 - len(gone)
    assert not asked & {row["prompt_id"] for row in gone}


def test_coig_pairs_differ_by_more_than_two_marks_of_the_panels_mean(coig: Version) -> None:
    rows = responses_of(coig)
    panel = ("judge_1", "judge_2", "judge_3")
    means = {row["response_id"]: sum(value(row["scores"], judge, "domain_chat") or 0 for judge in panel) / 3 for row in rows}
    pairs = pl.concat(
        [table_of(coig, folder).select("prompt_id", "chosen_id", "rejected_id") for folder in ("pairs", "dropped/pairs")]
    )
    made = {(chosen, rejected) for _, chosen, rejected in pairs.rows()}
    wide = {
        (one["response_id"], other["response_id"])
        for together in by_prompt(rows).values()
        for one in together
        for other in together
        if means[one["response_id"]] - means[other["response_id"]] > 2 + 1e-6 and one["response"] != other["response"]
    }
    assert made == wide  # four responses make at most the six pairs that are kept


def test_coig_lets_the_reward_model_strike_pairs_out(coig: Version) -> None:
    kept, gone = table_of(coig, "pairs"), table_of(coig, "dropped/pairs")
    chosen, rejected = "chosen_score_reward_reward", "rejected_score_reward_reward"
    assert (kept[chosen] >= kept[rejected]).all()
    assert gone.height and (gone[chosen] < gone[rejected]).all()
    assert set(gone["dropped_by"]) == {"reward_filter"}
    assert (kept["margin"] > 2).all()  # still that of the panel


@pytest.fixture(scope="module")
def sppo(run: Callable[..., Version]) -> Version:
    return run("sppo")


def sigmoid(gap: float) -> float:
    return 1 / (1 + math.exp(-gap))


def test_sppo_draws_five_samples_of_the_policy(sppo: Version) -> None:
    check_sound(sppo)
    prompts = by_prompt(responses_of(sppo))
    assert len(prompts) == 152 and all(len(rows) == 5 for rows in prompts.values())
    assert all(row["policy"] == "on" and row["model"] == "policy" for rows in prompts.values() for row in rows)


def test_sppo_sets_best_against_worst_with_both_win_probabilities(sppo: Version) -> None:
    prompts = by_prompt(responses_of(sppo))
    pairs = table_of(sppo, "pairs").to_dicts()
    assert len(pairs) > 140
    for pair in pairs:
        scores = {row["response_id"]: value(row["scores"], "ranker", "overall") / 2 for row in prompts[pair["prompt_id"]]}  # type: ignore[operator]
        wins = {i: sum(sigmoid(scores[i] - scores[j]) for j in scores) / 5 for i in scores}  # 0.5 against itself is among them
        best, worst = pair["chosen_id"], pair["rejected_id"]
        assert (wins[best], wins[worst]) == (max(wins.values()), min(wins.values()))
        assert pair["chosen_score_prefer_win"] == pytest.approx(wins[best], abs=1e-6)
        assert pair["rejected_score_prefer_win"] == pytest.approx(wins[worst], abs=1e-6)
        assert pair["label_prob"] == pytest.approx(sigmoid(scores[best] - scores[worst]), abs=1e-6)
        assert wins[worst] < 0.5 < wins[best] < 1


@pytest.fixture(scope="module")
def code(run: Callable[..., Version]) -> Version:
    return run("codeultrafeedback")


def test_codeultrafeedback_marks_five_preferences_of_programmers(code: Version) -> None:
    check_sound(code)
    rows = responses_of(code)
    assert {len(together) for together in by_prompt(rows).values()} == {4}
    for row in rows:
        shown = {score["aspect"]: score["position"] for score in row["scores"] if score["rater"] == "judge"}
        assert set(shown) == {f"code_{name}" for name in CODE}
        assert set(shown.values()) <= {0, 1, 2, 3}
    assert len(table_of(code, "responses")["model"].unique()) == 5


def test_codeultrafeedback_sets_a_best_against_a_worst_at_least_a_mark_apart(code: Version) -> None:
    rows = responses_of(code)
    means = {row["response_id"]: sum(value(row["scores"], "judge", f"code_{name}") or 0 for name in CODE) / 5 for row in rows}
    paired = set()
    for pair in table_of(code, "pairs").to_dicts():
        paired.add(pair["prompt_id"])
        marks = [means[row["response_id"]] for row in by_prompt(rows)[pair["prompt_id"]]]
        assert (means[pair["chosen_id"]], means[pair["rejected_id"]]) == (max(marks), min(marks))
        assert max(marks) - min(marks) >= 1 - 1e-6
    flat = [together for prompt, together in by_prompt(rows).items() if prompt not in paired]
    assert flat
    for together in flat:
        marks = [means[row["response_id"]] for row in together]
        assert max(marks) - min(marks) < 1 + 1e-6


@pytest.fixture(scope="module")
def judgebench(run: Callable[..., Version]) -> Version:
    return run("judgebench")


def test_judgebench_sets_a_right_answer_against_a_wrong_one(judgebench: Version) -> None:
    pairs = table_of(judgebench, "pairs")
    assert pairs.height == pairs["prompt_id"].n_unique() > 50
    assert set(pairs["chosen_score_verify_correct"]) == {1.0}
    assert set(pairs["rejected_score_verify_correct"]) == {0.0}


def test_judgebench_tallies_two_orders(judgebench: Version) -> None:
    """+1 for the right answer, -1 for the wrong one, 0 for a tie, over both orders: the sign of the sum is the result."""
    results = Counter[float]()
    flips = 0
    for pair in table_of(judgebench, "pairs").to_dicts():
        (vote,) = pair["votes"]
        orders = (vote["p_chosen"], vote["p_swapped"])
        assert set(orders) <= {0.0, 0.5, 1.0}
        total = sum((p > 0.5) - (p < 0.5) for p in orders)
        expected = 1.0 if total > 0 else 0.0 if total < 0 else 0.5
        (told,) = [entry["value"] for entry in pair["evidence"] if (entry["by"], entry["name"]) == ("tally", "agreement")]
        assert told == expected
        (flip,) = [entry["value"] for entry in pair["evidence"] if (entry["by"], entry["name"]) == ("tally", "order_flip")]
        assert flip == (orders[0] != orders[1])
        results[told] += 1
        flips += {0.0, 1.0} == set(orders)
    assert steps_of(judgebench)["tally"]["dropped"] == {}  # a benchmark keeps what the judge got wrong
    assert min(results[1.0], results[0.0], results[0.5]) > 0 and flips > 0
