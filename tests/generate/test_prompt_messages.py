"""Messages as servers take them and as tables keep them."""

import pytest

from curate import tables
from curate.generate.messages import messages_of, split_thought, stored, without_nulls


@pytest.mark.parametrize("more", [{}, {"name": "Ann"}, {"tool_calls": '[{"id":"1"}]'}, {"content": None}])
def test_messages_are_read_as_servers_take_them(more):
    rows = [[], [{"role": "user", "content": "a"}, {"role": "user", "content": "b", **more}], [{"role": "user", "content": "c"}]]
    table = tables.from_rows([{"prompt": row} for row in [*rows, None, rows[1]]], "prompts")
    expected = [[without_nulls(message) for message in row or []] for row in table["prompt"].to_pylist()]
    assert messages_of(table["prompt"]) == expected
    assert messages_of(table.slice(2)["prompt"]) == expected[2:]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a</think>\n\nb", ("a", "b")),
        ("b", (None, "b")),
        ("b <think>a</think>", (None, "b <think>a</think>")),
        ("<think>never done", ("never done", "")),
        ("<think></think>b", (None, "b")),
    ],
)
def test_where_reasoning_ends(text, parts):
    assert split_thought(text) == parts


def test_tool_calls_are_stored_as_text_and_read_as_values():
    message = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    assert stored(message)["tool_calls"] == '[{"id":"1"}]'
    assert without_nulls(stored(message)) == message
