"""Count what the rules of `lint` find, batch by batch, so that a file of any size is looked through in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from curate.filter.lint_rules import RULES, SIDES, characters, counter, grain_of, least_of, look, rows_of
from curate.maths.effect import Spread, cohens_d, explained

Place = tuple[str, int]
"""File and line, from 1."""


class Example(NamedTuple):
    """A row that a rule speaks against."""

    place: Place
    detail: str


class Looking(NamedTuple):
    """How to look: the same for all batches."""

    rules: tuple[str, ...]
    examples: int
    """How many to keep of each rule, the first ones."""
    tokenizer: Path | None = None
    window: int | None = None


@dataclass
class Findings:
    """What was found in some rows."""

    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """By rule: rows it speaks against."""
    untold: dict[str, int] = field(default_factory=dict)
    """By rule: rows of which it could not tell."""
    examples: dict[str, list[Example]] = field(default_factory=dict)
    lengths: dict[str, Spread] = field(default_factory=dict)
    """By side of the pairs: characters."""
    longer: float = 0.0
    """Pairs whose chosen side has more characters; ties count half."""

    def add(self, other: "Findings", examples: int) -> None:
        """Take in what was found in further rows, and so many examples of each rule in all."""
        self.rows += other.rows
        self.longer += other.longer
        for mine, theirs in ((self.counts, other.counts), (self.untold, other.untold)):
            for rule, count in theirs.items():
                mine[rule] = mine.get(rule, 0) + count
        for rule, found in other.examples.items():
            kept = self.examples.setdefault(rule, [])
            kept += found[: max(examples - len(kept), 0)]
        for side, spread in other.lengths.items():
            self.lengths[side] = self.lengths.get(side, Spread()) + spread

    def note(self, rule: str, place: Place, detail: str, examples: int) -> None:
        """Count one row more against a rule."""
        one = Findings(counts={rule: 1}, examples={rule: [Example(place, detail)]})
        self.add(one, examples)

    def length(self) -> "Length | None":
        """How the lengths of the sides differ; None for what are no pairs."""
        if not self.lengths:
            return None
        chosen, rejected = (self.lengths[side] for side in SIDES["pairs"])
        share = self.longer / self.rows if self.rows else None
        return Length(cohens_d(chosen, rejected), explained(chosen, rejected), share, chosen.mean, rejected.mean)

    def length_biased(self) -> bool:
        """Whether lengths differ by as much as the rule length_bias minds, in either direction."""
        length = self.length()
        return length is not None and length.d is not None and abs(length.d) >= RULES["length_bias"].threshold


class Length(NamedTuple):
    """How the lengths of the two sides differ, in characters."""

    d: float | None
    """Cohen's d, chosen minus rejected; None without spread."""
    explained: float | None
    """Share of the variance of the lengths that the label explains."""
    longer_chosen: float | None
    """Share of pairs whose chosen side is longer, ties half."""
    chosen_mean: float
    rejected_mean: float


def findings(table: pa.Table, looking: Looking) -> Findings:
    """What the rules find in a table whose `source` and `row` are file and line."""
    grain = grain_of(table)
    files, lines = table["source"].to_pylist(), table["row"].to_pylist()
    found = Findings(rows=table.num_rows)
    rules = [rule for rule in looking.rules if rule != "length_bias"]
    found.counts = dict.fromkeys(rules, 0)
    found.untold = dict.fromkeys(rules, 0)
    least = {rule: float(least_of(rule, looking.window)) for rule in rules}
    tokens = counter(looking.tokenizer)
    for row, file, line in zip(rows_of(table, grain), files, lines, strict=True):
        for rule in rules:
            seen = look(row, rule, tokens)
            if isnan(seen.value):
                found.untold[rule] += 1
            elif seen.value >= least[rule]:
                found.counts[rule] += 1
                if len(kept := found.examples.setdefault(rule, [])) < looking.examples:
                    kept.append(Example((file, line), seen.detail))
    if "length_bias" in looking.rules and grain == "pairs":
        _measure_lengths(table, found)
    return found


def _measure_lengths(table: pa.Table, found: Findings) -> None:
    chosen, rejected = (characters(table, side) for side in SIDES["pairs"])
    found.lengths = {"chosen": Spread.of(chosen), "rejected": Spread.of(rejected)}
    found.longer = float((chosen > rejected).sum() + 0.5 * (chosen == rejected).sum())


def all_of(parts: Sequence[Findings], examples: int) -> Findings:
    """What was found in all the parts, in their order."""
    total = Findings()
    for part in parts:
        total.add(part, examples)
    return total
