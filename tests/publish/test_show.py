"""Rows of a version, conditions on them, and other thresholds."""

import time
from pathlib import Path

import numpy as np
import pytest

from curate.errors import UnknownName, UsageError
from curate.publish.show import passes, rethreshold, show
from curate.publish.split import Split
from curate.store.versions import Version
from tests.publish.versions import answer, make, steps, three_prompts, with_goal


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return make(tmp_path, three_prompts(), steps())


def texts(shown) -> list[tuple[str, str]]:
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in shown.rows]


def test_the_first_rows_come_in_order(version: Version) -> None:
    shown = show(version, n=2)
    assert texts(shown) == [("good", "fair"), ("good", "bad")]
    assert (shown.version, shown.table, shown.total, shown.matched) == ("demo@v1", "pairs", 3, 3)


def test_a_condition_is_sql_over_columns_and_texts(version: Version) -> None:
    assert texts(show(version, where="margin > 4")) == [("good", "bad")]
    assert texts(show(version, where="chosen_text = 'fair' OR rejected_text LIKE 'fai%'")) == [("good", "fair"), ("fair", "bad")]
    assert texts(show(version, where="prompt_text = 'B?'")) == []
    assert texts(show(version, where="margin > AVG(margin)")) == [("good", "bad")]
    assert show(version, where="margin > 4").matched == 1


def test_an_unknown_column_is_named_with_the_nearest(version: Version) -> None:
    with pytest.raises(UnknownName, match="demo@v1 pairs has no column 'margn'; did you mean margin?"):
        show(version, where="margn > 1")
    with pytest.raises(UnknownName, match="did you mean chosen_model?"):
        show(version, columns=["chosen_modl"])


@pytest.mark.parametrize(
    "where",
    [
        "row IN (SELECT a FROM read_csv('FILE'))",
        "EXISTS (SELECT * FROM read_csv('FILE'))",
        "EXISTS (FROM read_csv('FILE'))",
        "read_csv('FILE')",
        "row IN (TABLE x)",
        "margin > 1; DROP TABLE x",
        "margin > 1 -- and",
        "margin >",
        "margin",
        "margin = 'a'",
        "chosen LIKE '%a%'",
        "it's",
        "",
    ],
)
def test_a_condition_that_is_none_is_refused(version: Version, tmp_path: Path, where: str) -> None:
    (tmp_path / "secret.csv").write_text("a\n0\n")
    with pytest.raises(UsageError, match="where|column"):
        show(version, where=where.replace("FILE", str(tmp_path / "secret.csv")))


def test_words_inside_quotes_are_no_sql(version: Version) -> None:
    assert show(version, where="chosen_text = 'select -- from it''s'").matched == 0


def test_messages_in_a_condition_are_pointed_to_their_texts(version: Version) -> None:
    with pytest.raises(UsageError, match="chosen_text"):
        show(version, where="chosen LIKE '%a%'")


def test_a_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    rows = [answer(f"{i}?", text, score) for i in range(50) for text, score in (("good", 9), ("bad", 1))]
    version = make(tmp_path, rows, steps())
    picked = [[row["row"] for row in show(version, sample=5, seed=seed).rows] for seed in (1, 1, 2)]
    assert picked[0] == picked[1] != picked[2]
    assert picked[0] == sorted(set(picked[0]))
    assert len(show(version, sample=500).rows) == 50
    assert all(row["row"] < 10 for row in show(version, where='"row" < 10', sample=3).rows)


def test_rows_are_found_across_files_and_batches(tmp_path: Path) -> None:
    pair = {"chosen": "a", "rejected": "b"}
    prompts = [{"prompt_id": f"p{i}", "prompt": [{"role": "user", "content": f"question {i}"}]} for i in range(12_000)]
    rows = [pair | prompt | {"pair_id": f"{i}"} for i, prompt in enumerate(prompts)]
    version = make(tmp_path, rows, [Split(name="split", test=0.3)], grain="pairs")
    assert len(list((version.path / "pairs").iterdir())) == 2
    everything = show(version, n=20_000, columns=["row", "split"]).rows
    assert len(everything) == 12_000
    chosen = show(version, sample=70, seed=4, columns=["row", "split"]).rows
    assert len(chosen) == 70
    assert all(row in everything for row in chosen)
    train = [row for row in everything if row["split"] == "train"]
    assert show(version, where="split = 'train'", n=20_000, columns=["row", "split"]).rows == train
    assert show(version, split="train", n=20_000, columns=["row", "split"]).rows == train


