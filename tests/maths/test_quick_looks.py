"""Quick looks of detectors: what they spare a text never changes what is found in it."""

import re
from importlib import import_module

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.maths import detectors, faults

# `curate.maths.detectors` has functions of the names of two of its modules
repetition, template, text = (import_module(f"curate.maths.detectors.{name}") for name in ("repetition", "template", "text"))

PIECES = """
    don't a-b _x x_ 3,000.5 12:30 50% -1 <s> </s> <|im_end|> [INST] {{x}} {question} ${HOME} {%x%} Human: **AI: Bot: ##
    ### Response: <insert [insert <unk> </think> ◁think▷ [/THINK] <0x0A> ` ``` ~~~ f"{x}" F'<pad>' @ DE12 3456 123456789
    555-010-9999 (020) 7946 ! ? '' ' " - -- _ . : é ﬁ １２ ² 你好
"""
SENTENCES = ("You are Claude", "Below is an instruction that describes a task")
texts = st.lists(st.sampled_from([*PIECES.split(), " ", "\n", *SENTENCES])).map("".join)
ascii_texts = texts.filter(str.isascii) | st.text(st.characters(max_codepoint=127))


@given(ascii_texts)
def test_words_of_ascii_are_those_of_any_script(given_text: str) -> None:
    assert text._ASCII_WORD.findall(given_text) == [found.group() for found in text._WORD.finditer(given_text)]
    assert faults._ASCII_WORD.findall(given_text) == faults._WORD.findall(given_text)
    assert repetition._ASCII_TOKEN.findall(given_text) == repetition._TOKEN.findall(given_text)


@given(texts)
@example('f"<|im_end|>"')
@example("## Response:")
def test_what_is_left_of_a_template_passes_the_quick_look(given_text: str) -> None:
    for pattern, pieces in template._LOOKED_FOR:
        assert not pattern.search(given_text) or any(piece in given_text for piece in pieces)
    assert not template._ROLE.search(given_text) or any(label in given_text for label in template._LABELS)
    assert not template._F_STRING.search(given_text) or any(opening in given_text for opening in template._F_OPENINGS)
    assert text.without_code(given_text) == text.CODE.sub(" ", given_text)


@given(texts)
@example("<|channel|> `x` analysis")
def test_marks_of_reasoning_pass_the_quick_look(given_text: str) -> None:
    found = faults._THOUGHT.search(faults._QUOTED_CODE.sub(" ", given_text))
    assert faults.thought(given_text) == (found.group() if found else None)


@given(texts | st.text(st.sampled_from("0123456789 ().+-@ABx")))
def test_what_may_be_personal_passes_the_quick_look(given_text: str) -> None:
    if faults._MAY_HOLD.search(given_text):
        assert "@" in given_text or faults._NUMBER.search(given_text)


@given(texts, texts)
@example("a 1 b", "a 2 b")
@example("not not a b", "not a b")
def test_words_that_matter_are_seen_at_once_or_by_counting(first: str, second: str) -> None:
    words = [faults._words(one) for one in (first, second)]
    if any(faults._matters(word) for word in set(words[0]) ^ set(words[1])):
        assert faults.likeness(first, second) in (0.0, float(" ".join(first.split()) == " ".join(second.split())))


LINES = (
    "The library closes at six on weekdays, and nobody has ever asked why.",
    "Die Bibliothek schließt werktags um sechs, und niemand hat je gefragt, warum.",
    "La bibliothèque ferme à six heures en semaine, et personne n'a jamais demandé pourquoi.",
    "x = [i for i in range(10)]",
    "THE LIBRARY CLOSES AT SIX.",
)


@settings(deadline=None)  # the first call loads the model
@given(st.lists(st.sampled_from(LINES), max_size=12))
@example([LINES[0]] * 3 + [LINES[1]] * 9)
def test_a_language_is_the_same_when_no_more_is_read_than_decides_it(lines: list[str]) -> None:
    assert detectors.language_code(" ".join(lines)) == detectors.language(" ".join(lines))[0]


@pytest.mark.parametrize("said", ["I CAN'T *help* with   that.", "Sure_thing, ~here~ it is."])
def test_ascii_is_folded_as_any_text_is(said: str) -> None:
    refusal = import_module("curate.maths.detectors.refusal")
    assert refusal._fold(said) == re.sub(" é$", "", refusal._fold(said + " é"))
