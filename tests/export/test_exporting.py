import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from curate.errors import ExportError, UnknownName, UsageError
from curate.export import FORMATS, export
from curate.relabel.goal import Goal
from curate.store.versions import Version
from tests.export.conftest import NEEDED, MakeVersion, messages, pair, read

ANSWER = [{"role": "assistant", "content": "good"}]
BAD = [{"role": "assistant", "content": "bad"}]


def test_dpo_rows(version: MakeVersion, tmp_path: Path) -> None:
    row = pair("A?", "good", "bad")
    done = export(version([row]), "trl-dpo", tmp_path / "out")
    assert read(done.path) == [{"prompt": messages("A?"), "chosen": ANSWER, "rejected": BAD, "pair_id": row["pair_id"]}]
    assert done.rows == {"train": 1}


def test_one_file_a_split(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair(f"{split}?", "a", "b", split=split) for split in ("test", "validation", "train")]
    done = export(version(rows), "trl-dpo", tmp_path / "out")
    assert list(done.rows) == ["train", "validation", "test"]
    assert read(done.path, "test")[0]["prompt"] == messages("test?")


def test_the_note_names_version_and_files_and_is_the_same_twice(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad")])
    done = [export(made, "trl-dpo", tmp_path / name) for name in ("one", "two")]
    assert (done[0].path / "export.json").read_bytes() == (done[1].path / "export.json").read_bytes()
    note = json.loads((done[0].path / "export.json").read_bytes())
    assert (note["version"], note["content"], note["to"], note["rows"]) == (
        "demo@v1",
        made.manifest["content"],
        "trl-dpo",
        {"train": 1},
    )
    sha = hashlib.sha256((done[0].path / "train.jsonl").read_bytes()).hexdigest()
    assert [file["sha256"] for file in note["files"]] == [sha]


def test_the_folder_is_named_by_version_and_format(version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(version([pair("A?", "good", "bad")]), "trl-sft").path == tmp_path / "demo-v1-trl-sft"


def test_an_export_is_replaced_only_with_force(version: MakeVersion, tmp_path: Path) -> None:
    export(version([pair("A?", "good", "bad")]), "trl-dpo", tmp_path / "out")
    other = version([pair("B?", "good", "bad")], root="other")
    with pytest.raises(UsageError, match="--force"):
        export(other, "trl-dpo", tmp_path / "out")
    export(other, "trl-dpo", tmp_path / "out", force=True)
    assert read(tmp_path / "out")[0]["prompt"] == messages("B?")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_force_never_removes_what_is_no_export(version: MakeVersion, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="is no export"):
        export(version([pair("A?", "good", "bad")]), "trl-dpo", tmp_path / "home", force=True)
    assert (tmp_path / "home" / "thesis.tex").exists()


def test_a_refused_export_leaves_nothing(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        export(version([pair("A?", "same", "same")]), "trl-dpo", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_the_nearest_format_is_named() -> None:
    with pytest.raises(UnknownName, match="did you mean trl-dpo"):
        export(Version("demo", "v0001", Path("nowhere")), "trl_dpo")


def test_wrong_options_are_all_named(version: MakeVersion) -> None:
    with pytest.raises(UsageError, match=r"goal: .*drop\.0: "):
        export(version([pair("A?", "good", "bad")]), "trl-dpo", goal="title", drop=("pair_id",))


@pytest.mark.parametrize("to", ["trl-dpo", "trl-reward"])
def test_identical_pairs_are_refused_or_skipped(version: MakeVersion, tmp_path: Path, to: str) -> None:
    rows = [pair("A?", "good", "bad"), pair("B?", "same", "same"), pair("C?", "same", "same")]
    made = version(rows)
    with pytest.raises(ExportError, match=f"2 pairs .* first {rows[1]['pair_id']}.*--skip identical"):
        export(made, to, tmp_path / "out")
    done = export(made, to, tmp_path / "out", skip=("identical",))
    assert (done.rows, done.note["left_out"]) == ({"train": 1}, {"identical": 2})


@pytest.mark.parametrize(
    ("column", "value"),
    [("label_prob", 0.75), ("weight", 2.0), ("stage", 1), ("spans", [{"side": "chosen", "start": 0, "end": 1, "weight": 2.0}])],
)
def test_what_a_format_cannot_carry_is_refused_or_dropped(
    version: MakeVersion, tmp_path: Path, column: str, value: object
) -> None:
    made = version([pair("A?", "good", "bad", **{column: value}), pair("B?", "good", "bad")])
    for to in ("trl-dpo", "trl-reward", "trl-sft"):
        with pytest.raises(ExportError, match=f"{to} cannot carry {column} .*--drop {column}"):
            export(made, to, tmp_path / "out")
    assert export(made, "trl-dpo", tmp_path / "out", drop=(column,)).rows == {"train": 2}
    assert read(export(made, "jsonl", tmp_path / "all").path)[0][column] == value


def test_every_lost_column_is_named_at_once(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="label_prob, weight of demo@v1: say --drop label_prob --drop weight"):
        export(version([pair("A?", "good", "bad", weight=2, label_prob=0.5)]), "trl-dpo", tmp_path / "out")


def test_goals_become_system_messages(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad", rm=(8, 2))], [Goal(name="goal", by="rm", scale=(1, 10))])
    high, low = read(export(made, "trl-dpo", tmp_path / "out").path)
    assert [message["role"] for message in high["prompt"]] == ["system", "user"]
    assert "from 1 (worst) to 10 (best)" in high["prompt"][0]["content"]
    assert high["prompt"][0]["content"].endswith("\nOverall score: 8")
    assert low["prompt"][0]["content"].endswith("\nOverall score: 2")
    assert (high["chosen"], low["chosen"]) == (ANSWER, BAD)


def test_goals_go_into_the_user_message(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad")], [Goal(name="goal", by="rm")])
    (message,) = read(export(made, "trl-dpo", tmp_path / "out", goal="user").path)[0]["prompt"]
    assert message["role"] == "user"
    assert message["content"].endswith("Overall score: 8\n\nA?")


def test_goals_are_not_lost_unless_dropped(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad")], [Goal(name="goal", by="rm")])
    with pytest.raises(ExportError, match="--drop goal"):
        export(made, "trl-dpo", tmp_path / "out", goal="none")
    rows = read(export(made, "trl-dpo", tmp_path / "out", goal="none", drop=("goal",)).path)
    assert [row["prompt"] for row in rows] == [messages("A?")] * 2


def test_a_threshold_says_nothing_of_goals(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad")], [Goal(name="goal", by="rm")])
    with pytest.raises(ExportError, match="trl-kto cannot carry goal"):
        export(made, "trl-kto", tmp_path / "out", by="rm", threshold=5)


def test_kto_labels_by_the_score_not_the_order(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair("A?", "good", "fair", rm=(9, 7)), pair("B?", "poor", "bad", rm=(3, 1))]
    done = export(version(rows), "trl-kto", tmp_path / "out", by="rm", threshold=7)
    told = [(row["completion"][0]["content"], row["label"]) for row in read(done.path)]
    assert told == [("good", True), ("fair", True), ("poor", False), ("bad", False)]
    assert done.note["counts"] == {"label_false": 2, "label_true": 2}


def test_kto_thresholds_count_as_the_score_is_stored(version: MakeVersion, tmp_path: Path) -> None:
    done = export(version([pair("A?", "good", "bad", rm=(7.1, 7))]), "trl-kto", tmp_path / "out", by="rm", threshold=7.1)
    assert [row["label"] for row in read(done.path)] == [True, False]


def test_kto_writes_each_response_once_and_leaves_unscored_ones_out(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair("A?", "good", "bad", rm=(9, 1)), pair("A?", "good", "worse", rm=(9, 0)), pair("B?", "new", "none", rm=(8, None))]
    done = export(version(rows), "trl-kto", tmp_path / "out", by="rm:help", threshold=5)
    assert [row["completion"][0]["content"] for row in read(done.path)] == ["good", "bad", "worse", "new"]
    assert done.note["left_out"] == {"no_score": 1, "repeat": 1}


def test_equal_answers_to_other_prompts_are_no_repeats(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair("A?", "yes", "no"), pair("B?", "yes", "no")]
    assert export(version(rows), "trl-kto", tmp_path / "out", by="rm", threshold=5).rows == {"train": 4}


def test_kto_needs_a_score_and_a_threshold(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad")])
    for options in ({}, {"by": "rm"}, {"threshold": 5.0}):
        with pytest.raises(UsageError, match=r"--by RATER\[:ASPECT\] and --threshold X: .*scores: rm:help"):
            export(made, "trl-kto", tmp_path / "out", **options)
    with pytest.raises(UsageError, match="no score --by judge .*rm:help"):
        export(made, "trl-kto", tmp_path / "out", by="judge", threshold=5)


def test_kto_with_two_aspects_wants_one(version: MakeVersion, tmp_path: Path) -> None:
    both = [{"rater": "rm", "aspect": name, "value": value} for name, value in (("help", 8), ("harm", 1))]
    made = version([pair("A?", "good", "bad", chosen_scores=both)])
    with pytest.raises(UsageError, match="means 2 scores"):
        export(made, "trl-kto", tmp_path / "out", by="rm", threshold=5)
    done = export(made, "trl-kto", tmp_path / "out", by="rm:help", threshold=5)
    assert [row["label"] for row in read(done.path)] == [True, False]


def test_kto_with_one_label_only(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="all 2 labels are true"):
        export(version([pair("A?", "good", "bad")]), "trl-kto", tmp_path / "out", by="rm", threshold=0)


def test_sft_writes_each_chosen_response_once(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair("A?", "good", "bad"), pair("A?", "good", "worse")]
    done = export(version(rows), "trl-sft", tmp_path / "out")
    assert read(done.path) == [{"prompt": messages("A?"), "completion": ANSWER, "response_id": rows[0]["chosen_id"]}]
    assert done.note["left_out"] == {"repeat": 1}


def test_sft_keeps_a_response_for_each_of_its_goals(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair("A?", "good", "bad", goal='{"score":8}'), pair("A?", "good", "worse", goal='{"score":7}')]
    made = version(rows)
    assert export(made, "trl-sft", tmp_path / "out").rows == {"train": 2}
    assert export(made, "trl-sft", tmp_path / "dropped", drop=("goal",)).rows == {"train": 1}


def test_reward_carries_margins_that_all_pairs_have(version: MakeVersion, tmp_path: Path) -> None:
    (row,) = read(export(version([pair("A?", "good", "bad", margin=7.1)]), "trl-reward", tmp_path / "out").path)
    assert row["margin"] == 7.1
    assert "margin" not in read(export(version([pair("B?", "good", "bad")]), "trl-reward", tmp_path / "none").path)[0]


@pytest.mark.parametrize(("other", "said"), [(None, "1 pairs .* no margin"), (-2.0, "1 pairs .* negative margin")])
def test_reward_refuses_margins_that_would_mislead(version: MakeVersion, tmp_path: Path, other: float | None, said: str) -> None:
    made = version([pair("A?", "good", "bad", margin=1.0), pair("B?", "good", "bad", margin=other)])
    with pytest.raises(ExportError, match=f"{said}.*--drop margin"):
        export(made, "trl-reward", tmp_path / "out")
    assert "margin" not in read(export(made, "trl-reward", tmp_path / "out", drop=("margin",)).path)[0]


def test_tools_are_text_and_tool_calls_objects(version: MakeVersion, tmp_path: Path) -> None:
    tools = json.dumps([{"type": "function", "function": {"name": "f"}}])
    calls = json.dumps([{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}])
    turns = [
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "good"},
    ]
    row = pair("A?", "good", "bad", tools=tools, chosen_turns=turns)
    (out,) = read(export(version([row]), "trl-dpo", tmp_path / "out").path)
    assert out["tools"] == tools
    assert out["chosen"][0] == {"role": "assistant", "tool_calls": json.loads(calls)}
    assert out["chosen"][1:] == [{"role": "tool", "content": "2"}, *ANSWER]


def test_images_are_refused(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad", images=[{"sha256": "0", "path": "media/0.png"}])])
    with pytest.raises(ExportError, match="cannot carry images"):
        export(made, "trl-dpo", tmp_path / "out")


@pytest.mark.parametrize("to", ["trl-dpo", "trl-sft"])
def test_an_empty_prompt_is_refused(version: MakeVersion, tmp_path: Path, to: str) -> None:
    row = pair([], "good", "bad")
    with pytest.raises(ExportError, match=f"{row['pair_id']} has no text in prompt"):
        export(version([row]), to, tmp_path / "out")


def test_an_export_of_no_rows_is_refused(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="would hold no row"):
        export(version([pair("A?", "same", "same")]), "trl-dpo", tmp_path / "out", skip=("identical",))


def test_jsonl_holds_everything(version: MakeVersion, tmp_path: Path) -> None:
    row = pair("A?", "good", "bad", rm=(7.1, 2), meta='{"k":[1]}', goal='{"score":7.5}', weight=0.1)
    (out,) = read(export(version([row]), "jsonl", tmp_path / "out").path)
    assert (out["meta"], out["goal"], out["weight"], out["prompt"], out["chosen"]) == (
        {"k": [1]},
        {"score": 7.5},
        0.1,
        messages("A?"),
        ANSWER,
    )
    assert out["chosen_scores"][0]["value"] == out["chosen_score_rm_help"] == 7.1
    assert out["margin"] is None


def test_parquet_holds_the_versions_columns(version: MakeVersion, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from curate.store.versions import read_version

    made = version([pair("A?", "good", "bad", weight=0.5)])
    table = pq.read_table(export(made, "parquet", tmp_path / "out").path / "train.parquet")
    assert table.equals(next(read_version(made, "pairs/train")))


def test_text_survives(version: MakeVersion, tmp_path: Path) -> None:
    text = '\u2028 \x85 " \\ \n\r\t é 漢 😀 \x01 </script>'
    for to in ("trl-dpo", "jsonl"):
        folder = export(version([pair(text, text + "1", text + "2")]), to, tmp_path / to).path
        rows = [json.loads(line) for line in (folder / "train.jsonl").read_bytes().split(b"\n") if line]
        assert [rows[0][name][0]["content"] for name in ("prompt", "chosen", "rejected")] == [text, text + "1", text + "2"]


@pytest.mark.parametrize("name", FORMATS)
def test_how_to_load_takes_three_lines(fitting: Callable[[str], Version], tmp_path: Path, name: str) -> None:
    lines = export(fitting(name), name, tmp_path / "out", **NEEDED.get(name, {})).how_to_load.splitlines()
    assert len(lines) == 3
    compile("\n".join(lines), name, "exec")
