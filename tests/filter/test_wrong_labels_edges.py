"""What each filter of wrong labels makes of data that teach little or nothing: it refuses by name, or its measures say all."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import ids, tables
from curate.errors import CurateError
from curate.filter.label_em import LabelEm
from curate.filter.margin import Margin
from curate.filter.peer_review import PeerReview
from curate.filter.wrong_labels import WrongLabels
from curate.maths import noise_baselines
from curate.maths.peer_review import Settings

Row = dict[str, Any]


def pairs(rows: list[Row]) -> pa.Table:
    made = []
    for number, row in enumerate(rows):
        prompt = [{"role": "user", "content": f"question {row['prompt']}"}]
        sides = {
            f"{side}_scores": [{"rater": rater, "value": value} for rater, value in zip("ab", row[side], strict=True)]
            for side in ("chosen", "rejected")
        }
        texts = {side: f"{side} {row.get('text', number)}" for side in ("chosen", "rejected")}
        made.append({"prompt": prompt, "prompt_id": ids.prompt_id(prompt), "pair_id": f"p{number}", **sides, **texts})
        made[-1] |= {"chosen_id": row.get("chosen_id", f"c{number}"), "rejected_id": row.get("rejected_id", f"r{number}")}
    return tables.from_rows(made, "pairs")


def drawn(count: int = 50, prompts: int = 25, seed: int = 0) -> list[Row]:
    """Chosen sides score higher by rater a, mostly; rater b knows nothing."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, 2, 2))
    return [
        {"prompt": n % prompts, "chosen": [1.0 + noise[n, 0, 0], noise[n, 0, 1]], "rejected": [noise[n, 1, 0], noise[n, 1, 1]]}
        for n in range(count)
    ]


def with_sides(chosen: Any, rejected: Any) -> Callable[[], list[Row]]:
    return lambda: [{**row, "chosen": list(chosen), "rejected": list(rejected)} for row in drawn()]


def some_missing() -> list[Row]:
    rows = drawn(60)
    for number, value in ((3, float("nan")), (17, float("inf")), (40, None)):
        rows[number]["chosen"] = [value, 0.0]
    return rows


def one_missing_everywhere() -> list[Row]:
    return [{**row, "chosen": [row["chosen"][0], None]} for row in drawn()]


def turned(row: Row) -> Row:
    """The same two responses, the other one chosen."""
    return {
        **row,
        "chosen": row["rejected"],
        "rejected": row["chosen"],
        "chosen_id": row["rejected_id"],
        "rejected_id": row["chosen_id"],
    }


def named(rows: list[Row]) -> list[Row]:
    return [{**row, "text": n, "chosen_id": f"c{n}", "rejected_id": f"r{n}"} for n, row in enumerate(rows)]


