"""What a file was recognised as, and the single fields that layouts share: the prompt, what is told about it, its check."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.recipe.columns import NUMBER, Columns

# names that columns commonly have, the most telling first
PROMPT = ("prompt", "instruction", "question", "query", "problem", "input", "user", "context")
TITLE = ("title", "topic")  # of two answers to something: better than no prompt
INPUT = ("input", "context")  # stands beside an instruction in Alpaca's layout
OPTIONS = ("options", "choices")
SYSTEM = ("system", "system_prompt")
MODEL = ("model", "generator", "model_name", "policy_model")
GOLD = ("answer", "solution")  # the right one, where nobody is said to have given it
ABOUT = {
    "model": MODEL,
    "reference": ("reference", "reference_answer", "gold", "ground_truth", "solution", "target"),
    "domain": ("domain", "category", "subject", "topic", "task_type"),
    "license": ("license", "licence"),
}
CODE = re.compile(r"^\s*(?:def |return\b|import |class \w+[:(]|#include|public |function |const |for .*[:{]$)", re.MULTILINE)


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


def about_prompt(columns: Columns, *taken: str | None) -> dict[str, str]:
    """What is told besides: model, reference, domain, licence and system message, each with its column."""
    found = {
        ours: columns.named(names, ("text", "number") if ours == "reference" else ("text",)) for ours, names in ABOUT.items()
    }
    found["system"] = columns.named(SYSTEM, ("text",))
    return {ours: column for ours, column in found.items() if column is not None and column not in taken}


def prompt_of(columns: Columns, *taken: str | None) -> str | None:
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


def subject_of(columns: Columns, *taken: str) -> str | None:
    """What two answers are answers to: the prompt, or failing that a title, also one inside an object."""
    inside = columns.inside((*PROMPT, "title"), ("text",))
    return prompt_of(columns, *taken) or columns.named(TITLE[:1]) or inside or columns.named(TITLE)


def parts_of(prompt: str | None) -> list[str]:
    """The fields of a template."""
    return re.findall(r"\{([^{}:]+)", prompt or "")


def check_of(columns: Columns, mapped: Mapping[str, str]) -> str | None:
    """How the reference can be checked: a letter, a number, or not by rule."""
    values = columns.values(mapped["reference"]) if mapped.get("reference") in columns.held else set()
    if values and all(re.fullmatch(r"\(?[A-J]\)?", value) for value in values):
        return "choice"
    return "number" if values and all(NUMBER.fullmatch(value.strip(" $%").replace(",", "")) for value in values) else None


def is_code(columns: Columns, name: str) -> bool:
    """Whether most texts of a column are programs."""
    texts = [text for text in columns.texts(name) if text.strip()]
    return bool(texts) and 2 * sum(bool(CODE.search(text)) for text in texts) > len(texts)


def rater_name(column: str) -> str:
    """A rater named after its column."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", column).strip("-") or "score"
