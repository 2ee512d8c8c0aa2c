"""Drop pairs whose label two reward heads, which choose each other's training pairs, find wrong."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate import tables
from curate.filter.wrong_labels import WrongLabels, spread
from curate.maths.peer_review import Learner, Settings, review
from curate.operator import Cut
from curate.tables import Grain

MEASURES = ("margin_a", "margin_b", "keep_rate", "loss_mean", "loss_spread", "flip_prob", "selected", "kind")
OF_ALL = ("noise", "noise_low", "noise_high")


class PeerReview(WrongLabels):
    """Two reward heads choose each other's training pairs by global rank; a pair likely labelled wrong is flagged.

    Evidence for every pair: margin_a and margin_b (log odds that the label is right, by heads that saw no pair of its
    prompt or responses), keep_rate (share of rounds in which they would keep it), loss_mean and loss_spread (nats, over
    rounds), flip_prob (probability that the label is wrong), selected (1: kept by at least half), kind (0 robust, 1
    ambiguous, 2 wrong), and the noise of the whole set with its 95 % interval. Null where a feature has no number; such
    a pair is kept.

    Source: Collaborative Reward Modeling (CRM); see curate/maths/peer_review.py for what differs.
    """

    version: ClassVar[int] = 1

    learner: Learner = Field(default="linear", description="Head: linear (Bradley-Terry), or mlp, a small network.")
    rounds: int = Field(default=8, ge=2, le=100, description="Rounds of review; for mlp, epochs.")
    warm: int = Field(default=3, ge=1, description="Rounds over which the share of kept pairs falls to 1 - noise.")
    curriculum: bool = Field(default=False, description="mlp: train on easy pairs first.")
    reviewer: Literal["peer", "self"] = Field(default="peer", description="self: each head chooses its own pairs, a control.")

    def writes(self, grain: Grain) -> set[str]:
        """The measures and flags."""
        return {f"evidence.{self.name}.{measure}" for measure in (*MEASURES, *OF_ALL)} | {"flags"}

    def cut(self) -> Cut | None:
        """The probability of a wrong label."""
        return Cut("flip_prob", "<=", self.threshold, "threshold")

    def settings(self) -> Settings:
        """The parameters as the mathematics takes them."""
        return replace(
            super().settings(),
            learner=self.learner,
            rounds=self.rounds,
            warm=self.warm,
            curriculum=self.curriculum,
            reviewer=self.reviewer,
        )

    def decide(self, features: pa.Table, /) -> pa.Table:
        """The measures, one row a pair."""
        usable, given = self.comparable(features)
        if given is None:
            return pa.table({name: pa.array([], pa.float32()) for name in (*MEASURES, *OF_ALL)})
        found = review(given, self.settings())
        told = {name: getattr(found, name) for name in MEASURES if name != "kind"} | {"kind": found.kinds()}
        whole = {"noise": found.noise.rate, "noise_low": found.noise.low, "noise_high": found.noise.high}
        columns = {name: spread(np.asarray(values, dtype=np.float32), usable) for name, values in told.items()}
        columns |= {name: np.full(len(usable), value, dtype=np.float32) for name, value in whole.items()}
        return pa.table({name: pa.array(values, mask=np.isnan(values)) for name, values in columns.items()})

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The measures as evidence, and a flag on pairs whose label is probably wrong."""
        evidence = with_measures(table, state, self.name)
        wrong = state["flip_prob"].to_numpy().astype(np.float32)
        flags = tables.add_flags(table, wrong > np.float32(self.threshold), self.name, "wrong_label", wrong)
        return pa.table({"evidence": evidence, "flags": flags})


def with_measures(table: pa.Table, state: pa.Table, by: str) -> pa.Array:
    """The evidence with every column of the state as a measure more."""
    names = state.column_names
    values = np.stack([state[name].to_numpy().astype(np.float32) for name in names], axis=1)
    rows = np.repeat(np.arange(table.num_rows), len(names))
    entries = tables.structs(
        tables.EVIDENCE, len(rows), by=by, name=pa.array(names * table.num_rows, pa.string()), value=values.ravel()
    )
    return tables.append(table["evidence"], entries, rows)
