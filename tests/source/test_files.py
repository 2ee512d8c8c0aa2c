"""Finding files, naming their content, local dataset folders and earlier versions."""

import json
import os
import time

import pyarrow as pa
import pytest

from curate.errors import UnknownName
from curate.source import Source, fingerprint, missing_files
from curate.source.files import sha256_of
from curate.tables import from_rows


def source(**fields):
    return Source.model_validate({"rows": "prompts"} | fields)


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path, monkeypatch):
    (tmp_path / "prompts.jsonl").write_text("")
    (tmp_path / "notes.txt").write_text("")
    monkeypatch.delenv("NO_SUCH_FOLDER", raising=False)
    places = ["promts.jsonl", "*.csv", "${NO_SUCH_FOLDER}/a.jsonl", "notes.txt", "prompts.jsonl"]
    told = missing_files([source(path=path) for path in places], tmp_path)
    assert len(told) == 4
    assert "did you mean 'prompts.jsonl'?" in told[0]
    assert "no file matches" in told[1]
    assert "NO_SUCH_FOLDER is not set" in told[2]
    assert "say format: jsonl" in told[3]


def test_joined_files_are_looked_for_too(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    assert "no 'b.jsonl'" in missing_files(source(path="a.jsonl", join={"path": "b.jsonl", "on": "id"}), tmp_path)[0]


def test_environment_and_home_are_expanded(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text("")
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert missing_files([source(path="${HERE}/a.jsonl"), source(path="~/a.jsonl")], tmp_path / "elsewhere") == []


def test_a_fingerprint_is_of_contents_and_settings_not_of_folders(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_text("{}\n")
    memo = tmp_path / "memo"
    one, two = (fingerprint(source(path="a.jsonl"), tmp_path / folder, memo) for folder in ("one", "two"))
    assert one == two == json.loads(json.dumps(one))
    assert one == fingerprint(source(path="a.jsonl", max_rejects=5), tmp_path / "one", memo)
    assert one != fingerprint(source(path="a.jsonl", meta="x"), tmp_path / "one", memo)
    (tmp_path / "two" / "a.jsonl").write_text("{ }\n")
    assert one != fingerprint(source(path="a.jsonl"), tmp_path / "two", memo)


def test_a_hash_is_remembered_until_the_file_changes(tmp_path):
    file, memo = tmp_path / "a", tmp_path / "memo"
    file.write_text("one")
    old = time.time() - 60
    os.utime(file, (old, old))
    first = sha256_of(file, memo)
    (note,) = memo.iterdir()
    note.write_text(note.read_text().replace(first, "remembered"))
    assert sha256_of(file, memo) == "remembered"
    file.write_text("two")
    assert sha256_of(file, memo) not in (first, "remembered")


def test_a_local_dataset_folder_is_read(reading, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_list([{"prompt": "a", "chosen": "x", "rejected": "y"}]).to_parquet(
        str(tmp_path / "set" / "train.parquet")
    )
    (row,) = reading({"hf": "set", "split": "train", "dialect": "trl"}).rows
    assert (row["chosen"], row["source"]) == ("x", "set")
    datasets.Dataset.from_list([{"prompt": "b", "chosen": "x", "rejected": "y"}]).save_to_disk(str(tmp_path / "saved"))
    (row,) = reading({"hf": "./saved", "split": "train", "dialect": "trl"}).rows
    assert row["prompt"][0]["content"] == "b"


def version(root, **folders):
    """A version folder of the store with the given tables."""
    folder = root / "datasets" / "demo" / "v0003"
    files = []
    for path, table in folders.items():
        (folder / path).mkdir(parents=True)
        name = f"{path}/{'all' if path == 'responses' else 'train'}-00000.arrow"
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        files.append({"path": name})
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "content": "c0ffee", "files": files}))


def test_an_earlier_version_is_read_back(reading, tmp_path):
    prompt = [{"role": "user", "content": "Hi"}]
    pair = {"row": 9, "prompt_id": "p", "prompt": prompt, "pair_id": "q", "chosen_id": "c", "source": "a.jsonl", "margin": 1.5}
    pair |= {"votes": [{"rater": "source", "p_chosen": 1.0}], "flags": [{"by": "lint", "reason": "short"}]}
    stored = from_rows([pair], "pairs").drop_columns(["chosen", "rejected", "chosen_turns", "rejected_turns"])
    talk = [{"role": "assistant", "content": "Hello!"}]
    stored = stored.append_column("chosen", pa.array([talk])).append_column("chosen_score_rm_score", pa.array([1.0]))
    stored = stored.append_column("rejected", pa.array([[*talk, *prompt, *talk]]))
    version(tmp_path, pairs=stored, responses=from_rows([{"row": 0, "prompt": prompt, "response": "a"}], "responses"))
    (row,) = reading({"version": "demo@v3"}, store_root=tmp_path).rows
    assert (row["row"], row["pair_id"], row["chosen"], row["rejected"], row["margin"]) == (0, "q", "Hello!", "Hello!", 1.5)
    assert (row["chosen_turns"], len(row["rejected_turns"]), row["votes"][0]["p_chosen"], row["flags"]) == (None, 3, 1.0, None)
    assert [r["response"] for r in reading({"version": "demo@v3", "table": "responses"}, store_root=tmp_path).rows] == ["a"]
    identity = fingerprint(Source(version="demo@v3"), tmp_path, tmp_path / "memo", tmp_path)
    assert identity["sources"][0]["version"] == {"name": "demo@v3", "content": "c0ffee"}
    with pytest.raises(UnknownName, match="demo@v4"):
        reading({"version": "demo@v4"}, store_root=tmp_path)
