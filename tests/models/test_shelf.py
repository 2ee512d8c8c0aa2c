"""Vectors by key: what was put is found, in every process, whatever is merged meanwhile."""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from curate.errors import StoreError
from curate.models.shelf import GRACE_SECONDS, MANY_PARTS, VectorShelf


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:16]


def keys(*numbers: int) -> list[bytes]:
    return [key(number) for number in numbers]


def rows(*numbers: int, kind: type = np.float32) -> np.ndarray:
    """Each row tells its number."""
    return np.array([[number, -number, 0.5] for number in numbers], kind).reshape(-1, 3)


def parts(root: Path) -> list[Path]:
    return sorted((root / "s").glob("[!.]*"))


def age(root: Path, seconds: float = 2 * GRACE_SECONDS) -> None:
    """Make every file of the shelf so much older."""
    for path in (root / "s").iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


def test_what_was_put_is_found_and_the_rest_is_not(tmp_path: Path) -> None:
    VectorShelf(tmp_path, "s").put(keys(1, 2, 3), rows(1, 2, 3))
    found, there = VectorShelf(tmp_path, "s").get(keys(3, 9, 1, 3))
    assert there.tolist() == [True, False, True, True]
    assert found[there].tolist() == rows(3, 1, 3).tolist() and np.isnan(found[1]).all()
    assert found.dtype == np.float32


def test_an_empty_shelf(tmp_path: Path) -> None:
    shelf = VectorShelf(tmp_path, "s")
    found, there = shelf.get(keys(1, 2))
    assert found.shape == (2, 0) and there.tolist() == [False, False]
    shelf.put([], np.empty((0, 3), np.float32))
    assert not (tmp_path / "s").exists() and len(shelf) == 0
    shelf.put(keys(1), rows(1))
    assert shelf.get([])[0].shape == (0, 3)


def test_halves_stay_halves_and_mix_with_floats(tmp_path: Path) -> None:
    shelf = VectorShelf(tmp_path, "s")
    shelf.put(keys(1), rows(1, kind=np.float16))
    assert shelf.get(keys(1))[0].dtype == np.float16
    shelf.put(keys(2), rows(2))
    found, _ = shelf.get(keys(1, 2))
    assert found.dtype == np.float32 and found.tolist() == rows(1, 2).tolist()


def test_many_small_parts_become_few_and_a_row_put_twice_one(tmp_path: Path) -> None:
    shelf, other = VectorShelf(tmp_path, "s"), VectorShelf(tmp_path, "s")
    for number in range(200):
        shelf.put(keys(number, 0), rows(number, 0))
        if number % 50 == 0:
            assert other.get(keys(number))[1].all()
        if number % 20 == 19:
            age(tmp_path)
    assert len(parts(tmp_path)) < 4 * MANY_PARTS
    for reader in (shelf, other, VectorShelf(tmp_path, "s")):
        found, there = reader.get(keys(*range(200)))
        assert there.all() and found.tolist() == rows(*range(200)).tolist()
    assert 200 <= len(shelf) < 200 + 2 * MANY_PARTS


def test_threads_and_processes_put_and_get_at_once(tmp_path: Path) -> None:
    code = """
import sys
import time
from pathlib import Path
from curate.models.shelf import VectorShelf
from tests.models.test_shelf import keys, rows
shelf, first = VectorShelf(Path(sys.argv[1]), "s"), int(sys.argv[2])
for number in range(first, first + 60):
    shelf.put(keys(number), rows(number))
    found, there = shelf.get(keys(*range(first, number + 1)))
    assert there.all() and found.tolist() == rows(*range(first, number + 1)).tolist()
"""
    place = Path(__file__).parent.parent.parent

    def work(first: int) -> None:
        subprocess.run([sys.executable, "-c", code, str(tmp_path), str(first)], check=True, cwd=place)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(0, 240, 60)))
    found, there = VectorShelf(tmp_path, "s").get(keys(*range(240)))
    assert there.all() and found.tolist() == rows(*range(240)).tolist()


def test_what_a_killed_process_left_behind_is_not_read(tmp_path: Path) -> None:
    shelf = VectorShelf(tmp_path, "s")
    shelf.put(keys(1), rows(1))
    (tmp_path / "s" / ".half.vec").write_bytes(b"half")
    assert VectorShelf(tmp_path, "s").get(keys(1))[1].all()


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_part_cut_short_is_passed_over_and_its_rows_can_be_put_again(tmp_path: Path, keep: int) -> None:
    VectorShelf(tmp_path, "s").put(keys(1, 2), rows(1, 2))
    (path,) = parts(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    shelf = VectorShelf(tmp_path, "s")
    assert not shelf.get(keys(1, 2))[1].any()
    shelf.put(keys(1), rows(1))
    assert shelf.get(keys(1, 2))[1].tolist() == [True, False]


def test_a_part_whose_keys_were_changed_is_passed_over_with_all_its_rows(tmp_path: Path) -> None:
    VectorShelf(tmp_path, "s").put(keys(1, 2), rows(1, 2))
    (path,) = parts(tmp_path)
    content = bytearray(path.read_bytes())
    content[-2 * 12 - 1] ^= 1  # the last byte of the keys: a row is 12 bytes
    path.write_bytes(content)
    assert not VectorShelf(tmp_path, "s").get(keys(1, 2))[1].any()


def test_what_is_no_number_is_not_kept(tmp_path: Path) -> None:
    shelf = VectorShelf(tmp_path, "s")
    matrix = rows(1, 2)
    matrix[0, 1] = np.nan
    shelf.put(keys(1, 2), matrix)
    assert shelf.get(keys(1, 2))[1].tolist() == [False, True]


def test_a_merged_part_stays_for_those_who_read_it_and_goes_when_it_is_old(tmp_path: Path) -> None:
    shelf = VectorShelf(tmp_path, "s")
    for number in range(MANY_PARTS):
        shelf.put(keys(number), rows(number))
    assert len(parts(tmp_path)) == MANY_PARTS + 1
    assert len(VectorShelf(tmp_path, "s")) == MANY_PARTS  # the merged ones are passed over, not counted twice
    age(tmp_path)
    for number in range(MANY_PARTS, 2 * MANY_PARTS):
        shelf.put(keys(number), rows(number))
    assert len(parts(tmp_path)) <= MANY_PARTS + 2
    assert shelf.get(keys(*range(2 * MANY_PARTS)))[1].all()


def test_rows_of_another_width_are_another_models(tmp_path: Path) -> None:
    shelf = VectorShelf(tmp_path, "s")
    shelf.put(keys(1), rows(1))
    with pytest.raises(StoreError, match="holds rows of 3 numbers, not of 2"):
        shelf.put(keys(2), rows(2)[:, :2])


@pytest.mark.parametrize(
    ("names", "matrix"),
    [
        (keys(1, 2), rows(1)),
        (keys(1), rows(1)[0]),
        (keys(1), rows(1).astype(np.float64)),
        ([b"ab"], rows(1)),
    ],
    ids=["a key too many", "one axis", "float64", "short"],
)
def test_what_cannot_be_put(tmp_path: Path, names: list[bytes], matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="key"):
        VectorShelf(tmp_path, "s").put(names, matrix)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden"])
def test_a_name_stays_below_the_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a shelf"):
        VectorShelf(tmp_path, name)
