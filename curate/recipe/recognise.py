"""Tell what the columns of a file mean, by their names and values, as the source of a recipe."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from curate.errors import UsageError
from curate.source.fields import roots

Row = Mapping[str, Any]

# names that columns commonly have, the most telling first
PROMPT = ("prompt", "instruction", "question", "query", "problem", "input", "user", "context")
TITLE = ("title", "topic")  # of two answers to something: better than no prompt
INPUT = ("input", "context")  # stands beside an instruction in Alpaca's layout
OPTIONS = ("options", "choices")
SYSTEM = ("system", "system_prompt")
RESPONSE = ("response", "completion", "output", "answer", "generation", "reply", "model_output", "generated_text", "text")
RESPONSES = ("responses", "completions", "outputs", "answers", "generations", "candidates", "samples")
GOLD = ("answer", "solution")  # the right one, where nobody is said to have given it
CHOSEN = ("chosen", "chosen_response", "response_chosen", "preferred", "accepted", "winner_response", "better")
REJECTED = ("rejected", "rejected_response", "response_rejected", "dispreferred", "declined", "loser_response", "worse")
MODEL = ("model", "generator", "model_name", "policy_model")
RATER = ("annotator", "evaluator", "rater", "judge", "worker", "workerid", "worker_id", "annotator_id", "labeler")
LABEL = ("winner", "label", "preference", "preferred", "choice", "vote", "verdict", "better", "goldlabel", "gold_label")
ABOUT = {
    "model": MODEL,
    "reference": ("reference", "reference_answer", "gold", "ground_truth", "solution", "target"),
    "domain": ("domain", "category", "subject", "topic", "task_type"),
    "license": ("license", "licence"),
}
SCORE = re.compile(r"score|rating|reward|grade|quality|overall|helpful|correct|judge", re.IGNORECASE)
VOTE = re.compile(r"(annotator|rater|vote|judge|label|human|worker|evaluator)s?[ _-]?\d+", re.IGNORECASE)
KEY = re.compile(r"\w*(?:id|idx|index|key)", re.IGNORECASE)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
TRANSCRIPT = re.compile(r"\s*Human: .*?\n\nAssistant:", re.DOTALL)
CODE = re.compile(r"^\s*(?:def |return\b|import |class \w+[:(]|#include|public |function |const |for .*[:{]$)", re.MULTILINE)
OPPOSITES = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"))
FIRST, SECOND = frozenset({"a", "1", "first", "left"}), frozenset({"b", "2", "second", "right"})
TIE = frozenset({"tie", "tied", "equal", "same", "both", "draw", "none", "neither"})
ANSWER = re.compile("|".join((*RESPONSE, "arg(?:ument)?", "message", "sentence")), re.IGNORECASE)
NO_ANSWER = re.compile(
    r"model|generator|reference|gold|label|annotator|rater|judge|score|(?:_|\b)id\b|\.(?:\w|left|right)$", re.IGNORECASE
)
SHORT = 20  # characters of what is rather a name
MOST_VERDICTS = 12  # distinct values of a column of verdicts


@dataclass(frozen=True)
class Layout:
    """What was recognised in a file."""

    about: str
    """What a row is, for the recipe's comment."""
    source: dict[str, Any]
    """What goes under `source:` besides its path."""
    rater: str | None = None
    """A rater that both sides, or every candidate, are scored by."""
    right_or_wrong: bool = False
    """Whether that rater only tells right from wrong."""
    check: str | None = None
    """How answers can be held against their reference: number or choice."""
    code: bool = False
    """Whether the texts are programs."""
    grain: str = "pairs"
    lacks_prompt: bool = False
    """Whether answers stand alone: the prompts are in another file."""
    notes: list[str] = field(default_factory=list)
    """What a person should know or check."""


