"""Recorded verdicts in the layouts that judges were told to answer in, and what leaves them open."""

from typing import Any

import pytest

from curate.maths.recorded import NO_RATINGS, NO_VERDICT, NOT_LISTED, TWO_VERDICTS, Told, read

OUTPUTS = {"Output (a)": 1.0, "Output (b)": 0.0}
LETTERS = {"A": 1.0, "B": 0.0, "tie": 0.5}
NUMBERS = {"1": 1.0, "2": 0.0}
FIRST, SECOND, TIE = Told(1.0), Told(0.0), Told(0.5)
NONE, BOTH = Told(None, NO_VERDICT), Told(None, TWO_VERDICTS)


@pytest.mark.parametrize(
    ("text", "known", "expected"),
    [
        ("Output (a)", OUTPUTS, FIRST),
        (" output (B).\n", OUTPUTS, SECOND),
        ("(a)", OUTPUTS, FIRST),
        ("**Output (b)**", OUTPUTS, SECOND),
        ('"Output (a)"', OUTPUTS, FIRST),
        ("“Output (b)”", OUTPUTS, SECOND),
        ("a", OUTPUTS, FIRST),
        ("Output b", OUTPUTS, SECOND),
        ("# Output (a) is better.", OUTPUTS, FIRST),
        ("Output (a) is better.\n\nOutput (b) leaves out the second question", OUTPUTS, FIRST),
        ("Output (b)\n\nOutput (a) says nothing of it.", OUTPUTS, SECOND),
        ("Output (b) (Output (a) is inappropriate)", OUTPUTS, SECOND),
        ("Output (a), because it is shorter.", OUTPUTS, FIRST),
        ("The better output is Output (b).", OUTPUTS, SECOND),
        ("A", LETTERS, FIRST),
        ("A.", LETTERS, FIRST),
        ("[[B]]", LETTERS, SECOND),
        ("Answer: B", LETTERS, SECOND),
        ("**Final verdict: A**", LETTERS, FIRST),
        ("B. It answers what was asked.", LETTERS, SECOND),
        ("Tie", LETTERS, TIE),
        ("tie: both are right", LETTERS, TIE),
        ("2", NUMBERS, SECOND),
        ("(1) is better", NUMBERS, FIRST),
        ("<think>Output (b) is better.</think>Output (a)", OUTPUTS, FIRST),
        ("", OUTPUTS, Told(None)),
        (None, OUTPUTS, Told(None)),
        ("Output (a) and Output (b) are both fine", OUTPUTS, NONE),
        ("Output (a) or Output (b)", OUTPUTS, NONE),
        ("Output (a) is not better.", OUTPUTS, NONE),
        ("Output (a) is worse.", OUTPUTS, NONE),
        ("Output (a) provides more detail", OUTPUTS, NONE),
        ("Output (b) is incorrect.", OUTPUTS, NONE),
        ("Neither Output (a) nor Output (b)", OUTPUTS, NONE),
        ("A better answer would be B", LETTERS, NONE),
        ("Output (a) is better in style, b in grammar", OUTPUTS, FIRST),
        ("A lot of both is wrong", LETTERS, NONE),
        ("Apples", LETTERS, NONE),
        ("1. Does it answer?\n2. Is it short?", NUMBERS, NONE),
        ("<think>Output (b)", OUTPUTS, NONE),
        ("I cannot choose Output (a).", OUTPUTS, NONE),
        ("Output (a)\nOutput (b)", OUTPUTS, BOTH),
        ("A. is short\nB. is long", LETTERS, BOTH),
        ("Output (a) is better.\nTherefore, Output (b) is better.", OUTPUTS, BOTH),
        ("Output (a)\nOutput (a)", OUTPUTS, FIRST),
        ("Output (a)\nWait, Output (b) is better.", OUTPUTS, BOTH),
        ("Output (a). Actually, (b).", OUTPUTS, BOTH),
        ("Output (a)\n\nNo, wait: B, since it is right.", OUTPUTS, BOTH),
        ("Output (a). Actually, Output (a).", OUTPUTS, FIRST),
        ("Output (a). It actually answers. There is no Output (b)-like rambling.", OUTPUTS, FIRST),
    ],
)
def test_a_reply_that_begins_with_the_choice(text: str | None, known: dict[str, float], expected: Told) -> None:
    assert read(text, "choice", known) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is short. Therefore, Output (a) is better.", FIRST),
        ("Output (a) is long.\n\nTherefore, Output (b) is better.", SECOND),
        ("Output (a) is better. It says why.\n\nTherefore, Output (b) is better.", SECOND),  # the end is what was asked for
        ("Output (b) is better.\n\nOutput (a) is vague.", SECOND),
        ("Reasons.\n\n**Therefore, Output (b) is better.**", SECOND),
        ('Reasons. "Therefore, Output (a) is better."', FIRST),
        ("Therefore, based on the evaluation, Output (a) is better.", FIRST),
        ("I conclude that Output (b) is better because it is right. Well done.", SECOND),
        ("Overall, Output (a) is the better response.", FIRST),
        ("", Told(None)),
        ("Therefore, Output (a) is not better.", NONE),
        ("Therefore, neither Output (a) nor Output (b) is better.", NONE),
        ("Assistant (b) argues that Output (b) is better.", NONE),
        ("If it matters, Output (a) is better.", NONE),
        ("Therefore, considering whether it is short, Output (a) is better.", NONE),
        ("It is not clear that Output (a) is better.", NONE),
        ("Output (a) is better in style. The end.", NONE),
        ("Therefore, Output (a)", NONE),
        ("Output (a) is better. But wait.\nOutput (b) is better. Or so.", BOTH),
        ("Therefore, Output (a) is better. Wait, actually, Output (b) is better.", SECOND),
        ("Therefore, Output (a) is better. Sorry, (b). I misread it.", BOTH),
    ],
)
def test_a_reply_that_ends_in_a_conclusion(text: str, expected: Told) -> None:
    assert read(text, "conclusion", OUTPUTS) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["8", "9"], SECOND),
        ([10, 9], FIRST),
        (["7", 7.0], TIE),
        (["Score: 8/10", "**7**"], FIRST),
        ("8 9\nThe first is shorter.", SECOND),
        ("9.5, 8", FIRST),
        ("8/10 8/10", TIE),
        (None, Told(None)),
        (["", None], Told(None)),
        ("", Told(None)),
        (["8", ""], Told(None, NO_RATINGS)),
        (["eight", "9"], Told(None, NO_RATINGS)),
        ("I give 8 and 9", Told(None, NO_RATINGS)),
        ("8 9 7", Told(None, NO_RATINGS)),
        ([8, True], Told(None, NO_RATINGS)),
        (7, Told(None, NO_RATINGS)),
    ],
)
def test_marks_of_both_sides(value: Any, expected: Told) -> None:
    assert read(value, "ratings", {}) == expected


def test_exact_takes_the_listed_text_alone() -> None:
    assert read(" Output (a) ", "exact", OUTPUTS) == FIRST
    assert read("Output (a).", "exact", OUTPUTS) == Told(None, NOT_LISTED)
    assert read("x?", "choice", {"x?": 0.25}) == Told(0.25)


def test_names_are_texts_and_no_patterns() -> None:
    known = {"(.*)+": 1.0, "[bb": 0.0}
    assert read("Anything", "choice", known) == NONE
    assert read("[bb is better", "choice", known) == SECOND


def test_long_texts_without_a_verdict_are_read_in_little_time() -> None:
    for text in ("therefore, based on " * 5000, "Output (a " * 20_000, "> " * 50_000, "a" * 100_000, "\n" * 100_000 + "x"):
        assert read(text, "conclusion", OUTPUTS).p is None and read(text, "choice", OUTPUTS).p is None
