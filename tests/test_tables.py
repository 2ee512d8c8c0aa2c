import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import ids, tables

LISTS = st.lists(st.none() | st.lists(st.integers(0, 9), max_size=3), max_size=6)


@given(LISTS, st.data())
def test_append_is_python_append(lists: list[list[int] | None], data: st.DataObject) -> None:
    rows = sorted(data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))) if lists else []
    expected = [list(entries or []) for entries in lists]
    for entry, row in enumerate(rows):
        expected[row].append(100 + entry)
    column = pa.array(lists, pa.list_(pa.int64()))
    entries = pa.array([100 + i for i in range(len(rows))], pa.int64())
    assert tables.append(column, entries, np.array(rows, dtype=np.int64)).to_pylist() == expected
    assert column.to_pylist() == lists


def test_append_to_a_slice_of_a_chunked_column() -> None:
    column = pa.chunked_array([[[1], [2, 3]], [None, [4]]], pa.list_(pa.int64())).slice(1, 3)
    assert tables.append(column, pa.array([7, 8]), np.array([0, 2])).to_pylist() == [[2, 3, 7], [], [4, 8]]


def scored(*rows: list[tuple[str, str, float | None]]) -> pa.Table:
    return tables.from_rows([{"scores": [{"rater": r, "aspect": a, "value": v} for r, a, v in row]} for row in rows], "responses")


def test_the_last_score_of_a_rater_counts() -> None:
    table = scored(
        [("rm", "help", 1.0), ("rm", "help", 2.0), ("judge", "help", 9.0)], [], [("rm", "harm", 5.0)], [("rm", "help", None)]
    )
    assert np.nan_to_num(tables.score_of(table, "rm", "help"), nan=-1).tolist() == [2.0, -1, -1, -1]
    assert np.nan_to_num(tables.score_of(table, "rm"), nan=-1).tolist() == [2.0, -1, 5.0, -1]
    assert tables.raters(table["scores"]) == [("judge", "help"), ("rm", "harm"), ("rm", "help")]


def test_a_missing_score_is_stored_as_null_not_nan() -> None:
    table = tables.from_rows([{}, {}], "responses")
    scores = tables.add_scores(table, np.array([np.nan, 1.0]), "rm", "help", error=pa.array(["no reply", None]))
    assert [entry[0]["value"] for entry in scores.to_pylist()] == [None, 1.0]
    assert scores[0][0]["error"].as_py() == "no reply"


def test_flags_mark_rows_as_dropped_and_say_why() -> None:
    table = tables.from_rows([{}, {}, {}], "pairs")
    flags = tables.add_flags(
        table, np.array([False, True, True]), "margin", "small", np.array([9.0, 0.1, np.nan]), pa.array(["a", "b", "c"])
    )
    assert flags.to_pylist()[1:] == [
        [{"by": "margin", "reason": "small", "value": pytest.approx(0.1), "other": "b"}],
        [{"by": "margin", "reason": "small", "value": None, "other": "c"}],
    ]
    assert tables.is_kept(table.set_column(table.schema.get_field_index("flags"), "flags", flags)).tolist() == [
        True,
        False,
        False,
    ]


def test_rater_and_aspect_of_a_recipe() -> None:
    assert tables.split_rater("rm") == ("rm", None)
    assert tables.split_rater("judge:helpful") == ("judge", "helpful")
    assert tables.split_rater("org/model:free:helpful") == ("org/model:free", "helpful")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("plain", None),
        ("emoji 🙂, العربية, 中文, \u200f", None),
        ("a\0b", "NUL character at character 2"),
        ("ab\ud800c", "lone surrogate U+D800 at character 3"),
        ("\udfff", "lone surrogate U+DFFF at character 1"),
    ],
)
def test_text_that_cannot_be_stored_is_told_apart(text: str, fault: str | None) -> None:
    assert tables.text_fault(text) == fault


def test_a_table_has_all_columns_and_refuses_unknown_ones() -> None:
    table = tables.conform(pa.table({"response": ["x"]}), "responses")
    assert table.column_names == tables.SCHEMAS["responses"].names
    assert table["model"].null_count == 1
    with pytest.raises(ValueError, match="no column respnose"):
        tables.conform(pa.table({"respnose": ["x"]}), "responses")


def test_ids_are_the_same_on_every_machine() -> None:
    message = {"role": "user", "content": "2+2? 🙂", "name": None}
    assert ids.prompt_id([message]) == ids.prompt_id([{"content": "2+2? 🙂", "role": "user"}])
    assert ids.prompt_id([message]) == "4f0674669453dd8bf2f2bffc1c622c4b"
    assert ids.response_id("p", "4", None, "m", 7, 0) == "bef57197cedf5143e1f07def25439520"
    assert ids.pair_id("a", "b") == "998a5be88dc5c0d469f33fb5a8ac3e4b"
    assert len({ids.pair_id("a", "b"), ids.pair_id("b", "a"), ids.pair_id("a", "b", '{"score":8}')}) == 3


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
        lambda x: st.lists(x) | st.dictionaries(st.text(st.characters(codec="utf-8")), x),
    )
)
def test_canonical_json_reads_back(value: object) -> None:
    assert json.loads(ids.canonical_json(value)) == value


def test_rounds_are_averaged_and_the_last_entry_of_a_round_counts() -> None:
    entries = [(1.0, 0), (9.0, 1), (5.0, 1), (None, 2)]
    scores = [{"rater": "a", "aspect": "x", "value": value, "round": place} for value, place in entries]
    table = tables.from_rows([{"scores": scores}, {"scores": []}, {"scores": scores[:1]}, {"scores": scores[3:]}], "responses")
    np.testing.assert_array_equal(tables.score_of(table, "a"), [3.0, np.nan, 1.0, np.nan])
    np.testing.assert_array_equal(tables.score_of(table, "a", round=1), [5.0, np.nan, np.nan, np.nan])
