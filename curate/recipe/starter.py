"""Write a commented recipe to start from: for a data file whose columns are recognised, or for the packaged samples."""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.packaged import SAMPLES
from curate.recipe import document
from curate.source.files import files_of
from curate.source.formats import format_of, read_file
from curate.source.rejects import Rejects
from curate.source.spec import Place
from curate.store.versions import NAME

ROWS_SEEN = 100  # rows that columns are recognised by
SAMPLES_NAME = "my-first-pairs"

# names that columns commonly have, the most telling first
PROMPT = ("prompt", "instruction", "question", "query", "problem", "task", "input", "user", "context")
SYSTEM = ("system", "system_prompt")
RESPONSE = ("response", "completion", "output", "answer", "generation", "reply", "model_output", "text")
RESPONSES = ("responses", "completions", "outputs", "answers", "generations", "candidates")
CHOSEN = ("chosen", "chosen_response", "response_chosen", "preferred", "accepted", "winner_response", "better")
REJECTED = ("rejected", "rejected_response", "response_rejected", "dispreferred", "declined", "loser_response", "worse")
SIDES = (
    ("response_a", "response_b"),
    ("response_1", "response_2"),
    ("response1", "response2"),
    ("response_0", "response_1"),
    ("answer_a", "answer_b"),
    ("answer1", "answer2"),
    ("output_1", "output_2"),
    ("output_a", "output_b"),
    ("completion_a", "completion_b"),
)
LABEL = ("winner", "label", "preference", "preferred", "choice", "vote", "verdict", "better")
FIRST_VALUES = ("a", "model_a", "response_a", "answer_a", "output_a", "first", "left", "response_1", "response1", "model_1")
SECOND_VALUES = ("b", "model_b", "response_b", "answer_b", "output_b", "second", "right", "response_2", "response2", "model_2")
TIE_VALUES = ("tie", "equal", "same", "both", "draw", "none")
ABOUT = {
    "model": ("model", "generator", "model_name", "policy_model"),
    "reference": ("reference", "reference_answer", "gold", "ground_truth", "solution", "target"),
    "domain": ("domain", "category", "subject", "topic", "task_type"),
    "license": ("license", "licence"),
}
SCORE = re.compile(r"score|rating|reward|grade|quality|overall|helpful|correct|judge", re.IGNORECASE)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """What was recognised in a file."""

    about: str
    """What a row is, for the recipe's comment."""
    source: dict[str, Any]
    """What goes under `source:` besides its path."""
    rater: str | None = None
    """A rater that both sides, or every candidate, are scored by."""
    grain: str = "pairs"
    notes: list[str] = field(default_factory=list)


def init_text(data: Path | str | None = None, name: str | None = None, base: Path | str | None = None) -> str:
    """Text of a recipe that reads without problems.

    data: a file of rows, recognised by its first 100; the packaged samples if None. name: of the dataset; the file's if
    None. base: the folder the recipe will stand in; paths below it are written relative to it. UsageError if the columns
    mean nothing known.
    """
    folder = Path(base) if base is not None else Path.cwd()
    if data is None:
        return _samples_text(name or SAMPLES_NAME)
    place = Place(path=str(Path(data).expanduser().absolute()))
    file = files_of(place, folder)[0]
    layout = recognise(_first_rows(file), file.name)
    return _text(name or dataset_name(Path(data)), _shown(Path(data), folder), layout)


def dataset_name(file: Path) -> str:
    """A dataset's name from a file's: what stands before the first dot, other characters than a name's made dashes."""
    stem = file.name.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")
    return name if NAME.fullmatch(name) else "my-pairs"


def recognise(rows: Sequence[Row], file: str) -> Layout:
    """What the columns of some rows mean, by their names and values."""
    columns = _Columns(rows)
    found = (
        _trl(columns) or _pairs(columns) or _two_sides(columns) or _lists(columns) or _candidates(columns) or _prompts(columns)
    )
    if found is None:
        named = ", ".join(columns.kinds) or "none"
        raise UsageError(
            f"{file}: its columns ({named}) are not ones that `curate init` knows. Run `curate init` without --data for a recipe "
            "to start from, and say under source.columns which of them are prompt, chosen and rejected (or prompt and response)"
        )
    return found


