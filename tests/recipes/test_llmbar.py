"""LLMBar: verdicts that six judges gave in both orders, imported from the file as votes, and what becomes of them."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from curate import tables
from curate.filter.consistency import Consistency
from curate.score.attach import Attach
from curate.score.prefer import Prefer

pytestmark = pytest.mark.slow

CHOICE = ("Metrics", "Reference", "Metrics_Reference", "Swap 2")
"""Strategies, and stages of them, that ask for nothing but the choice after some preparation, which is not part of the reply."""
CONCLUSION = ("CoT", "Swap 1", "Swap_CoT 1", "Swap_CoT 2")
"""Those that ask for reasons and then `Therefore, Output (a) is better.`"""
RATINGS = ("Rating", "Rating_NoRules", "Rating_Metrics", "Rating_Reference", "Rating_Metrics_Reference")
PLAIN = ("Vanilla", "Vanilla_NoRules", "Vanilla_1shot", "Vanilla_2shot")
"""Strategies that ask for nothing but the choice; LLaMA2 gives reasons all the same."""
VERDICTS = {"Output (a)": 1.0, "Output (b)": 0.0}
ASPECT = "better"
Orders = tuple[float | None, float | None]


class Case(NamedTuple):
    pairs: pa.Table
    """The gold pairs with the votes."""
    raters: list[str]
    winners: dict[tuple[str, str], Orders]
    """By rater and pair, what the file says of the chosen side: shown first, shown second."""
    texts: dict[tuple[str, str], tuple[Any, Any]]
    """The replies behind them."""


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def pair_of(row: dict[str, Any]) -> str:
    return f"{row['subset']} {row['index']}"


def stages(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The verdicts of a run by strategy; those of the two stages of a debate apart."""
    found = [one for one in row["results"] if isinstance(one, dict)]
    if not row["strategy"].startswith("Swap"):
        return {row["strategy"]: found[-1]}
    return {f"{row['strategy']} {place}": one for place, one in enumerate(found, 1)}


def told(stage: dict[str, Any], swap: bool) -> Any:
    """What the judge said: a text, or the marks of the side shown first and of the other."""
    if "score_1" in stage:
        marks = [stage["score_1"][0], stage["score_2"][0]]
        return marks[::-1] if swap else marks
    return stage[f"swap = {swap}"]["completion"][0]


def imported(data: Path, folder: Path, strategies: tuple[str, ...], layout: str) -> Case:
    """The gold pairs with the votes of every judge that was asked by these strategies."""
    gold = [
        {"pair_id": pair_of(row), "chosen": row[f"output_{row['label']}"], "rejected": row[f"output_{3 - row['label']}"]}
        for row in read(data / "llmbar" / "instances.llmbar.jsonl.gz")
    ]
    found: dict[str, dict[str, Any]] = {row["pair_id"]: {"pair_id": row["pair_id"]} for row in gold}
    winners: dict[tuple[str, str], Orders] = {}
    texts: dict[tuple[str, str], tuple[Any, Any]] = {}
    for row in read(data / "llmbar" / "evaluator_results.llmbar.jsonl.gz"):
        for strategy, stage in stages(row).items():
            if strategy in strategies:
                rater, pair = f"{row['evaluator']}.{strategy}", pair_of(row)
                first, second = (False, True) if row["label"] == 1 else (True, False)  # `first`: the better output came first
                texts[rater, pair] = told(stage, first), told(stage, second)
                found[pair] |= {rater: texts[rater, pair][0], f"{rater} swapped": texts[rater, pair][1]}
                named = [stage[f"swap = {swap}"]["winner"] for swap in (first, second)]
                shown, swapped = (None if winner is None else float(winner == str(row["label"])) for winner in named)
                winners[rater, pair] = shown, swapped
    raters = sorted({rater for rater, _ in winners})
    blank = dict.fromkeys([*raters, *(f"{rater} swapped" for rater in raters)])
    path = folder / f"{layout}.jsonl"
    path.write_text("".join(json.dumps(blank | row) + "\n" for row in found.values()), encoding="utf-8")
    step = Attach.model_validate(
        {
            "file": path,
            "votes": {rater: f"{rater}:{ASPECT}" for rater in raters},
            "swapped": {rater: f"{rater} swapped" for rater in raters},
            "layout": layout,
            **({} if layout == "ratings" else {"verdicts": VERDICTS}),
        }
    )
    pairs = tables.from_rows(gold, "pairs")
    return Case(pairs.set_column(pairs.column_names.index("votes"), "votes", step(pairs)["votes"]), raters, winners, texts)


