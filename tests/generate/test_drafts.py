"""New texts: what a reply makes of a draft, and rows beside the originals."""

import pytest

from curate.generate.drafts import Beside, Draft
from curate.models.asking import Reply
from tests.generate.conftest import prompts

SCORE = {"rater": "query", "aspect": "quality", "value": 7.0}


@pytest.mark.parametrize(
    ("reply", "done", "error"),
    [
        (Reply(text="<think>so</think> Rain. ", finish_reason="stop"), "Rain.", None),
        (Reply(text="Rai", finish_reason="length"), "Rai", "truncated: the verse was cut off at max_tokens"),
        (Reply(error="server", detail="gone"), "", "server: gone"),
    ],
)
def test_what_a_reply_makes_of_a_draft(reply, done, error):
    draft = Draft(0, "What is rain?")
    draft.hear(reply, "verse")
    assert (draft.done, draft.error) == (done, error)


def test_what_was_made_carries_its_originals_columns_but_not_what_was_said_of_it():
    table = prompts("a", "b", domain="weather", scores=[SCORE], evidence=[{"by": "x", "name": "y", "value": 1.0}])
    beside = Beside()
    beside.failed(["server: gone"])
    beside.add(1, {"meta": "{}"}, original=True)
    beside.add(1, {"meta": '{"new":1}'})
    original, new = beside.rows(table, "prompts", ["meta"], "s", "rewrite").to_pylist()
    assert [row["prompt"][0]["content"] for row in (original, new)] == ["b", "b"]
    assert [row["domain"] for row in (original, new)] == ["weather", "weather"]
    assert [row["meta"] for row in (original, new)] == ["{}", '{"new":1}']
    assert [score["error"] for score in original["scores"]] == [None, "server: gone"]
    assert len(original["evidence"]) == 1
    assert not new["scores"] and not new["evidence"]
