"""Pairs from scored candidates, held against a slow and obvious version of every policy."""

import math

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import ids, tables
from curate.maths import chance
from curate.pair.pair import Pair

POLICIES = ["best_worst", "best_random", "best_vs_k", "all_gap", "random_gap", "adjacent", "correct_incorrect", "levels"]


def candidates(*rows, **common):
    """Responses from (prompt, text, score by rm); a score of None is absent."""
    listed = []
    for number, (prompt, text, score) in enumerate(rows):
        scores = [] if score is None else [{"rater": "rm", "aspect": "score", "value": score}]
        listed.append(
            {
                "row": number,
                "prompt_id": prompt,
                "prompt": [{"role": "user", "content": prompt}],
                "response_id": ids.response_id(prompt, text, number),
                "response": text,
                "model": f"m{number}",
                "scores": scores,
                **common,
            }
        )
    return tables.from_rows(listed, "responses")


def couples(made):
    return list(zip(made.rows["chosen"].to_pylist(), made.rows["rejected"].to_pylist(), strict=True))


def reasons(made):
    return [flags[-1]["reason"] if flags else None for flags in made.flags.to_pylist()]


FOUR = [("p", "a", 1), ("p", "b", 4), ("p", "c", 3), ("p", "d", 2)]


def test_best_worst_takes_the_two_ends():
    made = Pair(by="rm")(candidates(*FOUR))
    assert couples(made) == [("b", "a")]
    assert reasons(made) == [None, None, "not_picked", "not_picked"]


def test_best_vs_k_takes_the_lowest_k():
    made = Pair(by="rm", how="best_vs_k", k=2)(candidates(*FOUR))
    assert couples(made) == [("b", "a"), ("b", "d")]


def test_best_vs_k_meets_three_unless_told():
    assert len(couples(Pair(by="rm", how="best_vs_k")(candidates(*FOUR, ("p", "e", 0))))) == 3


def test_all_gap_makes_every_two_in_order_of_the_rows():
    made = Pair(by="rm", how="all_gap", min_gap=2)(candidates(*FOUR))
    assert couples(made) == [("b", "a"), ("b", "d"), ("c", "a")]


def test_all_gap_keeps_the_largest_gaps_of_a_prompt():
    made = Pair(by="rm", how="all_gap", per_prompt=1)(candidates(*FOUR))
    assert couples(made) == [("b", "a")]


def test_adjacent_walks_down_the_ranking():
    assert couples(Pair(by="rm", how="adjacent")(candidates(*FOUR))) == [("b", "c"), ("c", "d"), ("d", "a")]


def test_correct_incorrect_spreads_over_different_candidates():
    rows = [("p", "r1", 1), ("p", "r2", 1), ("p", "w1", 0), ("p", "w2", 0), ("p", "w3", 0.49)]
    made = couples(Pair(by="rm", how="correct_incorrect", per_prompt=2)(candidates(*rows)))
    assert len({right for right, _ in made}) == len({wrong for _, wrong in made}) == 2
    assert {right[0] for right, _ in made} == {"r"} and {wrong[0] for _, wrong in made} == {"w"}


def test_correct_incorrect_without_a_limit_makes_every_couple_once():
    rows = [("p", f"r{i}", 1) for i in range(4)] + [("p", f"w{i}", 0) for i in range(6)]
    made = couples(Pair(by="rm", how="correct_incorrect")(candidates(*rows)))
    assert len(made) == len(set(made)) == 24


def test_correct_incorrect_says_all_right_and_all_wrong():
    made = Pair(by="rm", how="correct_incorrect")(candidates(("p", "a", 1), ("p", "b", 0.5), ("q", "c", 0), ("q", "d", 0.4)))
    assert reasons(made) == ["all_right", "all_right", "all_wrong", "all_wrong"]


def test_levels_pairs_across_cuts_only():
    rows = [("p", "a", 1), ("p", "b", 2), ("p", "c", 5), ("p", "d", 9)]
    made = Pair(by="rm", how="levels", levels=[2, 6])(candidates(*rows))
    assert couples(made) == [("b", "a"), ("c", "a"), ("d", "a"), ("d", "b"), ("d", "c")]


def test_equal_scores_are_ties():
    made = Pair(by="rm")(candidates(("p", "a", 2), ("p", "b", 2)))
    assert couples(made) == [] and reasons(made) == ["tie", "tie"]


