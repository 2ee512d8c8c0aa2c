import json

import pyarrow as pa
import pytest

from curate import tables
from curate.errors import ExportError
from curate.export import messages

LISTS = pa.list_(tables.MESSAGE)


def said(*contents: str | None, role: str = "assistant", **more: str) -> list[dict[str, str | None]]:
    return [{"role": role, "content": content, **more} for content in contents]


def test_equal_messages_agree_in_every_field_and_in_number() -> None:
    first = pa.array([said("a"), said("a"), said("a", "b"), said("a"), None, said(None)], LISTS)
    second = pa.array([said("a"), said("b"), said("a"), said("a", name="x"), None, said(None)], LISTS)
    assert messages.equal(first, second).tolist() == [True, False, False, False, True, True]


def test_equal_looks_at_the_slice_it_is_given() -> None:
    first = pa.array([said("z"), said("a", "b"), said("c")], LISTS)[1:]
    second = pa.array([said("a", "b"), said("d")], LISTS)
    assert messages.equal(first, second).tolist() == [True, False]


def test_what_no_trainer_can_use() -> None:
    lists = pa.array([said("a"), [], None, said(None), said(None, tool_calls="[]"), said("")], LISTS)
    assert messages.unusable(lists).tolist() == [False, True, True, True, False, False]


def test_plain_leaves_nulls_out_and_reads_tool_calls() -> None:
    calls = json.dumps([{"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}])
    assert messages.plain(pa.array([said(None, tool_calls=calls), None, said("a")], LISTS)) == [
        [{"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}],
        None,
        [{"role": "assistant", "content": "a"}],
    ]


def test_tool_calls_that_are_no_json() -> None:
    with pytest.raises(ExportError, match="no JSON"):
        messages.tool_calls("f(x)")
