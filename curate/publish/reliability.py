"""How far each rater of a version can be relied on, from the votes it holds alone."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.maths import votes as ballots
from curate.maths.dawid_skene import one_coin
from curate.maths.noise_groups import wilson
from curate.maths.raters import both_orders
from curate.maths.votes import Votes, votes_of
from curate.publish.figures import files_of

FILE = "raters.jsonl"
REMADE = "goal_rejected"  # a second row of the same pair, with the same votes
JOINT = ("aggregate", "vote")  # operator and aspect of a vote that is made of others


@dataclass(frozen=True)
class Rater:
    """What its votes tell of one rater. Of a pair it saw twice, in both orders or rounds, it has one voice: their mean."""

    rater: str
    aspect: str
    pairs: int
    """On which it has a verdict, ties among them."""
    ties: int
    failed: int
    """Its entries that hold no verdict in either order."""
    reliability: float | None
    """Probability that it names the better side, found together with the better sides (Dawid and Skene, one number a rater);
    None where no other rater named a side of the same pairs."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of it."""
    agreement: float | None
    """Share of pairs on which it names the side that most of the others name, without itself; None where there are none."""
    agreement_low: float | None
    """Lower end of the 95 % interval (Wilson)."""
    agreement_high: float | None
    """Upper end of it."""
    others: int
    """Pairs of that share: the rater and most of the others name a side."""
    with_label: float | None
    """Share of its voices for the chosen side, ties left out."""
    both_orders: int
    """Pairs that it saw in both orders."""
    flipped: float | None
    """Share of those on which its verdict changes with the order."""


def reliability(folder: Path, manifest: Mapping[str, Any]) -> tuple[Rater, ...]:
    """The raters of a version's pairs, kept and dropped, those with most pairs first; none where nobody voted.

    Votes that `aggregate` made of others are left out: they agree with what they are made of.
    """
    lists = _votes(folder)
    made = {step["name"] for step in manifest["steps"] if step["operator"] == JOINT[0]}
    seen, names = votes_of(lists, ["*"])
    couples = [(rater, aspect or "") for rater, aspect in map(tables.split_rater, names)]
    own = np.array([not (rater in made and aspect == JOINT[1]) for rater, aspect in couples], dtype=bool)
    votes = seen.where(own[seen.rater_V])
    failed = _failed(lists, couples)
    rows = _rows(votes, couples, failed)
    return tuple(sorted((row for row, mine in zip(rows, own, strict=True) if mine), key=lambda r: (-r.pairs, r.rater, r.aspect)))


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """The table as a file of the version, one rater a line; no file where nobody voted."""
    raters = reliability(folder, manifest)
    if raters:
        lines = (json.dumps(asdict(rater), ensure_ascii=False, sort_keys=True) + "\n" for rater in raters)
        (folder / FILE).write_text("".join(lines), encoding="utf-8")


def written(folder: Path) -> tuple[Rater, ...]:
    """The raters of a version's own file; none where it has none."""
    file = folder / FILE
    if not file.is_file():
        return ()
    return tuple(Rater(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines())


def _votes(folder: Path) -> pa.Array:
    """The votes of all pairs, one list a pair, without their reasons."""
    parts = [pa.array([], pa.list_(ballots.BARE))]
    for table in ("pairs", "dropped/pairs"):
        for batch in files_of(folder, table).batches(["votes", "origin"]):
            if "votes" in batch.column_names:
                own = pc.fill_null(pc.not_equal(batch["origin"], REMADE), True)
                parts.append(ballots.bare(batch["votes"].filter(own)))
    return pa.concat_arrays(parts)


def _failed(lists: pa.Array, couples: list[tuple[str, str]]) -> np.ndarray:
    """Entries of each rater without a verdict."""
    entries = lists.flatten()
    silent = pc.and_(pc.is_null(pc.struct_field(entries, "p_chosen")), pc.is_null(pc.struct_field(entries, "p_swapped")))
    told = pa.table({name: pc.fill_null(pc.struct_field(entries, name), "") for name in ("rater", "aspect")}).filter(silent)
    counted = told.group_by(["rater", "aspect"]).aggregate([([], "count_all")]).to_pylist()
    found = {(row["rater"], row["aspect"]): row["count_all"] for row in counted}
    return np.array([found.get(couple, 0) for couple in couples], dtype=np.int64)


def _rows(votes: Votes, couples: list[tuple[str, str]], failed: np.ndarray) -> list[Rater]:
    voices = ballots.voices(votes)
    decided = voices.decided()
    met_R = decided.by_rater(decided.by_pair()[decided.pair_V] >= 2)
    accuracy = one_coin(voices)
    agreed, others = ballots.agreement_with_others(votes)
    low, high = wilson(agreed / np.maximum(others, 1), others)
    shown, swapped = both_orders(votes)
    twice = np.bincount(votes.rater_V[shown], minlength=votes.raters)
    turned = np.sign(votes.lean_V[shown]) != np.sign(votes.lean_V[swapped])
    columns: dict[str, list[Any]] = {
        "rater": [rater for rater, _ in couples],
        "aspect": [aspect for _, aspect in couples],
        "pairs": voices.by_rater().tolist(),
        "ties": (voices.by_rater() - decided.by_rater()).tolist(),
        "failed": failed.tolist(),
        "reliability": _where(met_R, accuracy.right_R),
        "low": _where(met_R, accuracy.low_R),
        "high": _where(met_R, accuracy.high_R),
        "agreement": _shares(agreed, others),
        "agreement_low": _where(others, low),
        "agreement_high": _where(others, high),
        "others": others.astype(int).tolist(),
        "with_label": _shares(decided.by_rater(decided.p_V), decided.by_rater()),
        "both_orders": twice.tolist(),
        "flipped": _shares(np.bincount(votes.rater_V[shown], turned, votes.raters), twice),
    }
    return [Rater(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _shares(part: np.ndarray, whole: np.ndarray) -> list[float | None]:
    return _where(whole, part / np.maximum(whole, 1))


def _where(known: np.ndarray, values: np.ndarray) -> list[float | None]:
    """The values with the digits that mean something, None where nothing is known."""
    return [round(value, 6) if told else None for value, told in zip(values.tolist(), (known > 0).tolist(), strict=True)]