class _Columns:
    """The columns of some rows and what they hold."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.kinds: dict[str, str] = {}
        for name in dict.fromkeys(key for row in rows for key in row):
            kinds = {_kind(value) for row in rows if (value := row.get(name)) not in (None, "", [])}
            self.kinds[name] = kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "empty"
        self.by_lower = {name.lower(): name for name in self.kinds}

    def named(self, names: Iterable[str], kinds: Sequence[str] = ("text", "messages")) -> str | None:
        """The first column of one of the names that holds one of the kinds."""
        return next((self.by_lower[n] for n in names if n in self.by_lower and self.kinds[self.by_lower[n]] in kinds), None)

    def values(self, name: str) -> set[str]:
        """The distinct values of a column, as text."""
        return {str(row[name]) for row in self.rows if row.get(name) is not None}

    def numbers(self) -> list[str]:
        """Columns of numbers, or truth values, whose name speaks of a score."""
        return [name for name, kind in self.kinds.items() if kind in ("number", "truth") and SCORE.search(name)]

    def lists(self) -> list[str]:
        """Columns of lists of numbers whose name speaks of a score."""
        return [name for name, kind in self.kinds.items() if kind == "numbers" and SCORE.search(name)]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "number" if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", value) else "text"
    if isinstance(value, list) and value:
        inner = {_kind(entry) for entry in value}
        if inner == {"object"}:
            return "messages" if all("role" in entry and "content" in entry for entry in value) else "objects"
        return (
            {"text": "texts", "number": "numbers", "messages": "conversations"}.get(inner.pop(), "list")
            if len(inner) == 1
            else "list"
        )
    return "object" if isinstance(value, Mapping) else "other"


def _trl(columns: _Columns) -> Layout | None:
    """TRL's preference formats and the H4 binarized layout, which need no mapping."""
    kinds = columns.kinds
    sides = {kinds.get("chosen"), kinds.get("rejected")}
    if (
        sides == {"messages"}
        and kinds.get("prompt") == "text"
        and {kinds.get("score_chosen"), kinds.get("score_rejected")} == {"number"}
    ):
        return Layout("a pair in the H4 binarized layout", {"dialect": "binarized"}, "source")
    plain = set(kinds) <= {"prompt", "chosen", "rejected", "images", "image", "tools"}
    if sides in ({"messages"}, {"text"}) and (columns.named(PROMPT) is None or plain):
        return Layout("a pair in TRL's preference format", {"dialect": "trl"})
    if kinds.get("completion") in ("text", "messages") and kinds.get("label") == "truth" and "prompt" in kinds:
        return Layout("a candidate in TRL's unpaired format", {"dialect": "trl", "rows": "candidates"}, "label", "responses")
    return None


def _about(columns: _Columns, *taken: str) -> dict[str, str]:
    found = {ours: columns.named(names, ("text",)) for ours, names in ABOUT.items()}
    found["system"] = columns.named(SYSTEM, ("text",))
    return {ours: column for ours, column in found.items() if column is not None and column not in taken}


def _pairs(columns: _Columns) -> Layout | None:
    prompt, chosen, rejected = columns.named(PROMPT), columns.named(CHOSEN), columns.named(REJECTED)
    if chosen is None or rejected is None or prompt is None:
        return None
    mapped = {"prompt": prompt, "chosen": chosen, "rejected": rejected} | _about(columns, prompt, chosen, rejected)
    mapped.pop("model", None)
    scores = dict(_side_scores(columns))
    source: dict[str, Any] = {"columns": mapped} | ({"scores": scores} if scores else {})
    return Layout("a pair", source, next(iter(scores), None))


