"""Turn scores or votes into probabilities that one response is better than another."""

from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, FiniteFloat, model_validator

from curate import tables
from curate.maths import preference
from curate.maths.conversations import conversations
from curate.maths.series import one_series, series_field
from curate.operator import ShardOperator
from curate.tables import Grain

ASPECT = "win"


class Prefer(ShardOperator):
    """Probabilities of being better: on responses a score `win`, on pairs the column `label_prob`.

    On responses, a score series in logits makes the win matrix of each prompt, P(i better than j) = sigmoid of the
    difference; `win` is the mean over the prompt's responses, null where there is no score. On pairs, `label_prob` is the
    probability that the chosen side is better, evidence `logit` its log-odds as a regression target (iREPO), null
    where nobody voted:

    - votes: the share of votes for the chosen side over raters, aspects and rounds, two orders averaged, ties half.
    - bradley_terry: as votes, but the strengths of all responses are fitted together to the votes on a prompt's pairs.
    - scores: sigmoid of chosen minus rejected score; of a win matrix, the entry of the two.

    With `win`, every pair's probability is also an entry of its prompt's win matrix, and both sides get the score `win`: the
    mean over the responses they met. It is what SPPO wants where a judge compares two by two.

    Of several rounds the votes are counted one by one, scores are averaged.
    """

    version: ClassVar[int] = 2

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")

    by: str | tuple[str, ...] = Field(description="A score series, or the voters: rater or rater:aspect.")
    how: Literal["votes", "bradley_terry", "scores"] | None = Field(
        default=None, description="What probabilities are made of; scores on responses and votes on pairs if not given."
    )
    scale: FiniteFloat = Field(
        default=1.0, gt=0, description="scores: difference, in the rater's unit, that counts as one logit (odds of 2.7 to 1)."
    )
    itself: bool = Field(default=True, description="A response's mean includes 0.5 against itself, as in SPPO's code.")
    win: bool = Field(
        default=False, description="Pairs: also score either side with its mean probability over the responses it met."
    )
    smoothing: FiniteFloat = Field(
        default=1.0, ge=0, description="votes, bradley_terry: votes given to either side of a comparison first; 1 is Laplace's."
    )
    round: int | None = Field(
        default=None, ge=0, description="The round of repeated scores and votes that counts; all if not given."
    )
    replace: bool = Field(default=False, description="Allow overwriting a label_prob that an earlier step wrote.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        voters = self.by if isinstance(self.by, tuple) else (self.by,)
        if not voters or len(set(voters)) < len(voters):
            raise ValueError("`by` names at least one, and none twice")
        if self.how == "scores" and len(voters) > 1:
            raise ValueError(f"how: scores takes one score series, got {len(voters)}: aggregate them first")
        return self

    @property
    def voters(self) -> tuple[str, ...]:
        """The series of `by`."""
        return self.by if isinstance(self.by, tuple) else (self.by,)

    def reads(self, grain: Grain) -> set[str]:
        """The scores, of both sides on pairs, or the votes; ids where responses of a prompt are seen together."""
        if grain == "responses":
            return {"prompt_id"} | {series_field(by, "scores") for by in self.voters}
        needed = {"prompt_id", "prompt", "chosen_id", "rejected_id"} if self.how == "bradley_terry" or self.win else set()
        if self.how == "scores":
            return needed | {series_field(by, f"{side}_scores") for by in self.voters for side in ("chosen", "rejected")}
        return needed | {series_field(by, "votes") for by in self.voters}

    def refuses(self, grain: Grain) -> str | None:
        """Responses have no votes."""
        if grain != "responses" or (self.how in (None, "scores") and len(self.voters) == 1):
            return None
        return "responses have no votes: prefer compares them by one score series, how: scores"

    def writes(self, grain: Grain) -> set[str]:
        """The score, or the probability with its log-odds and, if wanted, the score of both sides."""
        if grain == "responses":
            return {f"scores.{self.name}.{ASPECT}"}
        sides = {f"{side}_scores.{self.name}.{ASPECT}" for side in ("chosen", "rejected")} if self.win else set()
        return {"label_prob", f"evidence.{self.name}.logit"} | sides

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The win score of every response, or probability and log-odds of every pair."""
        if "label_prob" not in table.column_names:  # responses
            return pa.table({"scores": tables.add_scores(table, self._wins(table), self.name, ASPECT)})
        if self.how == "scores":
            (by,) = self.voters
            chosen, rejected = (one_series(table, by, f"{side}_scores", round=self.round) for side in ("chosen", "rejected"))
            gaps = (chosen - rejected) / self.scale
            return self._pairs(table, preference.beats(gaps), gaps)
        tally = tallied(table["votes"], self.voters, self.round)
        if self.how == "bradley_terry":
            probability = fitted(table, tally, self.smoothing)
        else:
            probability = preference.smoothed_share(tally.won, tally.cast, self.smoothing)
        held = preference.logit_target(probability, tally.cast) if self.smoothing == 0 else logit(probability)
        return self._pairs(table, probability, held)

    def _wins(self, table: pa.Table) -> np.ndarray:
        if (refusal := self.refuses("responses")) is not None:
            raise ValueError(refusal)
        scores = one_series(table, self.voters[0], round=self.round) / self.scale
        return preference.win_probabilities(codes(table["prompt_id"]), scores, self.itself).astype(np.float32)

    def _pairs(self, table: pa.Table, probability: np.ndarray, target: np.ndarray) -> pa.Table:
        columns = {
            "label_prob": pa.array(probability, pa.float32(), mask=np.isnan(probability)),
            "evidence": tables.add_evidence(table, target.astype(np.float32), self.name, "logit"),
        }
        if self.win:
            asked = conversations(table)
            items = [
                f"{which} {id_}"
                for side in ("chosen", "rejected")
                for which, id_ in zip(asked, table[f"{side}_id"].to_pylist(), strict=True)
            ]
            numbers = codes(pa.chunked_array([items], pa.string()))
            first, second = numbers[: table.num_rows], numbers[table.num_rows :]
            wins = preference.wins_of_pairs(first, second, probability, self.itself)
            for side, of_side in zip(("chosen_scores", "rejected_scores"), wins, strict=True):
                columns[side] = tables.add_scores(table, of_side.astype(np.float32), self.name, ASPECT, side)
        return pa.table(columns)


class Tally(NamedTuple):
    """Votes on pairs, counted."""

    won: np.ndarray
    """Votes for the chosen side, (N,): parts of one where the judge was unsure or its orders disagree."""
    cast: np.ndarray
    """Votes that said something, (N,)."""


def tallied(votes: pa.ChunkedArray, voters: tuple[str, ...], round: int | None = None) -> Tally:
    """Every vote by the voters, each as the mean of the orders that have a verdict."""
    lists = tables.flat(votes)
    entries = lists.flatten()
    rows = pc.list_parent_indices(lists).to_numpy()
    wanted = np.zeros(len(entries), dtype=bool)
    for by in voters:
        rater, aspect = tables.split_rater(by)
        match = pc.equal(entries.field("rater"), rater)
        match = match if aspect is None else pc.and_(match, pc.equal(entries.field("aspect"), aspect))
        wanted |= pc.fill_null(match, False).to_numpy(zero_copy_only=False)
    if round is not None:
        wanted &= pc.equal(pc.fill_null(entries.field("round"), 0), round).to_numpy(zero_copy_only=False)
    orders = np.stack([entries.field(name).to_numpy(zero_copy_only=False) for name in ("p_chosen", "p_swapped")])
    told = np.isfinite(orders)
    spoke = wanted & told.any(axis=0)
    means = np.where(told, orders, 0.0).sum(axis=0, dtype=np.float64)[spoke] / told.sum(axis=0)[spoke]
    won = np.bincount(rows[spoke], weights=means, minlength=len(lists))
    return Tally(won, np.bincount(rows[spoke], minlength=len(lists)))


def fitted(table: pa.Table, tally: Tally, smoothing: float) -> np.ndarray:
    """P(chosen better) of each pair under one Bradley-Terry model a prompt, (N,); NaN where nobody voted."""
    probability = np.full(table.num_rows, np.nan)
    chosen, rejected = table["chosen_id"].to_pylist(), table["rejected_id"].to_pylist()
    spoken = np.flatnonzero(tally.cast)
    prompts = codes(pa.chunked_array([conversations(table)], pa.string()))[spoken]
    for rows_GK in preference.same_sized(prompts):
        for rows in spoken[rows_GK]:
            items: dict[str, int] = {}
            first = [items.setdefault(chosen[row], len(items)) for row in rows]
            second = [items.setdefault(rejected[row], len(items)) for row in rows]
            wins_KK = np.zeros((len(items), len(items)))
            np.add.at(wins_KK, (first, second), tally.won[rows])
            np.add.at(wins_KK, (second, first), tally.cast[rows] - tally.won[rows])
            probability[rows] = preference.bradley_terry(wins_KK, smoothing)[first, second]
    return probability


def logit(probability: np.ndarray) -> np.ndarray:
    """Log-odds of a probability that is neither 0 nor 1."""
    odds: np.ndarray = np.log(probability) - np.log1p(-probability)
    return odds


def codes(column: pa.ChunkedArray) -> np.ndarray:
    """A number for each distinct text."""
    numbers: np.ndarray = column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return numbers
