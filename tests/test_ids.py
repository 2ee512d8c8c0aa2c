"""Canonical JSON: what names rows, steps and answers must never change."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import ids

TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner))


def as_json_has_it(value: Any) -> str:
    """The same by the standard library, which makes an encoder for every value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@given(VALUES)
def test_canonical_json_is_sorted_and_without_spaces(value: Any) -> None:
    assert ids.canonical_json(value) == as_json_has_it(value)


@given(TEXT, st.sampled_from(["", "long " * 30, "half a pair \ud800" * 10, '\x00\x1f\x7f\u2028"\\\n\t' * 20]))
def test_a_text_is_quoted_as_within_a_value(text: str, more: str) -> None:
    assert ids.quoted(text + more) == as_json_has_it(text + more)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": {"b": -float("inf")}}])
def test_what_is_no_number_has_no_canonical_json(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        ids.canonical_json(value)


def test_a_value_that_is_no_json_does_not_spoil_the_next() -> None:
    inner: list[Any] = []
    for broken in ([inner, {1, 2}], [inner, float("nan")]):
        with pytest.raises((TypeError, ValueError)):
            ids.canonical_json(broken)
    assert ids.canonical_json([inner]) == "[[]]"


@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "name", "tool_calls"]), SCALARS | st.lists(TEXT))))
def test_messages_are_written_without_their_null_fields(messages: list[dict[str, Any]]) -> None:
    given_fields = [{name: value for name, value in message.items() if value is not None} for message in messages]
    assert ids.messages_json(messages) == as_json_has_it(given_fields)