def test_kept_ties_choose_the_earlier_row():
    made = Pair(by="rm", ties="keep")(candidates(("p", "a", 2), ("p", "b", 2)))
    assert couples(made) == [("a", "b")] and made.rows["margin"].to_pylist() == [0.0]


def test_identical_texts_never_pair():
    made = Pair(by="rm")(candidates(("p", "same", 5), ("p", "same", 1)))
    assert couples(made) == [] and reasons(made) == ["identical", "identical"]


def test_best_worst_falls_back_when_the_worst_is_identical():
    made = Pair(by="rm")(candidates(("p", "same", 5), ("p", "same", 1), ("p", "else", 3)))
    assert couples(made) == [("same", "else")] and reasons(made) == [None, "identical", None]


def test_texts_that_differ_in_earlier_turns_are_not_identical():
    table = candidates(("p", "done", 5), ("p", "done", 1))
    turns = [[{"role": "assistant", "content": "let me look"}, {"role": "assistant", "content": "done"}], None]
    kind = table.schema.field("turns").type
    table = table.set_column(table.column_names.index("turns"), "turns", pa.array(turns, kind))
    made = Pair(by="rm")(table)
    assert couples(made) == [("done", "done")] and made.rows["rejected_turns"].to_pylist() == [None]


def test_a_gap_of_tenths_reaches_its_threshold():
    assert couples(Pair(by="rm", min_gap=0.3)(candidates(("p", "a", 0.9), ("p", "b", 0.6)))) == [("a", "b")]


@pytest.mark.parametrize(
    ("guard", "reason"), [({"min_gap": 3}, "small_gap"), ({"floor": 9}, "below_floor"), ({"max_length_ratio": 2}, "length_ratio")]
)
def test_a_guard_says_its_name(guard, reason):
    made = Pair(by="rm", **guard)(candidates(("p", "a" * 7, 5), ("p", "bbb", 3)))
    assert couples(made) == [] and reasons(made) == [reason, reason]


def test_length_is_counted_in_characters():
    assert couples(Pair(by="rm", max_length_ratio=1)(candidates(("p", "ééé", 2), ("p", "abc", 1)))) == [("ééé", "abc")]


def test_rows_that_cannot_be_compared_say_why():
    made = Pair(by="rm")(
        candidates(("p", "a", 1), ("q", "b", None), ("q", "c", 2), ("q", None, 3), ("r", "d", math.inf), ("r", "e", 1))
    )
    assert reasons(made) == ["single_candidate", "no_score", "single_candidate", "no_response", "no_score", "single_candidate"]


def test_a_flag_holds_step_and_score():
    made = Pair(by="rm", name="duel")(candidates(("p", "a", 7)))
    assert made.flags.to_pylist() == [[{"by": "duel", "reason": "single_candidate", "value": 7.0, "other": None}]]


def test_a_pair_carries_both_sides_and_the_chosen_prompt():
    table = candidates(("p", "a", 1), ("p", "b", 4), source="mine", meta='{"x":1}', parent_id="older")
    (row,) = Pair(by="rm")(table).rows.to_pylist()
    first, second = table.to_pylist()
    assert (row["chosen_id"], row["rejected_id"]) == (second["response_id"], first["response_id"])
    assert (row["chosen_model"], row["rejected_model"]) == ("m1", "m0")
    assert (row["chosen_scores"], row["rejected_scores"]) == (second["scores"], first["scores"])
    assert row["pair_id"] == ids.pair_id(second["response_id"], first["response_id"])
    assert (row["margin"], row["origin"], row["source"], row["meta"], row["prompt"]) == (
        3,
        "observed",
        "mine",
        '{"x":1}',
        second["prompt"],
    )
    assert row["parent_id"] is row["scores"] is row["evidence"] is row["flags"] is row["label_prob"] is None


def test_rows_have_every_column_of_a_pair_but_row():
    made = Pair(by="rm")(candidates(*FOUR))
    assert made.rows.column_names == [name for name in tables.SCHEMAS["pairs"].names if name != "row"]


def test_several_raters_are_refused():
    with pytest.raises(ValidationError, match="got 2: aggregate them first"):
        Pair(by=["rm", "judge"])