@pytest.fixture(scope="module")
def case(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return imported(real_data, tmp_path_factory.mktemp("llmbar"), PLAIN, "choice")


def votes_of(pairs: pa.Table) -> dict[tuple[str, str], dict[str, Any]]:
    """Votes by rater and pair."""
    listed = zip(pairs["pair_id"].to_pylist(), pairs["votes"].to_pylist(), strict=True)
    return {(vote["rater"], pair): vote for pair, votes in listed for vote in votes}


class Differs(NamedTuple):
    rater: str
    pair: str
    kind: str
    """null and why, tie, no winner (in the record), or other."""
    told: float | None
    recorded: float | None
    recorded_a: bool
    """Whether the record names the side that was shown as Output (a)."""
    text: Any


class Outcome(NamedTuple):
    same: int
    rest: list[Differs]

    @property
    def share(self) -> float:
        return self.same / (self.same + len(self.rest))

    @property
    def kinds(self) -> Counter[str]:
        return Counter(one.kind for one in self.rest)


def beside_the_record(case: Case, strategy: str = "") -> Outcome:
    """Each imported verdict beside the recorded winner; both null is the same."""
    votes = votes_of(case.pairs)
    silent = {"p_chosen": None, "p_swapped": None, "error": None}  # an empty reply is no vote
    same, rest = 0, []
    for key, winners in case.winners.items():
        if not key[0].endswith(strategy):
            continue
        vote = votes.get(key, silent)
        for place, recorded in enumerate(winners):
            mine = vote[("p_chosen", "p_swapped")[place]]
            if mine == recorded:
                same += 1
                continue
            kind = f"null, {vote['error']}" if mine is None else "no winner" if recorded is None else "other"
            kind = "tie" if mine == 0.5 else kind
            rest.append(Differs(*key, kind, mine, recorded, recorded == 1 - place, case.texts[key][place]))
    return Outcome(same, rest)


def test_imported_votes_are_the_recorded_winners(case: Case) -> None:
    """The record names Output (a) if any line begins with that, whatever the reply began with: that is all that differs."""
    assert case.pairs.num_rows == 419 and len(case.raters) == 22
    found = beside_the_record(case)
    print(f"{found.share:.4%} of {found.same + len(found.rest)} agree; the rest:", *found.rest, sep="\n")  # noqa: T201
    assert found.same + len(found.rest) == 2 * len(case.winners) == 18_436
    assert found.share >= 0.995
    assert found.kinds == {"other": 70, "null, unparsable: no verdict": 1}
    for one in found.rest:
        if one.kind == "other":
            assert one.recorded_a and one.text.startswith("Output (b)") and "\nOutput (a)" in one.text, one


@pytest.mark.parametrize(
    ("strategies", "layout", "least", "verdicts"),
    [(CHOICE, "choice", 0.999, 17_238), (CONCLUSION, "conclusion", 0.98, 17_208), (RATINGS, "ratings", 0.75, 5_866)],
)
def test_verdicts_of_other_layouts_are_imported(
    real_data: Path, tmp_path: Path, strategies: tuple[str, ...], layout: str, least: float, verdicts: int
) -> None:
    case = imported(real_data, tmp_path, strategies, layout)
    found = beside_the_record(case)
    for strategy in strategies:
        one = beside_the_record(case, f".{strategy}")
        print(f"{strategy}: {one.share:.4%} of {one.same + len(one.rest)}", dict(one.kinds))  # noqa: T201
    print(f"{layout}: {found.share:.4%}", dict(found.kinds))  # noqa: T201
    assert found.same + len(found.rest) == verdicts
    assert found.share >= least
    assert sum(one.told is None for one in found.rest) < 0.005 * verdicts
    if layout == "conclusion":  # the record names whatever pattern is found first: that of (a) anywhere, or at the head of a line
        others = [one for one in found.rest if one.kind == "other"]
        assert all("Output (a)" in one.text if one.recorded_a else one.text.startswith("Output (b)") for one in others)
        assert Counter(one.recorded_a for one in others) == {True: 195, False: 3}
    if layout == "ratings":  # the record gives equal marks to one side in one order and to the other in the other
        ties = [key for key, vote in votes_of(case.pairs).items() if vote["p_chosen"] == vote["p_swapped"] == 0.5]
        assert 2 * len(ties) == found.kinds["tie"] and all(sum(w or 0 for w in case.winners[key]) == 1 for key in ties)
        assert found.kinds.total() - found.kinds["tie"] == found.kinds["null, unparsable: not two marks"] == 10


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
    differ = {(one.rater, one.pair) for one in beside_the_record(case).rest}
    for rater in case.raters:
        made = Consistency(name="stable", voters=[rater], how="order")(case.pairs)
        dropped = [bool(flags) for flags in made["flags"].to_pylist()]
        for pair, flagged in zip(case.pairs["pair_id"].to_pylist(), dropped, strict=True):
            shown, swapped = case.winners[rater, pair]
            if (rater, pair) not in differ:
                assert flagged == (None not in (shown, swapped) and shown != swapped)
