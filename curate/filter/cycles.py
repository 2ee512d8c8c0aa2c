"""Pairs of one prompt that run in a circle, and which of them to give up: the part of `consistency` that sees pairs together."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate import tables
from curate.maths import cycles
from curate.maths.conversations import conversations
from curate.maths.series import one_series
from curate.maths.votes import Votes, votes_of

SHOWN = 10  # characters of a response's id


class Circles(NamedTuple):
    """What is known of each pair, (N,) each."""

    strength: np.ndarray
    """How far the evidence is for the chosen side, in votes or in the rater's unit; NaN where there is none."""
    in_cycle: np.ndarray
    """1 for a pair in some cycle, 0 for others."""
    removed: np.ndarray
    """Strength given up in the pair's knot of cycles; NaN for a pair in none."""
    bound: np.ndarray
    """What nobody can go below there: the same number where the knot was solved exactly."""
    dropped: np.ndarray
    """Whether the pair is given up, bool."""
    named: list[str | None]
    """The cycle that a given up pair would close, itself first."""


def circles(table: pa.Table, raters: list[str], voters: list[str], round: int | None) -> Circles:
    """The cycles of each prompt's labels, and the pairs to give up so that none is left.

    A pair counts as much as the evidence is for its label, nothing where there is none or it is against; without raters and
    voters each counts 1. Pairs of the same two responses with the same label are one, and stay or go together.
    """
    strength = _strength(table, raters, voters, round)
    prompts = tables.flat(table["prompt_id"]).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    rows = _perhaps(table, prompts)
    asked = conversations(table.take(pa.array(rows)))
    sides = [table[f"{side}_id"].take(pa.array(rows)).to_pylist() for side in ("chosen", "rejected")]
    ends = [[f"{which} {id_}" for which, id_ in zip(asked, side, strict=True)] for side in sides]
    items, numbers = np.unique(np.array(ends[0] + ends[1]), return_inverse=True)  # by name: the same whatever the rows' order
    tail, head = numbers.reshape(2, -1)
    edges, edge_of = np.unique(tail * max(len(items), 1) + head, return_inverse=True)
    weigh = np.maximum(np.nan_to_num(strength[rows], nan=0.0), 0.0) if raters or voters else np.ones(len(rows))
    weights = np.bincount(edge_of, weigh, len(edges))
    found = cycles.untangled(edges // max(len(items), 1), edges % max(len(items), 1), weights, len(items))
    knot = found.knot_E[edge_of] if len(rows) else np.zeros(0, dtype=np.int64)
    inside = knot >= 0
    result = Circles(
        strength,
        np.zeros(table.num_rows),
        np.full(table.num_rows, np.nan),
        np.full(table.num_rows, np.nan),
        np.zeros(table.num_rows, dtype=bool),
        [None] * table.num_rows,
    )
    result.in_cycle[rows[inside]] = 1
    result.removed[rows[inside]], result.bound[rows[inside]] = found.removed[knot[inside]], found.bound[knot[inside]]
    if len(rows):
        result.dropped[rows] = found.given_up_E[edge_of]
    first = dict(zip(edge_of.tolist()[::-1], range(len(rows) - 1, -1, -1), strict=True))
    texts = [f"{chosen[:SHOWN]} > {rejected[:SHOWN]}" for chosen, rejected in zip(*sides, strict=True)]
    if raters or voters:
        texts = [f"{text} ({weights[edge]:.3g})" for text, edge in zip(texts, edge_of.tolist(), strict=True)]
    named = {edge: ", ".join(texts[first[each]] for each in cycle) for edge, cycle in found.cycles.items()}
    for place in np.flatnonzero(found.given_up_E[edge_of] if len(rows) else []).tolist():
        result.named[rows[place]] = named[int(edge_of[place])]
    return result


def _perhaps(table: pa.Table, prompts: np.ndarray) -> np.ndarray:
    """Rows that are in a cycle if all pairs of a prompt answer one conversation; fewer may be where they do not."""
    ids = pa.concat_arrays([tables.flat(table[f"{side}_id"]) for side in ("chosen", "rejected")]).dictionary_encode()
    codes = ids.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64).reshape(2, -1)
    known = np.flatnonzero((codes >= 0).all(axis=0))
    width = len(ids.dictionary)
    both = codes[:, known] + prompts[known].astype(np.int64) * width
    _, numbers = np.unique(both, return_inverse=True)
    tail, head = numbers.reshape(2, -1)
    return known[cycles.knots(tail, head, int(numbers.max(initial=-1)) + 1) >= 0]


def _strength(table: pa.Table, raters: list[str], voters: list[str], round: int | None) -> np.ndarray:
    """Chosen minus rejected score, or votes for chosen minus votes for rejected, (N,)."""
    if raters:
        chosen, rejected = (one_series(table, raters[0], f"{side}_scores", round=round) for side in ("chosen", "rejected"))
        return np.asarray(chosen - rejected, np.float64)
    if not voters:
        return np.full(table.num_rows, np.nan)
    votes, _ = votes_of(table["votes"], voters, round)
    spoken = votes.by_pair() > 0
    return np.where(spoken, votes.by_pair(votes.lean_V / _orders(votes)), np.nan)


def _orders(votes: Votes) -> np.ndarray:
    """For each vote in how many orders its rater saw the pair, (V,)."""
    _, which, counts = np.unique(votes.pair_V * max(votes.raters, 1) + votes.rater_V, return_inverse=True, return_counts=True)
    seen: np.ndarray = counts[which]
    return seen