def test_several_aspects_are_refused_by_name():
    scores = [{"rater": "rm", "aspect": aspect, "value": 1.0} for aspect in ("help", "harm")]
    table = tables.from_rows([{"prompt_id": "p", "response_id": "x", "response": "a", "scores": scores}], "responses")
    with pytest.raises(ValueError, match="harm, help.*aggregate first, or say rm:harm"):
        Pair(by="rm")(table)
    Pair(by="rm:help")(table)


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 2},
        {"levels": [1, 2]},
        {"how": "levels", "levels": [2, 1]},
        {"ties": "keep", "min_gap": 1},
        {"ties": "keep", "how": "levels"},
        {"min_gap": math.nan},
        {"per_prompt": 0},
    ],
)
def test_parameters_that_contradict_are_refused(wrong):
    with pytest.raises(ValidationError):
        Pair(by="rm", **wrong)


def random_table(seed, size=300, prompts=70):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(size):
        score = None if rng.random() < 0.1 else float(rng.choice([0, 0.25, 0.5, 0.75, 1, 2, 3]))
        text = None if rng.random() < 0.05 else "ab"[rng.integers(2)] * int(rng.integers(1, 6))
        rows.append((f"prompt {rng.integers(prompts)}", text, score))
    return candidates(*rows)  # prompts are scattered over the table


def draw(row, seed):
    """The number a response draws, asked for alone."""
    return chance.combine(*(chance.hash_texts(pa.array([row[name]]), seed) for name in ("prompt_id", "response_id")))


def slow_standing(step, better, worse):
    gap = better["score"] - worse["score"]
    lengths = sorted([len(better["response"]), len(worse["response"])])
    if better["response"] == worse["response"]:
        return "identical"
    if step.levels is not None:
        if sum(better["score"] >= cut for cut in step.levels) == sum(worse["score"] >= cut for cut in step.levels):
            return "tie"
    elif gap == 0 and step.ties == "drop":
        return "tie"
    if gap < step.min_gap:
        return "small_gap"
    if step.floor is not None and better["score"] < step.floor:
        return "below_floor"
    if step.max_length_ratio is not None and lengths[1] > step.max_length_ratio * lengths[0]:
        return "length_ratio"
    return "not_picked"


def slow_order(step, ranked):
    """The comparisons of one prompt in the order in which the policy would take them, and how many it takes."""
    every = [(a, b) for i, a in enumerate(ranked) for b in ranked[i + 1 :]]
    with_best = [(a, b) for a, b in every if a is ranked[0]]
    coin = {id(row): draw(row, step.seed) for row in ranked}

    def toss(pair):
        return int(chance.combine(coin[id(pair[0])], coin[id(pair[1])])[0])

    if step.how == "best_worst":
        return with_best[::-1], 1
    if step.how == "best_random":
        return sorted(with_best, key=toss), step.per_prompt or 1
    if step.how == "best_vs_k":
        return with_best[::-1], min(step.k or 3, step.per_prompt or 99)
    if step.how == "random_gap":
        return sorted(every, key=toss), step.per_prompt or 1
    if step.how == "adjacent":
        return list(zip(ranked, ranked[1:], strict=False)), step.per_prompt
    if step.how == "correct_incorrect":
        shuffled = sorted(ranked, key=lambda row: int(coin[id(row)][0]))
        right, wrong = [r for r in shuffled if r["score"] >= 0.5], [r for r in shuffled if r["score"] < 0.5]
        order = []
        for turn in range(len(right) * len(wrong)):
            shift = turn // math.lcm(len(right), len(wrong))
            order.append((right[turn % len(right)], wrong[(turn + shift) % len(wrong)]))
        return order, step.per_prompt
    return sorted(every, key=lambda pair: pair[1]["score"] - pair[0]["score"]), step.per_prompt


def slow_pair(step, table):
    """(chosen row, rejected row) of every pair, and the reason of every response."""
    rows = table.to_pylist()
    checks = ["identical", "tie", "small_gap", "below_floor", "length_ratio", "not_picked", None]
    reasons = {}
    pairs = []
    for row in rows:
        row["score"] = row["scores"][-1]["value"] if row["scores"] else None
    for prompt in {row["prompt_id"] for row in rows}:
        group = [row for row in rows if row["prompt_id"] == prompt]
        usable = [row for row in group if row["response"] is not None and row["score"] is not None]
        for row in group:
            reasons[row["row"]] = "single_candidate"
            if len(group) > 1 and row["response"] is None:
                reasons[row["row"]] = "no_response"
            elif len(group) > 1 and row["score"] is None:
                reasons[row["row"]] = "no_score"
        if len(usable) < 2:
            continue
        if step.how == "correct_incorrect":
            for row in usable:
                reasons[row["row"]] = "all_right" if row["score"] >= 0.5 else "all_wrong"
        order, limit = slow_order(step, sorted(usable, key=lambda row: -row["score"]))
        outcomes = {}
        for better, worse in order:
            outcome = slow_standing(step, better, worse)
            if outcome == "not_picked" and (limit is None or limit > 0):
                limit = None if limit is None else limit - 1
                pairs.append((better["row"], worse["row"]))
                outcome = None
            for side in (better, worse):
                outcomes.setdefault(side["row"], []).append(outcome)
        reasons |= {row: max(found, key=checks.index) for row, found in outcomes.items()}
    return sorted(pairs), [reasons[row["row"]] for row in rows]


