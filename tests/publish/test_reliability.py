"""The table of raters: counted by hand on a few votes, and recovered where reliabilities are planted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate import ids
from curate.filter.consistency import Consistency
from curate.publish.reliability import FILE, Rater, reliability
from curate.relabel.goal import Goal
from curate.score.aggregate import Aggregate
from curate.store.versions import Version
from tests.publish.versions import make

FIVE = {"ann": 0.95, "bob": 0.90, "cat": 0.80, "dan": 0.70, "eve": 0.55}


def pair(number: int, *votes: tuple[Any, ...], **more: Any) -> dict[str, Any]:
    """A pair with (rater, p_chosen, p_swapped) votes."""
    prompt = [{"role": "user", "content": f"{number}?"}]
    listed = [{"rater": vote[0], "aspect": "pref", "p_chosen": vote[1], "p_swapped": vote[2]} for vote in votes]
    row = {"prompt": prompt, "prompt_id": ids.prompt_id(prompt), "chosen": "a", "rejected": "b", "votes": listed}
    return row | {"pair_id": f"{number:06}", "chosen_id": f"c{number}", "rejected_id": f"r{number}", "source": "s"} | more


def raters(version: Version) -> dict[str, Rater]:
    return {rater.rater: rater for rater in reliability(version.path, version.manifest)}


def test_votes_ties_failures_and_agreement_are_counted(tmp_path: Path) -> None:
    """Three raters: ann with the others 2 of 3 times, bob ties once, cat fails once and changes with the order once."""
    rows = [
        pair(0, ("ann", 1, None), ("bob", 1, None), ("cat", 1, 1)),
        pair(1, ("ann", 0, None), ("bob", 1, None), ("cat", 1, 1)),
        pair(2, ("ann", 1, None), ("bob", 0.5, None), ("cat", 1, None)),
        pair(3, ("ann", 1, None), ("bob", 0, None), ("cat", 1, 0)),
        pair(4, ("cat", None, None)),
    ]
    found = raters(make(tmp_path, rows, [], "pairs"))
    ann, bob, cat = found["ann"], found["bob"], found["cat"]
    assert (ann.pairs, ann.ties, ann.failed, ann.with_label) == (4, 0, 0, 0.75)
    # of the others, bob and cat say yes, yes, yes, and no once where cat is torn
    assert (ann.agreement, ann.others) == (0.5, 4)
    assert (bob.pairs, bob.ties) == (4, 1)
    assert (cat.pairs, cat.ties, cat.failed, cat.both_orders) == (4, 1, 1, 3)
    assert cat.flipped == pytest.approx(1 / 3, abs=1e-6) and ann.flipped is None


def test_planted_reliability_is_recovered_with_dropped_pairs_counted(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    truth = draw.random(800) < 0.5
    told = {name: np.where(draw.random(800) < odds, truth, ~truth).astype(float) for name, odds in FIVE.items()}
    rows = [pair(n, *((name, votes[n], None) for name, votes in told.items())) for n in range(800)]
    version = make(tmp_path, rows, [Consistency(name="con", voters=["ann"])], "pairs")
    assert version.manifest["steps"][1]["kept"] < 600
    found = raters(version)
    for name, odds in FIVE.items():
        assert found[name].reliability == pytest.approx(odds, abs=0.05)
        assert found[name].low < found[name].reliability < found[name].high  # type: ignore[operator]
        assert found[name].pairs == 800
    assert found["ann"].agreement > found["dan"].agreement > found["eve"].agreement  # type: ignore[operator]


def test_of_a_rater_whom_nobody_met_nothing_is_known(tmp_path: Path) -> None:
    rows = [pair(n, ("source", 1, None)) for n in range(5)] + [pair(9, ("ann", 1, None), ("bob", 1, None))]
    found = raters(make(tmp_path, rows, [], "pairs"))
    alone = found["source"]
    assert (alone.reliability, alone.low, alone.high, alone.agreement, alone.others) == (None, None, None, None, 0)
    assert (alone.pairs, alone.with_label) == (5, 1.0)
    assert found["ann"].reliability is not None


def test_a_vote_made_of_others_is_no_rater_of_its_own(tmp_path: Path) -> None:
    step = Aggregate(name="crowd", **{"from": ["*"]}, of="votes", how="majority", require="any")  # type: ignore[arg-type]
    rows = [pair(n, ("ann", 1, None), ("bob", 1, None), ("cat", 0, None)) for n in range(4)]
    version = make(tmp_path, rows, [step], "pairs")
    assert version.manifest["raters"]["votes"][-1] == ["crowd", "vote"]
    found = raters(version)
    assert set(found) == {"ann", "bob", "cat"}
    assert (found["ann"].others, found["cat"].agreement) == (0, 0.0)  # bob and cat hold the balance for ann


def test_a_pair_with_two_goals_is_counted_once(tmp_path: Path) -> None:
    scores = {side: [{"rater": "rm", "aspect": "s", "value": value}] for side, value in (("chosen", 9), ("rejected", 2))}
    rows = [pair(n, ("ann", 1, None), **{f"{side}_scores": told for side, told in scores.items()}) for n in range(3)]
    version = make(tmp_path, rows, [Goal(name="goal", by="rm")], "pairs")
    assert version.manifest["splits"]["train"] == 6
    assert raters(version)["ann"].pairs == 3


def test_the_table_is_published_as_a_file(tmp_path: Path) -> None:
    version = make(tmp_path, [pair(0, ("ann", 1, None), ("bob", 0, None))], [], "pairs")
    lines = [json.loads(line) for line in (version.path / FILE).read_text("utf-8").splitlines()]
    assert [line["rater"] for line in lines] == ["ann", "bob"] and lines[0]["pairs"] == 1
    assert FILE in [entry["path"] for entry in version.manifest["files"]]
    silent = make(tmp_path / "other", [pair(0)], [], "pairs")
    assert not (silent.path / FILE).exists() and raters(silent) == {}


def test_the_card_tells_whom_the_votes_come_from(tmp_path: Path) -> None:
    rows = [pair(n, ("ann", n % 3 > 0, None), ("bob", 1, None)) for n in range(6)]
    card = (make(tmp_path, rows, [], "pairs").path / "README.md").read_text(encoding="utf-8")

    [line] = [line for line in card.splitlines() if "ann" in line]
    assert line.startswith("| `ann pref` | 6 |") and "0.67 of 6" in line


def test_without_votes_the_card_says_nothing_of_raters(tmp_path: Path) -> None:
    assert "## Raters" not in (make(tmp_path, [pair(0)], [], "pairs").path / "README.md").read_text(encoding="utf-8")
