"""Make one vote of several raters' votes, each weighed by what all votes together tell of the rater."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import tables
from curate.maths import votes as ballots
from curate.maths.conversations import conversations
from curate.maths.crowd_bt import crowd_bradley_terry
from curate.maths.dawid_skene import one_coin, reliability
from curate.maths.glad import glad, judged
from curate.maths.preference import beats
from curate.maths.raters import Habits, both_orders, stability, weighed
from curate.maths.votes import Votes, votes_of

How = Literal["mean", "majority", "weighted", "agreement", "stability", "dawid_skene", "one_coin", "glad", "bradley_terry"]
HOWS: tuple[str, ...] = get_args(How)
SIDES = ("chosen", "rejected")

FITTED = pa.schema(
    [
        ("rater", pa.string()),
        ("first", pa.float64()),
        ("wrong_first", pa.float64()),
        ("prior", pa.float64()),
        ("weight", pa.float64()),
        ("response", pa.string()),
        ("strength", pa.float64()),
    ]
)
"""What was found of raters, and, by `bradley_terry`, of responses: a row each."""


def features(table: pa.Table, how: str) -> pa.Table:
    """The votes without their reasons, and by `bradley_terry` what each side answers and is."""
    responses = _responses(table) if how == "bradley_terry" else {}
    return pa.table({"votes": ballots.bare(table["votes"])} | responses)


def _responses(table: pa.Table) -> dict[str, pa.Array]:
    """A name for either side of each pair: one response to one conversation."""
    asked = conversations(table)
    columns = {side: zip(asked, table[f"{side}_id"].to_pylist(), strict=True) for side in SIDES}
    return {side: pa.array([f"{which} {id_}" for which, id_ in told], pa.string()) for side, told in columns.items()}


def fit(measured: pa.Table, how: str, series: Sequence[str] | Mapping[str, float], round: int | None) -> pa.Table:
    """What all votes tell of the raters, one row a rater; by `bradley_terry` also of the responses."""
    votes, names = votes_of(measured["votes"], list(series), round)
    rows: dict[str, object] = {"rater": names}
    if how in ("stability", "dawid_skene", "one_coin"):
        habits = _habits(votes, how, names)
        rows |= {"first": habits.first_R, "wrong_first": habits.wrong_first_R, "prior": [habits.prior] * len(names)}
    elif isinstance(series, Mapping):
        rows["weight"] = list(series.values())
    elif how == "agreement":
        rows["weight"] = ballots.agreement_with_majority(votes)
    elif how == "glad":
        rows["weight"] = glad(votes).ability_R
    elif how == "bradley_terry":
        return _strengths(votes, names, measured)
    return _state(rows, len(names))


def _habits(votes: Votes, how: str, names: Sequence[str]) -> Habits:
    if how == "dawid_skene":
        return reliability(votes)
    if how == "one_coin":
        return one_coin(votes).habits
    shown, _ = both_orders(votes)
    seen_R = np.bincount(votes.rater_V[shown], minlength=votes.raters)
    if votes.pairs and (lacking := [name for name, seen in zip(names, seen_R, strict=True) if not seen]):
        raise ValueError(f"how: stability needs votes in both orders, of which {', '.join(lacking)} has none")
    return stability(votes)


def _strengths(votes: Votes, names: Sequence[str], measured: pa.Table) -> pa.Table:
    both = pa.concat_arrays([tables.flat(measured[side]) for side in SIDES]).dictionary_encode()
    numbers = both.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    found = crowd_bradley_terry(votes, numbers[: votes.pairs], numbers[votes.pairs :], len(both.dictionary))
    raters = _state({"rater": names, "weight": found.reliability_R}, len(names))
    return pa.concat_tables([raters, _state({"response": both.dictionary, "strength": found.strength_I}, len(both.dictionary))])


def _state(columns: Mapping[str, object], length: int) -> pa.Table:
    return pa.table({f.name: pa.array(columns.get(f.name, [None] * length), f.type) for f in FITTED}, schema=FITTED)


def together(table: pa.Table, state: pa.Table, how: str, votes: Votes) -> np.ndarray:
    """Probability that the chosen side of each pair is better, (N,); 0.5 where no rater leans."""
    raters = state.filter(pc.is_valid(state["rater"]))
    if how == "mean":
        return ballots.mean_vote(votes)
    if how == "majority":
        return ballots.majority(votes)
    if how in ("weighted", "agreement"):
        return ballots.weighted_vote(votes, raters["weight"].to_numpy())
    if how == "glad":
        return judged(votes, raters["weight"].to_numpy()).better_N
    if how == "bradley_terry":
        named = pc.drop_null(state["response"])
        strengths = pc.drop_null(state["strength"])
        of = {side: strengths.take(pc.index_in(name, value_set=named)) for side, name in _responses(table).items()}
        return beats(of["chosen"].to_numpy() - of["rejected"].to_numpy())
    prior = float(raters["prior"][0].as_py()) if len(raters) else 0.5
    return weighed(votes, Habits(raters["first"].to_numpy(), raters["wrong_first"].to_numpy(), prior))


def silent(votes: Votes) -> np.ndarray:
    """Whether a rater has no vote on a pair, (R, N)."""
    missing_RN = np.ones((votes.raters, votes.pairs), dtype=bool)
    missing_RN[votes.rater_V, votes.pair_V] = False
    return missing_RN
