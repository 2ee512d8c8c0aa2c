"""Contamination: planted items are found, what merely resembles them is not, and what is shared is quoted."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.errors import DataError
from curate.filter.contamination import QUOTED, Contamination, shared_words

ITEM = "A train leaves the old station at nine and arrives at noon. How many hours did the whole trip take?"


def prompts(*texts: str | None) -> pa.Table:
    rows = [
        {"prompt": None if text is None else [{"role": "user", "content": text}], "prompt_id": f"p{n}"}
        for n, text in enumerate(texts)
    ]
    return tables.from_rows(rows, "prompts")


def held(folder: Path, *items: str, name: str = "test.jsonl", field: str = "question") -> Path:
    path = folder / name
    packed = "".join(json.dumps({"id": n, field: item}) + "\n" for n, item in enumerate(items)).encode()
    path.write_bytes(gzip.compress(packed) if name.endswith(".gz") else packed)
    return path


def flags(table: pa.Table, **parameters: Any) -> list[tuple[str, float, str] | None]:
    made = Contamination(name="held", **parameters)(table)["flags"].to_pylist()
    return [(row[0]["reason"], round(row[0]["value"], 3), row[0]["other"]) if row else None for row in made]


@pytest.mark.parametrize("name", ["test.jsonl", "test.jsonl.gz"])
def test_an_item_is_found_within_a_longer_text_whatever_its_form(tmp_path: Path, name: str) -> None:
    path = held(tmp_path, "Something else that nobody asks about in any of these rows here.", ITEM, name=name)
    table = prompts(f"Solve this:\n{ITEM.upper()}\nThanks!", "How many hours did it take?", None)
    assert flags(table, against={"gsm": path}) == [("in gsm", 1.0, f"item 2: {ITEM[:-1]}"), None, None]


def test_the_measure_is_the_share_of_the_item_and_null_without_text(tmp_path: Path) -> None:
    path = held(tmp_path, ITEM)  # of 20 words: 13 runs of 8
    half = " ".join(ITEM.split()[:11])
    out = Contamination(name="held", against={"t": path}, threshold=0.3)(prompts(half, "no", None))
    assert [row[0]["value"] for row in out["evidence"].to_pylist()] == [pytest.approx(4 / 13), 0.0, None]
    assert [bool(row) for row in out["flags"].to_pylist()] == [True, False, False]
    assert flags(prompts(half), against={"t": path}) == [None]


def test_a_short_item_is_found_only_where_it_is_the_whole_text(tmp_path: Path) -> None:
    path = held(tmp_path, "Name a primary color.")
    found = flags(prompts("name a primary color", "Name a primary color and say why you like it."), against={"t": path})
    assert found == [("in t", 1.0, "item 1: Name a primary color"), None]


def test_the_set_of_the_greatest_share_is_named(tmp_path: Path) -> None:
    part, whole = held(tmp_path, ITEM + " And " + ITEM[::-1], name="a.jsonl"), held(tmp_path, ITEM, name="b.jsonl")
    assert flags(prompts(ITEM), against={"a": part, "b": whole}, threshold=0.2)[0][0] == "in b"  # type: ignore[index]


def test_another_content_of_a_file_is_read_anew(tmp_path: Path) -> None:
    path = held(tmp_path, ITEM)
    assert flags(prompts(ITEM), against={"t": path})[0] is not None
    held(tmp_path, "something else, of as many words as there need to be for a run")
    assert flags(prompts(ITEM), against={"t": path}) == [None]


def test_a_file_without_a_text_names_what_it_has(tmp_path: Path) -> None:
    path = held(tmp_path, ITEM, field="stem")
    with pytest.raises(DataError, match=r"row 1: none of the fields question.*It has id, stem"):
        flags(prompts(ITEM), against={"t": path})
    assert flags(prompts(ITEM), against={"t": path}, field="stem")[0] is not None


def test_a_quotation_is_the_longest_run_and_is_cut() -> None:
    assert shared_words("x b c d y a b c d e", "a b c d e z", 3) == "a b c d e"
    assert shared_words("a b", "c d", 3) == ""
    assert len(shared_words("word " * 200, "word " * 200, 8)) <= QUOTED


def test_fifty_planted_verbatim_are_found_and_nothing_else_of_what_was_clean(real_data: Path) -> None:
    def texts(name: str, field: str) -> list[str]:
        return [json.loads(line)[field] for line in gzip.decompress((real_data / name).read_bytes()).splitlines()]

    asked = texts("alpaca_eval/prompts.jsonl.gz", "instruction")
    sets = {
        name: real_data / path
        for name, path in (("gsm8k", "gsm8k/test.jsonl.gz"), ("mmlu_pro", "mmlu_pro/questions.dev.jsonl.gz"))
    }
    clean = flags(prompts(*asked), against=sets)
    planted = (
        texts("gsm8k/test.jsonl.gz", "question")[::27][:25] + texts("mmlu_pro/questions.dev.jsonl.gz", "question")[::142][:25]
    )
    found = flags(prompts(*[f"{asked[n]}\n\n{item}" for n, item in enumerate(planted)], *asked), against=sets)
    long = [n for n, item in enumerate(planted) if len(item.split()) >= 8]
    assert all(found[n] is not None for n in long) and len(long) >= 45
    assert found[50:] == clean
    assert all(one is not None for one in flags(prompts(*planted), against=sets))


@pytest.mark.parametrize("wrong", [{"against": {}}, {}, {"against": {"a": "x"}, "words": 1}])
def test_wrong_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Contamination(**wrong)
