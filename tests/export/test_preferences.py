"""Pairs with probabilities, stages and regression targets."""

import math
from pathlib import Path
from typing import Any

import pytest

from curate.errors import ExportError, UsageError
from curate.export import export
from curate.export.check import check
from curate.relabel.flip import Flip
from curate.relabel.order import Order
from curate.score.prefer import Prefer
from tests.export.conftest import NEEDED, RICH, MakeVersion, Row, messages, pair, read, scores

ANSWER = [{"role": "assistant", "content": "good"}]
BAD = [{"role": "assistant", "content": "bad"}]
STRANGE = ["", "مرحبا\u200f بالعالم", "👩‍👩‍👧 😀", "\u2028</s>\x01", "<|im_end|>"]


# -- ms-swift


def test_ms_swift_has_both_conversations_whole(version: MakeVersion, tmp_path: Path) -> None:
    tools = '[{"type": "function", "function": {"name": "f"}}]'
    made = version([pair("A?", "good", "bad", margin=0.7, tools=tools)])
    (row,) = read(export(made, "ms-swift", tmp_path / "out").path)
    assert (row["messages"], row["rejected_messages"]) == (messages("A?") + ANSWER, messages("A?") + BAD)
    assert (row["margin"], row["tools"], row["rejected_tools"]) == (0.7, tools, tools)


