"""What came of a conversation: its response, its turns and its sums."""

import pytest

from curate.generate.conversation import Answer, answer_of
from curate.models.asking import Reply

CALL = {"id": "1", "function": {"name": "look", "arguments": "{}"}}


def says(text):
    return {"role": "assistant", "content": text}


def test_a_single_reply_has_no_turns():
    reply = Reply(text=" Rain. ", finish_reason="stop", prompt_tokens=5, response_tokens=2)
    assert answer_of([reply], [says(" Rain. ")], None, None) == Answer("Rain.", None, None, "stop", 5, 2)


def test_tokens_of_all_turns_are_summed_and_the_first_prompt_counts():
    replies = [Reply(prompt_tokens=5, response_tokens=2), Reply(prompt_tokens=9, response_tokens=3, finish_reason="length")]
    turns = [says("a"), {"role": "user", "content": "b"}, says("c")]
    assert answer_of(replies, turns, "so", None) == Answer("c", turns, "so", "length", 5, 5)


@pytest.mark.parametrize("tokens", [(None, 3), (2, None)])
def test_one_unknown_number_makes_the_sum_unknown(tokens):
    replies = [Reply(response_tokens=count) for count in tokens]
    assert answer_of(replies, [says("a"), says("b")], None, None).response_tokens is None


def test_log_probabilities_of_all_turns_are_summed():
    replies = [Reply(logprobs=({"logprob": -1.0}, {"logprob": -0.5})), Reply(logprobs=({"logprob": -0.25},))]
    assert answer_of(replies, [says("a"), says("b")], None, None).logprob_sum == -1.75


def test_a_reply_that_calls_tools_is_kept_as_it_came():
    message = says(" ") | {"tool_calls": [CALL]}
    found = answer_of([Reply(tool_calls=(CALL,))], [message], None, None)
    assert found.response == " "
    assert found.turns is not None and isinstance(found.turns[0]["tool_calls"], str)


def test_a_conversation_that_failed_tells_its_error_alone():
    replies = [Reply(text="a", prompt_tokens=5, response_tokens=2), Reply(error="server", prompt_tokens=9)]
    assert answer_of(replies, [says("a")], "so", "server: gone") == Answer(prompt_tokens=5, error="server: gone")
