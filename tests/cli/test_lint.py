"""`curate lint` looks through any file, tells rows by their lines, and never falls over."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from curate.cli.rows import BATCH
from curate.filter.lint_rules import RULES
from tests.cli.conftest import EVIL, Curate

GOOD = {"prompt": "What is the capital of France?", "chosen": "It is Paris.", "rejected": "It may well be Lyon."}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def found(told: str) -> dict[str, dict[str, Any]]:
    return {entry["rule"]: entry for entry in json.loads(told)["findings"]}


def test_a_file_of_pairs_with_the_lines_of_its_faults(curate: Curate, tmp_path: Path) -> None:
    bad = GOOD | {"chosen": "I'm sorry, but I can't help with that."}
    path = write(tmp_path / "p.jsonl", GOOD, bad, GOOD | {"rejected": "It is Paris."}, GOOD)
    told = curate("lint", path, "--json")
    assert told.code == 0
    entries = found(told.out)
    assert entries["refusal"]["rows"] == 1 and entries["refusal"]["examples"][0]["row"] == "p.jsonl:2"
    assert entries["identical"]["examples"][0]["row"] == "p.jsonl:3" and entries["identical"]["share"] == 0.25
    assert json.loads(told.out)["rows"] == 4


def test_blank_and_broken_lines_do_not_move_the_numbers(curate: Curate, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    bad = json.dumps(GOOD | {"chosen": ""})
    path.write_text(f"{json.dumps(GOOD)}\n\n{{broken\n{bad}\n", encoding="utf-8")
    entries = found(curate("lint", path, "--json").out)
    assert entries["empty"]["examples"][0]["row"] == "p.jsonl:4"
    assert (entries["unreadable"]["rows"], entries["unreadable"]["examples"][0]["row"]) == (1, "p.jsonl:3")


def test_the_table_names_rule_severity_rows_share_and_an_example(curate: Curate, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", GOOD, GOOD | {"chosen": "Paris.<|im_end|>"})
    told = curate("lint", path)
    line = next(line for line in told.out.splitlines() if line.startswith("template"))
    assert line.split()[:6] == ["template", "error", "1", "50.0", "%", "p.jsonl:2"]
    assert "nothing found by: identical" in told.out


def test_strict_fails_on_errors_alone(curate: Curate, tmp_path: Path) -> None:
    warned = write(tmp_path / "w.jsonl", GOOD | {"chosen": "I'm sorry, but I can't help with that."})
    wrong = write(tmp_path / "e.jsonl", GOOD | {"chosen": " "})
    assert curate("lint", warned, "--strict").code == 0
    assert curate("lint", wrong, "--strict").code == 1
    assert curate("lint", wrong).code == 0


def test_only_except_and_limit(curate: Curate, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", *[GOOD | {"chosen": "It is Paris." * (n + 1)} for n in range(6)])
    assert list(found(curate("lint", path, "--only", "empty,identical", "--json").out)) == ["identical", "empty"]
    assert "empty" not in found(curate("lint", path, "--except", "empty", "--json").out)
    assert json.loads(curate("lint", path, "--limit", 2, "--json").out)["rows"] == 2


def test_length_bias_is_said_of_all_pairs(curate: Curate, tmp_path: Path) -> None:
    rows = [GOOD | {"chosen": "word " * (20 + n), "rejected": "word " * (2 + n)} for n in range(8)]
    report = json.loads(curate("lint", write(tmp_path / "p.jsonl", *rows), "--json").out)
    # 18 words of five characters apart; the standard deviation of 0, 5, ... 35 is 12.25
    assert report["length"]["d"] == pytest.approx(90 / 12.247, abs=0.01)
    assert report["length"]["longer_chosen"] == 1.0
    assert next(entry for entry in report["findings"] if entry["rule"] == "length_bias")["rows"] == 8


def test_answers_and_prompts_are_looked_through_too(curate: Curate, tmp_path: Path) -> None:
    answers = write(tmp_path / "a.jsonl", *[{"prompt": "Say it.", "response": text, "model": "m"} for text in ("Yes.", "")])
    asked = write(tmp_path / "q.jsonl", {"prompt": "Where is {name}?"})
    assert json.loads(curate("lint", answers, "--json").out)["rows_are"] == "responses"
    assert found(curate("lint", answers, "--json").out)["empty"]["rows"] == 1
    assert found(curate("lint", asked, "--json").out)["template"]["rows"] == 1


def test_conversations_that_trainers_refuse(curate: Curate, tmp_path: Path) -> None:
    user, said = {"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}
    row = {"prompt": [user, user], "chosen": [said], "rejected": [said | {"content": "Go."}]}
    entries = found(curate("lint", write(tmp_path / "t.jsonl", row), "--json").out)
    assert entries["turns"]["examples"][0]["detail"] == "a message of role user follows one of role user"


def test_identical_sides_without_a_prompt_are_identical_and_not_unreadable(curate: Curate, tmp_path: Path) -> None:
    rows = [{"chosen": "Q: 2 + 2? A: 4", "rejected": "Q: 2 + 2? A: 5"}, {"chosen": "Q: 3? A: 3", "rejected": "Q: 3? A: 3"}]
    entries = found(curate("lint", write(tmp_path / "t.jsonl", *rows), "--json").out)
    assert entries["identical"]["rows"] == 1 and entries["identical"]["examples"][0]["row"] == "t.jsonl:2"
    assert "unreadable" not in entries


def test_a_compressed_file_and_a_pattern(curate: Curate, tmp_path: Path) -> None:
    for name in ("a", "b"):
        lines = json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"chosen": ""})
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    entry = found(curate("lint", tmp_path / "*.jsonl.gz", "--json").out)["empty"]
    assert [example["row"] for example in entry["examples"]] == ["a.jsonl.gz:2", "b.jsonl.gz:2"]


def test_many_rows_are_looked_through_by_processes_with_the_same_outcome(curate: Curate, tmp_path: Path) -> None:
    rows = [GOOD | {"rejected": "It is Paris." if n % 100 == 7 else f"{n} or more, who knows."} for n in range(2 * BATCH + 5)]
    path = write(tmp_path / "p.jsonl", *rows)
    words = ("lint", path, "--json", "--only", "identical,near_identical,length_bias", "--workers")
    assert json.loads(curate(*words, 2).out) == json.loads(curate(*words, 1).out)
    assert found(curate(*words, 2).out)["identical"]["rows"] == 21


@pytest.mark.parametrize("text", [EVIL, "\ud800", "\0", "a" * 300_000, "(" * 5_000, "[bold]", "\u202e" * 50, "%s %d {0}", "=1+1"])
def test_hostile_text_is_looked_through_and_cannot_command_the_terminal(curate: Curate, tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"chosen": text, "rejected": text}) + "\n", encoding="utf-8")
    told = curate("lint", path)
    assert told.code == 0
    assert "\x1b[31m" not in told.out and "\u202e" not in told.out and "\x07" not in told.out
    assert curate("lint", path, "--json").code == 0


def test_wrong_use_is_two_and_says_the_way_out(curate: Curate, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", GOOD)
    for words, said in (
        (("lint",), "name a file"),
        (("lint", tmp_path / "none.jsonl"), "does not exist"),
        (("lint", path, "--only", "refusl"), "did you mean refusal?"),
        (("lint", path, "--only", "window"), "needs --tokenizer"),
        (("lint", path, "--max-length", "10"), "belong together"),
        (("lint", write(tmp_path / "odd.jsonl", {"x": 1})), "are not ones that"),
    ):
        told = curate(*words)
        assert told.code == 2 and said in told.err, words


def test_an_empty_file_says_so(curate: Curate, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("")
    told = curate("lint", tmp_path / "p.jsonl")
    assert told.code == 2 and "no rows" in told.err


def test_the_rules_are_listed_with_how_precise_they_are(curate: Curate) -> None:
    told = curate("lint", "--rules")
    assert all(f"{name} ({rule.severity}): {rule.about}" in told.out for name, rule in RULES.items())
    assert [entry["rule"] for entry in json.loads(curate("lint", "--rules", "--json").out)] == list(RULES)
    assert "precision 0.87, recall 0.93 on 32 labelled rows" in told.out


def test_the_kept_rows_of_a_version_by_their_numbers(curate: Curate, tmp_path: Path) -> None:
    bad = GOOD | {"prompt": "What is the capital of Chad?", "chosen": "N'Djamena.<|im_end|>"}
    data = write(tmp_path / "p.jsonl", GOOD, bad)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: set\nsource: {{path: {data}, dialect: trl}}\nsteps: []\n", encoding="utf-8")
    root = tmp_path / "store"
    assert curate("run", recipe, "--store", root).code == 0

    told = curate("lint", "set@v1", "--store", root, "--json")

    example = found(told.out)["template"]["examples"][0]
    assert json.loads(told.out)["rows"] == 2
    number = example["row"].removeprefix("set@v1:")
    story = curate("why", "set@v1", number, "--store", root)
    assert story.code == 0 and "Chad" in story.out


def test_a_version_that_is_not_there_names_those_that_are(curate: Curate, store: Path) -> None:
    told = curate("lint", "colours@v9", "--store", store)

    assert told.code == 2 and "v1" in told.err + told.out


def test_what_is_neither_file_nor_version(curate: Curate, tmp_path: Path) -> None:
    told = curate("lint", tmp_path / "nothing.jsonl")

    assert told.code == 2 and "does not exist" in told.err
