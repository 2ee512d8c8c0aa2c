"""LLMBar: verdicts that six judges gave in both orders, imported from the file as votes, and what becomes of them."""

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from curate import tables
from curate.filter.consistency import Consistency
from curate.score.attach import UNREAD_ERROR, Attach
from curate.score.prefer import Prefer

pytestmark = pytest.mark.slow

PLAIN = ("Vanilla", "Vanilla_NoRules", "Vanilla_1shot", "Vanilla_2shot")
"""Strategies that ask for nothing but the verdict. LLaMA2 gives reasons all the same: those completions are not plain."""
VERDICTS = {"Output (a)": 1.0, "Output (b)": 0.0}
ASPECT = "better"


class Case(NamedTuple):
    pairs: pa.Table
    """The gold pairs with the votes."""
    raters: list[str]
    winners: dict[tuple[str, str], tuple[float | None, float | None]]
    """By rater and pair, what the file says of the chosen side: shown first, shown second."""


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def pair_of(row: dict[str, Any]) -> str:
    return f"{row['subset']} {row['index']}"


@pytest.fixture(scope="module")
def case(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = real_data / "llmbar"
    gold = [
        {"pair_id": pair_of(row), "chosen": row[f"output_{row['label']}"], "rejected": row[f"output_{3 - row['label']}"]}
        for row in read(folder / "instances.llmbar.jsonl.gz")
    ]
    found: dict[str, dict[str, Any]] = {row["pair_id"]: {"pair_id": row["pair_id"]} for row in gold}
    winners: dict[tuple[str, str], tuple[float | None, float | None]] = {}
    for row in read(folder / "evaluator_results.llmbar.jsonl.gz"):
        if row["strategy"] not in PLAIN:
            continue
        orders = (row["results"][-1]["swap = False"], row["results"][-1]["swap = True"])
        shown, swapped = orders if row["label"] == 1 else orders[::-1]  # by whether the better output came first
        rater = f"{row['evaluator']}.{row['strategy']}"
        found[pair_of(row)] |= {rater: shown["completion"][0], f"{rater} swapped": swapped["completion"][0]}
        told = [None if one["winner"] is None else float(one["winner"] == str(row["label"])) for one in (shown, swapped)]
        winners[rater, pair_of(row)] = (told[0], told[1])
    path = tmp_path_factory.mktemp("llmbar") / "verdicts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found.values()), encoding="utf-8")
    raters = sorted({rater for rater, _ in winners})
    step = Attach(
        file=path,
        votes={rater: f"{rater}:{ASPECT}" for rater in raters},
        swapped={rater: f"{rater} swapped" for rater in raters},
        verdicts=VERDICTS,
    )
    pairs = tables.from_rows(gold, "pairs")
    return Case(pairs.set_column(pairs.column_names.index("votes"), "votes", step(pairs)["votes"]), raters, winners)


def votes_of(pairs: pa.Table) -> dict[tuple[str, str], dict[str, Any]]:
    """Votes by rater and pair."""
    listed = zip(pairs["pair_id"].to_pylist(), pairs["votes"].to_pylist(), strict=True)
    return {(vote["rater"], pair): vote for pair, votes in listed for vote in votes}


def test_imported_votes_are_the_recorded_winners(case: Case) -> None:
    assert case.pairs.num_rows == 419 and len(case.raters) == 22
    votes = votes_of(case.pairs)
    silent = {"p_chosen": None, "p_swapped": None, "error": None}  # an empty completion is no vote
    same, rest = 0, []
    for rater, pair in case.winners:
        vote = votes.get((rater, pair), silent)
        for told, recorded in zip((vote["p_chosen"], vote["p_swapped"]), case.winners[rater, pair], strict=True):
            same += told == recorded
            rest += [(pair, rater, told, recorded, vote["error"])] if told != recorded else []
    listed = "\n".join(map(str, rest))
    print(f"{same} of {same + len(rest)} agree; the rest:\n{listed}")  # noqa: T201
    assert same + len(rest) == 2 * len(case.winners) == 18_436
    plain = [one for one in rest if one[2] is not None or one[4] != UNREAD_ERROR]
    assert same / (same + len(plain)) >= 0.995, plain  # of the completions that are a verdict and nothing else
    assert plain == []  # what is in another form is null with an error, never misread
    assert len(rest) < 0.015 * 2 * len(case.winners)


def accuracy(pairs: pa.Table, by: tuple[str, ...]) -> float:
    """Share of gold pairs on which the votes are for the better output, ties and silence half."""
    labels = Prefer(by=by, smoothing=0)(pairs)["label_prob"].to_pylist()
    return sum(0.5 if p is None or p == 0.5 else p > 0.5 for p in labels) / len(labels)


def test_a_panel_is_set_beside_its_best_judge(case: Case) -> None:
    judges = tuple(rater for rater in case.raters if rater.endswith(".Vanilla_NoRules"))
    alone = {rater: accuracy(case.pairs, (rater,)) for rater in judges}
    together = accuracy(case.pairs, judges)
    print({**alone, "panel": together})  # noqa: T201
    assert max(alone, key=alone.__getitem__) == "GPT-4.Vanilla_NoRules"
    assert sorted(alone.values())[len(alone) // 2] < together < max(alone.values())  # an equal vote does not beat the best


def test_order_flips_are_those_of_the_recorded_winners(case: Case) -> None:
    votes = votes_of(case.pairs)
    unread = {rater_and_pair for rater_and_pair, vote in votes.items() if vote["error"]}
    for rater in case.raters:
        made = Consistency(name="stable", voters=[rater], how="order")(case.pairs)
        dropped = [bool(flags) for flags in made["flags"].to_pylist()]
        for pair, flagged in zip(case.pairs["pair_id"].to_pylist(), dropped, strict=True):
            shown, swapped = case.winners[rater, pair]
            if (rater, pair) not in unread:
                assert flagged == (None not in (shown, swapped) and shown != swapped)