def test_other_tables_can_be_shown(version: Version) -> None:
    assert [row["response"] for row in show(version, table="responses").rows] == ["good", "fair", "bad", "close", "closer"]
    assert [row["reason"] for row in show(version, table="dropped").rows] == ["small_margin"]
    assert [row["reason"] for row in show(version, table="dropped/responses", columns=["reason"]).rows] == [
        "exact_duplicate",
        "single_candidate",
    ]
    assert show(version, table="dropped/prompts").rows == []
    with pytest.raises(UnknownName, match=r"no table 'pair' \(there: pairs, responses, dropped/pairs"):
        show(version, table="pair")


def test_an_unknown_split_is_an_error(version: Version) -> None:
    with pytest.raises(UnknownName, match=r"no split 'dev' \(there: train\)"):
        show(version, split="dev")
    with pytest.raises(UsageError, match="responses has no splits"):
        show(version, split="train", table="responses")


def test_an_empty_version_shows_nothing(tmp_path: Path) -> None:
    version = make(tmp_path, [], steps())
    assert show(version).rows == show(version, sample=5).rows == show(version, where="margin > 1").rows == []


def test_showing_rows_reads_only_their_batches(tmp_path: Path) -> None:
    rows = [answer(f"{i}?", text * 500, score) for i in range(10_000) for text, score in (("good", 9), ("bad", 1))]
    version = make(tmp_path, rows, steps())
    show(version, n=1)
    started = time.perf_counter()
    assert len(show(version, sample=20).rows) == 20
    assert time.perf_counter() - started < 0.3


# -- another threshold


def test_a_higher_threshold_says_what_it_would_drop(version: Version) -> None:
    found = rethreshold(version, {"margin": 5})
    (move,) = found.moved
    assert (move.kept_now, move.kept_then, move.dropped, move.returned) == (3, 1, 2, 0)
    assert [row["value"] for row in move.dropped_rows] == [4.0, 4.0]
    assert (found.rows_now, found.rows_then, move.product_lost) == (3, 1, 2)


def test_a_lower_threshold_says_what_would_come_back(version: Version) -> None:
    (move,) = rethreshold(version, {"margin": 1}).moved
    assert (move.kept_now, move.kept_then, move.dropped, move.returned) == (3, 4, 0, 1)
    assert move.later == ()
    assert (move.parameter, move.keep, move.old, move.new) == ("min", ">=", 2.0, 1.0)


def test_what_comes_back_is_what_a_run_brings_back(tmp_path: Path) -> None:
    low, high = (make(tmp_path, three_prompts(), steps(minimum)) for minimum in (1, 5))
    assert rethreshold(low, {"margin": 5}).moved[0].kept_then == high.manifest["steps"][-1]["kept"]
    assert rethreshold(high, {"margin": 1}).moved[0].kept_then == low.manifest["steps"][-1]["kept"]


def test_rows_made_of_a_row_count_once_and_go_together(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), with_goal())
    found = rethreshold(version, {"margin": 5})
    (move,) = found.moved
    assert (move.kept_now, move.kept_then, move.dropped) == (3, 1, 2)
    assert (found.rows_now, found.rows_then) == (6, 2)
    assert rethreshold(version, {"margin": 1}).moved[0].later == ("goal",)
    assert move.note == ""


def test_rows_without_the_measure_stay(tmp_path: Path) -> None:
    row = {"prompt_id": "p", "prompt": [], "pair_id": "x", "chosen": "a", "rejected": "b"}
    version = make(tmp_path, [row], steps()[2:], grain="pairs")
    (move,) = rethreshold(version, {"margin": 100}).moved
    assert (move.unmeasured, move.kept_then) == (1, 1)


def test_a_step_without_a_threshold_is_an_error(version: Version) -> None:
    with pytest.raises(UsageError, match="pair of demo@v1 has no threshold.*steps with one: margin"):
        rethreshold(version, {"pair": 1})
    with pytest.raises(UnknownName, match="no step 'margn'; did you mean margin?"):
        rethreshold(version, {"margn": 1})


def test_a_threshold_keeps_its_side() -> None:
    values = np.array([1, 2, 3, np.nan], dtype=np.float32)
    assert passes(values, ">=", 2).tolist() == [False, True, True, False]
    assert passes(values, ">", 2).tolist() == [False, False, True, False]
    assert passes(values, "<=", 2).tolist() == [True, True, False, False]
    assert passes(values, "<", 2).tolist() == [True, False, False, False]