class Columns:
    """The columns of some rows and what they hold; fields of objects, and of objects in lists, by their paths."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.held: dict[str, list[Any]] = {}
        for row in rows:
            for name, value in row.items():
                if _fields(name):
                    self._hold(name, value)
        self.kinds = {name: _common_kind(values) for name, values in self.held.items()}
        self.by_lower = {name.lower(): name for name in self.kinds}

    def _hold(self, name: str, value: Any, depth: int = 0) -> None:
        self.held.setdefault(name, []).append(value)
        if depth or not value:
            return
        entries = [value] if isinstance(value, Mapping) else value if isinstance(value, list) else []
        fields = {key for entry in entries if isinstance(entry, Mapping) for key in entry}
        for key in sorted(k for k in fields if re.fullmatch(r"[^.\[\](){}]+", k)):
            if isinstance(value, Mapping):
                self._hold(f"{name}.{key}", value[key], 1)
            else:
                self._hold(f"{name}[].{key}", [e.get(key) if isinstance(e, Mapping) else None for e in entries], 1)

    @property
    def own(self) -> list[str]:
        """The columns themselves, without the fields inside them."""
        return [name for name in self.kinds if any(name in row for row in self.rows)]

    def named(self, names: Iterable[str], kinds: Sequence[str] = ("text", "messages")) -> str | None:
        """The first column of one of the names that holds one of the kinds."""
        return next((self.by_lower[n] for n in names if n in self.by_lower and self.kinds[self.by_lower[n]] in kinds), None)

    def inside(self, names: Iterable[str], kinds: Sequence[str], lists: Iterable[str] | None = None) -> str | None:
        """The first field inside an object, or inside a list of one of the names, that has one of the names and kinds."""
        for name in names:
            for path, kind in self.kinds.items():
                outer, _, inner = path.rpartition("[]." if lists is not None else ".")
                if outer and inner.lower() == name and kind in kinds and (lists is None or outer.lower() in lists):
                    return path
        return None

    def values(self, name: str) -> set[str]:
        """The distinct values of a column, or of the entries of its lists, as text."""
        flat = (entry for value in self.held[name] for entry in (value if isinstance(value, list) else [value]))
        return {_said(entry) for entry in flat if entry is not None}

    def texts(self, name: str) -> list[str]:
        """The texts of a column, or in its lists."""
        flat = (entry for value in self.held[name] for entry in (value if isinstance(value, list) else [value]))
        return [entry for entry in flat if isinstance(entry, str)]

    def always(self, name: str) -> bool:
        """Whether every row has a value."""
        return all(value is not None for value in self.held[name]) and len(self.held[name]) == len(self.rows)

    def numbers(self) -> list[str]:
        """Columns of numbers, or truth values, whose name speaks of a score."""
        return [name for name in self.own if self.kinds[name] in ("number", "truth") and SCORE.search(name)]

    def lists(self) -> list[str]:
        """Columns of lists of numbers whose name speaks of a score."""
        return [name for name, kind in self.kinds.items() if kind in ("numbers", "truths") and SCORE.search(name)]

    def keys(self) -> list[str]:
        """Columns that look like the key of something."""
        return [name for name in self.own if KEY.fullmatch(name) and self.kinds[name] in ("number", "text")]


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _common_kind(values: Sequence[Any]) -> str:
    kinds = {_kind(value) for value in values if value is not None and value != "" and value != []}
    told = [entry for value in values for entry in (value if isinstance(value, list) else [value]) if entry is not None]
    if len(kinds) > 1 and all(isinstance(entry, str) for entry in told):  # texts of which some are bare numbers
        return "text" if kinds <= {"text", "number"} else "texts" if kinds <= {"texts", "numbers"} else "mixed"
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "empty"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "number" if NUMBER.fullmatch(value) else "text"
    if isinstance(value, list) and value:
        return _list_kind(value)
    return "object" if isinstance(value, Mapping) else "other"


def _list_kind(value: list[Any]) -> str:
    kinds = {_kind(entry) for entry in value if entry is not None}
    if kinds == {"object"}:
        chat = all(isinstance(e, Mapping) and "role" in e and "content" in e for e in value)
        return "messages" if chat else "objects"
    if kinds and kinds <= {"text", "number"} and all(isinstance(entry, str) for entry in value if entry is not None):
        return "texts" if kinds != {"number"} else "numbers"
    plural = {"number": "numbers", "truth": "truths", "messages": "conversations"}
    return plural.get(kinds.pop(), "list") if len(kinds) == 1 else "list"


def recognise(rows: Sequence[Row], file: str) -> Layout:
    """What the columns of some rows mean. UsageError, with what was recognised and what not, if they make no source."""
    columns = Columns(rows)
    for attempt in (_trl, _pairs, _two_sides, _lists, _candidates, _unsettled, _prompts):
        if (found := attempt(columns)) is not None:
            if isinstance(found, str):
                raise UsageError(f"{file}: {found}")
            return replace(found, notes=[*found.notes, *_unused(columns, found)])
    named = ", ".join(dict.fromkeys(name for row in rows for name in row)) or "none"
    raise UsageError(
        f"{file}: its columns ({named}) are not ones that `curate init` knows. Run `curate init` without --data for a recipe "
        "to start from, and say under source.columns which of them are prompt, chosen and rejected (or prompt and response)"
    )


def _unused(columns: Columns, layout: Layout) -> list[str]:
    if "dialect" in layout.source:
        return []
    told = set().union(*map(_fields, _words(layout.source)))
    left = [name for name in columns.own if name not in told and columns.kinds[name] != "empty"]
    notes = [f"not used: {', '.join(left)}"] if left else []
    parts = _parts(layout.source["columns"].get("prompt"))
    if len(parts) > 1 and (empty := [name for name in parts if "" in columns.held.get(name, ())]):
        notes.append(f"where {empty[0]} is empty, the prompt ends in blank lines")
    return notes


def _fields(word: str) -> set[str]:
    try:
        return roots(word)
    except ValueError:
        return set()  # a value, not a field


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, (Mapping, list, tuple)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _words(entry)
    else:
        yield str(value)


# -- what a file may be


def _trl(columns: Columns) -> Layout | None:
    """TRL's preference formats and the H4 binarized layout, which need no mapping."""
    kinds = columns.kinds
    sides = {kinds.get("chosen"), kinds.get("rejected")}
    scored = {kinds.get("score_chosen"), kinds.get("score_rejected")} == {"number"}
    if sides == {"messages"} and kinds.get("prompt") == "text" and scored:
        return Layout("a pair in the H4 binarized layout", {"dialect": "binarized"}, "source")
    plain = set(columns.own) <= {"prompt", "chosen", "rejected", "images", "image", "tools"}
    if sides in ({"messages"}, {"text"}) and (columns.named(PROMPT) is None or plain):
        return Layout("a pair in TRL's preference format", {"dialect": "trl"}, notes=_transcript_notes(columns))
    if kinds.get("completion") in ("text", "messages") and kinds.get("label") == "truth" and "prompt" in kinds:
        source = {"dialect": "trl", "rows": "candidates"}
        return Layout("a candidate in TRL's unpaired format", source, "label", True, grain="responses")
    return None


