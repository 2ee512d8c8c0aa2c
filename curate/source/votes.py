"""Read votes and labels on a pair, as the probability that the first side is the better one."""

from collections.abc import Callable, Mapping
from typing import Any

from curate.source.fields import Raw, getter, kind_of, label_text, same_key
from curate.source.rejects import BadRow
from curate.source.spec import LABEL_ASPECT, Label, Votes

Vote = dict[str, Any]
"""An entry of the votes column; p_chosen speaks of the first side until `turned`."""


def read_votes(votes: Votes) -> Callable[[Raw], list[Vote]]:
    """The function that reads a row's votes. A verdict nobody listed is null with its text as error; a missing one is no vote."""
    known = votes.known()
    if votes.columns:
        columns = [(path, getter(path)) for path in votes.columns]
        return lambda row: [_vote(path, value, known, votes.aspect) for path, get in columns if (value := get(row)) is not None]
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
            value = get_value(entry)
            if value is None:
                continue
            name = get_rater(entry) if get_rater else None
            rater = f"annotator{place + 1}" if name is None else label_text(name, str(votes.rater))
            reason = get_reason(entry) if get_reason else None
            told = None if reason is None else label_text(reason, str(votes.rationale))
            out.append(_vote(rater, value, known, votes.aspect) | ({"rationale": told} if told else {}))
        return out

    return of_list


def _vote(rater: str, value: Any, known: Mapping[str, float], aspect: str) -> Vote:
    p = known.get(str(same_key(value)))
    vote: Vote = {"rater": rater, "aspect": aspect, "p_chosen": p}
    return vote if p is not None else vote | {"error": label_text(value, rater)}


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
