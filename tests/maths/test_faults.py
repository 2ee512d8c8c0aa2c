"""What is wrong with a prompt and its answers, one situation each."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.maths import faults

USER = {"role": "user", "content": "Where is the station?"}
SAID = {"role": "assistant", "content": "Over there."}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"role": "assistant", "tool_calls": '[{"type": "function"}]'}
TOOL = {"role": "tool", "content": "north"}


# -- twins


def test_case_spacing_and_marks_make_no_difference() -> None:
    assert faults.likeness("It is  Paris.", "it is **Paris**") == 1.0


def test_half_of_the_word_pairs_is_half_alike() -> None:
    # pairs: ^one one-two two$ and ^one one-six six$: one of three in common
    assert faults.likeness("one two", "one six") == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("It rose by 4 points in the year.", "It rose by 5 points in the year."),
        ("You should go there now.", "You should not go there now."),
        ("It does work today.", "It doesn't work today."),
        ("The answer is B.", "The answer is C."),
        ("so x = y + z here", "so x = y * z here"),
        ("from 3 - 2 on", "from 3 / 2 on"),
        ("if a < b then", "if a > b then"),
    ],
)
def test_a_number_negation_letter_or_operator_is_no_small_matter(first: str, second: str) -> None:
    assert faults.likeness(first, second) == 0.0


def test_marks_of_lists_are_no_operators() -> None:
    assert faults.likeness("- salt\n- flour", "* salt\n* flour") == 1.0


def test_programs_are_alike_only_but_for_spacing() -> None:
    assert faults.likeness("def f(x):\n    return x", "def f(x):\n\n  return x") == 1.0
    assert faults.likeness("def f(x):\n    return x", "def f(x):\n    return (x)") == 0.0


def test_texts_without_a_word_are_compared_as_they_are() -> None:
    assert (faults.likeness("!", "!"), faults.likeness("!", "?")) == (1.0, 0.0)


@given(st.text(max_size=60), st.text(max_size=60))
def test_likeness_is_a_share_and_the_same_from_either_side(first: str, second: str) -> None:
    assert 0.0 <= faults.likeness(first, second) <= 1.0
    assert faults.likeness(first, second) == faults.likeness(second, first)
    assert faults.likeness(first, first) == 1.0


# -- echo


def test_an_answer_that_begins_with_the_prompt_echoes_all_of_it() -> None:
    asked = "Name the capital of France, please."
    assert faults.echo(asked, f"**{asked}** Paris.") == 1.0
    assert faults.echo(asked, "Paris.") == 0.0


def test_an_echo_of_a_part_counts_as_that_part() -> None:
    assert faults.echo("one two three four five six seven", "one two three four five and on") == 24 / 33


def test_a_few_words_are_no_echo() -> None:
    assert faults.echo("Hi there", "Hi there! How can I help?") == 0.0


def test_an_echo_far_inside_the_answer_is_a_quotation() -> None:
    asked = "Name the capital of France, please."
    assert faults.echo(asked, "word " * 40 + asked) == 0.0


# -- left-overs


def test_reasoning_and_templates_are_told_apart() -> None:
    assert (faults.thought("<think>a</think> b"), faults.left_over("<think>a</think> b")) == ("<think>", None)
    assert (faults.thought("b<|im_end|>"), faults.left_over("b<|im_end|>")) == (None, "<|im_end|>")
    assert faults.left_over("<think>a</think> b<|im_end|>") == "<|im_end|>"


def test_the_mark_in_code_is_its_subject() -> None:
    assert faults.thought("Write `<think>` first.") is None


# -- language


def test_languages_easily_taken_for_each_other_are_one() -> None:
    assert not faults.another_tongue("no", "da")
    assert faults.another_tongue("en", "de")


def test_too_short_a_text_has_no_language() -> None:
    assert faults.languages("Wie geht's?", "I am fine, thank you, and how are you doing today?") is None


@pytest.mark.parametrize("text", ["Translate this", "say it in Spanish", "翻译成英文", "auf Englisch bitte", "Traduis ceci"])
def test_prompts_that_ask_for_another_language_are_known(text: str) -> None:
    assert faults.names_a_language(text)


def test_other_prompts_are_not() -> None:
    assert not faults.names_a_language("Which three things should I pack for the mountains?")


# -- turns


@pytest.mark.parametrize(
    "prompt", [[USER], [SYSTEM, USER], [USER, SAID, USER], [USER, CALL, TOOL], [USER, CALL, TOOL, TOOL, SAID, USER]]
)
def test_sound_conversations(prompt: list[faults.Message]) -> None:
    assert faults.turn_fault(prompt) is None


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        ([], "no message"),
        ([SYSTEM], "alone"),
        ([USER, USER], "follows one of role user"),
        ([USER, SAID], "ends with a message of role assistant"),
        ([SAID, USER], "begins with a message of role assistant"),
        ([USER, SAID, SYSTEM, USER], "stands behind others"),
        ([USER, TOOL], "answers no tool call"),
        ([USER, CALL, USER], "has no result"),
        ([{"role": "user", "content": " "}], "no content"),
        ([{"role": "function", "content": "x"}], "begins with a message of role function"),
        ([USER, {"role": "function", "content": "x"}], "is called tool"),
    ],
)
def test_broken_conversations(prompt: list[faults.Message], fault: str) -> None:
    assert fault in str(faults.turn_fault(prompt))


def test_an_answer_of_several_messages_is_read_too() -> None:
    assert faults.turn_fault([USER], [CALL, TOOL, SAID]) is None
    assert "ends with a message of role tool" in str(faults.turn_fault([USER], [CALL, TOOL]))
    assert "answers no tool call" in str(faults.turn_fault([USER], [TOOL, SAID]))


# -- personal data


def test_check_digits_of_cards() -> None:
    assert faults.luhn("4539148803436467")
    assert not faults.luhn("4539148803436468")
    assert not faults.luhn("0000000000000000")


def test_personal_data_is_named_with_its_place() -> None:
    pytest.importorskip("datafog")
    text = "Write to maria@sunfield-dairy.co.uk."
    found = faults.personal(text)
    assert found is not None
    assert (found.kind, text[found.start : found.end]) == ("email", "maria@sunfield-dairy.co.uk")


def test_placeholders_are_nobodys() -> None:
    pytest.importorskip("datafog")
    assert faults.personal("Write to you@example.com or call 555-0142.") is None


# -- hostile texts


@pytest.mark.parametrize("piece", ["a ", "<", "1 * ", "0-", "山", "(", "\u0301", "@", "**", "9", " \t", "` ", "$1", "{a}"])
def test_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.perf_counter()
    faults.likeness(text, text + "x")
    faults.echo(text, text)
    faults.thought(text)
    faults.names_a_language(text)
    faults._MAY_HOLD.search(text)
    assert time.perf_counter() - began < 20