def _transcript_notes(columns: Columns) -> list[str]:
    texts = columns.texts("chosen")
    if "prompt" in columns.kinds or not texts or 2 * sum(bool(TRANSCRIPT.match(text)) for text in texts) < len(texts):
        return []
    return [
        "chosen and rejected are transcripts (Human: ... Assistant: ...), which curate cannot take apart into messages yet.",
        "They are read as TRL reads them: whatever both begin with, labels and all, is one user message, and may end in the",
        "middle of the last answer. Convert them to lists of {role, content} for messages of their own",
    ]


def _about(columns: Columns, *taken: str | None) -> dict[str, str]:
    found = {
        ours: columns.named(names, ("text", "number") if ours == "reference" else ("text",)) for ours, names in ABOUT.items()
    }
    found["system"] = columns.named(SYSTEM, ("text",))
    return {ours: column for ours, column in found.items() if column is not None and column not in taken}


def _prompt(columns: Columns, *taken: str | None) -> str | None:
    """The prompt's field, or a template of an instruction and its input, or of a question and its options."""
    prompt = columns.named([name for name in PROMPT if columns.by_lower.get(name) not in taken])
    if prompt is None:
        return None
    options = columns.named(OPTIONS, ("texts", "numbers"))
    if options is not None and prompt.lower() in ("question", "query", "problem", "prompt") and columns.always(options):
        return f"{{{prompt}}}\n\n{{{options}:letters}}"
    extra = columns.named(INPUT, ("text",)) if prompt.lower() == "instruction" else None
    if extra is not None and extra not in taken and columns.always(extra):
        return f"{{{prompt}}}\n\n{{{extra}}}"
    return prompt


def _subject(columns: Columns, *taken: str) -> str | None:
    """What two answers are answers to: the prompt, or failing that a title, also one inside an object."""
    inside = columns.inside((*PROMPT, "title"), ("text",))
    return _prompt(columns, *taken) or columns.named(TITLE[:1]) or inside or columns.named(TITLE)


