"""Labels that run in a circle: which pairs go, what their flags say, and that nothing but the evidence decides."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate import tables
from curate.filter.consistency import Consistency


def pair(sides, *votes, prompt="p", system=None, margin=None):
    """A pair such as "ab", a chosen, with the votes of j1, j2, ... for it."""
    messages = [{"role": "system", "content": system}] if system else []
    listed = [{"rater": f"j{n}", "aspect": "h", "p_chosen": vote} for n, vote in enumerate(votes)]
    row = {"prompt_id": prompt, "prompt": [*messages, {"role": "user", "content": "?"}], "pair_id": f"{prompt}{sides}"}
    row |= {"chosen_id": sides[0], "rejected_id": sides[1], "votes": listed}
    if margin is not None:
        row["chosen_scores"] = [{"rater": "rm", "aspect": "s", "value": margin}]
        row["rejected_scores"] = [{"rater": "rm", "aspect": "s", "value": 0.0}]
    return row


def found(rows, **parameters):
    """Kept or the cycle each pair would close, and the step's columns."""
    made = Consistency(name="con", how="cycles", **parameters)(tables.from_rows(rows, "pairs"))
    return [flags[-1]["other"] if flags else None for flags in made["flags"].to_pylist()], made


def told(made, name):
    return [next(entry["value"] for entry in row if entry["name"] == name) for row in made["evidence"].to_pylist()]


CIRCLE = [pair("ab", 1, 1, 1), pair("bc", 1, 1), pair("ca", 1, 0, 1), pair("cd", 1)]


def test_the_pair_with_least_evidence_goes_and_its_flag_names_the_cycle():
    named, made = found(CIRCLE, voters=["*"])
    assert named == [None, None, "c > a (1), a > b (3), b > c (2)", None]
    assert made["flags"].to_pylist()[2] == [{"by": "con", "reason": "cycle", "value": 1.0, "other": named[2]}]
    assert told(made, "strength") == [3, 2, 1, 1]
    assert told(made, "in_cycle") == [1, 1, 1, 0]
    assert told(made, "removed") == told(made, "at_least") == [1, 1, 1, None]


def test_without_evidence_the_fewest_pairs_go():
    """b over c closes both circles."""
    rows = [pair("ab"), pair("bc"), pair("ca"), pair("bd"), pair("cd"), pair("da")]
    named, made = found(rows)
    assert [n for n, text in enumerate(named) if text] == [0]
    assert named[0].startswith("a > b, b > ") and told(made, "strength") == [None] * 6


def test_a_raters_margin_may_be_the_evidence():
    rows = [pair("ab", margin=0.2), pair("bc", margin=5), pair("ca", margin=1)]
    assert [text is not None for text in found(rows, raters=["rm"])[0]] == [True, False, False]


def test_evidence_against_a_label_counts_nothing_for_it():
    """Two of three voters are against c over a, one is for b over c."""
    rows = [pair("ab", 1), pair("bc", 1), pair("ca", 0, 0, 1)]
    named, made = found(rows, voters=["*"])
    assert [text is not None for text in named] == [False, False, True]
    assert told(made, "strength")[2] == -1 and told(made, "removed")[2] == 0


def test_a_voter_who_saw_both_orders_is_one_voter():
    rows = [pair("ab", 1), pair("bc", 1), pair("ca", 1)]
    rows[0]["votes"][0]["p_swapped"] = 1.0
    rows[2]["votes"][0]["p_swapped"] = 0.5
    assert told(found(rows, voters=["*"])[1], "strength") == [1, 1, 0.5]


def test_the_same_comparison_twice_stays_or_goes_together():
    rows = [pair("ab", 1), pair("ab", 1), pair("ba", 1, 1, 1)]
    named, made = found(rows, voters=["*"])
    assert named == ["a > b (2), b > a (3)"] * 2 + [None]
    assert told(made, "removed") == [2, 2, 2]


def test_prompts_and_conversations_are_apart():
    across = [pair("ab"), pair("ba", prompt="q")]
    assert found(across)[0] == [None, None]
    other = [pair("ab", system="be brief"), pair("ba", system="be long")]
    named, made = found(other)
    assert named == [None, None] and told(made, "in_cycle") == [0, 0]


def test_pairs_without_ids_are_in_no_cycle():
    rows = [pair("ab"), pair("ba") | {"chosen_id": None}, pair("aa")]
    assert found(rows)[0] == [None] * 3


TOURNAMENTS = st.lists(st.tuples(st.permutations("abcde").map(lambda sides: "".join(sides[:2])), st.integers(0, 3)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(TOURNAMENTS, st.randoms())
def test_the_order_of_rows_does_not_matter_and_nothing_is_left(listed, random):
    rows = [pair(sides, *[1.0] * votes) for sides, votes in listed]
    mixed = rows[:]
    random.shuffle(mixed)
    gone = [
        {row["pair_id"] for row, text in zip(each, found(each, voters=["*"])[0], strict=True) if text} for each in (rows, mixed)
    ]
    assert gone[0] == gone[1]
    kept = [row for row in rows if row["pair_id"] not in gone[0]]
    assert not any(found(kept, voters=["*"])[0])


def test_prompts_apart_give_what_they_give_together_and_empty_stays_empty():
    rows = tables.from_rows([*CIRCLE, *(row | {"prompt_id": "q"} for row in CIRCLE)], "pairs")
    step = Consistency(name="con", how="cycles", voters=["*"])
    assert pa.concat_tables([step(rows.slice(0, 4)), step(rows.slice(4))]).to_pylist() == step(rows).to_pylist()
    assert step(tables.empty("pairs")).num_rows == 0
    narrow = rows.select(step.columns("pairs"))
    assert step(narrow).to_pylist() == step(rows).to_pylist()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"raters": ["a", "b"]}, "weighs pairs by one rater or by voters"),
        ({"raters": ["a"], "voters": ["j"]}, "weighs pairs by one rater or by voters"),
        ({"voters": ["j"], "min_raters": 1}, "leave out min_raters"),
        ({"voters": ["j"], "k": 1}, "k belongs to how: k_of_n"),
    ],
)
def test_parameters_that_contradict_are_refused(wrong, why):
    with pytest.raises(ValidationError, match=why):
        Consistency(how="cycles", **wrong)


def test_a_star_is_for_cycles_alone():
    with pytest.raises(ValidationError, match="voters take \\* in how: cycles alone"):
        Consistency(voters=["*"])
