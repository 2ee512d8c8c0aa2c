"""Recognise two answers in a row, and the label or the votes that say which is better."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from curate.recipe.columns import Columns
from curate.recipe.layout import Layout, about_prompt, is_code, subject_of

RESPONSE = ("response", "completion", "output", "answer", "generation", "reply", "model_output", "generated_text", "text")
RATER = ("annotator", "evaluator", "rater", "judge", "worker", "workerid", "worker_id", "annotator_id", "labeler")
LABEL = ("winner", "label", "preference", "preferred", "choice", "vote", "verdict", "better", "goldlabel", "gold_label")
VOTE = re.compile(r"(annotator|rater|vote|judge|label|human|worker|evaluator)s?[ _-]?\d+", re.IGNORECASE)
OPPOSITES = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"))
FIRST, SECOND = frozenset({"a", "1", "first", "left"}), frozenset({"b", "2", "second", "right"})
TIE = frozenset({"tie", "tied", "equal", "same", "both", "draw", "none", "neither"})
ANSWER = re.compile("|".join((*RESPONSE, "arg(?:ument)?", "message", "sentence")), re.IGNORECASE)
NO_ANSWER = re.compile(
    r"model|generator|reference|gold|label|annotator|rater|judge|score|(?:_|\b)id\b|\.(?:\w|left|right)$", re.IGNORECASE
)
SHORT = 20  # characters of what is rather a name
MOST_VERDICTS = 12  # distinct values of a column of verdicts


def two_sides(columns: Columns) -> Layout | None:
    """Two answers, and a label or votes that say which is better."""
    sides = _sides(columns)
    if sides is None:
        return None
    prompt = subject_of(columns, *sides)
    verdict = _votes(columns) or _label(columns)
    if prompt is None or verdict is None:
        return None
    about, said, note = verdict
    mapped = {"prompt": prompt, "first": sides[0], "second": sides[1]} | about_prompt(columns, prompt)
    mapped.pop("model", None)
    models = [(a, b) for a, b in _couples(columns, ("text",)) if any(name in a.lower() for name in ("model", "generator"))]
    if models:
        mapped |= dict(zip(("first_model", "second_model"), models[0], strict=True))
    return Layout(about, {"columns": mapped} | said, notes=[note], code=is_code(columns, sides[0]))


def _couples(columns: Columns, kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Columns of the same kind whose names differ in one word of two opposites, such as answer_a and answer_b."""
    for one, other in OPPOSITES:
        bound = "0-9" if one.isdigit() else "a-zA-Z"
        word = re.compile(
            rf"(?<![{bound}]){one}(?![{bound}])|{one}$" if one.isdigit() else rf"(?<![{bound}]){one}(?![{bound}])", re.IGNORECASE
        )
        for name, kind in columns.kinds.items():
            for found in word.finditer(name):
                swapped = other.upper() if found[0].isupper() else other
                partner = name[: found.start()] + swapped + name[found.end() :]
                if partner in columns.kinds and kind == columns.kinds[partner] and kind in kinds and "[]" not in name:
                    yield name, partner


def _sides(columns: Columns) -> tuple[str, str] | None:
    """The two answers: of all couples of texts the one with the most to read, if it is more than names and verdicts."""
    couples = [couple for couple in _couples(columns, ("text", "messages")) if not NO_ANSWER.search(couple[0])]
    known = [couple for couple in couples if ANSWER.search(couple[0])]
    read = known or [(a, b) for a, b in couples if _is_prose(columns, a) and _is_prose(columns, b)]
    return max(read, default=None, key=lambda couple: sum(_size(v) for name in couple for v in columns.held[name]))


def _is_prose(columns: Columns, name: str) -> bool:
    """Whether a column holds texts to read, most of them different, and no names."""
    held = [value for value in columns.held[name] if value]
    return 2 * len({str(value) for value in held}) > len(held) and sum(map(_size, held)) > SHORT * len(held)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(str(value or ""))


Verdict = tuple[str, dict[str, Any], str]
"""What a row is, what goes under `source:`, and a note."""


def _label_names(columns: Columns) -> list[str]:
    names = (columns.named([name], ("text", "number", "truth")) for name in LABEL)
    return [name for name in names if name is not None]


