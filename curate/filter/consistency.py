"""Flag pairs on which independent raters do not side with the label, and responses on which they do not agree."""

from typing import ClassVar, Literal, Self, cast

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, model_validator

from curate import tables
from curate.filter.cycles import circles
from curate.maths import agreement as orders
from curate.maths.preference import beats
from curate.maths.series import at_least, one_series, series_field
from curate.operator import Cut, ShardOperator
from curate.tables import Grain

REASONS = pa.array(["disagreement", "too_few_raters", "order_flip", "not_reproduced"])
ORDERS = ("kendall", "spearman", "top")
ON_RESPONSES = (*ORDERS, "spread")
ASPECT = "agreement"
CYCLES = ("strength", "in_cycle", "removed", "at_least")


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

    - internal: raters in logits, as rewards that a policy implies, and voters each give a probability that the chosen side is
      better; kept where all of them find the same side better, the chosen one, each with `min_confidence`. Their mean becomes
      `label_prob`; evidence `divergence` is how far they differ (Jensen-Shannon, bits). A rater without an opinion, or one that
      finds both sides equal, finds none better (SCIR).

    - reproduced: kept where every voter names the chosen side in every order that it was asked in; a tie or no verdict does
      not. With votes by a rubric, the label reproduced by a judge who knows the rubric (OpenRubrics).

    Voters also leave evidence `order_flip`: the share of them, among those with a verdict in both orders, whose verdict
    changes with the order (for one side, for the other, a tie); null where nobody saw both.

    Pairs of one prompt together:

    - cycles: labels that run in a circle, a over b over c over a. The pairs that are dropped have the least evidence in sum
      for their labels (votes of `voters`, of any if `*`, or the margin of one rater; each pair the same with neither) among all
      choices that leave no cycle: a minimum feedback arc set, found exactly for up to 14 responses that are knotted together.
      Beyond, a good one, with evidence `removed` and `at_least` of every pair in a cycle: the evidence given up in its knot,
      and what nobody could go below. Evidence `in_cycle`, and `strength` of the label; a flag names the cycle that the pair
      would close, with the strength of each step. Of equal choices the one with fewest pairs, then by the responses' ids.

    On responses, how far raters agree about them, whatever a label says:

    - kendall, spearman, top: on the order of a prompt's responses. Every response gets the score `agreement` in [0, 1], the
      mean over every two raters, 0.5 for orders that have nothing to do with each other; `pair` carries it to the pairs. Null
      where fewer than two responses are scored by all raters. With `min_agreement`, less is dropped (CREAM).
    - spread: evidence `spread` is the largest mark minus the smallest; dropped above `max_spread` (HelpSteer2).

    Sources: Zhou et al., "Self-Consistency of the Internal Reward Models Improves Self-Rewarding Language Models", 2025,
    arXiv:2502.08922 (SCIR); Wang et al., "CREAM: Consistency Regularized Self-Rewarding Language Models", 2025,
    arXiv:2410.12735; Wang et al., "HelpSteer2: Open-source dataset for training top-performing reward models", 2024,
    arXiv:2406.08673; Liu et al., "OpenRubrics: Towards Scalable Synthetic Rubric Generation for Reward Modeling and LLM
    Alignment", 2025, arXiv:2510.07743. Of cycles: curate/maths/cycles.py.
    """

    version: ClassVar[int] = 3

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")

    raters: list[str] = Field(default=[], description="Raters of the responses or of both sides, as rater or rater:aspect.")
    voters: list[str] = Field(default=[], description="Raters of the pair (votes), as rater or rater:aspect.")
    how: Literal[
        "sign", "k_of_n", "share", "order", "internal", "reproduced", "cycles", "kendall", "spearman", "top", "spread"
    ] = Field(default="sign", description="What counts as consistent; the last four are for responses.")
    k: int | None = Field(default=None, ge=1, description="k_of_n: how many must prefer the chosen side.")
    min_agreement: float | None = Field(
        default=None, ge=0, le=1, description="Smallest agreement to keep: share, kendall, spearman, top."
    )
    min_confidence: float = Field(
        default=0.5, ge=0.5, lt=1, description="internal: probability of the chosen side that each must exceed."
    )
    scale: FiniteFloat = Field(
        default=1.0, gt=0, description="internal: difference, in the raters' unit, that counts as one logit (odds of 2.7 to 1)."
    )
    max_spread: FiniteFloat | None = Field(default=None, ge=0, description="spread: the largest difference of marks to keep.")
    replace: bool = Field(default=False, description="internal: allow overwriting a label_prob that an earlier step wrote.")
    round: int | None = Field(
        default=None, ge=0, description="The round of repeated scores and votes that counts; all if not given."
    )
    min_raters: int = Field(default=0, ge=0, description="Drop pairs on which fewer raters spoke.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        asked = len(self.raters) + len(self.voters)
        for names in (self.raters, self.voters):
            if len(set(names)) < len(names):
                raise ValueError(f"raters and voters: each once, got {', '.join(names)}")
        if not asked and self.how != "cycles":
            raise ValueError("consistency needs at least one of raters and voters")
        if self.how == "cycles" and (len(self.raters) > 1 or (self.raters and self.voters) or self.min_raters):
            raise ValueError("how: cycles weighs pairs by one rater or by voters; aggregate several raters, leave out min_raters")
        if self.how != "cycles" and any("*" in by for by in self.voters):
            raise ValueError("voters take * in how: cycles alone; name them, or aggregate their votes")
        if (self.how == "k_of_n") != (self.k is not None):
            raise ValueError(f"k belongs to how: k_of_n and to nothing else, got how: {self.how}, k: {self.k}")
        if self.how == "share" and self.min_agreement is None:
            raise ValueError("how: share needs min_agreement, the smallest share to keep")
        if self.min_agreement is not None and self.how not in ("share", *ORDERS):
            raise ValueError(f"min_agreement belongs to how: share, {', '.join(ORDERS)}, got how: {self.how}")
        if (self.how == "spread") != (self.max_spread is not None):
            raise ValueError(f"max_spread belongs to how: spread and to nothing else, got how: {self.how}")
        if self.how in ON_RESPONSES and (self.voters or len(self.raters) < 2 or self.min_raters):
            raise ValueError(f"how: {self.how} compares the scores of two raters or more; leave out voters and min_raters")
        if self.how == "internal" and (asked < 2 or self.min_raters):
            raise ValueError("how: internal compares two raters or voters or more, all of which must speak; leave out min_raters")
        if self.how in ("order", "reproduced") and (self.raters or not self.voters):
            raise ValueError(f"how: {self.how} is about voters, which see a pair in two orders; leave `raters` out")
        needed = max(self.k or 0, self.min_raters)
        if needed > asked:
            raise ValueError(f"{needed} raters are needed but {asked} named: every pair would be dropped")
        return self

    def reads(self, grain: Grain) -> set[str]:
        """The scores of responses or of both sides by the raters, and the voters' votes."""
        if self.refuses(grain):
            return set()
        if self.how in ON_RESPONSES:
            # response_id tells a table of responses
            return {"prompt_id", "response_id"} | {series_field(by, "scores") for by in self.raters}
        sides = {series_field(by, column) for by in self.raters for column in ("chosen_scores", "rejected_scores")}
        together = {"pair_id", "prompt_id", "prompt", "chosen_id", "rejected_id"} if self.how == "cycles" else set()
        return sides | {series_field(by, "votes") for by in self.voters} | together

    def refuses(self, grain: Grain) -> str | None:
        """A way that is for rows of the other grain."""
        wanted = "responses" if self.how in ON_RESPONSES else "pairs"
        return None if grain == wanted else f"how: {self.how} is for {wanted}, and these rows are {grain}"

    def writes(self, grain: Grain) -> set[str]:
        """The measures, and flags; the score on responses, or the probability."""
        if self.how in ORDERS:
            return {f"scores.{self.name}.{ASPECT}", "flags"}
        if self.how == "spread":
            return {f"evidence.{self.name}.spread", "flags"}
        if self.how == "cycles":
            return {f"evidence.{self.name}.{measure}" for measure in CYCLES} | {"flags"}
        more = {"label_prob", f"evidence.{self.name}.divergence"} if self.how == "internal" else set()
        measures = ["agreement", "agreeing", *(["order_flip"] if self.voters else [])]
        return {f"evidence.{self.name}.{measure}" for measure in measures} | {"flags"} | more

    def cut(self) -> Cut | None:
        """The threshold of `share`, `k_of_n` or `spread`; the others have none, or not in evidence."""
        if self.max_spread is not None:
            return Cut("spread", "<=", self.max_spread, "max_spread")
        if self.min_agreement is not None and self.how == "share":
            return Cut("agreement", ">=", self.min_agreement, "min_agreement")
        return None if self.k is None else Cut("agreeing", ">=", self.k, "k")

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The measures of every row, and a flag on the inconsistent ones."""
        if refusal := self.refuses("responses" if "response_id" in table.column_names else "pairs"):
            raise ValueError(refusal)
        if self.how in ON_RESPONSES:
            return self._among_responses(table)
        if self.how == "cycles":
            return self._in_circles(table)
        margins = [_margin(table, by, self.round) for by in self.raters]
        leanings_NR = np.stack(margins + [_vote(table, by, self.round) for by in self.voters], axis=1)
        spoke, agreeing = (~np.isnan(leanings_NR)).sum(axis=1), (leanings_NR > 0).sum(axis=1)
        agreement = agreement_share(leanings_NR)
        seen = [orders_of(table, self.voters, order, self.round) for order in ("p_chosen", "p_swapped")]
        flips = flip_share(*seen)
        contradicted = flips > 0 if self.how == "order" else self._contradicted(leanings_NR, agreeing, agreement)
        if self.how == "reproduced":
            contradicted = ~reproduced(*seen)
        told: dict[str, pa.Array] = {}
        if self.how == "internal":
            p_NR = self._probabilities(leanings_NR)
            contradicted = np.asarray(~(p_NR > self.min_confidence).all(axis=1))
            together = p_NR.mean(axis=1)
            told["label_prob"] = pa.array(together, pa.float32(), mask=np.isnan(together))
        too_few = spoke < max(self.k or 0, self.min_raters)
        reasons = REASONS.take(pa.array(np.where(too_few, 1, {"order": 2, "reproduced": 3}.get(self.how, 0))))
        evidence = tables.add_evidence(table, agreement, self.name, "agreement")
        evidence = tables.append(evidence, _measure(agreeing, self.name, "agreeing"))
        if self.voters:
            evidence = tables.append(evidence, _measure(flips, self.name, "order_flip"))
        if self.how == "internal":
            evidence = tables.append(evidence, _measure(orders.divergence(p_NR), self.name, "divergence"))
        value = flips if self.how == "order" else agreement
        flags = tables.add_flags(table, contradicted | too_few, self.name, reasons, value=value)
        return pa.table({"evidence": evidence, "flags": flags} | told)

    def _in_circles(self, table: pa.Table) -> pa.Table:
        """Cycles of labels: the evidence of every pair, and a flag on those that are given up."""
        found = circles(table, self.raters, self.voters, self.round)
        evidence = table["evidence"]
        measures = (found.strength, found.in_cycle, found.removed, found.bound)
        for measure, values in zip(CYCLES, measures, strict=True):
            evidence = tables.append(evidence, _measure(values, self.name, measure))
        strength = found.strength.astype(np.float32)
        named = pa.array(found.named, pa.string())
        flags = tables.add_flags(table, found.dropped, self.name, "cycle", value=strength, other=named)
        return pa.table({"evidence": evidence, "flags": flags})

    def _probabilities(self, leanings_NR: np.ndarray) -> np.ndarray:
        """Each one's probability that the chosen side is better, (N, R); NaN where silent."""
        count = len(self.raters)
        return np.concatenate([beats(leanings_NR[:, :count] / self.scale), leanings_NR[:, count:] + 0.5], axis=1)

    def _among_responses(self, table: pa.Table) -> pa.Table:
        """How far raters agree about responses: on their order within a prompt, or on their marks."""
        scores_NR = np.stack([one_series(table, by, round=self.round) for by in self.raters], axis=1).astype(np.float64)
        if self.max_spread is not None:
            spread = orders.spread(scores_NR)
            apart = ~at_least(-spread, -self.max_spread) & ~np.isnan(spread)
            measured = {"evidence": tables.add_evidence(table, spread.astype(np.float32), self.name, "spread")}
        else:
            prompts = table["prompt_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
            spread = orders.agreement_of_orders(prompts, scores_NR, cast(orders.Order, self.how))
            least = 0.0 if self.min_agreement is None else self.min_agreement
            apart = ~at_least(spread, least) & ~np.isnan(spread)
            measured = {"scores": tables.add_scores(table, spread.astype(np.float32), self.name, ASPECT)}
        flags = tables.add_flags(table, apart, self.name, "disagreement", value=spread.astype(np.float32))
        return pa.table(measured | {"flags": flags})

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


def reproduced(shown_NR: np.ndarray, swapped_NR: np.ndarray) -> np.ndarray:
    """Whether all voters name the chosen side in every order that they have a verdict in, and in one at least, (N,)."""
    told_NR = ~(np.isnan(shown_NR) & np.isnan(swapped_NR))
    for_it_NR = ~(shown_NR <= np.float32(0.5)) & ~(swapped_NR <= np.float32(0.5))
    return np.asarray((told_NR & for_it_NR).all(axis=1))


def flip_share(shown_NR: np.ndarray, swapped_NR: np.ndarray) -> np.ndarray:
    """Share of voters whose verdict changes with the order, (N,) float32; NaN where none saw both orders."""
    both = ~np.isnan(shown_NR) & ~np.isnan(swapped_NR)
    flipped = both & (np.sign(shown_NR - np.float32(0.5)) != np.sign(swapped_NR - np.float32(0.5)))
    seen = both.sum(axis=1)
    share: np.ndarray = np.divide(flipped.sum(axis=1), seen, out=np.full(len(seen), np.nan), where=seen > 0).astype(np.float32)
    return share


def _measure(values: np.ndarray, by: str, name: str) -> pa.StructArray:
    return tables.structs(tables.EVIDENCE, len(values), by=by, name=name, value=values.astype(np.float32))
