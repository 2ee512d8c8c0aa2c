import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate import tables
from curate.errors import Damaged
from curate.store import arrow, gc
from curate.store.store import Snapshot, Store


def prompts(*texts: str) -> pa.Table:
    return tables.from_rows([{"prompt_id": text, "domain": text} for text in texts], "prompts")


def test_equal_tables_have_equal_bytes_however_they_are_chunked(tmp_path: Path) -> None:
    whole = prompts(*(str(i) for i in range(10_000)))
    pieces = pa.concat_tables([whole.slice(0, 17), whole.slice(17, 9000), whole.slice(9017)])
    assert arrow.to_bytes(whole) == arrow.to_bytes(pieces)


@pytest.mark.parametrize("rows", [17, 4096, 4100])
def test_a_part_of_a_table_has_the_bytes_of_a_table_of_its_own(rows: int) -> None:
    """No byte of the rows behind it is written along, not even of those inside lists."""
    made = [{"prompt_id": f"p{i}", "domain": "d" * (i % 7), "scores": [{"rater": f"r{i}"}] * (i % 3)} for i in range(5000)]
    whole, part = (tables.from_rows(several, "prompts") for several in (made, made[:rows]))
    assert arrow.to_bytes(whole.slice(0, rows)) == arrow.to_bytes(part)


def test_an_annotating_step_writes_only_its_columns(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.put_shard(prompts("a", "b"))
    scored = tables.add_scores(store.read_shard(first, "prompts"), np.array([1.0, 2.0]), "rm", "x")
    second = store.put_shard(pa.table({"scores": scored}), over=first)
    assert second.columns["domain"] == first.columns["domain"]
    assert second.columns["scores"] not in first.columns.values()
    read = store.read_shard(second, "prompts")
    assert read["domain"].to_pylist() == ["a", "b"]
    assert tables.score_of(read, "rm").tolist() == [1.0, 2.0]


def test_rows_without_an_ordinal_get_their_position(tmp_path: Path) -> None:
    store = Store(tmp_path)
    snapshot = Snapshot("prompts", (store.put_shard(prompts("a", "b")), store.put_shard(prompts("c"))))
    assert [row for table in store.read(snapshot, ["row"]) for row in table["row"].to_pylist()] == [0, 1, 2]


def test_a_snapshot_is_named_by_its_content(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, two = (Snapshot("prompts", (store.put_shard(prompts(text)),)) for text in "ab")
    assert one.id != two.id
    assert one.id == Snapshot("prompts", (Store(tmp_path / "elsewhere").put_shard(prompts("a")),)).id


def test_a_step_brings_the_snapshot_along_that_its_own_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    given, made = store.put_shards([(prompts("a"), None), (prompts("b", "c"), None)])
    left = Snapshot("prompts", (given,))
    store.finish_step("key", {}, Snapshot("prompts", (made,), left.id), {}, left)
    (snapshot, _) = store.finished_step("key") or pytest.fail("it is not finished")
    assert store.snapshot(snapshot.left or "") == left
    assert (given.rows, made.rows) == (1, 2) and given.columns.keys() == made.columns.keys()


def test_a_finished_step_whose_file_is_gone_is_not_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    snapshot = Snapshot("prompts", (store.put_shard(prompts("a")),))
    store.finish_step("key", {}, snapshot, {"rows_in": 1})
    assert store.finished_step("key") == (snapshot, {"rows_in": 1})
    (name,) = snapshot.objects()
    store.object_path(name).unlink()
    assert store.finished_step("key") is None


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shard = store.put_shard(prompts("a"))
    path = store.object_path(shard.columns["domain"])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Damaged, match=path.name):
        store.read_shard(shard, "prompts")
    assert store.damage() == [f"{path} was changed after it was written; remove it and run again"]


def test_gc_frees_what_no_step_points_at_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = Snapshot("prompts", (store.put_shard(prompts("kept")),))
    store.finish_step("key", {}, kept, {})
    orphan = store.object_path(store.put_table(prompts("orphan")))
    store.remember("0" * 64, {"objects": [orphan.stem]})
    assert gc.find(store).files == ()  # young: a run may be about to point at it
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - 2 * gc.SCRATCH_SECONDS,) * 2)
    gc.free(store, gc.find(store))
    assert not orphan.exists() and store.remembered("0" * 64) is None
    assert store.finished_step("key") == (kept, {})
    os.utime(tmp_path / "steps" / "key.json", (0, 0))
    gc.free(store, gc.find(store, older_than=0.0, unused_for=3600.0))
    assert store.finished_step("key") is None and not any((tmp_path / "objects").glob("*/*"))
