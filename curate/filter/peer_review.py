"""Drop pairs whose label two reward models, which choose each other's training pairs, find wrong."""

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, model_validator

from curate import tables
from curate.filter.fine_tuned import TEXTS, read_by, reviewed, texts_of
from curate.filter.wrong_labels import OF_TEXT, WrongLabels, spread
from curate.maths.peer_review import Review, Settings, review
from curate.maths.reviewers import implied_review
from curate.models.fine_tuning import Tuning
from curate.operator import Cut
from curate.tables import Grain

MEASURES = ("margin_a", "margin_b", "keep_rate", "loss_mean", "loss_spread", "flip_prob", "selected", "kind")
OF_ALL = ("noise", "noise_low", "noise_high")


class PeerReview(WrongLabels):
    """Two reward models choose each other's training pairs by global rank; a pair likely labelled wrong is flagged.

    Evidence for every pair: margin_a and margin_b (log odds that the label is right, by models that saw no pair of its
    prompt or responses), keep_rate (share of rounds in which they would keep it), loss_mean and loss_spread (nats, over
    rounds), flip_prob (probability that the label is wrong), selected (1: kept by at least half), kind (0 robust, 1
    ambiguous, 2 wrong), and the noise of the whole set with its 95 % interval. Null where a feature has no number; such
    a pair is kept.

    Learners: linear and mlp are heads on embeddings and further features. implicit trains nothing: `use` names the rewards
    that two policies imply over a reference (steps of `likelihood`), each judging the pairs of the other; losses are spread
    over the two. fine_tuned trains two copies of a sequence classifier whole, on the texts alone, folds x rounds x 2 passes.

    Source: Collaborative Reward Modeling (CRM); see curate/maths/peer_review.py for what differs.
    """

    version: ClassVar[int] = 3

    learner: Literal["linear", "mlp", "implicit", "fine_tuned"] = Field(
        default="linear",
        description="What judges: linear (Bradley-Terry) or mlp heads on embeddings and `use`; implicit: two margins named in "
        "`use`, nothing is trained; fine_tuned: two copies of `model`, a sequence classifier.",
    )
    rounds: int = Field(default=8, ge=2, le=100, description="Rounds of review; for mlp and fine_tuned, epochs.")
    warm: int = Field(default=3, ge=1, description="Rounds over which the share of kept pairs falls to 1 - noise.")
    curriculum: bool = Field(default=False, description="mlp, fine_tuned: train on easy pairs first.")
    reviewer: Literal["peer", "self"] = Field(default="peer", description="self: each model chooses its own pairs, a control.")
    learning_rate: FiniteFloat = Field(default=1e-5, gt=0, description="fine_tuned: step size of AdamW.")
    batch: int = Field(default=8, ge=1, description="fine_tuned: pairs a step.")

    @model_validator(mode="after")
    def _learner_has_what_it_needs(self) -> Self:
        if self.learner == "implicit" and (self.model or len(self.use) != 2 or set(self.use) & set(OF_TEXT)):
            raise ValueError(
                "learner: implicit takes no model, and in `use` the rewards of two policies: `step:dpo` of two likelihood steps"
            )
        return self

    def _scalars(self) -> list[str]:  # without any, the frame asks for a model
        return [] if self.learner == "fine_tuned" else super()._scalars()

    def reads(self, grain: Grain) -> set[str]:
        """Texts, ids and the raters named; whole conversations where a model is trained on them."""
        return super().reads(grain) | (set(TEXTS) if self.learner == "fine_tuned" else set())

    def calls(self, rows: int) -> int:
        """Texts to embed; where models are trained, texts that they read, again in each fold and round."""
        return 4 * rows * self.folds * self.rounds if self.learner == "fine_tuned" else super().calls(rows)

    def feature_parameters(self) -> dict[str, Any]:
        """What pairs are compared by."""
        return {"texts": True} if self.learner == "fine_tuned" else super().feature_parameters()

    def features(self, table: pa.Table, /) -> pa.Table:
        """The differences; the texts themselves where a model is trained on them."""
        return texts_of(table) if self.learner == "fine_tuned" else super().features(table)

    def writes(self, grain: Grain) -> set[str]:
        """The measures and flags."""
        return {f"evidence.{self.name}.{measure}" for measure in (*MEASURES, *OF_ALL, *self.cut_names())} | {"flags"}

    def cut_names(self) -> list[str]:
        """Nothing is cut where the model is trained instead."""
        return [] if self.learner == "fine_tuned" else super().cut_names()

    def cut(self) -> Cut | None:
        """The probability of a wrong label."""
        return Cut("flip_prob", "<=", self.threshold, "threshold")

    def settings(self) -> Settings:
        """The parameters as the mathematics takes them."""
        return replace(
            super().settings(),
            learner="mlp" if self.learner == "mlp" else "linear",
            rounds=self.rounds,
            warm=self.warm,
            curriculum=self.curriculum,
            reviewer=self.reviewer,
        )

    def decide(self, features: pa.Table, /) -> pa.Table:
        """The measures, one row a pair."""
        usable, found = self._reviewed(features)
        if found is None:
            return pa.table({name: pa.array([], pa.float32()) for name in (*MEASURES, *OF_ALL, *self.cut_names())})
        told = {name: getattr(found, name) for name in MEASURES if name != "kind"} | {"kind": found.kinds()}
        whole = {"noise": found.noise.rate, "noise_low": found.noise.low, "noise_high": found.noise.high}
        columns = {name: spread(np.asarray(values, dtype=np.float32), usable) for name, values in told.items()}
        columns |= {name: np.full(len(usable), value, dtype=np.float32) for name, value in whole.items()}
        told_of = {name: pa.array(values, mask=np.isnan(values)) for name, values in columns.items()}
        return pa.table(told_of | self.cut_columns(features))

    def _reviewed(self, features: pa.Table) -> tuple[np.ndarray, Review | None]:
        """Which rows could be judged, (N,) bool, and the review of those."""
        trainer = self.called.trainer(str(self.model)) if self.learner == "fine_tuned" and features.num_rows else None
        usable, given = self.comparable(features if trainer is None else read_by(trainer, features))
        if given is None:
            return usable, None
        if trainer is not None:
            tuning = Tuning(self.learning_rate, self.batch)
            return usable, reviewed(trainer, usable, given.groups_N, tuning, self.settings())
        return usable, (implied_review if self.learner == "implicit" else review)(given, self.settings())

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
