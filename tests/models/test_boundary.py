"""Where an answer begins: exactly behind what the model is given when it answers, whatever the tokenizer would merge."""

from pathlib import Path
from typing import Any

import pytest

from curate.models.boundary import Unmeasurable, measured, rising
from tests import tiny


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.tokenizer(Path(tmp_path_factory.mktemp("tokenizer")))


def given(words: Any, *prompt: dict[str, str]) -> list[int]:
    """What the model is given before it answers."""
    found: list[int] = words(words.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True))["input_ids"]
    return found


USER = {"role": "user", "content": "Which?"}


@pytest.mark.parametrize("answer", ["the first", " leading", "\n\nSecond line.", "\nx", "🙂", "a <|im_end|> b", "ends \n"])
def test_prompt_and_answer_meet_where_generation_begins(words: Any, answer: str) -> None:
    found = measured(words, [USER, {"role": "assistant", "content": answer}])
    assert found.ids[: found.start] == given(words, USER)
    assert words.decode(found.ids[found.start :], clean_up_tokenization_spaces=False) == answer + "<|im_end|>"


def test_a_merge_across_the_boundary_is_undone(words: Any) -> None:
    answer = {"role": "assistant", "content": "\n\nSecond line."}
    whole = words(words.apply_chat_template([USER, answer], tokenize=False))["input_ids"]
    prefix = given(words, USER)
    assert whole[: len(prefix)] != prefix  # as a whole, the template's line break and the answer's are one token
    found = measured(words, [USER, answer])
    assert found.ids[: found.start] == prefix
    assert words.decode(found.ids[found.start :]) == "\n\nSecond line.<|im_end|>"


@pytest.mark.parametrize(
    "answer", ["the first", " leading", "\n\nSecond line.", "🙂🙂 a", "مرحبا  x", "z\n \n", "a <|im_end|> b"]
)
def test_the_spans_of_tokens_put_together_are_the_answer(words: Any, answer: str) -> None:
    found = measured(words, [USER, {"role": "assistant", "content": answer}])
    assert found.ends is not None and len(found.ends) == len(found.ids) - found.start
    spans = [answer[start:end] for start, end in zip([0, *found.ends], found.ends, strict=False)]
    assert "".join(spans) == answer and spans[-1] == ""  # the ending is no text
    for token, span in zip(found.ids[found.start : -1], spans, strict=False):
        told = words.decode([token], clean_up_tokenization_spaces=False)
        assert "\ufffd" in told or told == span  # parts of a character have no text of their own


def test_ends_never_fall_and_reach_the_end() -> None:
    assert rising([3, 2, 9, 4], 5) == [3, 3, 5, 5] and rising([0, 1], 4) == [0, 4]


def test_a_tokenizer_that_does_not_tell_where_tokens_end_is_not_asked(words: Any) -> None:
    class Slow:
        is_fast = False

        def __getattr__(self, name: str) -> Any:
            return getattr(words, name)

        def __call__(self, text: str, **options: Any) -> Any:
            assert "return_offsets_mapping" not in options
            return words(text, **options)

    told = [USER, {"role": "assistant", "content": "the first"}]
    assert measured(Slow(), told).ends is None and measured(Slow(), told).ids == measured(words, told).ids


def test_without_its_end_an_answer_is_its_text_alone(words: Any) -> None:
    messages = [USER, {"role": "assistant", "content": "yes"}]
    whole, text = measured(words, messages), measured(words, messages, end=False)
    assert text.ids == whole.ids[:-1] and whole.ids[-1] == words.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [USER],
        [{"role": "assistant", "content": "alone"}],
        [USER, {"role": "assistant", "content": ""}],
        [USER, {"role": "assistant", "content": None}],
        [USER, {"role": "assistant", "content": "x", "tool_calls": "[{}]"}],
    ],
)
def test_what_has_no_answer_cannot_be_measured(words: Any, messages: list[dict[str, Any]]) -> None:
    with pytest.raises(Unmeasurable):
        measured(words, messages)


def test_half_a_surrogate_pair_is_refused(words: Any) -> None:
    for told in (
        [USER, {"role": "assistant", "content": "a\ud800"}],
        [{**USER, "content": "\ud800"}, {"role": "assistant", "content": "a"}],
    ):
        with pytest.raises(Unmeasurable, match="the tokenizer refuses this text"):
            measured(words, told)


def test_a_template_that_changes_the_answer_is_refused(words: Any) -> None:
    before = words.chat_template
    words.chat_template = before.replace("message['content']", "message['content'] | upper")
    try:
        with pytest.raises(Unmeasurable, match="changes the answer"):
            measured(words, [USER, {"role": "assistant", "content": "quiet"}])
    finally:
        words.chat_template = before
