"""Lists and triples: views of the responses of each prompt."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.cli.main import app
from curate.errors import ExportError, UsageError
from curate.export import export
from curate.export.check import check
from curate.export.format import Options, Run
from curate.export.listing import responses
from curate.filter.exact_duplicate import ExactDuplicate
from curate.ids import prompt_id
from curate.pair.pair import Pair
from curate.publish.split import Split
from curate.store.versions import Versions
from tests.export.conftest import MakeVersion, Row, answers, messages, pair, read
from tests.publish.versions import answer

STRANGE = ["", "مرحبا\u200f بالعالم", "👩‍👩‍👧 😀", "\u2028</s>\x01"]
FOUR = answers(("A?", "fair", 5), ("A?", "best", 9), ("A?", "worst", 1), ("A?", "good", 7))


def rows_of(made: MakeVersion, tmp_path: Path, to: str, rows: list[Row], **options: Any) -> list[Row]:
    return read(export(made(rows), to, tmp_path / "out", **options).path)


def test_a_ranked_list_has_every_response_that_could_be_paired(listed: MakeVersion, tmp_path: Path) -> None:
    (row,) = rows_of(listed, tmp_path, "ranked-list", FOUR)
    assert row == {
        "prefix": [["<|prompter|>A?", "<|assistant|>"]] * 4,
        "suffix": ["best", "good", "fair", "worst"],
        "reward": [9.0, 7.0, 5.0, 1.0],
        "sft_index": 0,
        "prompt_id": prompt_id(messages("A?")),
    }


def test_equal_rewards_stay_in_the_list_in_their_order(listed: MakeVersion, tmp_path: Path) -> None:
    rows = answers(("A?", "low", 1), ("A?", "one", 5), ("A?", "two", 5), ("A?", "high", 9))
    (row,) = rows_of(listed, tmp_path, "ranked-list", rows)
    assert (row["suffix"], row["reward"]) == (["high", "one", "two", "low"], [9.0, 5.0, 5.0, 1.0])


def test_a_scored_list_and_rewards_of_a_conversation(listed: MakeVersion, tmp_path: Path) -> None:
    made = listed(FOUR)
    (scored,) = read(export(made, "scored-list", tmp_path / "scored").path)
    (flow,) = read(export(made, "rlhflow", tmp_path / "flow").path)
    told = ["best", "good", "fair", "worst"], [9.0, 7.0, 5.0, 1.0], prompt_id(messages("A?"))
    assert scored == dict(zip(("query", "responses", "scores", "prompt_id"), ("A?", *told), strict=True))
    assert flow == dict(zip(("prompt", "responses", "rewards", "prompt_id"), (messages("A?"), *told), strict=True))


def test_a_triple_is_the_best_the_second_and_the_worst(listed: MakeVersion, tmp_path: Path) -> None:
    (row,) = rows_of(listed, tmp_path, "triple", FOUR)
    said = {side: row[side][0]["content"] for side in ("reference", "chosen", "rejected")}
    assert said == {"reference": "best", "chosen": "good", "rejected": "worst"}
    assert row["prompt"] == messages("A?")


def test_a_triple_needs_a_second_better_than_the_worst(listed: MakeVersion, tmp_path: Path) -> None:
    level = answers(("B?", "best", 9), ("B?", "one", 5), ("B?", "two", 5))
    made = listed(FOUR + level)
    with pytest.raises(ExportError, match=f"1 prompt has no second .* first {prompt_id(messages('B?'))}.*--skip tied"):
        export(made, "triple", tmp_path / "out")
    done = export(made, "triple", tmp_path / "out", skip=("tied",))
    assert (done.rows, done.note["left_out"]) == ({"train": 1}, {"tied": 1})
    best_twice = answers(("C?", "one", 9), ("C?", "two", 9), ("C?", "bad", 5))
    assert len(read(export(listed(best_twice, root="c"), "triple", tmp_path / "level").path)) == 1


def test_short_lists_are_refused_or_skipped(listed: MakeVersion, tmp_path: Path) -> None:
    made = listed(FOUR + answers(("B?", "yes", 2), ("B?", "no", 1)))
    assert len(read(export(made, "scored-list", tmp_path / "two").path)) == 2
    with pytest.raises(ExportError, match="1 prompt has too few different responses .*--skip short"):
        export(made, "triple", tmp_path / "out")
    assert export(made, "triple", tmp_path / "out", skip=("short",)).rows == {"train": 1}


def test_one_response_is_no_list(listed: MakeVersion, tmp_path: Path) -> None:
    made = listed(answers(("A?", "alone", 1)), [])
    with pytest.raises(ExportError, match="1 prompt has too few"):
        export(made, "ranked-list", tmp_path / "out")
    with pytest.raises(ExportError, match="would hold no row .1 short"):
        export(made, "ranked-list", tmp_path / "out", skip=("short",))


def test_a_response_without_score_is_refused_or_skipped(listed: MakeVersion, tmp_path: Path) -> None:
    rows = [*FOUR, answer("A?", "silent", None)]
    made = listed(rows, [])
    with pytest.raises(ExportError, match=f"1 response has no score, first {rows[-1]['response_id']}.*--skip unscored"):
        export(made, "ranked-list", tmp_path / "out")
    (row,) = read(export(made, "ranked-list", tmp_path / "out", skip=("unscored",)).path)
    assert len(row["suffix"]) == 4


def test_repeats_and_failed_samples_are_counted(listed: MakeVersion, tmp_path: Path) -> None:
    rows = [*FOUR, answer("A?", "best", 3, model="m2"), answer("A?", None, None)]
    done = export(listed(rows, []), "ranked-list", tmp_path / "out")
    assert done.note["left_out"] == {"no_response": 1, "repeat": 1}
    assert read(done.path)[0]["reward"] == [9.0, 7.0, 5.0, 1.0]  # the better of the two stays


def test_what_a_step_before_pairing_dropped_is_in_no_list(listed: MakeVersion, tmp_path: Path) -> None:
    rows = [*FOUR, answer("A?", "BEST", 8)]
    steps = [ExactDuplicate(name="exact_duplicate", normalise="text"), Pair(name="pair", by="rm")]
    (row,) = read(export(listed(rows, steps), "ranked-list", tmp_path / "out").path)
    assert row["suffix"] == ["best", "good", "fair", "worst"]


def test_lists_fall_into_the_splits_of_the_pairs(listed: MakeVersion, tmp_path: Path) -> None:
    rows = [row for n in range(12) for row in answers((f"question number {n}?", "yes", 2), (f"question number {n}?", "no", 1))]
    made = listed(rows, [Pair(name="pair", by="rm"), Split(name="split", test=0.3, near=None)])
    pairs = export(made, "trl-dpo", tmp_path / "pairs")
    lists = export(made, "rlhflow", tmp_path / "lists")
    assert pairs.rows == lists.rows and set(lists.rows) == {"train", "test"}
    for split in lists.rows:
        asked = [{row["prompt"][0]["content"] for row in read(done.path, split)} for done in (pairs, lists)]
        assert asked[0] == asked[1]


def test_prompts_without_a_kept_pair_have_no_list(listed: MakeVersion, tmp_path: Path) -> None:
    made = listed(FOUR + answers(("B?", "one", 2), ("B?", "two", 2)))
    assert [row["query"] for row in read(export(made, "scored-list", tmp_path / "out").path)] == ["A?"]


def test_the_score_is_what_the_recipe_paired_by_unless_told(listed: MakeVersion, tmp_path: Path) -> None:
    two = [
        answer("A?", name, None, scores=[{"rater": rater, "aspect": "help", "value": value} for rater, value in marks])
        for name, marks in (("long", [("rm", 1), ("judge", 2)]), ("short", [("rm", 2), ("judge", 1)]))
    ]
    made = listed(two)
    assert read(export(made, "scored-list", tmp_path / "rm").path)[0]["responses"] == ["short", "long"]
    assert read(export(made, "scored-list", tmp_path / "judge", by="judge").path)[0]["responses"] == ["long", "short"]
    with pytest.raises(UsageError, match="no score --by length .*judge:help, rm:help"):
        export(made, "scored-list", tmp_path / "no", by="length")
    with pytest.raises(UsageError, match="has 2, say --by"):
        export(listed(two, [], root="unpaired"), "scored-list", tmp_path / "no")


def test_pairs_of_old_have_no_responses_to_list(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="keeps no responses to list"):
        export(version([pair("A?", "good", "bad")]), "ranked-list", tmp_path / "out")


def test_columns_of_pairs_are_not_lost_unless_dropped(listed: MakeVersion, tmp_path: Path) -> None:
    from curate.relabel.order import Order

    made = listed(FOUR, [Pair(name="pair", by="rm"), Order(name="order")])
    with pytest.raises(ExportError, match="triple cannot carry stage .*--drop stage"):
        export(made, "triple", tmp_path / "out")
    assert export(made, "triple", tmp_path / "out", drop=("stage",)).rows == {"train": 1}


TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "2+2?"},
]


def talk(asked: list[Row], *texts: str, **more: object) -> list[Row]:
    """Responses to a conversation, each scored by its place."""
    rows = [answer("", text, score, **more) for score, text in enumerate(texts)]
    return [row | {"prompt": asked, "prompt_id": prompt_id(asked)} for row in rows]


def test_turns_become_marks_and_the_system_message_bare_text(listed: MakeVersion, tmp_path: Path) -> None:
    (row,) = rows_of(listed, tmp_path, "ranked-list", talk(TALK, "5", "4"))
    assert row["prefix"][0] == ["be brief", "<|prompter|>Hi", "<|assistant|>Hello", "<|prompter|>2+2?", "<|assistant|>"]


@pytest.mark.parametrize(
    "asked",
    [
        messages("Say <|assistant|> twice"),
        [*messages("A?"), {"role": "tool", "content": "4"}],
        [*messages("A?"), {"role": "assistant", "content": "So"}],
        [*messages("A?"), {"role": "assistant", "tool_calls": "[]"}, *messages("B?")],
    ],
)
def test_what_marked_text_cannot_say_is_refused(listed: MakeVersion, tmp_path: Path, asked: list[Row]) -> None:
    made = listed(talk(asked, "5", "4") + FOUR)
    with pytest.raises(ExportError, match=f"1 row has more than .* first {prompt_id(asked)}.*--skip not_plain"):
        export(made, "ranked-list", tmp_path / "out")
    assert export(made, "ranked-list", tmp_path / "out", skip=("not_plain",)).rows == {"train": 1}
    assert export(made, "rlhflow", tmp_path / "flow").rows == {"train": 2}


def test_a_query_is_one_message_of_the_user(listed: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--skip not_plain"):
        rows_of(listed, tmp_path, "scored-list", talk(TALK, "5", "4"))


def test_tools_are_carried_or_refused(listed: MakeVersion, tmp_path: Path) -> None:
    tools = json.dumps([{"type": "function", "function": {"name": "f"}}])
    made = listed(talk(messages("A?"), "5", "4", "3", tools=tools))
    for to in ("rlhflow", "triple", "attributes"):
        assert {row["tools"] for row in read(export(made, to, tmp_path / to).path)} == {tools}
    for to in ("ranked-list", "scored-list"):
        with pytest.raises(ExportError, match="not_plain"):
            export(made, to, tmp_path / to)


def test_turns_are_messages_of_a_triple_and_no_text_of_a_list(listed: MakeVersion, tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": "let me see"}, {"role": "assistant", "content": "best"}]
    made = listed([row | ({"turns": turns} if row["response"] == "best" else {}) for row in FOUR] + talk(TALK, "5", "4", "3"))
    row = next(row for row in read(export(made, "triple", tmp_path / "triple").path) if row["prompt"] == messages("A?"))
    assert (row["reference"], row["chosen"]) == (turns, [{"role": "assistant", "content": "good"}])
    with pytest.raises(ExportError, match="not_plain"):
        export(made, "rlhflow", tmp_path / "flow")
    assert [row["prompt"] for row in read(export(made, "rlhflow", tmp_path / "flow", skip=("not_plain",)).path)] == [TALK]


@pytest.mark.parametrize("to", ["ranked-list", "scored-list", "rlhflow", "triple", "attributes"])
def test_any_text_survives(listed: MakeVersion, tmp_path: Path, to: str) -> None:
    rows = [row for text in STRANGE for row in answers(*((f"{text}?", f"{text}{more}", n) for n, more in enumerate(("", 1, 2))))]
    done = export(listed(rows, []), to, tmp_path / "out")
    told = json.dumps(read(done.path), ensure_ascii=False)
    assert all(json.dumps(row["response"], ensure_ascii=False)[1:-1] in told for row in rows)
    assert check(done.path).problems == []


def test_an_empty_answer_is_an_answer(listed: MakeVersion, tmp_path: Path) -> None:
    (row,) = rows_of(listed, tmp_path, "scored-list", answers(("A?", "", 2), ("A?", "words", 1)))
    assert row["responses"] == ["", "words"]


def slowly(rows: list[Row], least: int) -> dict[str, list[tuple[str, float]]]:
    """By prompt, texts and scores as a list should have them."""
    found: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        if row["response"] is not None and row["scores"][0]["value"] is not None:
            found.setdefault(row["prompt"][0]["content"], []).append((row["response"], row["scores"][0]["value"]))
    for asked, told in found.items():
        best: dict[str, float] = {}
        for text, score in sorted(told, key=lambda each: -each[1]):  # a stable sort: equal scores keep their order
            best.setdefault(text, score)
        found[asked] = list(best.items())
    return {asked: told for asked, told in found.items() if len(told) >= least}


@pytest.mark.parametrize(("to", "least"), [("scored-list", 2), ("triple", 3)])
def test_lists_agree_with_the_slow_version(listed: MakeVersion, tmp_path: Path, to: str, least: int) -> None:
    draw = np.random.default_rng(7)
    rows = [
        answer(f"{draw.integers(60)}?", f"text {draw.integers(4)}" if draw.random() < 0.9 else None, mark)
        for mark in [None if draw.random() < 0.1 else float(draw.integers(5)) for _ in range(300)]
    ]
    done = export(listed(rows, []), to, tmp_path / "out", skip=("short", "unscored", "tied"))
    wanted = slowly(rows, least)
    if to == "scored-list":
        got = {row["query"]: list(zip(row["responses"], row["scores"], strict=True)) for row in read(done.path)}
        assert got == wanted and len(got) > 40
        return
    triples = {asked: [told[0], told[1], told[-1]] for asked, told in wanted.items() if told[1][1] > told[-1][1]}
    sides = ("reference", "chosen", "rejected")
    got_triples = {row["prompt"][0]["content"]: [row[side][0]["content"] for side in sides] for row in read(done.path)}
    assert got_triples == {asked: [text for text, _ in told] for asked, told in triples.items()} and len(triples) > 20


# -- the stream of responses


def test_responses_of_a_prompt_come_together_however_they_lie(listed: MakeVersion) -> None:
    """Rows of prompts may be mixed; each table that comes holds every response of its prompts, in the order of rows."""
    asked = [f"{prompt}?" for prompt in (0, 1, 0, 2, 1, 2, 0, 3, 3, 1)]
    made = listed(answers(*((prompt, f"answer {n}", n) for n, prompt in enumerate(asked))))
    run = Run(made, Options())
    found = [[row["content"] for (row,) in table["prompt"].to_pylist()] for table in responses(run, "train")]
    assert [prompt for prompts in found for prompt in prompts] == asked
    owners = [prompt for prompts in found for prompt in set(prompts)]
    assert len(owners) == len(set(owners))


def test_rows_are_stored_by_prompt_and_numbered_by_source(tmp_path: Path) -> None:
    """A source ordered by model: what is stored together has numbers far apart, and shards and files are several."""
    source = [(f"question {n}?", f"model {model} says {n}", (n * 5 + model * 3) % 11) for model in range(7) for n in range(2500)]
    with (tmp_path / "answers.jsonl").open("w") as file:
        file.writelines(json.dumps(dict(zip(("q", "a", "s"), row, strict=True))) + "\n" for row in source)
    (tmp_path / "recipe.yaml").write_text(
        "name: demo\nsource: {path: answers.jsonl, columns: {prompt: q, response: a}, scores: {rm: s}, rows: candidates}\n"
        "steps:\n  - pair: {by: rm}\n"
    )
    app(["run", str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "store")], standalone_mode=False)
    version = Versions(tmp_path / "store").latest("demo")
    assert version is not None
    wanted: dict[str, list[tuple[str, float]]] = {}
    for asked, text, score in sorted(source, key=lambda row: -row[2]):
        wanted.setdefault(asked, []).append((text, float(score)))
    rows = read(export(version, "scored-list", tmp_path / "out").path)
    got = {row["query"]: list(zip(row["responses"], row["scores"], strict=True)) for row in rows}
    assert got == wanted and len(rows) == 2500
