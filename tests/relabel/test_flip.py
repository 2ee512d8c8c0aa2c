"""Flips: which pairs are turned, what goes with a side, and that turning twice is not turning."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curate import ids, tables
from curate.relabel.evidence import wrong_probability
from curate.relabel.flip import Flip, turn
from curate.relabel.soft_label import SoftLabel

SCORE = {"rater": "rm", "aspect": "reward"}


def measure(by: str, name: str, value: float | None) -> dict[str, Any]:
    return {"by": by, "name": name, "value": value}


def pair(number: int = 0, **fields: Any) -> dict[str, Any]:
    sides: dict[str, Any] = {"chosen_id": f"c{number}", "rejected_id": f"r{number}", "chosen": "yes", "rejected": "no"}
    sides |= {"chosen_scores": [SCORE | {"value": 2.0}], "rejected_scores": [SCORE | {"value": 1.0}]}
    return sides | {"pair_id": ids.pair_id(f"c{number}", f"r{number}"), "origin": "observed", "margin": 1.0} | fields


def table(*rows: dict[str, Any]) -> pa.Table:
    return tables.from_rows(rows, "pairs")


def flipped(made: pa.Table) -> list[bool]:
    return [origin == "flipped" for origin in made["origin"].to_pylist()]


def test_by_the_probability_of_a_wrong_label_above_the_threshold() -> None:
    given = table(*(pair(n, evidence=[measure("peer_review", "flip_prob", p)]) for n, p in enumerate([0.5, 0.51, 0.9, None])))
    assert flipped(Flip(name="flip", by="peer_review:flip_prob")(given)) == [False, True, True, False]
    assert flipped(Flip(name="flip", by="peer_review:flip_prob", above=0.8)(given)) == [False, False, True, False]


def test_label_em_tells_the_probability_of_a_right_label() -> None:
    given = table(*(pair(n, evidence=[measure("label_em", "label_prob", p)]) for n, p in enumerate([0.1, 0.9])))
    assert flipped(Flip(name="flip", by="label_em:label_prob")(given)) == [True, False]


def test_a_measure_that_is_no_probability_is_refused() -> None:
    given = table(pair(evidence=[measure("peer_review", "margin_a", -3.0)]))
    with pytest.raises(ValueError, match=r"margin_a is no probability: it has -3..-3"):
        Flip(name="flip", by="peer_review:margin_a")(given)


@pytest.mark.parametrize("wrong", ["inject_noise:planted", "flip_prob", "peer_review:"])
def test_the_truth_and_names_without_a_step_are_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="planted truth|named as step:name"):
        Flip(by=wrong)


def test_everything_of_a_side_goes_with_it_and_the_pair_names_its_parent() -> None:
    votes = [{"rater": "j", "p_chosen": 0.25, "p_swapped": None}]
    spans = [{"side": "chosen", "start": 0, "end": 3, "weight": 0.0}]
    given = table(pair(label_prob=0.1, votes=votes, spans=spans, chosen_model="a", rejected_model="b"), pair(1, label_prob=0.9))
    one, other = Flip(name="flip")(given).to_pylist()
    assert (one["chosen"], one["chosen_id"], one["chosen_model"], one["margin"]) == ("no", "r0", "b", -1)
    assert (one["chosen_scores"][0]["value"], one["rejected_scores"][0]["value"]) == (1, 2)
    assert (one["votes"][0]["p_chosen"], one["spans"][0]["side"]) == (0.75, "rejected")
    assert one["label_prob"] == pytest.approx(0.9) and one["origin"] == "flipped"
    assert one["pair_id"] == ids.pair_id("r0", "c0") and one["parent_id"] == ids.pair_id("c0", "r0")
    assert (other["chosen"], other["origin"], other["pair_id"]) == ("yes", "observed", ids.pair_id("c1", "r1"))
    assert [row["evidence"][-1] for row in (one, other)] == [measure("flip", "turned", 1), measure("flip", "turned", 0)]


LINEAGE = ("origin", "parent_id", "row")
PROBABILITY = st.none() | st.integers(0, 16).map(lambda sixteenths: sixteenths / 16)


@given(st.lists(st.tuples(st.booleans(), PROBABILITY, PROBABILITY), min_size=1, max_size=6))
def test_turning_twice_gives_the_pairs_back(drawn: list[tuple[bool, float | None, float | None]]) -> None:
    spans = [{"side": "chosen", "start": 0, "end": 1, "weight": 0.5}, {"side": "rejected", "start": 1, "end": 2, "weight": 1.0}]
    rows = [
        pair(n, label_prob=p, goal='{"score":3}' if turned else None, spans=spans if turned else None)
        | {"votes": [{"rater": "j", "p_chosen": vote}], "margin": p}
        for n, (turned, p, vote) in enumerate(drawn)
    ]
    for row in rows:
        row["pair_id"] = ids.pair_id(row["chosen_id"], row["rejected_id"], row["goal"])
    given = table(*rows)
    turned = np.array([told for told, _, _ in drawn])
    again = turn(turn(given, turned), turned)
    names = [name for name in given.column_names if name not in LINEAGE]
    assert again.select(names).to_pylist() == given.select(names).to_pylist()


def test_flipping_again_by_the_same_evidence_changes_nothing() -> None:
    given = table(*(pair(n, evidence=[measure("peer_review", "flip_prob", p)]) for n, p in enumerate([0.9, 0.2])))
    once = Flip(name="flip", by="peer_review:flip_prob")(given)
    twice = Flip(name="again", by="peer_review:flip_prob")(once)
    assert twice["chosen"].to_pylist() == once["chosen"].to_pylist() == ["no", "yes"]
    assert wrong_probability(once, "peer_review:flip_prob").tolist() == pytest.approx([0.1, 0.2])


def test_evidence_written_after_a_flip_speaks_of_the_label_as_it_is() -> None:
    before, turned, after = measure("a", "flip_prob", 0.9), measure("flip", "turned", 1), measure("b", "flip_prob", 0.3)
    given = table(pair(evidence=[before, turned, after]), pair(1, evidence=[before, turned, after, turned]))
    assert wrong_probability(given, "a:flip_prob").tolist() == pytest.approx([0.1, 0.9])
    assert wrong_probability(given, "b:flip_prob").tolist() == pytest.approx([0.3, 0.7])


def test_the_soft_label_after_a_flip_is_that_of_the_turned_label() -> None:
    given = table(*(pair(n, evidence=[measure("peer_review", "flip_prob", p)]) for n, p in enumerate([0.9, 0.2])))
    once = Flip(name="flip", by="peer_review:flip_prob")(given)
    labels = SoftLabel(name="soft", by="peer_review:flip_prob", how="evidence")(once)["label_prob"].to_pylist()
    assert labels == pytest.approx([0.9, 0.8])


def test_no_pairs_are_none() -> None:
    assert Flip(name="flip", by="peer_review:flip_prob")(tables.empty("pairs")).num_rows == 0
