"""The faults of preference data that need no model to see: what each rule looks at, what it finds, and how well it does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UsageError
from curate.maths import detectors, faults
from curate.tables import Grain

Severity = Literal["error", "warning", "info"]
SIDES: dict[Grain, tuple[str, ...]] = {"prompts": (), "responses": ("response",), "pairs": ("chosen", "rejected")}
TURNS = {"response": "turns", "chosen": "chosen_turns", "rejected": "rejected_turns"}
QUOTE = 60  # characters that a detail quotes


class Row:
    """What a rule looks at: a prompt and its answers. What several rules ask of a text is found out once."""

    def __init__(
        self,
        prompt: Sequence[faults.Message],
        sides: Mapping[str, str | None],
        turns: Mapping[str, Sequence[faults.Message] | None] | None = None,
        finish_reason: str | None = None,
    ) -> None:
        self.prompt, self.sides, self.turns, self.finish_reason = prompt, sides, turns or {}, finish_reason

    @cached_property
    def asked(self) -> str:
        """The last user message; empty if there is none."""
        return next((m.get("content") or "" for m in reversed(self.prompt) if m["role"] == "user"), "")

    @cached_property
    def refuses(self) -> bool:
        """Whether the answer to be learnt refuses."""
        return detectors.refusal(self.answer)

    @property
    def answer(self) -> str:
        """The answer that is to be learnt: the response, or the chosen side."""
        return self.sides.get("chosen") or self.sides.get("response") or ""

    @property
    def texts(self) -> Iterator[tuple[str, str]]:
        """Name and text of every answer, chosen first; of a prompt alone, its user message."""
        yield from ((side, text or "") for side, text in self.sides.items()) if self.sides else [("prompt", self.asked)]


class Seen(NamedTuple):
    """What a rule saw in a row."""

    value: float
    """In the rule's unit; NaN where it could not be told."""
    detail: str = ""
    """What was found, for people. Personal data is named, not quoted."""


UNTOLD = Seen(float("nan"))
CLEAN = Seen(0.0)


class Quality(NamedTuple):
    """How a rule does on the labelled rows of data/samples/detectors."""

    precision: float
    recall: float
    rows: int


class Rule(NamedTuple):
    """A fault of preference data."""

    severity: Severity
    """error: a trainer fails or learns nothing from the row; warning: it may well teach what nobody wants; info: good to know."""
    about: str
    example: str
    look: "Callable[[Row], Seen] | None"
    """None for what only all rows together tell, or what needs a tokenizer."""
    grains: tuple[Grain, ...] = ("responses", "pairs")
    unit: str = "1 or 0"
    threshold: float = 1.0
    """The least value at which it speaks against the row."""
    quality: Quality | None = None


def _identical(row: Row) -> Seen:
    same = row.sides["chosen"] == row.sides["rejected"] and row.turns.get("chosen") == row.turns.get("rejected")
    return Seen(float(same), quoted(row.answer))


def _near_identical(row: Row) -> Seen:
    if row.turns.get("chosen") or row.turns.get("rejected") or _identical(row).value:
        return UNTOLD  # identical is the other rule's; of whole conversations the last texts tell too little
    alike = faults.likeness(row.sides["chosen"] or "", row.sides["rejected"] or "")
    return Seen(alike, f"{100 * alike:.0f} % of the wording is the same")


def _refusal(row: Row) -> Seen:
    if not row.refuses:
        return CLEAN
    rejected = row.sides.get("rejected")
    return Seen(float(rejected is None or not detectors.refusal(rejected)), quoted(row.answer))


def _both_refuse(row: Row) -> Seen:
    return Seen(float(row.refuses and detectors.refusal(row.sides["rejected"] or "")), quoted(row.answer))


def _truncated(row: Row) -> Seen:
    if not row.answer.strip():
        return UNTOLD
    cut = detectors.truncation(row.answer, row.finish_reason)
    return Seen(float(cut), f"ends in “…{' '.join(row.answer[-QUOTE:].split())}”")


def _template(row: Row) -> Seen:
    return _first(row, faults.left_over)


def _reasoning(row: Row) -> Seen:
    return _first(row, faults.thought)


def _first(row: Row, find: Callable[[str], str | None]) -> Seen:
    for side, text in row.texts:
        if (piece := find(text)) is not None:
            return Seen(1.0, f"{side}: {piece[:QUOTE]}")
    return CLEAN


def _echo(row: Row) -> Seen:
    if not row.asked or not row.answer:
        return UNTOLD
    return Seen(faults.echo(row.asked, row.answer), f"begins with the prompt: {quoted(row.answer)}")


def _language(row: Row) -> Seen:
    told = faults.languages(row.asked, row.answer)
    if told is None or (told[0] != told[1] and any(faults.names_a_language(m.get("content") or "") for m in row.prompt)):
        return UNTOLD  # it may well have been asked for
    return Seen(float(faults.another_tongue(*told)), f"asked in {told[0]}, answered in {told[1]}")


