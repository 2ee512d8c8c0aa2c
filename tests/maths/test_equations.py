"""Sums in a text: which hold, and which are left alone because they cannot be read for sure."""

import gzip
import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.maths.equations import equations, value_of

READ = {
    "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs.": [True],
    "16 - 3 = 12 eggs are left.": [False],
    "She makes 9 * 2 = $18 and 2*9=18.": [True, True],
    "2 + 3 * 4 = 14, (2 + 3) * 4 = 20, 2 - -3 = 5": [True, True, True],
    "25 / 3.5 = 7.14, not 25 ÷ 3.5 = 7.2": [True, False],
    "6 × 7 = 42 = 40 + 2 = 41": [True, True, False],
    "20 x 25/100 = 5 students": [True],
    "1,200 + 300 = 1,500": [True],
    "25% * 180 = 45 and 18 / 450 x 100 = 4%": [True, True],
    "31.5 ÷ 3.5 = 9.": [True],
    "It is 12 = 7 + 5 o'clock": [True],
    "1/3 = 0.33": [True],
    "1/3 = 0.34": [False],
}
LEFT_ALONE = [
    "x + 3 = 7",
    "2y - 3 + 1 = 7",
    "7 - 3 = 4y",
    "3 + 4 = 7^2",
    "12 eggs - 3 = 9",  # the calculation begins in the words
    "half of 3/4 = 3/8",
    "15 pages x 1/3 = 5",
    "a = 5",
    "5 = 5",
    "5 / 0 = 0",
    "1,5 + 2 = 3,5",  # a comma for decimals, or for thousands?
    "3 + = 4",
    "(3 + 4 = 7",
    "350 000 * 2 = 700 000",
    "2024-01-02 == 3",
    "no sum",
    "",
    "=",
]


@pytest.mark.parametrize("text", READ)
def test_sums_that_can_be_read(text: str) -> None:
    assert equations(text) == READ[text]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_cannot_be_read_for_sure_is_left_alone(text: str) -> None:
    assert equations(text) == []


NUMBERS = st.integers(0, 999).map(str) | st.decimals(0, 99, places=2).map(str)
SUMS = st.recursive(
    NUMBERS,
    lambda part: st.tuples(part, st.sampled_from(["+", "-", "*", "/"]), part).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
    max_leaves=6,
)


@given(SUMS)
def test_values_are_those_of_exact_arithmetic(text: str) -> None:
    found = value_of(text)
    try:
        expected = exact(text)
    except ZeroDivisionError:
        assert found is None
        return
    assert found is not None and found.readings[0][0] == expected


def exact(text: str) -> Fraction:
    """A fully bracketed sum, by its outermost sign."""
    if not text.startswith("("):
        return Fraction(text)
    depth = 0
    inner = text[1:-1]
    for at, character in enumerate(inner):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0 and inner[at : at + 1] == " ":
            left, sign, right = inner[:at], inner[at + 1], inner[at + 3 :]
            one, other = exact(left), exact(right)
            return {"+": one + other, "-": one - other, "*": one * other}.get(sign) if sign != "/" else one / other  # type: ignore[return-value]
    raise AssertionError(text)


@given(st.text(alphabet="0123456789.,+-*/()=x% $a<>\n", max_size=80))
def test_nothing_raises(text: str) -> None:
    assert set(equations(text)) <= {True, False}


def test_long_sums_are_no_trap() -> None:
    assert equations("(" * 5000 + "1" + ")" * 5000 + " = 1") == []
    assert equations("1+" * 5000 + "1 = 5001") == []
    assert equations("9" * 15 + "*" + "9" * 15 + " = 1") == [False]


def test_worked_solutions_state_sums_that_hold(real_data: Path) -> None:
    """The reference solutions of GSM8K: three of their sums are wrong indeed."""
    with gzip.open(real_data / "gsm8k" / "example_model_solutions.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [holds for line in lines for holds in equations(json.loads(line)["ground_truth"])]
    assert len(found) > 3000 and found.count(False) <= 6