def _side_scores(columns: _Columns) -> Iterator[tuple[str, dict[str, str]]]:
    """Raters that score both sides, from columns such as score_chosen and score_rejected."""
    for chosen in columns.kinds:
        rejected = re.sub("chosen", "rejected", chosen, flags=re.IGNORECASE)
        if rejected != chosen and columns.kinds[chosen] == columns.kinds.get(rejected) == "number":
            rater = re.sub(r"[^A-Za-z0-9_]+", "-", re.sub("chosen", "", chosen, flags=re.IGNORECASE)).strip("-_")
            yield rater or "score", {"chosen": chosen, "rejected": rejected}


def _two_sides(columns: _Columns) -> Layout | None:
    """Two answers and a label that says which is better."""
    prompt = columns.named(PROMPT)
    sides = next(((columns.named([a]), columns.named([b])) for a, b in SIDES if columns.named([a]) and columns.named([b])), None)
    label = columns.named(LABEL, ("text", "number"))
    if prompt is None or sides is None or label is None:
        return None
    verdicts, note = _verdicts(sorted(columns.values(label)))
    mapped = {"prompt": prompt, "first": sides[0], "second": sides[1]} | _about(columns, prompt)
    mapped.pop("model", None)
    return Layout(
        "two answers and which of them is better", {"columns": mapped, "label": {"column": label} | verdicts}, notes=[note]
    )


