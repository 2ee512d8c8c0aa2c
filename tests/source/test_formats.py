"""Every file format, and files that are torn, empty or strange."""

import gzip
import json

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import DataError
from curate.source.formats import parsed

ROWS = [{"prompt": "Is it 7?", "n": 1}, {"prompt": 'Ünïcode 🎈,\n"quoted"', "n": 2}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = pa.Table.from_pylist(ROWS)
SOURCE = {"rows": "prompts", "columns": {"prompt": "prompt"}, "meta": ["n"]}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_a_line_is_read_as_the_standard_library_reads_it(value):
    for line in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=True)):
        assert repr(parsed(line.encode())) == repr(json.loads(line))


@pytest.mark.parametrize(
    "line", ['"\\ud800"', "[" * 250 + "]" * 250, '{"a": 1, "b": 2, "a": 3}', "[1e999, -0, 1E5, 0.1e-400, NaN]"]
)
def test_what_the_quick_reader_refuses_or_may_see_differently_is_read_the_same(line):
    assert repr(parsed(line.encode())) == repr(json.loads(line))


def stream(path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, TABLE.schema) as writer:
        writer.write_table(TABLE)


WRITERS = {
    "a.jsonl": lambda path: path.write_bytes(LINES),
    "a.ndjson": lambda path: path.write_bytes(LINES.replace(b"\n", b"\r\n")),
    "bom.jsonl": lambda path: path.write_bytes(b"\xef\xbb\xbf" + LINES.rstrip(b"\n")),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES[:40]) + gzip.compress(LINES[40:])),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(LINES)),
    "a.json": lambda path: path.write_text(json.dumps(ROWS, indent=1)),
    "a.parquet": lambda path: pq.write_table(TABLE, path),
    "a.arrow": stream,
    "a.feather": lambda path: feather.write_feather(TABLE, str(path)),
    "a.csv": lambda path: path.write_text('prompt,n\nIs it 7?,1\n"Ünïcode 🎈,\n""quoted""",2\n'),
    "a.tsv": lambda path: path.write_text('prompt\tn\nIs it 7?\t1\n"Ünïcode 🎈,\n""quoted"""\t2\n'),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(reading, tmp_path, name):
    WRITERS[name](tmp_path / name)
    outcome = reading({"path": name, **SOURCE})
    assert [row["prompt"][0]["content"] for row in outcome.rows] == [row["prompt"] for row in ROWS]
    assert [json.loads(row["meta"])["n"] in (row["row"] + 1, str(row["row"] + 1)) for row in outcome.rows] == [True, True]


@pytest.mark.parametrize("name", ["e.jsonl", "e.jsonl.gz", "e.csv", "e.json", "e.arrow"])
def test_an_empty_file_has_no_rows(reading, tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    assert reading({"path": name, **SOURCE}).rows == []


@pytest.mark.parametrize(("name", "pack"), [("torn.jsonl.gz", gzip.compress), ("torn.jsonl.zst", zstandard.compress)])
def test_a_torn_file_is_named(reading, tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(LINES * 50)[:-9])
    with pytest.raises(DataError, match=f"{name}.*ends in the middle"):
        reading({"path": name, **SOURCE})


def test_no_parquet_at_all_is_named(reading, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="a.parquet cannot be read as parquet"):
        reading({"path": "a.parquet", **SOURCE})


def test_bad_lines_are_rejected_by_number(reading, tmp_path):
    bad = [b'{"prompt": "a"}', b"", b'{"prompt": ', b"[1]", b'{"prompt": "\xff"}', b"[" * 100_000, b'{"prompt": "z"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(bad))
    outcome = reading({"path": "a.jsonl", "rows": "prompts", "max_rejects": 9})
    assert [row["prompt"][0]["content"] for row in outcome.rows] == ["a", "z"]
    reasons = [(reject["line"], reject["reason"].split(":")[0]) for reject in outcome.rejects]
    assert reasons == [(3, "invalid JSON"), (4, "not an object"), (5, "not UTF-8"), (6, "invalid JSON")]
    assert "at character 12" in outcome.rejects[0]["reason"]


def test_a_csv_row_with_too_few_cells_is_rejected_by_its_first_line(reading, tmp_path):
    (tmp_path / "a.csv").write_bytes(b'prompt,n\n"two\nlines",1\nonly\n\xff,3\nok,4\n')
    outcome = reading({"path": "a.csv", **SOURCE, "max_rejects": 5})
    assert [row["prompt"][0]["content"] for row in outcome.rows] == ["two\nlines", "ok"]
    assert [(r["line"], r["reason"].split(":")[0]) for r in outcome.rejects] == [(4, "wrong number of fields"), (5, "not UTF-8")]


def test_a_parquet_row_that_is_not_utf8_is_rejected_by_its_number(reading, tmp_path):
    texts = pa.array([b"a", b"\xff", b"c"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"prompt": texts}), tmp_path / "a.parquet")
    outcome = reading({"path": "a.parquet", "rows": "prompts", "max_rejects": 1})
    assert [row["prompt"][0]["content"] for row in outcome.rows] == ["a", "c"]
    assert (outcome.rejects[0]["line"], outcome.rejects[0]["column"]) == (2, "prompt")


def test_a_column_the_file_lacks_is_named_with_the_nearest(reading, tmp_path):
    pq.write_table(TABLE, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column 'promt'; did you mean 'prompt'"):
        reading({"path": "a.parquet", "columns": {"prompt": "promt"}})


def test_a_folder_is_read_in_the_order_of_names(reading, tmp_path):
    (tmp_path / "d" / "sub").mkdir(parents=True)
    for name in ("d/b.jsonl", "d/a.jsonl", "d/sub/c.jsonl", "d/README.md"):
        (tmp_path / name).write_text(json.dumps({"prompt": name}))
    for path in ("d", "d/**/*.jsonl"):
        rows = reading({"path": path, "rows": "prompts"}).rows
        assert [row["source"] for row in rows] == ["a.jsonl", "b.jsonl", "c.jsonl"]
