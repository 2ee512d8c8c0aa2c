"""Read votes and labels on a pair, as the probability that the first side is the better one."""

from collections.abc import Callable, Mapping
from typing import Any

from curate.maths import recorded
from curate.source.fields import Raw, getter, kind_of, label_text, same_key
from curate.source.rejects import BadRow
from curate.source.spec import LABEL_ASPECT, Label, Votes

Vote = dict[str, Any]
"""An entry of the votes column; p_chosen speaks of the first side until `turned`."""


def read_votes(votes: Votes) -> Callable[[Raw], list[Vote]]:
    """The function that reads a row's votes.

    A verdict that cannot be read is null, with an error that says why and its text as rationale; a missing one is no vote.
    """
    known = votes.known()
    if votes.columns:
        columns = [(path, getter(path)) for path in votes.columns]

        def of_columns(row: Raw) -> list[Vote]:
            found = ((path, get(row)) for path, get in columns)
            return [vote for path, value in found if (vote := _vote(path, value, votes, known)) is not None]

        return of_columns
    entries = getter(str(votes.list_))
    get_rater = getter(votes.rater) if votes.rater else None
    get_value, get_reason = getter(str(votes.value)), getter(votes.rationale) if votes.rationale else None

    def of_list(row: Raw) -> list[Vote]:
        found = entries(row)
        if found is None:
            return []
        if not isinstance(found, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in found):
            raise BadRow(votes.list_, "wrong type", f"a list of objects expected, got {kind_of(found)}")
        out = []
        for place, entry in enumerate(found):
            name = get_rater(entry) if get_rater else None
            rater = f"annotator{place + 1}" if name is None else label_text(name, str(votes.rater))
            vote = _vote(rater, get_value(entry), votes, known)
            if vote is None:
                continue
            reason = get_reason(entry) if get_reason else None
            told = None if reason is None else label_text(reason, str(votes.rationale))
            out.append(vote | ({"rationale": told} if told else {}))
        return out

    return of_list


def _vote(rater: str, value: Any, votes: Votes, known: Mapping[str, float]) -> Vote | None:
    """What a rater says; None for nothing."""
    if value is None:
        return None
    vote: Vote = {"rater": rater, "aspect": votes.aspect, "p_chosen": None}
    if votes.layout == "exact":
        p = known.get(str(same_key(value)))
        return vote | ({"p_chosen": p} if p is not None else {"error": label_text(value, rater)})
    told = recorded.read(value if votes.layout == "ratings" else same_key(value), votes.layout, known)
    if told.why is not None:
        return vote | {"error": f"unparsable: {told.why}", "rationale": label_text(value, rater)}
    return None if told.p is None else vote | {"p_chosen": told.p}


def read_label(label: Label) -> Callable[[Raw], Vote]:
    """The function that reads a row's label as a vote; BadRow where it is missing or says nothing known."""
    known, get = label.known(), getter(label.column)
    get_rater = getter(label.rater) if label.rater else None

    def of_row(row: Raw) -> Vote:
        value = get(row)
        if value is None:
            raise BadRow(label.column, "missing field")
        if (p := known.get(str(same_key(value)))) is None:
            raise BadRow(label.column, "unknown label", f"got {value!r:.40}, known are {', '.join(known)}")
        name = get_rater(row) if get_rater else None
        rater = "source" if name is None else label_text(name, str(label.rater))
        return {"rater": rater, "aspect": LABEL_ASPECT, "p_chosen": p}

    return of_row


def majority(votes: list[Vote]) -> float:
    """Mean of the votes' probabilities for the first side; BadRow if none can be read."""
    read = [vote["p_chosen"] for vote in votes if vote["p_chosen"] is not None]
    if not read:
        raise BadRow("votes", "no votes", "neither a label nor a vote says which side is better")
    return float(sum(read) / len(read))


def turned(votes: list[Vote]) -> list[Vote]:
    """The votes as they speak of the second side."""
    return [vote | {"p_chosen": None if vote["p_chosen"] is None else 1 - vote["p_chosen"]} for vote in votes]
