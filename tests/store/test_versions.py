import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from curate.errors import StoreError, UnknownName, UsageError
from curate.store.versions import Versions, damage

COMMIT = textwrap.dedent("""
    import hashlib, json, sys
    from curate.store.versions import Versions
    versions, worker, count = Versions(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    for i in range(count):
        with versions.staging("race") as folder:
            content = f"{worker} {i}".encode()
            (folder / "data.txt").write_bytes(content)
            files = [{"path": "data.txt", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}]
            (folder / "manifest.json").write_text(json.dumps({"files": files, "content": content.decode()}))
            versions.commit("race", folder)
""")


def publish(versions: Versions, name: str, text: str = "x") -> None:
    with versions.staging(name) as folder:
        (folder / "manifest.json").write_text(json.dumps({"files": [], "content": text, "grain": "pairs", "splits": {}}))
        versions.commit(name, folder)


def test_eight_writers_make_consecutive_whole_versions(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", COMMIT, str(tmp_path), str(i), "25"]) for i in range(8)]
    assert [writer.wait() for writer in writers] == [0] * 8
    versions = Versions(tmp_path)
    assert versions.numbers("race") == list(range(1, 201))
    assert [problem for version in versions.all("race") for problem in damage(version)] == []
    assert len({version.manifest["content"] for version in versions.all("race")}) == 200


def test_a_failed_staging_leaves_nothing(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    with pytest.raises(RuntimeError), versions.staging("d") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert versions.numbers("d") == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_find_by_number_tag_and_latest(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for text in ("a", "b"):
        publish(versions, "d", text)
    versions.tag("d", "production", 1)
    assert [versions.find(ref).number for ref in ("d", "d@latest", "d@v1", "d@2", "d@v0002", "d@production")] == [
        2,
        2,
        1,
        2,
        2,
        1,
    ]
    versions.tag("d", "production", None)
    for wrong in ("d@production", "d@v3", "e"):
        with pytest.raises(UnknownName):
            versions.find(wrong)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a b", ".hidden", "x" * 101, "a\x00b", "a..b"])
def test_a_name_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        Versions(tmp_path).find(name)


@pytest.mark.parametrize("tag", ["v3", "7", "latest", "preview", "a/b", ""])
def test_a_tag_is_never_taken_for_a_version(tmp_path: Path, tag: str) -> None:
    publish(Versions(tmp_path), "d")
    with pytest.raises(UsageError):
        Versions(tmp_path).tag("d", tag, 1)


def test_verify_names_missing_changed_and_foreign_files(tmp_path: Path) -> None:
    script = [sys.executable, "-c", COMMIT, str(tmp_path), "0", "3"]
    subprocess.run(script, check=True)
    one, two, three = Versions(tmp_path).all("race")
    (one.path / "data.txt").unlink()
    (two.path / "data.txt").write_text("other")
    (three.path / "extra").write_text("")
    assert damage(one) == ["race@v1: data.txt is missing"]
    assert damage(two) == ["race@v2: data.txt was changed after it was published"]
    assert damage(three) == ["race@v3: extra is not in the manifest"]


def in_namespace(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own."""
    return subprocess.run(["unshare", "-Urm", "bash", "-ec", script], capture_output=True, text=True)


FILL = textwrap.dedent("""
    import sys
    import pyarrow as pa
    from curate.errors import StoreError
    from curate.store.store import Store
    store, done = Store(sys.argv[1]), 0
    try:
        for i in range(100):
            store.put_table(pa.table({"row": pa.array(range(i * 100_000, i * 100_000 + 100_000))}))
            done += 1
    except StoreError as error:
        print(error)
    print(done, len(store.damage()), len(list(store.scratch.iterdir())))
""")


def test_a_full_disk_is_one_sentence_and_keeps_what_was_committed(tmp_path: Path) -> None:
    done = in_namespace(f"mount -t tmpfs -o size=8m tmpfs {tmp_path}; {sys.executable} - {tmp_path} <<'END'\n{FILL}\nEND")
    sentence, counts = done.stdout.strip().splitlines()
    assert "the disk is full" in sentence and "run the same command again" in sentence
    finished, damaged, left = map(int, counts.split())
    assert finished > 0 and (damaged, left) == (0, 0), done.stderr


def test_a_read_only_store_is_one_sentence(tmp_path: Path) -> None:
    script = "import sys; from curate.store.store import Store; Store(sys.argv[1]).writable()"
    mount = f"mount -t tmpfs tmpfs {tmp_path}; mount -o remount,ro {tmp_path}"
    done = in_namespace(f'{mount}; {sys.executable} -c "{script}" {tmp_path}')
    assert done.returncode == 1 and "the disk is mounted read-only" in done.stderr.splitlines()[-1]


def test_a_file_in_the_place_of_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="not a folder"):
        publish(Versions(tmp_path / "file"), "d")