def _verdicts(values: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Which values of a label speak for the first side, the second side and a tie, with a word of caution."""
    words = {"first": FIRST_VALUES, "second": SECOND_VALUES, "tie": TIE_VALUES}
    found = {
        side: [v for v in values if v.lower() in known or v.lower().startswith("tie") and side == "tie"]
        for side, known in words.items()
    }
    if not found["first"] or not found["second"]:
        low, high = ("0", "1") if "0" in values and "2" not in values else ("1", "2")
        found = {"first": [low], "second": [high], "tie": ["0"] if "0" in values and low == "1" else []}
    verdicts = {side: listed[0] if len(listed) == 1 else listed for side, listed in found.items() if listed}
    return verdicts, f"label: values seen are {', '.join(values[:8])}; check which of them speak for the first answer"


def _lists(columns: _Columns) -> Layout | None:
    prompt, responses = columns.named(PROMPT), columns.named(RESPONSES, ("texts", "conversations"))
    if prompt is None or responses is None:
        return None
    mapped = {"prompt": prompt, "responses": responses} | _about(columns, prompt, responses)
    mapped.pop("model", None)
    models = columns.named(("models", "generators"), ("texts",))
    scores = {_rater(name): name for name in columns.lists()}
    source: dict[str, Any] = {"rows": "lists", "columns": mapped | ({"models": models} if models else {})}
    return Layout(
        "a prompt with several answers", source | ({"scores": scores} if scores else {}), next(iter(scores), None), "responses"
    )


def _candidates(columns: _Columns) -> Layout | None:
    prompt = columns.named(PROMPT)
    response = columns.named([name for name in RESPONSE if columns.by_lower.get(name) != prompt])
    if prompt is None or response is None:
        return None
    mapped = {"prompt": prompt, "response": response} | _about(columns, prompt, response)
    scores = {_rater(name): name for name in columns.numbers()}
    source: dict[str, Any] = {"columns": mapped} | ({"scores": scores} if scores else {})
    return Layout("one answer to a prompt", source, next(iter(scores), None), "responses")


def _prompts(columns: _Columns) -> Layout | None:
    prompt = columns.named(PROMPT)
    if prompt is None:
        return None
    mapped = {"prompt": prompt} | _about(columns, prompt)
    mapped.pop("model", None)
    return Layout("a prompt", {"rows": "prompts", "columns": mapped}, None, "prompts")


def _rater(column: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", column).strip("-") or "score"


def _first_rows(file: Path) -> list[Row]:
    kind = format_of(file.name)
    if kind is None:
        raise UsageError(f"{file}: its suffix tells no format; rename it to .jsonl, .json, .csv, .tsv, .parquet or .arrow")
    with tempfile.TemporaryDirectory() as scratch, Rejects(Path(scratch) / "rejects.jsonl") as rejects:
        rows = (row for batch in read_file(file, kind, None, [], rejects) for _, row in batch)
        listed: list[Row] = list(islice(rows, ROWS_SEEN))
    if not listed:
        raise UsageError(f"{file} has no rows that can be read; `curate init` needs some to recognise its columns")
    return listed


def _shown(data: Path, folder: Path) -> str:
    """A path as the recipe writes it: relative where the file lies below the recipe's folder."""
    path = data.expanduser().absolute()
    inside = path.relative_to(folder.absolute()) if path.is_relative_to(folder.absolute()) else path
    return str(inside)


def _yaml(value: Any) -> str:
    return document.dump([value], flow=True)[1:-1]


def _head(name: str) -> list[str]:
    return [
        "# A recipe: where rows come from, and what is done to them. `curate plan` checks it, `curate run` runs it.",
        f"name: {_yaml(name)}  # versions are published as {name}@v1, {name}@v2, ...",
    ]


def _text(name: str, path: str, layout: Layout) -> str:
    lines = [*_head(name), "", f"# Each row is {layout.about}."]
    lines += [f"# {note}" for note in layout.notes]
    lines += ["source:", f"  path: {_yaml(path)}"]
    for key, value in layout.source.items():
        if key in ("columns", "scores"):
            comment = "# ours: the field of your file" if key == "columns" else "# rater: where its score is"
            lines += [f"  {key}:  {comment}", *(f"    {_yaml(ours)}: {_yaml(theirs)}" for ours, theirs in value.items())]
        else:
            lines.append(f"  {key}: {_yaml(value)}")
    lines += ["  max_rejects: 0.01  # share of bad rows that is allowed; they are listed in rejects.jsonl"]
    return "\n".join([*lines, "", *_steps(layout), ""])


def _steps(layout: Layout) -> list[str]:
    lines = ["steps:", "  - exact_duplicate: {normalise: text}  # one of each text; case, spacing and punctuation do not count"]
    if layout.grain == "responses" and layout.rater:
        lines.append(
            f"  - pair: {{by: {_yaml(layout.rater)}, how: best_worst}}  # the best answer of each prompt against the worst"
        )
    elif layout.grain == "responses":
        lines += ["  # Pairs need scores: `verify` checks answers against a reference, `attach` brings scores from a file. Then:"]
        lines += ["  # - pair: {by: RATER, how: best_worst}"]
    elif layout.grain == "pairs" and layout.rater:
        lines.append(
            f"  - margin: {{by: {_yaml(layout.rater)}, drop_negative: true}}  # drops pairs whose rejected side scores higher"
        )
    if layout.grain == "pairs" or (layout.grain == "responses" and layout.rater):
        lines.append("  - split: {test: 0.02, seed: 7}  # like prompts never straddle train and test")
    return lines


def _samples_text(name: str) -> str:
    return "\n".join(
        [
            *_head(name),
            "",
            "# The packaged samples: some 800 answers to 150 prompts, each with a rating from 1 to 10.",
            "# For a file of your own: `curate init --data FILE`.",
            "source:",
            f"  path: {SAMPLES}responses.jsonl",
            f"  join: {{path: {SAMPLES}prompts.jsonl, on: prompt_id}}  # a second file that holds the prompts",
            "  columns: {prompt: prompt, response: response, model: model, reference: reference, domain: kind}  # ours: theirs",
            "  scores: {rating: rating}  # rater: where its score is",
            "",
            "steps:",
            "  - exact_duplicate: {normalise: text}  # one of each answer; case, spacing and punctuation do not count",
            "  - features: {drop: [refusal, truncated]}  # length, language, repetition; refusals and cut answers are dropped",
            "  - pair: {by: rating, how: best_worst, min_gap: 2}  # the best answer of each prompt against the worst",
            "  - split: {test: 0.1, seed: 7}  # like prompts never straddle train and test",
            "",
        ]
    )