def _pairs(columns: Columns) -> Layout | None:
    chosen, rejected = columns.named(CHOSEN), columns.named(REJECTED)
    prompt = _prompt(columns, chosen, rejected)
    if chosen is None or rejected is None or prompt is None:
        return None
    mapped = {"prompt": prompt, "chosen": chosen, "rejected": rejected} | _about(columns, prompt, chosen, rejected)
    mapped.pop("model", None)
    scores = dict(_side_scores(columns))
    source: dict[str, Any] = {"columns": mapped} | ({"scores": scores} if scores else {})
    return Layout("a pair", source, next(iter(scores), None), code=_is_code(columns, chosen))


def _side_scores(columns: Columns) -> Iterator[tuple[str, dict[str, str]]]:
    """Raters that score both sides, from columns such as score_chosen and score_rejected."""
    for chosen in columns.own:
        rejected = re.sub("chosen", "rejected", chosen, flags=re.IGNORECASE)
        if rejected != chosen and columns.kinds[chosen] == columns.kinds.get(rejected) == "number":
            rater = re.sub(r"[^A-Za-z0-9_]+", "-", re.sub("chosen", "", chosen, flags=re.IGNORECASE)).strip("-_")
            yield rater or "score", {"chosen": chosen, "rejected": rejected}


def _two_sides(columns: Columns) -> Layout | None:
    """Two answers, and a label or votes that say which is better."""
    sides = _sides(columns)
    if sides is None:
        return None
    prompt = _subject(columns, *sides)
    verdict = _votes(columns) or _label(columns)
    if prompt is None or verdict is None:
        return None
    about, said, note = verdict
    mapped = {"prompt": prompt, "first": sides[0], "second": sides[1]} | _about(columns, prompt)
    mapped.pop("model", None)
    models = [(a, b) for a, b in _couples(columns, ("text",)) if any(name in a.lower() for name in ("model", "generator"))]
    if models:
        mapped |= dict(zip(("first_model", "second_model"), models[0], strict=True))
    return Layout(about, {"columns": mapped} | said, notes=[note], code=_is_code(columns, sides[0]))


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


def _unsettled(columns: Columns) -> str | None:
    """What to say of two answers of which none is told to be better."""
    sides = _sides(columns)
    if sides is None:
        return None
    tried = [f"{name} ({', '.join(sorted(columns.values(name))[:4])})" for name in _label_names(columns)]
    looked = f"; what {', '.join(tried)} says was not understood" if tried else ""
    prompt = _subject(columns)
    if prompt is None:
        return f"its rows hold two answers ({sides[0]} and {sides[1]}), but no column was recognised as what they answer"
    return (
        f"its rows hold two answers ({sides[0]} and {sides[1]}), but none that tells the better one{looked}. Write a recipe with "
        f"source.columns: {{prompt: {prompt}, first: {sides[0]}, second: {sides[1]}}} and source.label or source.votes"
    )


def _lists(columns: Columns) -> Layout | None:
    """A prompt with several answers: lists side by side, or one list of objects."""
    responses = columns.named(RESPONSES, ("texts", "conversations")) or columns.inside(RESPONSE, ("texts",), RESPONSES)
    prompt = _prompt(columns)
    if prompt is None or responses is None:
        return None
    mapped = {"prompt": prompt, "responses": responses} | _about(columns, prompt, responses)
    mapped.pop("model", None)
    outer = responses.partition("[]")[0]
    models = columns.named(("models", "generators"), ("texts",)) or columns.inside(MODEL, ("texts",), {outer.lower()})
    scores = {_rater(name.rpartition("[].")[2] or name): name for name in columns.lists()}
    source: dict[str, Any] = {"rows": "lists", "columns": mapped | ({"models": models} if models else {})}
    return Layout(
        "a prompt with several answers",
        source | ({"scores": scores} if scores else {}),
        next(iter(scores), None),
        grain="responses",
        code=_is_code(columns, responses),
        check=None if scores else _check(columns, mapped),
    )


