"""The best, some of each difficulty, or rows unlike each other: what is not chosen is dropped and says why."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate import tables
from curate.filter import select
from curate.filter.select import Select
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.operator import Cut


def answers(*values: float | None, prompts: str = "", texts: list[str] | None = None) -> pa.Table:
    rows = [
        {
            "prompt_id": prompts[n] if prompts else "a",
            "response_id": f"r{n}",
            "response": texts[n] if texts else "text",
            "scores": [{"rater": "rm", "aspect": "quality", "value": value}],
        }
        for n, value in enumerate(values)
    ]
    return tables.from_rows(rows, "responses")


def scored(*values: tuple[float, float]) -> pa.Table:
    """Answers with two scores."""
    rows = [
        {"prompt_id": "a", "response_id": f"r{n}", "response": "text"}
        | {"scores": [{"rater": rater, "aspect": "", "value": value} for rater, value in zip("xy", both, strict=True)]}
        for n, both in enumerate(values)
    ]
    return tables.from_rows(rows, "responses")


def reasons(columns: pa.Table) -> list[str | None]:
    return [flags[-1]["reason"] if flags else None for flags in columns["flags"].to_pylist()]


def places(columns: pa.Table) -> list[float | None]:
    return [row[-1]["value"] for row in columns["evidence"].to_pylist()]


def test_the_top_share_by_score() -> None:
    made = Select(how="top", by="rm", share=0.5)(answers(1.0, 4.0, 2.0, None, 3.0))
    # half of the four that have a score
    assert reasons(made) == ["below_top", None, "below_top", "no_score", None]
    assert places(made) == [4, 1, 3, None, 2]


def test_the_best_so_many_of_each_prompt() -> None:
    made = Select(how="top", by="rm:quality", count=1, within="prompt")(answers(1.0, 2.0, 5.0, 5.0, prompts="abab"))
    assert reasons(made) == ["below_top", "below_top", None, None]
    assert Select(how="top", by="rm", count=1).cut() == Cut("place", "<=", 1, "count")


def test_a_share_within_each_prompt_is_of_its_own_rows() -> None:
    made = Select(how="top", by="rm", share=0.5, within="prompt")(answers(1, 2, 3, 4, 9, 8, prompts="aaaabb"))
    assert reasons(made) == ["below_top", "below_top", None, None, None, "below_top"]


def test_a_column_of_pairs_may_be_the_score() -> None:
    rows = tables.from_rows([{"pair_id": str(n), "prompt_id": "a", "difficulty": n / 4} for n in range(5)], "pairs")
    made = Select(how="bands", by="difficulty", bands=((0.25, 0.5), (0.75, 1.0)))(rows)
    # 0.5 belongs to no band, 1.0 to the last, which is closed
    assert reasons(made) == ["outside_bands", None, "outside_bands", None, None]


def test_bands_keep_so_many_each() -> None:
    made = Select(how="bands", by="rm", bands=((0, 1, 2), (1, 2)), seed=4)(answers(0.1, 0.2, 0.3, 1.0, 1.5, 3.0, None))
    told = reasons(made)
    assert sorted(told[:3], key=str) == [None, None, "band_0_1"]
    assert told[3:] == [None, None, "outside_bands", "no_score"]


def test_of_pairs_the_gap_counts() -> None:
    def side(value: float) -> list[dict[str, Any]]:
        return [{"rater": "rm", "aspect": "q", "value": value}]

    rows = [{"pair_id": str(n), "prompt_id": "a", "chosen_scores": side(5 + n), "rejected_scores": side(3 * n)} for n in range(3)]
    assert reasons(Select(how="top", by="rm", count=1)(tables.from_rows(rows, "pairs"))) == [None, "below_top", "below_top"]


def test_rows_far_apart_in_their_scores() -> None:
    made = Select(how="farthest", scores=("rm",), count=2, seed=1)(answers(0.0, 0.1, 5.0, 9.9, 10.0, None))
    kept = [n for n, reason in enumerate(reasons(made)) if reason is None]
    assert len(kept) == 2 and (kept[1] in (3, 4)) and kept[0] in (0, 1, 2)
    assert reasons(made)[5] == "no_score" and "near_to_chosen" in reasons(made)
    assert sorted(place for place in places(made) if place) == [1, 2]


def test_texts_that_stand_for_the_others(tmp_path: Path) -> None:
    cats, rains = ["the cat sat on the mat", "the cat sat on a mat"], ["rain in the north today", "rain in the north again"]
    texts = [*cats, *rains, "cat on the mat sat"]
    with Session({"words": ModelSpec(backend="hashing", name="words")}, tmp_path) as session:
        step = Select(how="facility", model="words", count=2, name="s").with_models(session.for_step("s"))
        told = reasons(step(answers(*[1.0] * 5, texts=texts)))
    kept = {n for n, reason in enumerate(told) if reason is None}
    assert len(kept & {0, 1, 4}) == len(kept & {2, 3}) == 1
    assert set(told) == {None, "covered_by_chosen"}


def test_choosing_among_no_rows_chooses_none() -> None:
    for step in (Select(how="top", by="rm", count=3), Select(how="farthest", scores=("rm",), share=0.5)):
        assert step(tables.empty("responses")).num_rows == 0


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"how": "top", "count": 1}, "`by` names the score"),
        ({"how": "top", "by": "rm"}, "share or count"),
        ({"how": "top", "by": "rm", "count": 1, "share": 0.5}, "share or count"),
        ({"how": "bands", "by": "rm"}, "`bands` goes with"),
        ({"how": "bands", "by": "rm", "bands": [[0, 1]], "count": 1}, "bands say themselves"),
        ({"how": "bands", "by": "rm", "bands": [[0, 2], [1, 3]]}, "must not overlap"),
        ({"how": "bands", "by": "rm", "bands": [[1, 1]]}, "must ascend"),
        ({"how": "farthest", "count": 1}, "needs a model or scores"),
        ({"how": "farthest", "count": 1, "scores": ["rm"], "column": "prompt"}, "`column` is the text"),
        ({"how": "top", "by": "rm", "count": 1, "model": "e"}, "are for how"),
    ],
)
def test_requests_that_contradict_themselves(parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Select(**parameters)


def test_the_first_row_is_drawn_by_the_seed() -> None:
    rows = answers(*[float(n % 3) for n in range(12)])
    firsts = set()
    for seed in range(6):
        step = Select(how="farthest", scores=("rm",), count=1, seed=seed)
        first = places(step(rows)).index(1)
        assert first == int(step.features(rows)["draw"].to_numpy().argmin())
        firsts.add(first)
    assert len(firsts) > 1


def test_scores_of_another_unit_count_the_same() -> None:
    """From either end the other one is farthest by x; y, in another unit and spread by half as much, must not hide that."""
    small = [(0.0, 0.0), (1.0, 0.5), (0.5, 1.0), (10.0, 0.5)]
    large = [(x, 1e6 * y) for x, y in small]
    for seed in range(6):
        chosen = [places(Select(how="farthest", scores=("x", "y"), count=2, seed=seed)(scored(*rows))) for rows in (small, large)]
        assert chosen[0] == chosen[1]


def test_a_sample_drawn_by_ids_is_what_is_stood_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "COVERED", 1)
    rows = scored(*[(float(n), float(n * n % 7)) for n in range(8)])
    for seed in range(6):
        step = Select(how="facility", scores=("x", "y"), count=1, seed=seed)
        assert places(step(rows)).index(1) == int(step.features(rows)["draw"].to_numpy().argmin())