def _empty(row: Row) -> Seen:
    bare = [side for side, text in row.texts if not detectors.characters(text[:1000]) and not detectors.characters(text)]
    bare = [side for side in bare if not any(m.get("tool_calls") for m in row.turns.get(side) or ())]
    return Seen(float(bool(bare)), f"{' and '.join(bare)} without a visible character" if bare else "")


def _repetition(row: Row) -> Seen:
    text = row.answer if row.sides else row.asked
    share = detectors.repetition(text)
    return Seen(share, f"{100 * share:.0f} % repeats itself")


def _pii(row: Row) -> Seen:
    for side, text in (*((f"prompt, {m['role']}", m.get("content") or "") for m in row.prompt), *row.texts):
        if (hit := faults.personal(text)) is not None:
            return Seen(1.0, f"{side}: {hit.kind} at character {hit.start + 1}")
    return CLEAN


def _turns(row: Row) -> Seen:
    for side in row.sides or {"": None}:
        if (fault := faults.turn_fault(row.prompt, row.turns.get(side))) is not None:
            return Seen(1.0, fault)
    return CLEAN


def quoted(text: str) -> str:
    """The beginning of a text, in quotes on one line."""
    return f"“{' '.join(text[:QUOTE].split())}{'…' if len(text) > QUOTE else ''}”"


ALL: tuple[Grain, ...] = ("prompts", "responses", "pairs")
PAIRS: tuple[Grain, ...] = ("pairs",)

RULES: dict[str, Rule] = {
    "identical": Rule(
        "error",
        "both sides are the same, so there is nothing to prefer",
        "chosen: “4”, rejected: “4”",
        _identical,
        PAIRS,
        quality=Quality(1.0, 1.0, 6),
    ),
    "near_identical": Rule(
        "warning",
        "the sides differ in a few words, and in no number or negation: the preference is most likely chance",
        "chosen: “It is Paris.”, rejected: “it is Paris”",
        _near_identical,
        PAIRS,
        "share of the wording that is the same, in [0, 1]",
        0.9,
        quality=Quality(0.87, 0.93, 32),
    ),
    "empty": Rule(
        "error",
        "an answer (of a prompt, the user message) has no visible character",
        "rejected: “ ”",
        _empty,
        ALL,
        quality=Quality(1.0, 1.0, 14),
    ),
    "turns": Rule(
        "error",
        "roles are in an order that trainers refuse or drop: user and assistant in turn, the user last before the answer",
        "prompt: user, user",
        _turns,
        ALL,
        quality=Quality(1.0, 1.0, 24),
    ),
    "template": Rule(
        "error",
        "a piece of a chat or prompt template is left in a text",
        "“Paris.<|im_end|>”, “Dear {name}”",
        _template,
        ALL,
        quality=Quality(1.0, 1.0, 128),
    ),
    "reasoning": Rule(
        "warning",
        "marks of a model's private reasoning are left in an answer",
        "“<think>The user wants …”",
        _reasoning,
        quality=Quality(1.0, 0.92, 23),
    ),
    "refusal": Rule(
        "warning",
        "the answer to be learnt refuses; of a pair, while the rejected one answers",
        "chosen: “I can't help with that.”, rejected: “Paris.”",
        _refusal,
        quality=Quality(1.0, 1.0, 144),
    ),
    "both_refuse": Rule(
        "info",
        "both sides refuse",
        "chosen: “I can't.”, rejected: “Sorry, no.”",
        _both_refuse,
        PAIRS,
        quality=Quality(1.0, 1.0, 8),
    ),
    "truncated": Rule(
        "warning",
        "the answer to be learnt stops before its end",
        "“… because the second is” (end of answer)",
        _truncated,
        quality=Quality(0.99, 0.99, 152),
    ),
    "repetition": Rule(
        "warning",
        "the answer to be learnt (of a prompt, the user message) repeats itself without end",
        "“I see. I see. I see. I see. …”",
        _repetition,
        ALL,
        "share of the text that repeats itself, in [0, 1]",
        detectors.REPETITIVE,
        quality=Quality(0.97, 1.0, 127),
    ),
    "prompt_echo": Rule(
        "warning",
        "the answer to be learnt begins by repeating the prompt",
        "prompt: “Name the capital of France, please.”, chosen: “Name the capital of France, please. Paris.”",
        _echo,
        unit="share of the prompt that is repeated, in [0, 1]",
        threshold=0.9,
        quality=Quality(1.0, 0.9, 23),
    ),
    "language": Rule(
        "warning",
        "the answer to be learnt is in another language than the prompt, which asks for none",
        "prompt: “Was ist die Hauptstadt von Frankreich?”, chosen: “The capital of France is Paris.”",
        _language,
        quality=Quality(1.0, 0.92, 31),
    ),
    "pii": Rule(
        "warning",
        "a text holds an e-mail address, telephone, card, social security or bank account number (needs curate[pii])",
        "“Write to maria@sunfield-dairy.co.uk”",
        _pii,
        ALL,
        quality=Quality(1.0, 0.93, 33),
    ),
    "window": Rule(
        "warning",
        "the prompt alone fills the trainer's window, so no answer is left to learn (needs a tokenizer)",
        "a prompt of 2,100 tokens, max_length: 2048",
        None,
        ALL,
        "tokens of the prompt",
        quality=Quality(1.0, 1.0, 6),
    ),
    "length_bias": Rule(
        "warning",
        "chosen sides are longer (or shorter) throughout, which is learnt before anything else; said of all rows together",
        "chosen 900 characters in the mean, rejected 300",
        None,
        PAIRS,
        "chosen minus rejected characters in pooled standard deviations; the mean over the rows is Cohen's d",
        0.5,
    ),
}
"""Every rule, in the order in which a row's first fault is told. Cohen (1988) calls d = 0.5 a medium effect."""

