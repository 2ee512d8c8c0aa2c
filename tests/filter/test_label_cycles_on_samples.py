"""Circles among real preferences: crowd votes on jokes, and judges' verdicts on models' answers."""

import gzip
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate import tables
from curate.filter.consistency import Consistency

STEP = Consistency(name="con", how="cycles", voters=["*"])


def row(prompt, chosen, rejected, *votes):
    """A pair with the votes of raters that nobody named, for chosen."""
    listed = [{"rater": f"w{n}", "aspect": "h", "p_chosen": vote} for n, vote in enumerate(votes)]
    sides = {"chosen_id": chosen, "rejected_id": rejected, "pair_id": f"{chosen} {rejected}"}
    return {"prompt_id": prompt, "prompt": [{"role": "user", "content": prompt}], "votes": listed} | sides


def resolved(rows):
    """What the step says of each pair; what it leaves has no circle."""
    table = tables.from_rows(rows, "pairs")
    made = STEP(table)
    dropped = pc.greater(pc.list_value_length(made["flags"]), 0).to_numpy(zero_copy_only=False)
    again = STEP(table.filter(pa.array(~dropped)))
    assert not tables.value_of(again["evidence"], by="con", name="in_cycle").any()
    measures = ("strength", "in_cycle", "removed", "at_least")
    return dropped, {name: tables.value_of(made["evidence"], by="con", name=name) for name in measures}, made


@pytest.mark.slow
def test_jokes_that_a_crowd_finds_funnier_in_circles(real_data):
    votes = gzip.decompress((real_data / "humour_pairs" / "votes.jsonl.gz").read_bytes()).splitlines()
    counts = Counter((vote["preferred"], vote["other"]) for vote in map(json.loads, votes))
    won = {ends: (n, counts.get(ends[::-1], 0)) for ends, n in counts.items() if n > counts.get(ends[::-1], 0)}
    rows = [row("funnier?", f"{a:05}", f"{b:05}", *[1.0] * yes, *[0.0] * no) for (a, b), (yes, no) in sorted(won.items())]
    dropped, told, _ = resolved(rows)
    inside = told["in_cycle"] == 1
    assert inside.mean() > 0.5  # nearly all jokes are in one tangle
    assert dropped.mean() < 0.1 and not dropped[~inside].any()
    assert told["strength"][dropped].mean() < 0.7 * told["strength"][inside].mean()
    assert told["removed"][inside][0] == told["strength"][dropped].sum() < 3 * told["at_least"][inside][0]


def test_answers_that_judges_prefer_in_circles(real_data):
    """Judges who contradict each other, and models that beat one reference and lose to the one that it beats."""
    import polars as pl

    found = pl.read_parquet(real_data / "alpaca_eval" / "annotations.parquet").filter(
        (pl.col("prompt_id") < 100) & pl.col("preference").is_between(1, 2) & (pl.col("preference") != 1.5)
    )
    rows = []
    for prompt, one, other, mark in found.select("prompt_id", "generator_1", "generator_2", "preference").iter_rows():
        sides = (one, other) if mark < 1.5 else (other, one)
        rows.append(row(str(prompt), *sides, max(mark - 1, 2 - mark)))
    dropped, told, made = resolved(rows)
    inside = told["in_cycle"] == 1
    assert 0 < dropped.sum() <= inside.sum() / 2 < 0.05 * len(rows)  # a circle has two pairs at least
    np.testing.assert_array_equal(told["removed"], told["at_least"])  # few answers of a prompt are knotted: solved exactly
    lengths = Counter(flags[-1]["other"].count(" > ") for flags in made["flags"].to_pylist() if flags)
    assert min(lengths) == 2 and sum(lengths.values()) == dropped.sum()
    assert told["strength"][dropped].mean() < told["strength"][inside & ~dropped].mean()