def _label(columns: Columns) -> Verdict | None:
    for name in _label_names(columns):
        values = sorted(columns.values(name))
        if (verdicts := _verdicts(values)) is not None and columns.always(name):
            rater = columns.named(RATER, ("text",))
            said = {"column": name} | ({"rater": rater} if rater else {}) | verdicts
            note = f"{name} says {', '.join(values[:8])}; check which of these speak for the first answer"
            return "two answers and which of them is better", {"label": said}, note
    return None


def _votes(columns: Columns) -> Verdict | None:
    """Votes of several people, each in a column of its own or all in a list."""
    about = "two answers and several votes on which of them is better"
    each = [name for name in columns.own if VOTE.fullmatch(name) and columns.kinds[name] in ("text", "number")]
    values = sorted(set().union(*(columns.values(name) for name in each)))
    if len(each) > 1 and (verdicts := _verdicts(values)) is not None:
        note = f"votes say {', '.join(values)}; check which of these speak for the first answer"
        return about, {"votes": {"columns": each} | verdicts}, note
    for name, kind in columns.kinds.items():
        outer, inside, value = name.partition("[].")
        if not inside or kind not in ("texts", "numbers") or (verdicts := _verdicts(sorted(columns.values(name)))) is None:
            continue
        rater = next((n for n in columns.kinds if n.startswith(f"{outer}[].") and n.partition("[].")[2].lower() in RATER), None)
        said = {"list": outer} | ({"rater": rater.partition("[].")[2]} if rater else {}) | {"value": value}
        seen = ", ".join(sorted(columns.values(name)))
        note = f"votes say {seen}; check which of these speak for the first answer"
        return about, {"votes": said | verdicts}, note
    return None


def _verdicts(values: Sequence[str]) -> dict[str, Any] | None:
    """Which values speak for the first side, the second side and a tie; None unless all are understood and both are there."""
    if not 2 <= len(values) <= MOST_VERDICTS:
        return None
    if set(values) <= {"0", "1"}:
        return {"first": "0", "second": "1"}
    found: dict[str, list[str]] = {"first": [], "second": [], "tie": []}
    for value in values:
        side = "tie" if value == "0" or (value == "3" and set(values) <= {"0", "1", "2", "3"}) else _side_of(value)
        if side is None:
            return None
        found[side].append(value)
    if not found["first"] or not found["second"]:
        return None
    return {side: listed[0] if len(listed) == 1 else listed for side, listed in found.items() if listed}


def _side_of(value: str) -> str | None:
    """The side that a verdict such as A, model_b, [[A>B]] or b-is-slightly-better speaks for."""
    text = value.lower()
    words = re.findall(r"[a-z]+|\d+|[<>=]+", text)
    if compared := re.search(r"\b(a|1|b|2)\W*?([<>=])\2*\W*(?:a|1|b|2)\b", text):
        ahead = {">": compared[1] in FIRST, "<": compared[1] in SECOND}.get(compared[2])
        return "tie" if ahead is None else "first" if ahead else "second"
    if TIE & set(words):
        return "tie"
    numbers = [word for word in words if word.isdigit()]
    told = set(numbers or words)
    sides = [side for side, marks in (("first", FIRST), ("second", SECOND)) if told & marks]
    return sides[0] if len(sides) == 1 else None


def unsettled(columns: Columns) -> str | None:
    """What to say of two answers of which none is told to be better."""
    sides = _sides(columns)
    if sides is None:
        return None
    tried = [f"{name} ({', '.join(sorted(columns.values(name))[:4])})" for name in _label_names(columns)]
    looked = f"; what {', '.join(tried)} says was not understood" if tried else ""
    prompt = subject_of(columns)
    if prompt is None:
        return f"its rows hold two answers ({sides[0]} and {sides[1]}), but no column was recognised as what they answer"
    return (
        f"its rows hold two answers ({sides[0]} and {sides[1]}), but none that tells the better one{looked}. Write a recipe with "
        f"source.columns: {{prompt: {prompt}, first: {sides[0]}, second: {sides[1]}}} and source.label or source.votes"
    )