ASKED_FOR = ("pii", "window")
"""Rules that need something that is not always there: run only where they are named, or where a tokenizer is."""


def rules_of(
    grain: Grain, only: Sequence[str] = (), without: Sequence[str] = (), named: Sequence[str] = (), window: bool = False
) -> list[str]:
    """The rules to run on a grain, in the order of RULES. named: further rules that are wanted, such as those to drop by."""
    wanted = set(only) if only else {*RULES} - {*ASKED_FOR} | {*named}
    wanted |= {"window"} if window and not only else set()
    return [name for name, rule in RULES.items() if name in wanted and name not in without and grain in rule.grains]


def grain_of(table: pa.Table) -> Grain:
    """The grain that a table's columns tell."""
    if "chosen" in table.column_names:
        return "pairs"
    return "responses" if "response" in table.column_names else "prompts"


def rows_of(table: pa.Table, grain: Grain) -> Iterator[Row]:
    """The rows of a table as rules look at them."""
    prompts = table["prompt"].to_pylist() if "prompt" in table.column_names else [[]] * table.num_rows
    texts = {side: table[side].to_pylist() for side in SIDES[grain]}
    turns = {side: _turn_lists(table, TURNS[side]) for side in SIDES[grain]}
    reasons = table["finish_reason"].to_pylist() if "finish_reason" in table.column_names else [None] * table.num_rows
    for i in range(table.num_rows):
        sides = {side: listed[i] for side, listed in texts.items()}
        yield Row(prompts[i] or [], sides, {side: listed[i] for side, listed in turns.items()}, reasons[i])


def _turn_lists(table: pa.Table, name: str) -> list[Any]:
    absent = name not in table.column_names or table[name].null_count == table.num_rows
    return [None] * table.num_rows if absent else table[name].to_pylist()


def look(row: Row, rule: str, tokens: "Callable[[Sequence[faults.Message]], int] | None" = None) -> Seen:
    """What a rule sees in a row. tokens: counts those of a prompt, for `window`."""
    if rule == "window":
        count = tokens(row.prompt) if tokens and row.prompt else float("nan")
        return Seen(float(count), f"{count:,} tokens")
    finder = RULES[rule].look
    return finder(row) if finder else UNTOLD


def characters(table: pa.Table, side: str) -> np.ndarray:
    """Characters of a side's texts, (N,) float32; NaN for null."""
    counts: np.ndarray = pc.utf8_length(table[side]).cast(pa.float32()).to_numpy()
    return counts


def counter(tokenizer: Path | None) -> "Callable[[Sequence[faults.Message]], int] | None":
    """What counts a prompt's tokens as trainers do, the chat template's own included; None without a tokenizer."""
    return _counter(str(tokenizer)) if tokenizer else None


@lru_cache(maxsize=1)
def _counter(folder: str) -> Callable[[Sequence[faults.Message]], int]:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise UsageError("a tokenizer needs transformers, which is not installed: pip install 'curate[embed]'") from error
    if not Path(folder).is_dir():
        raise UsageError(
            f"tokenizer {folder} is no folder; save one with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    try:
        reader = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"tokenizer {folder} cannot be loaded: {error}") from error

    def count(prompt: Sequence[faults.Message]) -> int:
        plain = [{"role": m["role"], "content": m.get("content") or ""} for m in prompt]
        try:
            encoded = reader.apply_chat_template(plain, add_generation_prompt=True, tokenize=True, return_dict=True)
        except Exception:  # without a template, or refused by it, which is the business of `turns`
            encoded = reader("\n\n".join(m["content"] for m in plain))
        return len(encoded["input_ids"])

    return count


def speaks(rule: str, values: np.ndarray, window: int | None = None, thresholds: Mapping[str, float] | None = None) -> np.ndarray:
    """Where a rule's measure speaks against the row, (N,) bool; NaN never does. length_bias speaks against none by itself."""
    if rule == "length_bias":
        return np.zeros(len(values), dtype=bool)
    against: np.ndarray = values >= least_of(rule, window, thresholds)
    return against


def least_of(rule: str, window: int | None = None, thresholds: Mapping[str, float] | None = None) -> np.float32:
    """The least value of a rule's measure that speaks against a row."""
    return np.float32((thresholds or {}).get(rule, window if rule == "window" and window else RULES[rule].threshold))