SITUATIONS: dict[str, tuple[Callable[[], list[Row]], str | None]] = {
    "fifty pairs": (drawn, None),
    "too few pairs": (lambda: drawn(12), "12 pairs with features; at least 20"),
    "one prompt": (lambda: drawn(prompts=1), "share one prompt"),
    "the same features on both sides": (with_sides([1.0, 2.0], [1.0, 2.0]), "same on both sides"),
    "one difference for all": (with_sides([2.0, 0.0], [1.0, 0.0]), None),  # every label equal: the higher score wins
    "one feature that never differs": (
        lambda: [{**r, "chosen": [r["chosen"][0], 7.0], "rejected": [0.0, 7.0]} for r in drawn()],
        None,
    ),
    "a few features missing": (some_missing, None),
    "a feature missing everywhere": (one_missing_everywhere, "no pair has all the numbers"),
    "features that are huge": (
        lambda: [{**r, "chosen": [1e30 * v for v in r["chosen"]], "rejected": [0.0, 0.0]} for r in drawn()],
        None,
    ),
    "every pair twice": (lambda: 2 * named(drawn()), None),
    "every pair and its opposite": (lambda: [*named(drawn()), *map(turned, named(drawn()))], None),
    "one pair fifty times": (lambda: 50 * named(drawn(1)), "share one prompt"),
}
REVIEWS: dict[str, Row] = {
    "linear": {},
    "linear, apart": {"related": "apart"},
    "linear, own reviewer": {"reviewer": "self"},
    "linear, told noise": {"noise": 0.3},
    "linear, no noise": {"noise": 0.0},
    "mlp": {"learner": "mlp", "rounds": 3},
    "mlp, own reviewer, easy first": {"learner": "mlp", "rounds": 3, "reviewer": "self", "curriculum": True},
}
FILTERS: dict[str, WrongLabels] = {
    **{f"peer_review, {name}": PeerReview(name="it", use=["a", "b"], **told) for name, told in REVIEWS.items()},
    "label_em": LabelEm(name="it", use=["a", "b"]),
    "label_em, seen pairs": LabelEm(name="it", use=["a", "b"], cross_fit=False),
    "label_em, by source": LabelEm(name="it", use=["a", "b"], annotator="source", related="apart"),
}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("filtered", FILTERS)
def test_every_filter_refuses_by_name_or_its_measures_say_what_it_did(filtered: str, situation: str) -> None:
    (made, refusal), it = SITUATIONS[situation], FILTERS[filtered]
    table = pairs(made())
    if refusal is not None:
        with pytest.raises(CurateError, match=refusal):
            it(table)
        return
    cut = it.cut()
    assert cut is not None
    found = it(table)
    measure, noise = (tables.value_of(found["evidence"], by="it", name=name) for name in (cut.measure, "noise"))
    flags = found["flags"].to_pylist()
    known = np.isfinite(
        np.array([[s["value"] for s in [*row["chosen_scores"], *row["rejected_scores"]]] for row in table.to_pylist()], float)
    )
    assert (np.isnan(measure) == ~known.all(axis=1)).all()  # only what could not be compared has no measure
    seen = measure[~np.isnan(measure)]
    assert ((seen >= 0) & (seen <= 1)).all() and ((noise >= 0) & (noise <= 0.5)).all()
    beyond = measure > it.threshold if cut.measure == "flip_prob" else measure < 1 - it.threshold
    assert [bool(told) for told in flags] == beyond.tolist()  # each drop by its own measure, and nothing without one
    assert all(flag["reason"] == "wrong_label" and flag["value"] is not None for told in flags for flag in told)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("method", noise_baselines.METHODS)
def test_every_method_of_the_bench_refuses_alike_or_gives_numbers_for_all(method: str, situation: str) -> None:
    (made, refusal), only = SITUATIONS[situation], PeerReview(name="bench", use=["a", "b"])
    features = only.features(pairs(made()))
    if refusal is not None:
        with pytest.raises(CurateError, match=refusal):
            only.comparable(features)
        return
    usable, given = only.comparable(features)
    assert given is not None
    found = noise_baselines.verdict(method, given, Settings(folds=3, rounds=4), wrong=np.zeros(usable.sum(), dtype=bool))
    assert len(found.suspicion) == len(found.flip_prob) == len(found.dropped) == usable.sum()
    assert np.isfinite(found.suspicion).all() and np.isfinite(found.head_D).all()
    assert ((found.flip_prob >= 0) & (found.flip_prob <= 1)).all() and 0 <= found.low <= found.noise <= found.high <= 1
    if method == "untreated":
        assert not found.dropped.any()


@pytest.mark.parametrize("filtered", FILTERS)
def test_labels_that_are_all_as_the_features_say_lose_nothing(filtered: str) -> None:
    found = FILTERS[filtered](pairs(SITUATIONS["one difference for all"][0]()))
    assert not any(found["flags"].to_pylist())


@pytest.mark.parametrize("filtered", FILTERS)
def test_copies_of_a_pair_are_judged_alike(filtered: str) -> None:
    it = FILTERS[filtered]
    cut = it.cut()
    assert cut is not None
    measure = tables.value_of(it(pairs(SITUATIONS["every pair twice"][0]()))["evidence"], by="it", name=cut.measure)
    assert np.allclose(measure[:50], measure[50:], atol=1e-4)


@pytest.mark.parametrize("situation", [name for name, (_, refusal) in SITUATIONS.items() if refusal is None])
def test_margin_drops_only_below_its_threshold_and_keeps_what_it_does_not_know(situation: str) -> None:
    table = pairs(SITUATIONS[situation][0]())
    found = Margin(name="margin", by="a", min=0.0)(table)
    measure = tables.value_of(found["evidence"], by="margin", name="margin")
    assert [bool(told) for told in found["flags"].to_pylist()] == (measure < 0).tolist()
