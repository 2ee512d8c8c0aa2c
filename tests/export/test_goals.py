import json

import pyarrow as pa
import pytest

from curate import tables
from curate.errors import ExportError
from curate.export import messages
from curate.export.goals import goal_text, goal_texts, number, scale_of


def prompts(*rows: list[tuple[str, str | None]]) -> pa.Array:
    return pa.array([[{"role": role, "content": content} for role, content in row] for row in rows], pa.list_(tables.MESSAGE))


def placed(rows: pa.Array, texts: list[str | None], where: str) -> list[list[tuple[str, str]]]:
    out = messages.place(rows, pa.array(texts, pa.string()), where)
    return [[(message["role"], message["content"]) for message in row] for row in messages.plain(out)]


def test_a_single_goal_names_the_scale_and_has_no_decimal_point() -> None:
    text = goal_text({"score": 8.0}, (1.0, 10.0))
    assert text.splitlines()[0].endswith("Scores run from 1 (worst) to 10 (best).")
    assert text.splitlines()[1:] == ["Overall score: 8"]


def test_several_goals_take_a_line_each() -> None:
    assert goal_text({"help": 4, "honesty": 2.5}, None).splitlines()[1:] == ["help: 4", "honesty: 2.5"]


@pytest.mark.parametrize(("value", "shown"), [(8.0, "8"), (7.5, "7.5"), (-1, "-1"), (10, "10")])
def test_numbers(value: float, shown: str) -> None:
    assert number(value) == shown


def test_the_scale_is_the_last_goal_steps() -> None:
    steps = [{"operator": "goal", "parameters": {"scale": [0, 1]}}, {"operator": "goal", "parameters": {"scale": [1, 10]}}]
    assert scale_of({"steps": [*steps, {"operator": "split", "parameters": {}}]}) == (1, 10)
    assert scale_of({"steps": [{"operator": "goal", "parameters": {"scale": None}}]}) is None


def test_no_goal_no_text() -> None:
    texts = goal_texts(pa.array([None, json.dumps({"score": 3}), None]), None).to_pylist()
    assert [text is None for text in texts] == [True, False, True]


def test_a_goal_is_prepended_or_joins_the_system_message() -> None:
    rows = prompts([("user", "a")], [("system", "be brief"), ("user", "b")], [("user", "c")], [("system", ""), ("user", "d")])
    assert placed(rows, ["G1", "G2", None, "G4"], "system") == [
        [("system", "G1"), ("user", "a")],
        [("system", "be brief\n\nG2"), ("user", "b")],
        [("user", "c")],
        [("system", "G4"), ("user", "d")],
    ]


def test_a_goal_goes_before_the_first_user_message_only() -> None:
    rows = prompts([("system", "s"), ("user", "a"), ("assistant", "x"), ("user", "b")], [("system", "s")], [("user", "c")])
    assert placed(rows, ["G", None, "H"], "user") == [
        [("system", "s"), ("user", "G\n\na"), ("assistant", "x"), ("user", "b")],
        [("system", "s")],
        [("user", "H\n\nc")],
    ]


def test_a_goal_without_a_user_message_to_go_before() -> None:
    with pytest.raises(ExportError, match="--goal system"):
        messages.place(prompts([("system", "s")]), pa.array(["G"]), "user")
