"""Pairs across system messages and among the siblings of a tree, held against slow and obvious versions."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.pair.pair import Pair


def written(*rows, **more):
    """Responses from (prompt, text, system message)."""
    listed = []
    for prompt, text, system in rows:
        meta = None if system is None else json.dumps({"system": system, "kind": "k"})
        message = {"role": "user", "content": prompt}
        listed.append(
            {"prompt_id": prompt, "prompt": [message], "response": text, "response_id": f"{prompt}/{text}", "meta": meta}
        )
    return tables.from_rows([row | more for row in listed], "responses")


def steps(*rows):
    """Responses from (prompt, id, parent, right by a check); the text is the id."""
    listed = []
    for prompt, step, parent, right in rows:
        scores = [] if right is None else [{"rater": "check", "aspect": "right", "value": right}]
        message = {"role": "user", "content": prompt}
        row = {"prompt_id": prompt, "prompt": [message], "response": step, "response_id": step, "parent_id": parent}
        listed.append(row | {"scores": scores})
    return tables.from_rows(listed, "responses")


def couples(made):
    return list(zip(made.rows["chosen"].to_pylist(), made.rows["rejected"].to_pylist(), strict=True))


def reasons(made):
    return [flags[-1]["reason"] if flags else None for flags in made.flags.to_pylist()]


def told(made):
    return [[(message["role"], message["content"]) for message in prompt] for prompt in made.rows["prompt"].to_pylist()]


# -- under the system message of the chosen side


def test_the_chosen_sides_system_message_may_become_part_of_the_prompt():
    """Beside the policy that always does so; a response without one leaves its prompt as it is."""
    table = written(("p", "good", "be brief"), ("p", "bad", "be brief"), ("q", "good", None), ("q", "bad", None))
    scores = [[{"rater": "r", "aspect": "s", "value": value}] for value in (2.0, 1.0, 2.0, 1.0)]
    table = table.set_column(table.column_names.index("scores"), "scores", pa.array(scores, table.schema.field("scores").type))
    assert told(Pair(by="r")(table)) == [[("user", "p")], [("user", "q")]]
    under = Pair(by="r", with_system=True)
    assert told(under(table)) == [[("system", "be brief"), ("user", "p")], [("user", "q")]]
    assert "meta" in under.reads("responses") and "meta" not in Pair(by="r").reads("responses")


# -- across system messages


def test_what_was_written_under_another_system_message_is_rejected():
    made = Pair(how="cross_system", per_prompt=9)(
        written(("p", "short", "be brief"), ("p", "verse", "be a poet"), ("q", "x", "s"))
    )
    assert couples(made) == [("short", "verse"), ("verse", "short")]
    assert told(made) == [[("system", "be brief"), ("user", "p")], [("system", "be a poet"), ("user", "p")]]
    assert made.rows["prompt_id"].to_pylist() == ["p", "p"]
    assert made.rows["margin"].to_pylist() == [None, None]


def test_across_systems_one_pair_a_prompt_is_drawn_unless_more_are_wanted():
    rows = [(f"p{number}", text, system) for number in range(300) for text, system in (("a", "s"), ("b", "t"), ("c", "u"))]
    made = Pair(how="cross_system", seed=3)(written(*rows))
    assert made.rows["prompt_id"].to_pylist() == [f"p{number}" for number in range(300)]
    counted = Counter(couples(made))
    assert len(counted) == 6 and min(counted.values()) > 25  # each of the six is drawn about 50 times
    assert couples(Pair(how="cross_system", seed=4)(written(*rows))) != couples(made)


def test_every_couple_across_systems_and_no_other_is_possible():
    random = np.random.default_rng(5)
    rows = [(f"p{random.integers(12)}", f"t{n}", random.choice(["s", "t", "u", None])) for n in range(60)]
    made = Pair(how="cross_system", per_prompt=10_000)(written(*rows))
    slow = {
        (one, other)
        for prompt, one, system in rows
        for second, other, another in rows
        if prompt == second and None not in (system, another) and system != another
    }
    assert len(couples(made)) == len(slow) and set(couples(made)) == slow


def test_who_is_in_no_pair_across_systems_is_told_why():
    table = written(
        ("p", "a", "s"), ("p", "b", "s"), ("q", "c", None), ("q", "d", "s"), ("r", "e", "s"), ("t", "f", "s"), ("t", "f", "u")
    )
    assert reasons(Pair(how="cross_system")(table)) == [
        "one_system",
        "one_system",
        "no_system",
        "single_candidate",
        "single_candidate",
        "identical",
        "identical",
    ]


def test_systems_may_be_told_apart_by_another_field():
    metas = [
        {"system": "wording 1", "preferences": "x"},
        {"system": "wording 2", "preferences": "x"},
        {"system": "w", "preferences": "y"},
    ]
    table = written(("p", "a", "s"), ("p", "b", "s"), ("p", "c", "s"))
    table = table.set_column(table.column_names.index("meta"), "meta", pa.array([json.dumps(meta) for meta in metas]))
    made = Pair(how="cross_system", system="preferences", per_prompt=9)(table)
    assert couples(made) == [("a", "c"), ("b", "c"), ("c", "a"), ("c", "b")]
    assert [prompt[0][1] for prompt in told(made)] == ["wording 1", "wording 2", "w", "w"]


def test_a_system_message_that_is_there_is_added_to():
    own = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    made = Pair(how="cross_system", per_prompt=9)(written(("p", "a", "s"), ("p", "b", "t"), prompt=own))
    assert told(made)[0] == [("system", "be kind\n\ns"), ("user", "hello")]
    grown = [{"role": "system", "content": "be kind\n\ns"}, {"role": "user", "content": "hello"}]
    again = Pair(how="cross_system", per_prompt=9)(written(("p", "a", "s"), ("p", "b", "t"), prompt=grown))
    assert told(again)[0] == [("system", "be kind\n\ns"), ("user", "hello")]


# -- trees

TREE = [
    ("p", "1", None, 1.0),
    ("p", "2", None, 0.0),
    ("p", "1a", "1", 1.0),
    ("p", "1b", "1", 0.0),
    ("p", "2a", "2", 0.0),
    ("p", "2b", "2", 0.0),
    ("p", "1a1", "1a", 0.0),
    ("p", "1a2", "1a", 1.0),
]


def test_right_meets_wrong_among_siblings_only():
    made = Pair(by="check", how="tree")(steps(*TREE))
    assert couples(made) == [("1", "2"), ("1a", "1b"), ("1a2", "1a1")]
    assert reasons(made) == [None, None, None, None, "all_wrong", "all_wrong", None, None]


def test_the_steps_above_belong_to_the_prompt():
    made = Pair(by="check", how="tree")(steps(*TREE))
    assert told(made) == [
        [("user", "p")],
        [("user", "p"), ("assistant", "1")],
        [("user", "p"), ("assistant", "1"), ("assistant", "1a")],
    ]
    assert set(made.rows["prompt_id"].to_pylist()) == {"p"}


def test_a_step_of_several_turns_is_told_with_all_of_them():
    table = steps(*TREE[:4])
    turns = [{"role": "assistant", "content": "try"}, {"role": "user", "content": "wrong"}, {"role": "assistant", "content": "1"}]
    column = pa.array([turns, None, None, None], table.schema.field("turns").type)
    made = Pair(by="check", how="tree")(table.set_column(table.column_names.index("turns"), "turns", column))
    assert told(made)[1] == [("user", "p"), ("assistant", "try"), ("user", "wrong"), ("assistant", "1")]


def test_pairs_are_limited_for_each_parent():
    rows = [
        ("p", f"{side}{n}", parent, right)
        for parent, side in ((None, "r"), ("r0", "s"))
        for n, right in enumerate((1.0, 1.0, 0.0))
    ]
    made = Pair(by="check", how="tree", per_prompt=1)(steps(*rows))
    assert len(couples(made)) == 2
    assert len(couples(Pair(by="check", how="tree")(steps(*rows)))) == 4


def test_a_step_whose_way_up_is_broken_is_left_out():
    table = steps(
        ("p", "a", "gone", 1.0),
        ("p", "b", "gone", 0.0),
        ("p", "c", "a", 1.0),
        ("p", "d", "a", 0.0),
        ("p", "x", "y", 1.0),
        ("p", "y", "x", 0.0),
        ("q", "e", "c", 1.0),  # a step of another prompt is no parent
    )
    made = Pair(by="check", how="tree")(table)
    assert couples(made) == [] and reasons(made) == ["no_parent"] * 7


def test_a_field_of_meta_may_hold_the_steps_ids():
    """Those of a file: two steps may say the same, and then a content hash names both."""
    made_of = [("1", None, 1.0), ("2", None, 0.0), ("11", "1", 1.0), ("12", "1", 0.0), ("21", "2", 0.0), ("22", "2", 1.0)]
    table = steps(*(("p", "so", parent, right) for _, parent, right in made_of))
    texts = pa.array([f"step {step}" for step, _, _ in made_of], pa.string())
    metas = pa.array([json.dumps({"id": int(step)}) for step, _, _ in made_of], pa.string())
    for name, column in (("response", texts), ("meta", metas)):
        table = table.set_column(table.column_names.index(name), name, column)
    made = Pair(by="check", how="tree", step="id")(table)
    assert couples(made) == [("step 1", "step 2"), ("step 11", "step 12"), ("step 22", "step 21")]
    assert told(made)[2] == [("user", "p"), ("assistant", "step 2")]
    assert "meta" in Pair(by="check", how="tree", step="id").reads("responses")
    with pytest.raises(ValidationError, match="step belongs to how: tree"):
        Pair(by="check", step="id")


def test_a_long_chain_is_followed_to_its_root():
    chain = [("p", str(n), str(n - 1) if n else None, 1.0) for n in range(100)]
    made = Pair(by="check", how="tree")(steps(*chain, ("p", "wrong", "98", 0.0)))
    assert couples(made) == [("99", "wrong")]
    assert [text for _, text in told(made)[0]] == ["p", *map(str, range(99))]


def test_trees_are_paired_as_a_slow_walk_pairs_them():
    random = np.random.default_rng(9)
    rows = []
    for n in range(200):
        prompt = f"p{random.integers(8)}"
        above = [step for other, step, _, _ in rows if other == prompt]
        parent = random.choice([*above, "gone"]).item() if above and random.random() < 0.8 else None
        rows.append((prompt, f"n{n}", parent, random.choice([0.0, 1.0, None])))
    by_id = {step: parent for _, step, parent, _ in rows}

    def grounded(step):
        while step is not None:
            if step not in by_id:
                return False
            step = by_id[step]
        return True

    slow = {
        (one, other)
        for prompt, one, parent, right in rows
        for second, other, another, wrong in rows
        if (prompt, parent, right, wrong) == (second, another, 1.0, 0.0) and grounded(one)
    }
    made = Pair(by="check", how="tree")(steps(*rows))
    assert len(slow) > 20 and set(couples(made)) == slow


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"how": "tree"},
        {"how": "cross_system", "by": "rm"},
        {"how": "cross_system", "min_gap": 1},
        {"how": "cross_system", "ties": "keep"},
        {"by": "rm", "system": "other"},
        {"by": "rm", "how": "tree", "ties": "keep"},
    ],
)
def test_parameters_that_contradict_are_refused(wrong):
    with pytest.raises(ValidationError):
        Pair(**wrong)


@pytest.mark.parametrize("parameters", [{"how": "cross_system"}, {"how": "tree", "by": "rm"}])
def test_empty_in_empty_out(parameters):
    assert Pair(**parameters)(tables.empty("responses")).rows.num_rows == 0
