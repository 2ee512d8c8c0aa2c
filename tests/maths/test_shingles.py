"""Shingles: what makes two texts share one, in any script."""

import numpy as np
import pytest

from curate.maths.shingles import MOST, shingle_sets


def shared(one: str, other: str, **how: object) -> tuple[int, int, int]:
    """Shingles of either text, and those of both."""
    sets = shingle_sets([one, other], **how)  # type: ignore[arg-type]
    a, b = (set(sets.only(np.array([row])).hashes.tolist()) for row in (0, 1))
    return len(a), len(b), len(a & b)


def test_a_text_of_five_words_has_three_runs_of_three() -> None:
    assert shared("one two three four five", "two three four five six") == (3, 3, 2)


def test_a_repeated_run_counts_once() -> None:
    assert shared("a b c a b c a b c", "a b c")[0] == 3


@pytest.mark.parametrize("other", ["ONE, two: three!", "one\n\ttwo   three", "\u201cone two three\u201d"])  # quotes
def test_case_spacing_and_punctuation_do_not_count(other: str) -> None:
    assert shared("one two three", other) == (1, 1, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a + b", "a $ b"), ("की", "का"), ("ab c d", "a bc d"), ("?!", "..."), ("", "a"), ("🙂", "🙃"), ("__x", "x__")],
)
def test_what_differs_in_content_shares_nothing(one: str, other: str) -> None:
    assert shared(one, other)[2] == 0


@pytest.mark.parametrize(("one", "other"), [("it is -12", "it is 12"), ("add 5% now", "add 5 now"), ("-1", "1"), ("7%", "7")])
def test_what_changes_a_number_counts(one: str, other: str) -> None:
    assert shared(one, other)[2] == 0


@pytest.mark.parametrize(("one", "other"), [("2024-05", "2024 05"), ("- 5 eggs", "5 eggs"), ("well-known", "well known")])
def test_a_hyphen_that_is_no_minus_does_not_count(one: str, other: str) -> None:
    assert shared(one, other) == (1, 1, 1)


def test_a_script_without_spaces_is_cut_between_characters() -> None:
    assert shared("答えは四十二です", "答えは四十三です") == (6, 6, 3)


def test_a_text_shorter_than_a_run_is_one() -> None:
    assert shared("a b", "A  b.") == (1, 1, 1)
    assert shared("a b", "a b c")[2] == 0


def test_runs_of_characters_hold_punctuation() -> None:
    assert shared("x < y;", "x > y;", unit="character", size=5)[2] == 0
    assert shared("ABCDEFG", "abcdefgh", unit="character", size=5) == (3, 4, 3)


def test_no_text_has_no_shingle_and_an_empty_one_has_one() -> None:
    assert shingle_sets([None, "", " ", "?"]).sizes().tolist() == [0, 1, 1, 1]


def test_portions_do_not_change_the_sets() -> None:
    texts = [f"text {number} of some words, {'x' * (number % 7)} ü 答え" for number in range(40_000)]
    whole, part = shingle_sets(texts), shingle_sets(texts[39_000:])
    assert whole.hashes[whole.starts[39_000] :].tolist() == part.hashes.tolist()


def test_of_a_very_long_text_the_smallest_hashes_stay() -> None:
    text = " ".join(map(str, range(5000)))
    sets = shingle_sets([text])
    assert sets.sizes().tolist() == [MOST] and (sets.hashes[1:] > sets.hashes[:-1]).all()


def test_values_stay_what_they_are() -> None:
    """Kept features name these numbers: raise the versions of the filters when they change."""
    assert shingle_sets(["one two three", "x"]).hashes.tolist() == GOLDEN


GOLDEN = [632755455, 3645128666]