def test_ms_swift_refuses_margins_that_would_mislead(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad", margin=1.0), pair("B?", "good", "bad", margin=-1.0)])
    with pytest.raises(ExportError, match="negative margin.*--drop margin"):
        export(made, "ms-swift", tmp_path / "out")
    assert "margin" not in read(export(made, "ms-swift", tmp_path / "out", drop=("margin",)).path)[0]


# -- soft-dpo


def test_soft_rows_have_probability_and_weight(version: MakeVersion, tmp_path: Path) -> None:
    row = pair("A?", "good", "bad", label_prob=0.7, weight=0.25)
    (got,) = read(export(version([row]), "soft-dpo", tmp_path / "out").path)
    told = {"prompt": messages("A?"), "chosen": ANSWER, "rejected": BAD, "pair_id": row["pair_id"]}
    assert got == told | {"label_prob": 0.7, "weight": 0.25}


def test_no_weight_counts_as_one(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair("A?", "good", "bad", label_prob=0.5, weight=3.0), pair("B?", "good", "bad", label_prob=0.4)]
    done = export(version(rows), "soft-dpo", tmp_path / "out")
    assert {row["prompt"][0]["content"]: row["weight"] for row in read(done.path)} == {"A?": 3.0, "B?": 1.0}
    assert done.note["counts"] == {"label_prob_below_half": 1}
    assert [row["weight"] for row in read(export(version(rows[1:], root="b"), "soft-dpo", tmp_path / "again").path)] == [1.0]


def test_a_version_without_probabilities_is_refused(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="soft-dpo needs label_prob, and demo@v1 has none: .*prefer"):
        export(version([pair("A?", "good", "bad")]), "soft-dpo", tmp_path / "out")
    with pytest.raises(ExportError, match="needs label_prob"):
        export(version([pair("A?", "good", "bad")]), "soft-dpo", tmp_path / "out", drop=("label_prob",))


def test_weights_alone_are_asked_for_by_name(version: MakeVersion, tmp_path: Path) -> None:
    made = version([pair("A?", "good", "bad", weight=2.0)])
    with pytest.raises(ExportError, match="--drop label_prob"):
        export(made, "soft-dpo", tmp_path / "out")
    (row,) = read(export(made, "soft-dpo", tmp_path / "out", drop=("label_prob",)).path)
    assert row["weight"] == 2.0 and "label_prob" not in row


def test_a_pair_without_probability_is_refused_or_skipped(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair("A?", "good", "bad", label_prob=0.7), pair("B?", "good", "bad")]
    made = version(rows)
    with pytest.raises(ExportError, match=f"1 pair has no probability .* first {rows[1]['pair_id']}.*--skip unlabelled"):
        export(made, "soft-dpo", tmp_path / "out")
    done = export(made, "soft-dpo", tmp_path / "out", skip=("unlabelled",))
    assert (done.rows, done.note["left_out"]) == ({"train": 1}, {"unlabelled": 1})


@pytest.mark.parametrize("to", ["soft-dpo", "sppo", "regression", "stages", "masked-dpo"])
def test_any_text_survives(version: MakeVersion, tmp_path: Path, to: str) -> None:
    more = RICH[to] | ({"spans": [{"side": "rejected", "start": 0, "end": 1, "weight": 0.0}]} if to == "masked-dpo" else {})
    made = version([pair(f"{text}?", text, f"{text}.", **more) for text in STRANGE])
    done = export(made, to, tmp_path / "out", **NEEDED.get(to, {}))
    rows = read(done.path, next(iter(done.rows)))
    assert {tuple(row[side][-1]["content"] for side in ("chosen", "rejected")) for row in rows} == {(t, f"{t}.") for t in STRANGE}
    assert check(done.path).problems == []


def test_a_tool_call_with_half_a_character_is_refused(version: MakeVersion, tmp_path: Path) -> None:
    """JSON can spell what no file in UTF-8 can hold."""
    calls = '[{"type": "function", "function": {"name": "f", "arguments": {"x": "\\ud800"}}}]'
    row = pair("A?", "good", "bad", chosen_turns=[{"role": "assistant", "tool_calls": calls}])
    with pytest.raises(ExportError, match=r"lone surrogate.*mend it at the source"):
        export(version([row]), "trl-dpo", tmp_path / "out")


# -- sppo


def win_pair(prompt: str, p: float | None, win: float | None, lose: float | None, **more: Any) -> Row:
    """A pair as `prefer` leaves it."""
    sides: Row = {"chosen_scores": scores({"prefer:win": win}), "rejected_scores": scores({"prefer:win": lose})}
    return pair(prompt, "good", "bad", label_prob=p, **(sides | more))


def test_sppo_rows_are_what_the_trainer_reads(version: MakeVersion, tmp_path: Path) -> None:
    row = win_pair("A?", 0.75, 0.625, 0.375)
    (got,) = read(export(version([row]), "sppo", tmp_path / "out").path)
    assert got == {
        "chosen": messages("A?") + ANSWER,
        "rejected": messages("A?") + BAD,
        "chosen_probs": 0.75,
        "chosen_probs_win": 0.625,
        "chosen_probs_lose": 0.375,
        "pair_id": row["pair_id"],
    }
    prompt, answer = got["chosen"][:-1], got["chosen"][-1]  # the released code's cut
    assert (prompt, answer) == (messages("A?"), ANSWER[0])


def test_sppo_refuses_what_is_missing(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="sppo needs label_prob"):
        export(version([win_pair("A?", None, 0.6, 0.4)], root="a"), "sppo", tmp_path / "out")
    with pytest.raises(UsageError, match=r"has 0 scores called win, .*scores: rm:help"):
        export(version([pair("A?", "good", "bad", label_prob=0.5)], root="b"), "sppo", tmp_path / "out")
    made = version([win_pair("A?", 0.7, 0.6, 0.4), win_pair("B?", 0.7, None, 0.4)], root="c")
    with pytest.raises(ExportError, match="--skip unlabelled"):
        export(made, "sppo", tmp_path / "out")
    assert export(made, "sppo", tmp_path / "out", skip=("unlabelled",)).rows == {"train": 1}
    with pytest.raises(ExportError, match="score 8 is no probability"):
        export(version([pair("A?", "good", "bad", label_prob=0.5)], root="d"), "sppo", tmp_path / "no", by="rm")


def test_sppo_refuses_sides_of_several_messages(version: MakeVersion, tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": "let me see"}, *ANSWER]
    made = version([win_pair("A?", 0.7, 0.6, 0.4, chosen_turns=turns), win_pair("B?", 0.7, 0.6, 0.4)])
    with pytest.raises(ExportError, match="1 row has more than .*--skip not_plain"):
        export(made, "sppo", tmp_path / "out")
    assert export(made, "sppo", tmp_path / "out", skip=("not_plain",)).rows == {"train": 1}


def test_sppo_test_rows_are_none_of_the_training_rows(version: MakeVersion, tmp_path: Path) -> None:
    """The released code samples its test split from train; ours is what `split` put there."""
    rows = [win_pair(f"{n}?", 0.7, 0.6, 0.4, split="test" if n % 3 == 0 else None) for n in range(12)]
    done = export(version(rows), "sppo", tmp_path / "out")
    assert done.rows == {"train": 8, "test": 4}
    train, test = ({row["pair_id"] for row in read(done.path, split)} for split in ("train", "test"))
    assert not train & test and len(train | test) == 12
    without = export(version([row | {"split": None} for row in rows], root="b"), "sppo", tmp_path / "again")
    assert without.rows == {"train": 12}


# -- stages


def test_every_stage_has_a_file_and_files_are_in_order(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair(f"{gap}?", "good", "bad", margin=gap) for gap in (1.0, 6.0, 3.0, 5.0, 2.0, 4.0)]
    rows[2] |= {"split": "test"}
    done = export(version(rows, [Order(name="order", stages=3)]), "stages", tmp_path / "out")
    assert list(done.rows) == ["train_stage_0", "train_stage_1", "train_stage_2", "test_stage_1"]
    found = {part: [row["prompt"][0]["content"] for row in read(done.path, part)] for part in done.rows}
    assert {part: sorted(prompts) for part, prompts in found.items()} == {
        "train_stage_0": ["5.0?", "6.0?"],
        "train_stage_1": ["4.0?"],
        "train_stage_2": ["1.0?", "2.0?"],
        "test_stage_1": ["3.0?"],
    }
    assert check(done.path).problems == []


def test_numbers_of_stages_sort_as_they_train(version: MakeVersion, tmp_path: Path) -> None:
    rows = [pair(f"{n}?", "good", "bad", stage=n) for n in (10, 2)]
    assert list(export(version(rows), "stages", tmp_path / "out").rows) == ["train_stage_02", "train_stage_10"]


def test_stages_refuse_what_is_missing(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="needs the column stage.*add `order`"):
        export(version([pair("A?", "good", "bad")], root="a"), "stages", tmp_path / "out")
    made = version([pair("A?", "good", "bad", stage=0), pair("B?", "good", "bad"), pair("C?", "good", "bad", split="test")])
    with pytest.raises(ExportError, match="2 pairs have no stage, first .*--skip unstaged"):
        export(made, "stages", tmp_path / "out")
    assert export(made, "stages", tmp_path / "out", skip=("unstaged",)).rows == {"train_stage_0": 1}
    with pytest.raises(ExportError, match="stages -1 to 0"):
        export(version([pair(f"{n}?", "a", "b", stage=n) for n in (-1, 0)], root="b"), "stages", tmp_path / "no")


# -- regression


def voted(prompt: str, *votes: float) -> Row:
    """A pair and its votes: 1 for the chosen side, 0 for the rejected one."""
    told = [{"rater": f"v{n}", "aspect": "help", "p_chosen": vote, "p_swapped": vote} for n, vote in enumerate(votes)]
    return pair(prompt, "good", "bad", votes=told)


PREFER = Prefer(name="prefer", by=("v0", "v1", "v2", "v3"), smoothing=0)


def test_targets_are_log_odds_held_half_a_vote_from_the_ends(version: MakeVersion, tmp_path: Path) -> None:
    rows = [voted("all?", 1, 1, 1, 1), voted("three?", 1, 1, 1, 0), voted("none?", 0, 0, 0, 0)]
    got = {row["prompt"][0]["content"]: row for row in read(export(version(rows, [PREFER]), "regression", tmp_path / "o").path)}
    assert [got[name]["p_win"] for name in ("all?", "three?", "none?")] == [1.0, 0.75, 0.0]
    wanted = [math.log((7 / 8) / (1 / 8)), math.log(3), math.log((1 / 8) / (7 / 8))]
    assert [got[name]["target"] for name in ("all?", "three?", "none?")] == pytest.approx(wanted, abs=1e-6)
    assert got["none?"]["chosen"] == ANSWER  # nothing is exchanged: the target is negative


def test_regression_refuses_what_is_missing(version: MakeVersion, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="regression needs label_prob and the evidence logit"):
        export(version([pair("A?", "good", "bad", label_prob=0.7)], root="a"), "regression", tmp_path / "out")
    made = version([voted("A?", 1, 1, 1, 1), voted("B?")], [PREFER])
    with pytest.raises(ExportError, match="--skip unlabelled"):
        export(made, "regression", tmp_path / "out")
    assert export(made, "regression", tmp_path / "out", skip=("unlabelled",)).rows == {"train": 1}


@pytest.mark.parametrize("vote", [1.0, 0.99, 0.0])
def test_a_single_vote_makes_no_target_and_is_refused(version: MakeVersion, tmp_path: Path, vote: float) -> None:
    told = [{"rater": "v0", "aspect": "vote", "p_chosen": vote}]
    made = version([pair("A?", "good", "bad", votes=told)], [Prefer(name="prefer", by="v0", smoothing=0)])
    with pytest.raises(ExportError, match=f"label_prob {vote:g} with a target of 0, .* a single vote"):
        export(made, "regression", tmp_path / "out")
    smoothed = version([pair("A?", "good", "bad", votes=told)], [Prefer(name="prefer", by="v0", smoothing=1)], root="b")
    (row,) = read(export(smoothed, "regression", tmp_path / "out").path)
    assert row["target"] == pytest.approx(math.log((vote + 1) / (2 - vote)), abs=1e-6)


def test_a_tied_vote_is_a_target_of_zero(version: MakeVersion, tmp_path: Path) -> None:
    (row,) = read(export(version([voted("A?", 1, 1, 0, 0)], [PREFER]), "regression", tmp_path / "out").path)
    assert (row["p_win"], row["target"]) == (0.5, 0.0)


def test_a_target_that_belongs_to_the_pair_as_it_was_is_refused(version: MakeVersion, tmp_path: Path) -> None:
    made = version([voted("A?", 0, 0, 0, 1)], [PREFER, Flip(name="flip")])
    with pytest.raises(ExportError, match=r"label_prob 0.75 and target -1.09861 are on different sides"):
        export(made, "regression", tmp_path / "out")
