"""A crowd's votes from a file to a version: every way of making them one, a soft label of one of them, circles undone."""

import json
from pathlib import Path

import pyarrow.compute as pc

from curate import tables
from curate.engine.local import LocalEngine
from curate.publish.figures import files_of
from curate.recipe import read_recipe
from curate.run import run_recipe
from curate.store.versions import Versions

WAYS = ("mean", "majority", "agreement", "dawid_skene", "one_coin", "glad", "bradley_terry")
RECIPE = """\
name: crowd
source:
  path: votes.jsonl
  rows: pairs
  columns: {prompt: question, first: one, second: other}
  votes: {list: told, rater: who, value: side, values: {first: 1, second: 0}}
  constants: {source: crowd, license: CC0-1.0}
steps:
"""


def test_every_way_of_aggregating_is_reached_by_a_recipe(tmp_path: Path) -> None:
    """Words of one question, the longer one better; ann is always right, bob nearly, cat names the first."""
    words = ["a", "bb", "ccc", "dddd", "eeeee"]
    ends = [(one, other) for one in words for other in words if one != other]
    with (tmp_path / "votes.jsonl").open("w", encoding="utf-8") as out:
        for n, (one, other) in enumerate(ends):
            right, wrong = ("first", "second") if len(one) > len(other) else ("second", "first")
            told = {"ann": right, "bob": wrong if n == 3 else right, "cat": "first"}
            listed = [{"who": who, "side": side} for who, side in told.items()]
            out.write(json.dumps({"question": "Which word is longer?", "one": one, "other": other, "told": listed}) + "\n")
    steps = [f'  - aggregate: {{name: {how}, from: ["*:preference"], of: votes, how: {how}, require: any}}\n' for how in WAYS]
    steps += [
        '  - prefer: {by: "one_coin:vote", smoothing: 0}\n',
        "  - consistency: {name: circles, how: cycles, voters: [glad]}\n",
    ]
    (tmp_path / "recipe.yaml").write_text(RECIPE + "".join(steps), encoding="utf-8")
    run_recipe(read_recipe(tmp_path / "recipe.yaml"), tmp_path / "store", engine=LocalEngine(1), command=["curate", "run"])
    version = Versions(tmp_path / "store").latest("crowd")
    assert version is not None
    dropped = [batch for batch in files_of(version.path, "dropped/pairs").batches(["reason", "other"])]
    assert [text for batch in dropped for text in batch["reason"].to_pylist()] == ["cycle"]
    (kept,) = files_of(version.path, "pairs").batches(["chosen", "rejected", "votes", "label_prob"])
    assert kept.num_rows == len(ends) - 1
    for how in WAYS:
        assert pc.all(pc.greater(tables.value_of(kept["votes"], "p_chosen", rater=how, aspect="vote"), 0.5)).as_py()
    assert min(kept["label_prob"].to_pylist()) > 0.8
    assert sorted(path.name for path in version.path.iterdir() if path.suffix == ".jsonl") == ["raters.jsonl"]
