"""Columns of messages are built as Arrow builds them from objects."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curate.source.reader import MESSAGES, column_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=3)
MESSAGE = st.fixed_dictionaries(
    {"role": TEXT}, optional={name: st.none() | TEXT for name in ("content", "name", "tool_calls", "tool_call_id")}
)


@given(st.lists(st.none() | st.lists(MESSAGE, max_size=3)))
def test_lists_of_messages_are_what_arrow_makes_of_them(values):
    built = column_of(values, MESSAGES)
    built.validate(full=True)
    assert built.equals(pa.array(values, MESSAGES))


def test_a_missing_list_is_not_an_empty_one():
    assert column_of([None, [], [{"role": "user"}]], MESSAGES).is_valid().to_pylist() == [False, True, True]