def _candidates(columns: Columns) -> Layout | None:
    """An answer to a prompt; the prompt may be missing where a key tells which it was."""
    prompt = _prompt(columns)
    response = columns.named([name for name in RESPONSE if columns.by_lower.get(name) not in (prompt, *_parts(prompt))])
    if response is None or (prompt is None and (response.lower() == "text" or not columns.keys())):
        return None
    scores = {_rater(name): name for name in columns.numbers()}
    model = columns.named(MODEL, ("text",))
    if prompt is not None and response.lower() in GOLD and not scores and model is None and _is_gold(columns, prompt, response):
        return None
    mapped = {"prompt": prompt or "?", "response": response} | _about(columns, prompt, response)
    source: dict[str, Any] = {"columns": mapped} | ({"scores": scores} if scores else {})
    rater = next(iter(scores), None)
    return Layout(
        "one answer to a prompt",
        source,
        rater,
        right_or_wrong=rater is not None and columns.values(scores[rater]) <= {"true", "false", "0", "1", "0.0", "1.0"},
        grain="responses",
        lacks_prompt=prompt is None,
        code=_is_code(columns, response),
        check=None if scores else _check(columns, mapped),
    )


def _parts(prompt: str | None) -> list[str]:
    return re.findall(r"\{([^{}:]+)", prompt or "")


def _is_gold(columns: Columns, prompt: str, response: str) -> bool:
    """Whether the answers are the right ones: a letter each, or one to every prompt."""
    if all(re.fullmatch(r"[A-Z]", text) for text in columns.texts(response)):
        return True
    asked = columns.held[prompt] if prompt in columns.held else columns.held[_parts(prompt)[0]]
    return len({str(value) for value in asked}) == len(columns.rows)


def _prompts(columns: Columns) -> Layout | None:
    prompt = _prompt(columns)
    if prompt is None:
        return None
    mapped = {"prompt": prompt} | _about(columns, prompt)
    mapped.pop("model", None)
    gold = columns.named(GOLD, ("text", "number"))
    if gold is not None and gold != prompt:
        mapped["reference"] = gold
    code = prompt in columns.held and _is_code(columns, prompt)
    return Layout("a prompt", {"rows": "prompts", "columns": mapped}, grain="prompts", code=code)


def _check(columns: Columns, mapped: Mapping[str, str]) -> str | None:
    """How the reference can be checked: a letter, a number, or not by rule."""
    values = columns.values(mapped["reference"]) if mapped.get("reference") in columns.held else set()
    if values and all(re.fullmatch(r"\(?[A-J]\)?", value) for value in values):
        return "choice"
    return "number" if values and all(NUMBER.fullmatch(value.strip(" $%").replace(",", "")) for value in values) else None


def _is_code(columns: Columns, name: str) -> bool:
    texts = [text for text in columns.texts(name) if text.strip()]
    return bool(texts) and 2 * sum(bool(CODE.search(text)) for text in texts) > len(texts)


def _rater(column: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", column).strip("-") or "score"


# -- prompts that stand in another file


def prompts_beside(rows: Sequence[Row], others: Iterable[tuple[str, Sequence[Row]]]) -> tuple[str, str, Columns] | None:
    """The file among others that holds the prompts of some answers, the key both have, and its columns."""
    keys = Columns(rows).keys()
    for file, theirs in others:
        columns = Columns(theirs)
        if _prompt(columns) is None or columns.named([name for name in RESPONSE if name not in GOLD]) is not None:
            continue
        for key in keys:
            if key in columns.kinds and len(columns.values(key)) == len(theirs):
                return file, key, columns
    return None


def joined(layout: Layout, file: str, key: str, columns: Columns) -> Layout:
    """The layout of answers with their prompts from another file."""
    mapped = dict(layout.source["columns"])
    about = _about(columns)
    about.pop("model", None)
    prompt = str(_prompt(columns))
    mapped |= {"prompt": prompt} | {ours: theirs for ours, theirs in about.items() if theirs != prompt and ours not in mapped}
    gold = columns.named(GOLD, ("text", "number"))
    if gold is not None and "reference" not in mapped and gold != mapped["response"]:
        mapped["reference"] = gold
    order = ["prompt", "response", *mapped]
    source = {"join": {"path": file, "on": key}} | layout.source | {"columns": {name: mapped[name] for name in order}}
    return replace(layout, source=source, lacks_prompt=False, check=layout.check or _check(columns, mapped))


def without_prompt(layout: Layout, keys: Sequence[str]) -> str:
    """What to say of answers whose prompts were not found."""
    response, key = layout.source["columns"]["response"], keys[0]
    return (
        f"its rows hold answers ({response}) but not their prompts, and no file beside it has both {' or '.join(keys)} and a "
        f"prompt. Write a recipe with source.columns: {{prompt: FIELD, response: {response}}} and "
        f"source.join: {{path: FILE, on: {key}}}, FILE having the prompts"
    )
