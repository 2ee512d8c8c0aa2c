"""What trainers make of versions and exports, with TRL's own code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.export import FORMATS, export
from curate.export.check import check
from curate.relabel.goal import Goal
from curate.store.versions import Version
from tests.export.conftest import NEEDED, MakeVersion, Row, messages, pair, read

pytestmark = [
    pytest.mark.usefixtures("trl"),
    pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'"),
    # TRL 1.16 sets an option that transformers 5.23 renamed
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning"),
]
CALL = [{"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}]
TOOLS = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {}}}])


@pytest.fixture
def rows() -> list[Row]:
    """One turn, several turns with a system message, other scripts and line ends, answers that look like dates."""
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "2+2?"},
    ]
    return [
        pair("When did it open?", "2024-01-01", "2024-01-02"),
        pair(turns, "4", "5", rm=(9, 1), margin=8.0),
        pair("漢字 😀?\n\n", " yes\n", "\tno", split="test"),
        pair("When did it close?", "2024-02-01 00:00:00", "2024-02-02", split="test"),
    ]


def chat(asked: list[Row], reply: list[Row] | None) -> str:
    """Messages in ChatML, written out here independently of the template; no reply: the start of one."""
    said = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in asked + (reply or []))
    return said if reply else said + "<|im_start|>assistant\n"


def prepared(form: str, data: Any, scratch: Path) -> Any:
    from curate.export.tokenizing import bytewise
    from curate.export.trainers import prepare

    return prepare(form, data, bytewise(), str(scratch))


def text(ids: list[int]) -> str:
    from curate.export.tokenizing import bytewise

    return str(bytewise().decode(ids, skip_special_tokens=False))


def load(folder: Path, scratch: Path) -> Any:
    from datasets import load_dataset

    return load_dataset(str(folder), cache_dir=str(scratch / "cache"))


def assert_pairs_decode(made: Any, wanted: list[Row]) -> None:
    assert len(made) == len(wanted)
    for got, row in zip(made, wanted, strict=True):
        assert text(got["prompt_ids"]) == chat(row["prompt"], None)
        for side in ("chosen", "rejected"):
            assert text(got["prompt_ids"] + got[f"{side}_ids"]) == chat(row["prompt"], row[side])


def test_a_version_trains_as_it_stands(version: MakeVersion, rows: list[Row], tmp_path: Path) -> None:
    made = version(rows)
    data = load(made.path, tmp_path)
    for split in ("train", "test"):
        wanted = [
            {"prompt": row["prompt"]} | {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
            for row in rows
            if row.get("split", "train") == split
        ]
        assert_pairs_decode(prepared("trl-dpo", data[split], tmp_path / split), wanted)


def test_dpo_reads_the_export(version: MakeVersion, rows: list[Row], tmp_path: Path) -> None:
    done = export(version(rows), "trl-dpo", tmp_path / "out")
    data = load(done.path, tmp_path)
    for split in ("train", "test"):
        assert_pairs_decode(prepared("trl-dpo", data[split], tmp_path / split), read(done.path, split))


def test_dpo_reads_goals_as_text(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad", rm=(8, 2))], [Goal(name="goal", by="rm", scale=(1, 10))])
    done = export(made, "trl-dpo", tmp_path / "out")
    high, low = prepared("trl-dpo", load(done.path, tmp_path)["train"], tmp_path / "t")
    assert "Overall score: 8<|im_end|>\n<|im_start|>user\nA?" in text(high["prompt_ids"])
    assert "Overall score: 2<|im_end|>\n<|im_start|>user\nA?" in text(low["prompt_ids"])
    assert text(low["chosen_ids"]) == "bad<|im_end|>\n"


def test_reward_reads_the_export_and_its_margin(version: MakeVersion, tmp_path: Path) -> None:
    done = export(version([pair("A?", "good", "bad", margin=7.1)]), "trl-reward", tmp_path / "out")
    (got,) = prepared("trl-reward", load(done.path, tmp_path)["train"], tmp_path / "t")
    (row,) = read(done.path)
    assert got["margin"] == 7.1
    for side in ("chosen", "rejected"):
        assert text(got[f"{side}_ids"]) == chat(row["prompt"], row[side])


def test_kto_reads_the_export_with_labels_that_are_bools(version: MakeVersion, rows: list[Row], tmp_path: Path) -> None:
    done = export(version(rows), "trl-kto", tmp_path / "out", by="rm", threshold=5)
    got = list(prepared("trl-kto", load(done.path, tmp_path)["train"], tmp_path / "t"))
    assert [row["label"] for row in got] == [True, False, True, False]
    assert {type(row["label"]) for row in got} == {bool}
    for one, row in zip(got, read(done.path), strict=True):
        assert text(one["prompt_ids"] + one["completion_ids"]) == chat(row["prompt"], row["completion"])
        assert text(one["prompt_ids"]) == chat(row["prompt"], None)


def test_sft_learns_the_completion_only(version: MakeVersion, rows: list[Row], tmp_path: Path) -> None:
    done = export(version(rows), "trl-sft", tmp_path / "out")
    got = list(prepared("trl-sft", load(done.path, tmp_path)["train"], tmp_path / "t"))
    for one, row in zip(got, read(done.path), strict=True):
        assert text(one["input_ids"]) == chat(row["prompt"], row["completion"])
        learnt = [token for token, label in zip(one["input_ids"], one["labels"], strict=True) if label != -100]
        assert text(learnt) == row["completion"][0]["content"] + "<|im_end|>\n"


@pytest.mark.parametrize("to", ["trl-dpo", "trl-kto", "trl-reward", "trl-sft"])
def test_every_export_passes_its_check(version: MakeVersion, rows: list[Row], tmp_path: Path, to: str) -> None:
    made = version(rows)
    done = export(made, to, tmp_path / "out", by="rm", threshold=5, drop=("margin",))
    report = check(done.path)
    assert (report.problems, report.notes) == ([], [])
    assert report.trl is not None
    assert {split: found.rows for split, found in report.splits.items()} == done.rows
    # one token a byte, and two special ones a message
    prompt = "be brief", "Hi", "Hello", "2+2?"
    roles = "system\n", "user\n", "assistant\n", "user\n"
    longest = sum(len(said) for said in prompt + roles) + 3 * len(prompt) + len("assistant\n") + 1
    assert report.splits["train"].longest_prompt == longest


@pytest.mark.parametrize("to", [name for name, form in FORMATS.items() if form.proof not in (None, name)])
def test_what_a_trainer_prepares_besides_passes_its_check(fitting: Callable[[str], Version], tmp_path: Path, to: str) -> None:
    report = check(export(fitting(to), to, tmp_path / "out", **NEEDED.get(to, {})).path)
    assert (report.problems, report.notes) == ([], [])
    assert report.trl is not None


def test_triples_reach_the_trainer(fitting: Callable[[str], Version], tmp_path: Path) -> None:
    done = export(fitting("triple"), "triple", tmp_path / "out")
    (got,) = prepared("trl-tpo", load(done.path, tmp_path)["train"], tmp_path / "t")
    for side, said in (("reference", "good"), ("chosen", "fair"), ("rejected", "bad")):
        assert text(got[f"{side}_ids"]) == f"{said}<|im_end|>\n"


def test_stages_are_trained_on_one_by_one(version: MakeVersion, tmp_path: Path) -> None:
    done = export(version([pair(f"{n}?", "good", "bad", stage=n) for n in (1, 0)]), "stages", tmp_path / "out")
    data = load(done.path, tmp_path)
    assert list(data) == ["train_stage_0", "train_stage_1"]
    for stage, name in enumerate(data):
        (got,) = prepared("trl-dpo", data[name], tmp_path / name)
        assert f"user\n{stage}?" in text(got["prompt_ids"])


def test_tool_calls_of_unlike_shapes_load_as_they_were_written(version: MakeVersion, tmp_path: Path) -> None:
    other = [{"type": "function", "function": {"name": "find", "arguments": {"where": ["x"], "when": None}}}]
    rows = [
        pair("A?", "4", "5", tools=TOOLS, chosen_turns=[{"role": "assistant", "tool_calls": json.dumps(calls)}, *messages("4")])
        for calls in (CALL, other)
    ]
    rows.append(pair("B?", "yes", "no"))
    done = export(version(rows), "trl-dpo", tmp_path / "out")
    data = load(done.path, tmp_path)["train"]
    assert list(data) == read(done.path)
    assert data[1]["chosen"][0]["tool_calls"] == other
    assert check(done.path).problems == []
    got = prepared("trl-dpo", data, tmp_path / "t")
    assert '"arguments": {"where": ["x"], "when": null}' in text(got[1]["chosen_ids"])
    assert text(got[0]["prompt_ids"]).startswith("<|im_start|>tools\n")
    assert text(got[2]["prompt_ids"]).startswith("<|im_start|>user\n")


def test_rows_over_the_limit_are_counted(version: MakeVersion, tmp_path: Path) -> None:
    done = export(version([pair("A?", "x" * 100, "y"), pair("B?", "x", "y")]), "trl-dpo", tmp_path / "out")
    report = check(done.path, max_length=60)
    assert report.splits["train"].over_max_length == 1
    assert report.passed


def test_a_template_that_takes_no_system_message_is_a_problem(version: MakeVersion, tmp_path: Path) -> None:
    from curate.export.tokenizing import CHATML, bytewise

    reader = bytewise()
    reader.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
    reader.save_pretrained(tmp_path / "tokenizer")
    made = version([pair("A?", "good", "bad")], [Goal(name="goal", by="rm")])
    report = check(export(made, "trl-dpo", tmp_path / "out").path, tokenizer=str(tmp_path / "tokenizer"))
    assert "no system role" in report.problems[0]
    assert "--goal user" in report.problems[0]
    assert check(export(made, "trl-dpo", tmp_path / "user", goal="user").path, tokenizer=str(tmp_path / "tokenizer")).passed


def test_a_template_whose_prompt_is_no_prefix_is_noted(version: MakeVersion, tmp_path: Path) -> None:
    from curate.export.tokenizing import CHATML, bytewise

    reader = bytewise()
    reader.chat_template = CHATML + "{% if add_generation_prompt %}<think>{% endif %}"
    reader.save_pretrained(tmp_path / "tokenizer")
    report = check(export(version([pair("A?", "good", "bad")]), "trl-dpo", tmp_path / "out").path, str(tmp_path / "tokenizer"))
    assert report.splits["train"].not_prefix == 1
    assert "cuts off" in report.notes[0]


def test_without_its_card_a_file_of_dates_would_change(version: MakeVersion, rows: list[Row], tmp_path: Path) -> None:
    done = export(version(rows[:1]), "trl-dpo", tmp_path / "out")
    (done.path / "README.md").unlink()
    assert any("not the same once loaded" in problem or "cannot load" in problem for problem in check(done.path).problems)
