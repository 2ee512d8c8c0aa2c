"""How probable it is that each label is right, and how reliable who gave it."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curate import tables
from curate.filter.peer_review import with_measures
from curate.filter.wrong_labels import WrongLabels, spread
from curate.maths.label_em import label_em
from curate.operator import Cut
from curate.tables import Grain

MEASURES = ("label_prob", "margin", "reliability", "noise", "noise_low", "noise_high")


class LabelEm(WrongLabels):
    """Expectation maximisation over right and wrong labels; `label_prob` becomes the pair's soft label.

    Evidence for every pair: label_prob (probability that the label is right), margin (log odds that the chosen side is
    better, before who labelled it is considered), reliability (of the pair's annotator; of several, each label is judged by
    what the annotator's other labels tell), and the noise of the whole set with its 95 % interval. Null where a feature has
    no number; such a pair is kept. Cross-fitted unless told otherwise: in-sample, a head that memorises finds every label
    right.

    Source: LCPO / RE-PO; see curate/maths/label_em.py.
    """

    version: ClassVar[int] = 3

    annotator: Literal["rater", "source", "domain", "chosen_model"] | None = Field(
        default=None, description="Who gave the label: rater (of the pair's first vote) or a column; one for all if not given."
    )
    reliability: float | None = Field(
        default=None, gt=0.5, lt=1, description="Reliability every annotator starts from; told by held-out labels if not given."
    )
    cross_fit: bool = Field(default=True, description="Judge each pair by a head that did not see it.")
    drop: bool = Field(default=True, description="Flag pairs whose label is wrong with more than the threshold's probability.")
    replace: bool = Field(default=False, description="Allow overwriting label_prob of an earlier step.")

    def reads(self, grain: Grain) -> set[str]:
        """Texts, ids, the raters named and who labelled."""
        who = {"rater": "votes"}.get(str(self.annotator), self.annotator)
        return super().reads(grain) | ({who} if who else set())

    def writes(self, grain: Grain) -> set[str]:
        """The measures, the soft label and flags."""
        return {f"evidence.{self.name}.{measure}" for measure in (*MEASURES, *self.cut_names())} | {"label_prob", "flags"}

    def cut(self) -> Cut | None:
        """The probability of a right label."""
        return Cut("label_prob", ">=", 1 - self.threshold, "threshold") if self.drop else None

    def feature_parameters(self) -> dict[str, object]:
        """What pairs are compared by, and who labelled them."""
        return super().feature_parameters() | {"annotator": self.annotator}

    def features(self, table: pa.Table, /) -> pa.Table:
        """The differences, and the annotator's name."""
        return super().features(table).append_column("annotator", self._annotators(table))

    def _annotators(self, table: pa.Table) -> pa.Array:
        if self.annotator is None:
            return pa.repeat(pa.scalar("", pa.string()), table.num_rows)
        if self.annotator != "rater":
            return tables.flat(pc.fill_null(table[self.annotator], ""))
        votes = tables.flat(table["votes"])
        rows, first = np.unique(pc.list_parent_indices(votes).to_numpy(zero_copy_only=False), return_index=True)
        names = np.full(table.num_rows, "", dtype=object)
        names[rows] = pc.fill_null(pc.struct_field(votes.flatten(), "rater"), "").to_numpy(zero_copy_only=False)[first]
        return pa.array(names, pa.string())

    def decide(self, features: pa.Table, /) -> pa.Table:
        """The measures, one row a pair."""
        usable, given = self.comparable(features)
        if given is None:
            return pa.table({name: pa.array([], pa.float32()) for name in (*MEASURES, *self.cut_names())})
        who = tables.flat(features["annotator"]).filter(pa.array(usable)).dictionary_encode()
        annotators = who.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        found = label_em(given, annotators, self.settings(), self.cross_fit, self.reliability)
        told = {"label_prob": found.label_prob, "margin": found.margin, "reliability": found.reliability[annotators]}
        whole = {"noise": found.noise.rate, "noise_low": found.noise.low, "noise_high": found.noise.high}
        columns = {name: spread(values.astype(np.float32), usable) for name, values in told.items()}
        columns |= {name: np.full(len(usable), value, dtype=np.float32) for name, value in whole.items()}
        told_of = {name: pa.array(values, mask=np.isnan(values)) for name, values in columns.items()}
        return pa.table(told_of | self.cut_columns(features))

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The measures as evidence, the soft label, and a flag on pairs whose label is probably wrong."""
        right = state["label_prob"].to_numpy().astype(np.float32)
        wrong = (right < np.float32(1 - self.threshold)) & self.drop
        return pa.table(
            {
                "evidence": with_measures(table, state, self.name),
                "label_prob": pa.array(right, mask=np.isnan(right)),
                "flags": tables.add_flags(table, wrong, self.name, "wrong_label", 1 - right),
            }
        )
