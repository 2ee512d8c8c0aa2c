"""Lexical embeddings: what shares words and spellings is near, in every script, and the same on every machine."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from curate.errors import UsageError
from curate.models.hashing import AT_ONCE, HashingEmbed, features, plain, portions
from curate.models.session import Session, identity_of
from curate.models.spec import ModelSpec

HASHING = ModelSpec(backend="hashing", name="lexical")


def embed(*texts: str, **options: int) -> np.ndarray:
    return HashingEmbed(HASHING.model_copy(update={"options": options})).encode(texts)


def likeness(one: str, other: str) -> float:
    first, second = embed(one, other)
    return float(first @ second)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("The cat sat on the mat.", "the cat sat on a mat", "Stock markets fell sharply on Monday."),
        ("猫はマットの上に座って犬を見た。", "猫がマットの上に座り、犬を見ていた。", "株式市場は月曜日に急落した。"),
        ("ذهبت القطة إلى البيت الكبير", "ذهبت القطة الى بيت كبير", "انخفضت الأسهم يوم الاثنين"),
        ("मैं कल दिल्ली जा रहा हूँ", "मैं आज दिल्ली जा रहा हूँ", "बाज़ार में भारी गिरावट आई"),
        ("Straße und Größe", "STRASSE UND GRÖSSE", "ein ganz anderer Satz"),
    ],
)
def test_a_reworded_text_is_nearer_than_another(text: str, near: str, far: str) -> None:
    assert likeness(text, near) > 0.3 + likeness(text, far)
    assert abs(likeness(text, far)) < 0.25


def test_case_composition_and_punctuation_do_not_matter() -> None:
    assert likeness("Café, déjà vu!", "cafe\u0301 de\u0301ja\u0300 vu") == pytest.approx(1)


def test_the_order_of_words_matters_a_little() -> None:
    assert 0.7 < likeness("dog bites man in the park", "man bites dog in the park") < 0.999


def test_the_hundredth_repeat_of_a_word_counts_little() -> None:
    assert likeness("alpha beta", "alpha " * 100 + "beta") > 0.3  # counted plainly it would be nearer to `alpha alone`


def test_every_text_has_unit_length_even_one_without_words() -> None:
    vectors = embed("", "   ", "!?", "\udc80", "a", "words here")
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6), abs=1e-6)
    assert (vectors[0] == vectors[2]).all() and abs(vectors[0] @ vectors[5]) < 0.2


def test_a_vector_does_not_depend_on_the_texts_beside_it() -> None:
    texts = ["one two three", "猫は", "", "x" * (AT_ONCE + 5), "four five six seven"]
    together = embed(*texts)
    assert len(portions(texts)) > 1
    assert all((embed(text)[0] == vector).all() for text, vector in zip(texts, together, strict=True))


def test_vectors_are_these_on_every_machine() -> None:
    vectors = embed("The answer is 42.", "答えは四十二です。", "naïve café", dimensions=64)
    assert hashlib.sha256(np.round(vectors * 2**20).astype("<i8").tobytes()).hexdigest()[:16] == "de71da7cda3c7af9"


def test_features_are_words_their_pairs_and_runs_of_characters() -> None:
    text_of, kind, _ = features([plain("ab cd"), plain("e")])
    counted = [[int(((text_of == text) & (kind == k)).sum()) for k in range(4)] for text in (0, 1)]
    # gaps around and between words: " ab cd " has five runs of three and four of four, " e " one of three
    assert counted == [[2, 1, 5, 4], [1, 0, 1, 0]]


def test_equal_words_have_one_hash_wherever_they_stand() -> None:
    text_of, kind, found = features([plain("one two"), plain("three two one")])
    words = [set(found[(text_of == text) & (kind == 0)].tolist()) for text in (0, 1)]
    assert words[0] < words[1] and len(words[1]) == 3


def test_dimensions_are_an_option_and_part_of_the_identity() -> None:
    small = HASHING.model_copy(update={"options": {"dimensions": 64}})
    assert embed("a b c", dimensions=64).shape == (1, 64)
    assert identity_of(small) != identity_of(HASHING)
    for wrong in ({"dimensions": 3}, {"dimensions": True}, {"size": 64}):
        with pytest.raises(UsageError, match="model lexical, options"):
            HashingEmbed(HASHING.model_copy(update={"options": wrong}))


def test_it_says_that_it_is_lexical(tmp_path: Path) -> None:
    with Session({"embed": HASHING}, tmp_path) as session:
        assert session.embed("embed").likeness == "lexical"
        assert session.identity("embed")["likeness"] == "lexical"
        assert session.embed("embed").encode(["a", "b", "a"]).shape == (3, 512)
        with pytest.raises(UsageError, match="backend hashing gives embeddings, and a step asks it for reward"):
            session.reward("embed").score([[{"role": "user", "content": "x"}]])
