"""Read what filters measured about a pair, as the pair stands now."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.maths.planted import refuse_truth

RIGHT = "label_prob"
"""Measure that is the probability of a right label; all other probabilities read here are of a wrong one."""
TURNED = "turned"
"""Measure of `flip`: 1 where it exchanged the sides. What was measured before speaks of the label as it was then."""


def evidence_of(table: pa.Table, by: str) -> np.ndarray:
    """The measure `step:name` of every pair, (N,) float32; NaN where there is none. ValueError for the planted truth."""
    step, name = split(by)
    return tables.value_of(table["evidence"], by=step, name=name)


def evidence_field(by: str) -> str:
    """The measure as an entry of `reads`."""
    step, name = split(by)
    return f"evidence.{step}.{name}"


def split(by: str) -> tuple[str, str]:
    """Step and name of a measure."""
    step, _, name = by.rpartition(":")
    refuse_truth(name, by)
    if not step or not name:
        raise ValueError(f"evidence is named as step:name, such as peer_review:flip_prob, got {by}")
    return step, name


def named_evidence(by: str | None) -> str | None:
    """The name as a parameter takes it, once it is known to be one."""
    if by is not None:
        split(by)
    return by


def wrong_probability(table: pa.Table, by: str | None) -> np.ndarray:
    """How probable it is that the label of each pair, as it stands, is wrong, (N,) float32; NaN where nobody says.

    by: evidence `step:name`, a probability of a wrong label, or of a right one if its name is label_prob; None for the
    column label_prob. Evidence from before a flip speaks of the label before: it is turned with it.
    """
    if by is None:
        return np.asarray(1 - table["label_prob"].to_numpy().astype(np.float32))
    told = evidence_of(table, by)
    present = told[~np.isnan(told)]
    if ((present < 0) | (present > 1)).any():
        raise ValueError(f"{by} is no probability: it has {present.min():g}..{present.max():g}")
    turned = turned_since(table["evidence"], *split(by))
    right = turned if split(by)[1] != RIGHT else ~turned
    return np.where(right, 1 - told, told).astype(np.float32)


def turned_since(evidence: pa.ChunkedArray, step: str, name: str) -> np.ndarray:
    """Whether each pair was turned an odd number of times since the measure was last written, (N,) bool."""
    lists = tables.flat(evidence)
    entries = lists.flatten()
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    places = np.arange(len(entries))
    is_measure = _true(pc.and_(pc.equal(pc.struct_field(entries, "by"), step), pc.equal(pc.struct_field(entries, "name"), name)))
    is_turn = pc.and_(pc.equal(pc.struct_field(entries, "name"), TURNED), pc.equal(pc.struct_field(entries, "value"), 1))
    written = np.full(len(lists), len(entries))
    written[rows[is_measure]] = places[is_measure]  # the last of a row stays
    later = _true(is_turn) & (places > written[rows])
    return np.asarray(np.bincount(rows[later], minlength=len(lists)) % 2 == 1)


def _true(mask: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)).astype(bool)
