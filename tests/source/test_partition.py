"""Shards by prompt: order, bounds, and independence of input order and buckets."""

import hashlib
import random

import pyarrow as pa
import pytest

from curate.errors import DataError
from curate.source import partition as module
from curate.source.partition import partition, row_bytes
from curate.tables import from_rows


def table(prompts):
    """Rows of the given prompt numbers, `row` counting from 0; some prompts are longer than others."""
    rows = []
    for row, prompt in enumerate(prompts):
        name = hashlib.sha256(str(prompt).encode()).hexdigest()[:32]
        asked = [{"role": "user", "content": f"{prompt}" * (1 + prompt % 5)}]
        rows.append({"row": row, "prompt_id": name, "prompt": asked, "response": "x" * (prompt % 7)})
    return from_rows(rows, "responses")


def parts(whole, size=7):
    return [whole.slice(start, size) for start in range(0, whole.num_rows, size)]


def content(shard):
    return [(row["prompt_id"], row["response"], row["prompt"]) for row in shard.to_pylist()]


PROMPTS = [number % 40 for number in range(200)]


@pytest.mark.parametrize("shard_bytes", [1, 700, 3_000, 10**9])
def test_shards_do_not_depend_on_buckets_or_order(tmp_path, shard_bytes):
    whole = table(PROMPTS)
    expected = list(partition(parts(whole), tmp_path, shard_bytes, bits=0))
    for bits in (1, 4, 6):
        assert all(a.equals(b) for a, b in zip(expected, partition(parts(whole, 11), tmp_path, shard_bytes, bits), strict=True))
    order = random.Random(7).sample(range(200), 200)
    shuffled = partition(parts(whole.take(order)), tmp_path, shard_bytes)
    assert all(a.equals(b) for a, b in zip(expected, shuffled, strict=True))
    renumbered = partition(parts(table([PROMPTS[i] for i in order])), tmp_path, shard_bytes)
    assert [content(shard) for shard in expected] == [content(shard) for shard in renumbered]


def test_rows_are_sorted_by_prompt_and_row_and_none_is_lost(tmp_path):
    shards = list(partition(parts(table(PROMPTS)), tmp_path, 700))
    keys = [key for shard in shards for key in zip(shard["prompt_id"].to_pylist(), shard["row"].to_pylist(), strict=True)]
    assert keys == sorted(keys)
    assert sorted(row for _, row in keys) == list(range(200))


@pytest.fixture
def spilled(monkeypatch):
    """The numbers of rows of each piece that is written to the disk."""
    pieces = []

    class Watched(module.Bucket):
        def add(self, piece, keys, size):
            pieces.append(piece.num_rows)
            super().add(piece, keys, size)

    monkeypatch.setattr(module, "Bucket", Watched)
    return pieces


def test_rows_of_one_shard_are_not_spilled_and_come_in_the_same_order(tmp_path, spilled):
    total = int(row_bytes(table(PROMPTS)).sum())
    (whole,) = partition(parts(table(PROMPTS)), tmp_path, total)
    assert spilled == []
    several = list(partition(parts(table(PROMPTS)), tmp_path, 700))
    assert sum(spilled) >= 200
    assert whole.equals(pa.concat_tables(several).combine_chunks())


def test_rows_of_more_than_one_shard_are_not_held_in_memory(tmp_path, spilled):
    before_the_last = []

    def watched():
        for part in parts(table(PROMPTS)):
            yield part
            before_the_last.append(sum(spilled))

    shards = list(partition(watched(), tmp_path, int(row_bytes(table(PROMPTS)).sum()) // 4))
    assert len(shards) > 3
    assert before_the_last[-1] > 0


def test_a_shard_is_bounded_and_a_prompt_never_straddles(tmp_path):
    shards = list(partition(parts(table([*PROMPTS, *[3] * 300])), tmp_path, 2_000))
    prompts = [set(shard["prompt_id"].to_pylist()) for shard in shards]
    assert sum(len(found) for found in prompts) == 40
    large = [shard for shard in shards if row_bytes(shard).sum() > 2_000]
    assert [shard["prompt"][0].as_py()[0]["content"] for shard in large] == ["3333"]
    assert set(large[0]["prompt_id"].to_pylist()) == prompts[shards.index(large[0])]
    assert len(prompts[shards.index(large[0])]) == 1


def test_prompts_that_share_many_digits_are_still_told_apart(tmp_path):
    rows = [{"row": i, "prompt_id": "f" * 28 + f"{i % 9:04x}", "response": "y" * 50} for i in range(90)]
    shards = list(partition([from_rows(rows, "responses")], tmp_path, 600))
    assert [len(set(shard["prompt_id"].to_pylist())) for shard in shards] == [1] * 9


def test_no_rows_make_no_shards(tmp_path):
    assert list(partition([table([])], tmp_path, 100)) == []


def test_the_scratch_folder_is_left_empty_also_after_an_error(tmp_path):
    def broken():
        yield table(PROMPTS)
        raise RuntimeError("torn")

    with pytest.raises(RuntimeError, match="torn"):
        list(partition(broken(), tmp_path, 500))
    shards = partition(parts(table(PROMPTS)), tmp_path, 500)
    next(shards)
    shards.close()
    assert list(tmp_path.iterdir()) == []


def test_rows_without_ids_are_refused(tmp_path):
    with pytest.raises(DataError, match="prompt_id"):
        list(partition([from_rows([{"row": 0, "prompt_id": "abc"}], "prompts")], tmp_path, 100))


def test_the_size_of_a_row_does_not_depend_on_where_it_lies(tmp_path):
    whole = table(PROMPTS)
    assert row_bytes(whole.slice(50, 30)).tolist() == row_bytes(whole).tolist()[50:80]
