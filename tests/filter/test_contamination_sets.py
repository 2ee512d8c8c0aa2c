"""Held-out sets other than files: dataset folders, versions of the store, datasets of the hub."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from pydantic import ValidationError

from curate.errors import DataError, RecipeError
from curate.filter.contamination import Contamination
from curate.filter.held_out import HubSet, texts_of
from curate.publish.why import why
from curate.recipe import read_recipe
from curate.run import Done, run_recipe
from curate.store.versions import read_version
from tests.filter.test_contamination import ITEM, flags, prompts

OTHER = "Which colour has the sky on a clear and sunny day in the middle of the summer?"
COMMIT = "a1" * 20


def dataset(*items: str, field: str = "question") -> datasets.Dataset:
    return datasets.Dataset.from_dict({"id": list(range(len(items))), field: list(items)})


# -- folders


def test_a_saved_dataset_is_read(tmp_path: Path) -> None:
    dataset(OTHER, ITEM).save_to_disk(str(tmp_path / "saved"))
    assert flags(prompts(f"Solve: {ITEM}"), against={"t": tmp_path / "saved"}) == [("in t", 1.0, f"item 2: {ITEM[:-1]}")]


def test_of_several_splits_the_test_split_is_held_out(tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": dataset(OTHER), "test": dataset(ITEM)})
    splits.save_to_disk(str(tmp_path / "splits"))
    assert texts_of(tmp_path / "splits", None) == (ITEM,)
    assert texts_of(tmp_path / "splits" / "train", None) == (OTHER,)


def test_splits_of_which_none_is_held_out_are_refused(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": dataset(OTHER), "dev": dataset(ITEM)}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(DataError, match="splits has the splits train, dev and none called test; name the file or folder of one"):
        texts_of(tmp_path / "splits", None)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_a_folder_of_data_files_is_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "set").mkdir()
    write = {"jsonl": dataset(ITEM).to_json, "parquet": dataset(ITEM).to_parquet, "csv": dataset(ITEM).to_csv}[kind]
    write(str(tmp_path / "set" / f"test.{kind}"))
    assert texts_of(tmp_path / "set", None) == (ITEM,)


def test_a_folder_that_is_no_dataset_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").write_text("nothing")
    with pytest.raises(DataError, match="notes cannot be read: "):
        texts_of(tmp_path / "notes", None)


def test_a_dataset_without_such_a_field_names_what_it_has(tmp_path: Path) -> None:
    dataset(ITEM, field="stem").save_to_disk(str(tmp_path / "set"))
    with pytest.raises(DataError, match=r"set: none of the fields question.*It has id, stem"):
        texts_of(tmp_path / "set", None)
    assert texts_of(tmp_path / "set", "stem") == (ITEM,)
    with pytest.raises(DataError, match="set: no field other"):
        texts_of(tmp_path / "set", "other")
    with pytest.raises(DataError, match="set, row 1: no field id holds a text"):
        texts_of(tmp_path / "set", "id")


def test_all_files_of_a_folder_are_part_of_what_is_asked(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    dataset(ITEM).save_to_disk(str(folder))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "note").write_text("x")
    files = Contamination(name="held", against={"t": folder, "file": tmp_path / "one.jsonl"}).files()
    assert {Path(file).relative_to(tmp_path).as_posix() for file in files} == {
        "one.jsonl",
        "set/data-00000-of-00001.arrow",
        "set/dataset_info.json",
        "set/state.json",
    }


# -- versions


def recipe(folder: Path, name: str, rows: list[dict[str, str]], *steps: str) -> Path:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / f"{name}.yaml"
    columns = "rows: pairs, columns: {prompt: prompt, chosen: good, rejected: bad}"
    listed = "".join(f"  - {step}\n" for step in steps)
    path.write_text(
        f"name: {name}\nmodels: {{words: {{backend: hashing, name: words}}}}\n"
        f"source: {{path: {name}.jsonl, {columns}}}\nsteps:\n{listed}"
    )
    return path


def run(path: Path) -> Done:
    return run_recipe(read_recipe(path), path.parent / "store")


def pair(asked: str, good: str = "yes") -> dict[str, str]:
    return {"prompt": asked, "good": good, "bad": "no"}


def dropped(done: Done) -> list[dict[str, Any]]:
    return [row for part in read_version(done.version, "dropped/pairs") for row in part.to_pylist()]


AGAINST = "contamination: {column: prompt, against: {old: old@v1}}"


def test_prompts_of_an_earlier_version_are_held_out(tmp_path: Path) -> None:
    old = run(recipe(tmp_path, "old", [pair(ITEM, "a"), pair(ITEM, "b"), pair(OTHER)], "exact_duplicate"))
    assert old.version is not None and sorted(texts_of(old.version, None)) == [ITEM, OTHER]  # each prompt once
    done = run(recipe(tmp_path, "new", [pair(f"Solve: {ITEM}"), pair("Name a fruit.")], AGAINST))
    (row,) = dropped(done)
    assert row["reason"] == "in old" and row["other"] in (f"item 1: {ITEM[:-1]}", f"item 2: {ITEM[:-1]}")
    assert str(row["other"]) in str(why(done.version, row["pair_id"]).events)  # quoted, not shortened as an id is


def test_another_version_of_the_same_number_is_another_question(tmp_path: Path) -> None:
    import shutil

    path = recipe(tmp_path, "new", [pair(ITEM), pair(OTHER), pair("Name a fruit.")], AGAINST)
    for item in (ITEM, OTHER):
        run(recipe(tmp_path, "old", [pair(item)], "exact_duplicate"))
        (row,) = dropped(run(path))
        assert row["prompt"][-1]["content"] == item
        shutil.rmtree(tmp_path / "store" / "datasets" / "old")


def test_hits_are_counted_by_set_and_by_way(tmp_path: Path) -> None:
    run(recipe(tmp_path, "old", [pair(ITEM)], "exact_duplicate"))
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": OTHER}) + "\n")
    step = "contamination: {column: prompt, model: words, similarity: 0.6, against: {old: old@v1, sky: test.jsonl}}"
    shuffled = "In the middle of the summer on a clear and sunny day, which colour has the sky?"
    done = run(recipe(tmp_path, "new", [pair(ITEM), pair(f"Solve: {ITEM}"), pair(shuffled), pair("Name a fruit.")], step))
    assert done.version.manifest["steps"][-1]["dropped"] == {"in old": 2, "like sky": 1}


# -- the hub


def test_a_dataset_of_the_hub_is_named_with_its_commit(tmp_path: Path) -> None:
    named = "contamination: {column: prompt, against: {t: {hf: openai/gsm8k, config: main, revision: main}}}"
    with pytest.raises(RecipeError, match=r"against\.t\.revision: .*40"):
        read_recipe(recipe(tmp_path, "new", [pair(ITEM)], named))
    operator = read_recipe(recipe(tmp_path, "new", [pair(ITEM)], named.replace("revision: main", f"revision: {COMMIT}"))).steps[0]
    assert operator.operator.parameters()["against"]["t"] == {
        "hf": "openai/gsm8k",
        "revision": COMMIT,
        "config": "main",
        "split": "test",
    }


def test_without_a_network_the_dataset_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match="dataset nobody/nothing, split test cannot be read: "):
        texts_of(HubSet(hf="nobody/nothing", revision=COMMIT), None)


@pytest.mark.parametrize("wrong", [{"hf": "a/b"}, {"hf": "../b", "revision": COMMIT}, {"hf": "a/b/c", "revision": COMMIT}, 3])
def test_wrong_sets_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        Contamination(name="held", against={"t": wrong})
