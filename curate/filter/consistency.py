"""Flag pairs on which independent raters do not side with the label."""

from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curate import tables
from curate.maths.series import at_least, one_series, series_field
from curate.operator import Cut, ShardOperator
from curate.tables import Grain

REASONS = pa.array(["disagreement", "too_few_raters", "order_flip"])


class Consistency(ShardOperator):
    """How many raters side with the label: evidence `agreement` (share of those who spoke) and `agreeing` (their number).

    A rater speaks where it scored both sides, a voter where it has a vote (the mean of both orders where it saw both). Of
    several rounds the mean counts: two votes of three for a side are a voice for that side.
    A tie speaks for neither side: it counts half in `agreement`, not at all in `agreeing`, and contradicts nobody.
    `agreement` is null where nobody spoke; such a pair is kept unless `min_raters` or `k` asks for opinions.

    - sign: dropped if any rater prefers the rejected side (SCIR, COIG-P).
    - k_of_n: dropped if fewer than `k` raters prefer the chosen side.
    - share: dropped if `agreement` is below `min_agreement`.
    - order: dropped if any voter's verdict changes with the order in which the sides are shown, whichever it prefers.

    Voters also leave evidence `order_flip`: the share of them, among those with a verdict in both orders, whose verdict
    changes with the order (for one side, for the other, a tie); null where nobody saw both.
    """

    version: ClassVar[int] = 3

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    raters: list[str] = Field(default=[], description="Raters of the two sides, as rater or rater:aspect.")
    voters: list[str] = Field(default=[], description="Raters of the pair (votes), as rater or rater:aspect.")
    how: Literal["sign", "k_of_n", "share", "order"] = Field(default="sign", description="What counts as consistent.")
    k: int | None = Field(default=None, ge=1, description="k_of_n: how many must prefer the chosen side.")
    min_agreement: float | None = Field(default=None, ge=0, le=1, description="share: the smallest agreement to keep.")
    round: int | None = Field(
        default=None, ge=0, description="The round of repeated scores and votes that counts; all if not given."
    )
    min_raters: int = Field(default=0, ge=0, description="Drop pairs on which fewer raters spoke.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        asked = len(self.raters) + len(self.voters)
        if not asked:
            raise ValueError("consistency needs at least one of raters and voters")
        if (self.how == "k_of_n") != (self.k is not None):
            raise ValueError(f"k belongs to how: k_of_n and to nothing else, got how: {self.how}, k: {self.k}")
        if (self.how == "share") != (self.min_agreement is not None):
            raise ValueError(f"min_agreement belongs to how: share and to nothing else, got how: {self.how}")
        if self.how == "order" and (self.raters or not self.voters):
            raise ValueError("how: order is about voters, which see a pair in two orders; leave `raters` out")
        needed = max(self.k or 0, self.min_raters)
        if needed > asked:
            raise ValueError(f"{needed} raters are needed but {asked} named: every pair would be dropped")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """Both sides' scores by the raters, and the voters' votes."""
        sides = {series_field(by, column) for by in self.raters for column in ("chosen_scores", "rejected_scores")}
        return sides | {series_field(by, "votes") for by in self.voters}

    def writes(self, grain: Grain) -> set[str]:
        """The measures, and flags."""
        measures = ["agreement", "agreeing", *(["order_flip"] if self.voters else [])]
        return {f"evidence.{self.name}.{measure}" for measure in measures} | {"flags"}

    def cut(self) -> Cut | None:
        """The threshold of `share` or `k_of_n`; `sign` and `order` have none."""
        if self.min_agreement is not None:
            return Cut("agreement", ">=", self.min_agreement, "min_agreement")
        return None if self.k is None else Cut("agreeing", ">=", self.k, "k")

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The measures of every pair, and a flag on the inconsistent ones."""
        margins = [_margin(table, by, self.round) for by in self.raters]
        leanings_NR = np.stack(margins + [_vote(table, by, self.round) for by in self.voters], axis=1)
        spoke, agreeing = (~np.isnan(leanings_NR)).sum(axis=1), (leanings_NR > 0).sum(axis=1)
        agreement = agreement_share(leanings_NR)
        flips = flip_share(*(orders_of(table, self.voters, order, self.round) for order in ("p_chosen", "p_swapped")))
        contradicted = flips > 0 if self.how == "order" else self._contradicted(leanings_NR, agreeing, agreement)
        too_few = spoke < max(self.k or 0, self.min_raters)
        reasons = REASONS.take(pa.array(np.where(too_few, 1, 2 if self.how == "order" else 0)))
        evidence = tables.add_evidence(table, agreement, self.name, "agreement")
        evidence = tables.append(evidence, _measure(agreeing, self.name, "agreeing"))
        if self.voters:
            evidence = tables.append(evidence, _measure(flips, self.name, "order_flip"))
        value = flips if self.how == "order" else agreement
        return pa.table(
            {"evidence": evidence, "flags": tables.add_flags(table, contradicted | too_few, self.name, reasons, value=value)}
        )

    def _contradicted(self, leanings_NR: np.ndarray, agreeing: np.ndarray, agreement: np.ndarray) -> np.ndarray:
        if self.k is not None:
            return np.asarray(agreeing < self.k)
        if self.min_agreement is not None:
            return np.asarray(~at_least(agreement, self.min_agreement) & ~np.isnan(agreement))
        return np.asarray((leanings_NR < 0).any(axis=1))


def agreement_share(leanings_NR: np.ndarray) -> np.ndarray:
    """Share of raters that side with the label, (N,) float32 in [0, 1]; NaN where nobody spoke.

    leanings_NR: above 0 for the chosen side, below for the rejected, NaN where silent. Ties count half.
    """
    spoke = (~np.isnan(leanings_NR)).sum(axis=1)
    sided = (leanings_NR > 0).sum(axis=1) + 0.5 * (leanings_NR == 0).sum(axis=1)
    share: np.ndarray = np.divide(sided, spoke, out=np.full(len(spoke), np.nan), where=spoke > 0).astype(np.float32)
    return share


def _margin(table: pa.Table, by: str, round: int | None) -> np.ndarray:
    chosen, rejected = (one_series(table, by, f"{side}_scores", round=round) for side in ("chosen", "rejected"))
    return np.asarray(chosen - rejected)


def _vote(table: pa.Table, by: str, round: int | None) -> np.ndarray:
    """How far a vote lies above one half, (N,); the mean of both orders where both are there, NaN without a vote."""
    shown = one_series(table, by, "votes", "p_chosen", round)
    swapped = one_series(table, by, "votes", "p_swapped", round)
    both = (shown + swapped) / 2
    leaning: np.ndarray = np.where(np.isnan(both), np.where(np.isnan(shown), swapped, shown), both) - np.float32(0.5)
    return leaning


def orders_of(table: pa.Table, voters: list[str], order: str, round: int | None = None) -> np.ndarray:
    """Each voter's verdict in one order, rounds averaged, (N, R) float32; NaN without one."""
    series = [one_series(table, by, "votes", order, round) for by in voters]
    return np.stack(series, axis=1) if series else np.zeros((table.num_rows, 0), dtype=np.float32)


def flip_share(shown_NR: np.ndarray, swapped_NR: np.ndarray) -> np.ndarray:
    """Share of voters whose verdict changes with the order, (N,) float32; NaN where none saw both orders."""
    both = ~np.isnan(shown_NR) & ~np.isnan(swapped_NR)
    flipped = both & (np.sign(shown_NR - np.float32(0.5)) != np.sign(swapped_NR - np.float32(0.5)))
    seen = both.sum(axis=1)
    share: np.ndarray = np.divide(flipped.sum(axis=1), seen, out=np.full(len(seen), np.nan), where=seen > 0).astype(np.float32)
    return share


def _measure(values: np.ndarray, by: str, name: str) -> pa.StructArray:
    return tables.structs(tables.EVIDENCE, len(values), by=by, name=name, value=values.astype(np.float32))