GUARDS = [
    {},
    {"per_prompt": 2},
    {"min_gap": 0.5, "max_length_ratio": 2.0, "seed": 3},
    {"floor": 0.75, "per_prompt": 3},
    {"ties": "keep"},
]
COMBINED = [
    (how, guards) for how in POLICIES for guards in GUARDS if "ties" not in guards or how not in ("correct_incorrect", "levels")
]


@pytest.mark.parametrize(("how", "guards"), COMBINED, ids=str)
def test_every_policy_agrees_with_the_slow_version(how, guards):
    extra = {"levels": (0.5, 2)} if how == "levels" and guards else {}
    step = Pair(by="rm", how=how, **guards, **extra)
    for seed in range(3):
        table = random_table(seed)
        row_of = {name: row for row, name in enumerate(table["response_id"].to_pylist())}
        made = step(table)
        sides = zip(made.rows["chosen_id"].to_pylist(), made.rows["rejected_id"].to_pylist(), strict=True)
        expected_pairs, expected_reasons = slow_pair(step, table)
        assert [(row_of[chosen], row_of[rejected]) for chosen, rejected in sides] == expected_pairs
        assert reasons(made) == expected_reasons


@pytest.mark.parametrize("how", POLICIES)
def test_shards_and_repeats_change_nothing(how):
    table = random_table(11)
    table = table.take(pa.array(np.argsort(table["prompt_id"].to_numpy(), kind="stable")))
    before = table.to_pylist()
    step = Pair(by="rm", how=how, seed=5)
    whole = step(table)
    prompts = table["prompt_id"].to_pylist()
    cut = next(i for i in range(150, 300) if prompts[i] != prompts[i - 1])
    parts = [step(table.slice(0, cut)), step(table.slice(cut))]
    assert pa.concat_tables([part.rows for part in parts]).to_pylist() == whole.rows.to_pylist()
    assert [flags for part in parts for flags in part.flags.to_pylist()] == whole.flags.to_pylist()
    assert step(table).rows.equals(whole.rows) and table.to_pylist() == before


@pytest.mark.parametrize("how", POLICIES)
def test_an_empty_table_makes_an_empty_table(how):
    made = Pair(by="rm", how=how)(tables.empty("responses"))
    assert made.rows.num_rows == len(made.flags) == 0


@pytest.mark.parametrize("how", POLICIES)
def test_every_response_is_in_a_pair_or_flagged(how):
    table = random_table(4)
    made = Pair(by="rm", how=how)(table)
    used = set(made.rows["chosen_id"].to_pylist()) | set(made.rows["rejected_id"].to_pylist())
    assert [name in used for name in table["response_id"].to_pylist()] == [reason is None for reason in reasons(made)]


def test_another_seed_draws_other_pairs():
    table = random_table(6)
    first, second = (Pair(by="rm", how="random_gap", seed=seed)(table).rows["pair_id"].to_pylist() for seed in (0, 1))
    assert first != second


def test_random_policies_meet_every_other_about_equally_often():
    rows = [(f"p{i}", text, score) for i in range(900) for text, score in (("best", 3), ("x", 0), ("y", 1), ("z", 2))]
    rejected = Pair(by="rm", how="best_random")(candidates(*rows)).rows["rejected"].to_pylist()
    assert all(250 < rejected.count(text) < 350 for text in "xyz")  # 300 expected, standard deviation 14


def test_earlier_flags_and_scores_of_others_are_left_alone():
    table = candidates(("p", "a", 1), flags=[{"by": "old", "reason": "kept for show"}])
    (flags,) = Pair(by="rm", name="pair")(table).flags.to_pylist()
    assert [flag["by"] for flag in flags] == ["old", "pair"]
