"""Have models say which side of a pair is better, shown in both orders."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate import tables
from curate.ids import canonical_json, short_id
from curate.maths import verdicts
from curate.models.asking import RETRYABLE
from curate.score.judging import NO_TEXT, Judging, Opinion, Question, answer, conversation
from curate.score.rubric import Rubric, load
from curate.tables import Grain

SWAPPED = "(sides exchanged)"  # in a rationale, before the reasons given when the rejected side was response A
Order = Literal["shown", "swapped"]
"""Which side stands first: the chosen one, or the rejected one."""


class Ballot(NamedTuple):
    """One vote to come."""

    row: int
    aspect: str
    round: int
    asked: dict[Order, int]
    """Number of the question that shows the pair in an order; empty where a side has no text."""


class Vote(Judging):
    """Verdicts on pairs by a model or each of a panel: the rater is the model's key in the recipe, the aspect the rubric's name.

    Both orders are asked. `p_chosen` is the probability that the chosen side is better as the judge sees it when that side
    is shown first, `p_swapped` when it is shown second: 1, 0, or 0.5 for a tie, and what lies between where `weighted`. What
    the orders disagree on stays a disagreement. An order without a verdict is null and the error says why; the raw reply
    is then among the rationale.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("pairs",)

    orders: Literal["both", "one"] = Field(
        default="both", description="Show each pair in both orders, or in one that is drawn by lot: the other is then null."
    )
    ties: bool = Field(default=True, description="Whether the judge may say that neither side is better.")

    def reads(self, grain: Grain) -> set[str]:
        """Conversation and both sides."""
        return {"prompt", "chosen", "rejected", "chosen_turns", "rejected_turns", "pair_id"}

    def writes(self, grain: Grain) -> set[str]:
        """A vote for each judge and aspect."""
        return {f"votes.{rater}.{aspect}" for rater in self.panel for aspect in self.aspects}

    def calls(self, rows: int) -> int:
        """Two for each pair, aspect, round and judge, or one."""
        return rows * (2 if self.orders == "both" else 1) * len(self.aspects) * self.repeats * len(self.panel)

    def samples(self, rubrics: Sequence[Rubric]) -> list[Question]:
        """One for each rubric."""
        return [self._question(rubric, "", 0) for rubric in rubrics]

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The votes, appended to those of the row."""
        questions: list[Question] = []
        ballots = self._ballots(table, questions)
        opinions = self.opinions(questions)
        listed = [(ballot, rater) for ballot in ballots for rater in self.panel]
        votes = [read_vote(ballot.asked, opinions[rater]) for ballot, rater in listed]
        entries = tables.structs(
            tables.VOTE,
            len(listed),
            rater=[rater for _, rater in listed],
            aspect=[ballot.aspect for ballot, _ in listed],
            p_chosen=[vote.p_chosen for vote in votes],
            p_swapped=[vote.p_swapped for vote in votes],
            round=[ballot.round for ballot, _ in listed],
            rationale=[vote.rationale for vote in votes],
            error=[vote.error for vote in votes],
        )
        rows = np.array([ballot.row for ballot, _ in listed], dtype=np.int64)
        return pa.table({"votes": tables.append(table["votes"], entries, rows)})

    def _question(self, rubric: Rubric, blocks: str, round_: int) -> Question:
        return Question("pairwise", (rubric,), (verdicts.verdict(self.ties),), blocks, round_)

    def _ballots(self, table: pa.Table, questions: list[Question]) -> list[Ballot]:
        """The votes to come, row by row; what they ask is put into `questions`."""
        rubrics = [load(named) for named in self.named]
        ballots = []
        for row, blocks in enumerate(both_orders(table)):
            pair_id = table["pair_id"][row].as_py()
            for rubric in rubrics:
                for round_ in range(self.repeats):
                    asked: dict[Order, int] = {}
                    for order in self._orders(pair_id, rubric.name, round_) if blocks else ():
                        asked[order] = len(questions)
                        questions.append(self._question(rubric, blocks[order], round_))
                    ballots.append(Ballot(row, rubric.name, round_, asked))
        return ballots

    def _orders(self, pair_id: str | None, aspect: str, round_: int) -> tuple[Order, ...]:
        if self.orders == "both":
            return ("shown", "swapped")
        drawn = short_id(canonical_json([self.seed, pair_id, aspect, round_]))
        return ("shown",) if int(drawn, 16) % 2 else ("swapped",)


def both_orders(table: pa.Table) -> Iterator[dict[Order, str]]:
    """What a judge looks at in either order, row by row; nothing where a side has no text."""
    names = ("prompt", "chosen", "chosen_turns", "rejected", "rejected_turns")
    for prompt, *sides in zip(*(table[name].to_pylist() for name in names), strict=True):
        chosen, chosen_turns, rejected, rejected_turns = sides
        if chosen is None or rejected is None:
            yield {}
            continue
        told, first, second = conversation(prompt or []), (chosen, chosen_turns), (rejected, rejected_turns)
        yield {
            "shown": "\n\n".join([told, answer("response A", *first), answer("response B", *second)]),
            "swapped": "\n\n".join([told, answer("response A", *second), answer("response B", *first)]),
        }


class Read(NamedTuple):
    """A vote as it is stored."""

    p_chosen: float | None
    p_swapped: float | None
    rationale: str | None
    error: str | None


def read_vote(asked: dict[Order, int], opinions: Sequence[Opinion]) -> Read:
    """The vote that the opinions on its orders make: each speaks of response A, which is the rejected side when swapped."""
    if not asked:
        return Read(None, None, None, NO_TEXT)
    told = {order: opinions[place] for order, place in asked.items()}
    shown, swapped = (told[order].value(0) if order in told else None for order in ("shown", "swapped"))
    errors = [opinion.error for opinion in told.values() if opinion.error is not None]
    return Read(
        shown,
        None if swapped is None else 1 - swapped,
        joined(told),
        # an error that may go away by itself is named first: it decides whether the row is asked again
        min(errors, key=lambda error: not error.startswith(tuple(f"{kind}:" for kind in RETRYABLE)), default=None),
    )


def joined(told: dict[Order, Opinion]) -> str | None:
    """The rationales of both orders, the swapped one under a line that says so."""
    texts = {order: opinion.rationale for order, opinion in told.items() if opinion.rationale}
    return "\n\n".join(f"{SWAPPED}\n{text}" if order == "swapped" else text for order, text in texts.items()) or None
