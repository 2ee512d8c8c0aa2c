"""What was spent; merging, exporting and checking a ledger; the command that does it."""

import json
import random
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import typer
import zstandard
from typer.testing import CliRunner

from curate.cli.ledger import add_to
from curate.errors import StoreError, UsageError
from curate.models.asking import Reply
from curate.models.ledger import Ledger
from curate.models.ledger_care import Checked, Merged, check, export, ledger_of, merge
from curate.models.ledger_segment import FILE_HEAD, segments_in
from curate.models.ledger_spent import Spent, grouped, spent
from tests.models.test_ledger import WRITER, ask, keep, said, texts
from tests.models.test_ledger_files import fill, numbers

JUDGE = {"name": "judge", "kind": "chat"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store whose ledger holds two models' replies to two steps."""
    with Ledger(tmp_path / "store" / "ledger") as ledger:
        reply = {"prompt_tokens": 100, "cost_usd": 0.5, "seconds": 2.0}
        keep(ledger, ask("a"), said(**reply), "generate")
        keep(ledger, ask("b"), said(**reply), "generate")
        keep(ledger, ask("b"), Reply(error="timeout", detail="60 s", cost_usd=0.25), "generate")
        keep(ledger, ask("c"), said(**reply), "rewrite")
        key = ledger.key(JUDGE, ask("d"))
        ledger.record(key, JUDGE, ask("d"), said("7", 1, **reply), "judge")
        ledger.record(key, JUDGE, ask("d"), Reply(error="refused", detail="no"), "judge")
    return tmp_path / "store"


def short(rows: list[Spent]) -> list[tuple[Any, ...]]:
    return [
        (
            row.model,
            row.step,
            row.calls,
            row.answered,
            row.errors,
            row.prompt_tokens,
            row.response_tokens,
            row.cost_usd,
            row.seconds,
        )
        for row in rows
    ]


# -- spend


def test_spend_is_told_by_model_step_and_day(store: Path) -> None:
    rows = spent(store / "ledger")
    assert short(rows) == [
        ("judge", "judge", 2, 1, {"refused": 1}, 100, 1, 0.5, 2.0),
        ("writer", "generate", 3, 2, {"timeout": 1}, 200, 20, 1.25, 4.0),
        ("writer", "rewrite", 1, 1, {}, 100, 10, 0.5, 2.0),
    ]
    assert short(grouped(rows, "model")) == [
        ("judge", None, 2, 1, {"refused": 1}, 100, 1, 0.5, 2.0),
        ("writer", None, 4, 3, {"timeout": 1}, 300, 30, 1.75, 6.0),
    ]
    assert [(row.step, row.calls) for row in grouped(rows, "step")] == [("generate", 3), ("judge", 2), ("rewrite", 1)]
    assert [(len(row.day or ""), row.calls) for row in grouped(rows, "day")] == [(10, 6)]


def test_spend_counts_what_is_being_written_and_a_copied_segment_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    keep(ledger, ask("a"), said(cost_usd=1.0))
    for number, path in enumerate(segments_in(tmp_path)):
        shutil.copy(path, tmp_path / f"copy-{number}.seg")
    keep(ledger, ask("b"), said(cost_usd=1.0))
    assert [(row.calls, row.cost_usd) for row in ledger.spent()] == [(2, 2.0)]
    assert texts(Ledger(tmp_path), ask("a"), ask("b")) == ["Red.", "Red."]


def test_a_summary_goes_on_where_it_ended(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    keep(ledger, ask("a"), said(random.Random(1).randbytes(1_500_000).hex(), cost_usd=1.0))
    assert [row.cost_usd for row in ledger.spent()] == [1.0]
    (kept,) = tmp_path.glob("*.sum")
    told = json.loads(kept.read_text())
    told["rows"][0]["cost_usd"] = 5.0  # to see that it is used
    kept.write_text(json.dumps(told))
    keep(ledger, ask("b"), said(cost_usd=1.0))
    assert [(row.calls, row.cost_usd) for row in ledger.spent()] == [(2, 6.0)]
    kept.write_text("{")
    assert [(row.calls, row.cost_usd) for row in ledger.spent()] == [(2, 2.0)]


def test_no_ledger_cost_nothing(tmp_path: Path) -> None:
    assert spent(tmp_path / "none") == []


# -- merge


def test_two_ledgers_merge_and_merge_again_to_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "a", 3)
    fill(tmp_path / "b", 3, first=3)
    size = sum(path.stat().st_size for path in segments_in(tmp_path / "b"))
    assert merge(tmp_path / "a", tmp_path / "b") == Merged(copied=1, present=0, bytes=size)
    assert merge(tmp_path / "a", tmp_path / "b") == Merged(copied=0, present=1, bytes=0)
    assert numbers(Ledger(tmp_path / "a"), 6) == [0, 1, 2, 3, 4, 5]
    assert numbers(Ledger(tmp_path / "b"), 6) == [3, 4, 5]


def test_merging_by_hand_with_other_names_is_harmless(tmp_path: Path) -> None:
    one = fill(tmp_path / "a", 3)
    fill(tmp_path / "b", 3, first=3)
    shutil.copy(one, tmp_path / "b" / "renamed.seg")
    assert numbers(Ledger(tmp_path / "b"), 6) == [0, 1, 2, 3, 4, 5]
    assert merge(tmp_path / "b", tmp_path / "a").present == 1


def test_a_segment_that_grew_since_is_taken_over_whole(tmp_path: Path) -> None:
    writer = Ledger(tmp_path / "a")
    keep(writer, ask("0"), said("answer 0"))
    merge(tmp_path / "b", tmp_path / "a")
    reader = Ledger(tmp_path / "b", refresh_seconds=0)
    assert numbers(reader, 2) == [0]
    keep(writer, ask("1"), said("answer 1"))
    assert merge(tmp_path / "b", tmp_path / "a").copied == 1
    assert numbers(reader, 2) == [0, 1], "a ledger that is open sees it too"
    assert len(segments_in(tmp_path / "b")) == 1
    assert merge(tmp_path / "a", tmp_path / "b").present == 1


def test_a_whole_copy_mends_a_damaged_one(tmp_path: Path) -> None:
    path = fill(tmp_path / "a", 3)
    merge(tmp_path / "b", tmp_path / "a")
    damaged = bytearray(path.read_bytes())
    damaged[FILE_HEAD.size + 60] ^= 1
    path.write_bytes(damaged)
    assert numbers(Ledger(tmp_path / "a"), 3) == [1, 2]
    assert merge(tmp_path / "a", tmp_path / "b").copied == 1
    assert numbers(Ledger(tmp_path / "a"), 3) == [0, 1, 2]


def test_nothing_is_merged_from_a_newer_format(tmp_path: Path) -> None:
    fill(tmp_path / "b", 1)
    shutil.copy(Path(__file__).parent / "ledger_format_1.seg", tmp_path / "b" / "z.seg")
    newer = bytearray((tmp_path / "b" / "z.seg").read_bytes())
    newer[8] = 2
    newer[12:16] = zlib.crc32(b"\x02" + newer[16:32]).to_bytes(4, "little")
    (tmp_path / "b" / "z.seg").write_bytes(newer)
    with pytest.raises(StoreError, match="format 2 .* update curate"):
        merge(tmp_path / "a", tmp_path / "b")
    assert segments_in(tmp_path / "a") == []


def test_a_store_and_its_ledger_are_both_told(store: Path, tmp_path: Path) -> None:
    assert ledger_of(store) == ledger_of(store / "ledger") == store / "ledger"
    with pytest.raises(UsageError, match="neither a store with a ledger nor a ledger's folder"):
        ledger_of(tmp_path)


# -- export and check


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.zst"])
def test_an_export_holds_every_record_in_full(store: Path, tmp_path: Path, name: str) -> None:
    assert export(store / "ledger", tmp_path / name) == 6
    data = (tmp_path / name).read_bytes()
    plain = zstandard.ZstdDecompressor().stream_reader(data).read() if name.endswith(".zst") else data
    rows = [json.loads(line) for line in plain.decode().splitlines()]
    assert [(row["model"]["name"], row["step"], row["reply"].get("error")) for row in rows] == [
        *[("writer", "generate", None)] * 2,
        *[
            ("writer", "generate", "timeout"),
            ("writer", "rewrite", None),
            ("judge", "judge", None),
            ("judge", "judge", "refused"),
        ],
    ]
    assert rows[0]["key"] == Ledger.key(WRITER, ask("a"))
    assert rows[0]["request"] == {
        "messages": [{"role": "user", "content": "a"}],
        "sample": 0,
        "sampling": {"max_tokens": None},
    }
    assert rows[0]["reply"]["text"] == "Red." and rows[0]["reply"]["raw"] is None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_export_of_what_json_cannot_say(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        keep(ledger, ask("a"), said(logprobs=({"token": "a", "logprob": float("-inf")},)))
        keep(ledger, ask("b"), said("half \ud83c"))
    export(tmp_path / "ledger", tmp_path / "all.jsonl")
    first, second = (json.loads(line)["reply"] for line in (tmp_path / "all.jsonl").read_text().splitlines())
    assert first["logprobs"][0]["logprob"] is None and second["text"] == "half \ud83c"


def test_an_export_has_a_name_that_says_what_it_is(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--export writes .jsonl or .jsonl.zst, got '.*all.csv'"):
        export(store / "ledger", tmp_path / "all.csv")
    with pytest.raises(StoreError, match="cannot write .*No such file or directory"):
        export(store / "ledger", tmp_path / "nowhere" / "all.jsonl")


def test_a_check_counts_what_is_whole(store: Path) -> None:
    (segment,) = segments_in(store / "ledger")
    assert check(store / "ledger") == Checked(1, 6, 4, segment.stat().st_size, {}, {})


# -- the command


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    add_to(made)
    return made


def call(app: typer.Typer, *words: object) -> str:
    told = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "140"})
    assert told.exit_code == 0, told.output
    return told.stdout


def test_the_command_tells_spend_in_a_table(app: typer.Typer, store: Path, tmp_path: Path) -> None:
    lines = [line.split() for line in call(app, "--store", store).splitlines()]
    assert ["writer", "4", "3", "300", "30", "1.7500", "0.00", "timeout", "1"] in lines
    assert ["all", "6", "4", "400", "31", "2.2500", "0.00", "refused", "1,", "timeout", "1"] in lines
    assert call(app, "--store", tmp_path / "new") == "nothing was asked of a model yet\n"


def test_the_command_tells_spend_to_programs(app: typer.Typer, store: Path) -> None:
    told = json.loads(call(app, "--store", store, "--json", "--by", "step"))
    assert told["by"] == "step" and len(told["all"]) == 3
    assert told["rows"][0] == {
        "step": "generate",
        "calls": 3,
        "answered": 2,
        "errors": {"timeout": 1},
        "prompt_tokens": 200,
        "response_tokens": 20,
        "cost_usd": 1.25,
        "seconds": 4.0,
    }


def test_the_command_exports_merges_and_checks(app: typer.Typer, store: Path, tmp_path: Path) -> None:
    assert call(app, "--store", store, "--export", tmp_path / "a.jsonl") == f"wrote 6 records to {tmp_path / 'a.jsonl'}\n"
    assert call(app, "--store", tmp_path / "b", "--merge", store).startswith("copied 1 segment, 0.0 MB; 0 were here already")
    assert json.loads(call(app, "--store", tmp_path / "b", "--check", "--json"))["records"] == 6
    refused = CliRunner().invoke(app, ["--store", str(tmp_path / "b"), "--merge", str(tmp_path / "a.jsonl")])
    assert isinstance(refused.exception, UsageError) and "an export is not taken back" in str(refused.exception)
    assert call(app, "--store", tmp_path / "b", "--check").startswith("6 records, 4 of them answers, in 1 segment,")


def test_a_check_that_found_damage_exits_1(app: typer.Typer, store: Path) -> None:
    (segment,) = segments_in(store / "ledger")
    data = bytearray(segment.read_bytes())
    data[FILE_HEAD.size + 60] ^= 1
    segment.write_bytes(data)
    told = CliRunner().invoke(app, ["--store", str(store), "--check"])
    assert told.exit_code == 1 and "damaged in 1 place; what was there is asked again when it is needed" in told.stdout


def test_a_model_named_by_an_attacker_cannot_command_the_terminal(app: typer.Typer, tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        identity = {"name": "\x1b[31mred[/bold]"}
        ledger.record(ledger.key(identity, ask()), identity, ask(), said(), None)
    told = call(app, "--store", tmp_path)
    assert "\x1b" not in told and "⟨U+001B⟩[31mred[/bold]" in told
