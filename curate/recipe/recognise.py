"""Tell what the columns of a file mean, by their names and values, as the source of a recipe."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from curate.errors import UsageError
from curate.recipe.columns import Columns, Row, fields_of
from curate.recipe.layout import GOLD, MODEL, PROMPT, Layout, about_prompt, check_of, is_code, parts_of, prompt_of, rater_name
from curate.recipe.two_sides import RESPONSE, two_sides, unsettled

RESPONSES = ("responses", "completions", "outputs", "answers", "generations", "candidates", "samples")
CHOSEN = ("chosen", "chosen_response", "response_chosen", "preferred", "accepted", "winner_response", "better")
REJECTED = ("rejected", "rejected_response", "response_rejected", "dispreferred", "declined", "loser_response", "worse")
TRANSCRIPT = re.compile(r"\s*Human: .*?\n\nAssistant:", re.DOTALL)


def recognise(rows: Sequence[Row], file: str) -> Layout:
    """What the columns of some rows mean. UsageError, with what was recognised and what not, if they make no source."""
    columns = Columns(rows)
    for attempt in (_trl, _pairs, two_sides, _lists, _candidates, unsettled, _prompts):
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
    told = set().union(*map(fields_of, _words(layout.source)))
    left = [name for name in columns.own if name not in told and columns.kinds[name] != "empty"]
    notes = [f"not used: {', '.join(left)}"] if left else []
    parts = parts_of(layout.source["columns"].get("prompt"))
    if len(parts) > 1 and (empty := [name for name in parts if "" in columns.held.get(name, ())]):
        notes.append(f"where {empty[0]} is empty, the prompt ends in blank lines")
    return notes


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, (Mapping, list, tuple)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _words(entry)
    else:
        yield str(value)


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


def _pairs(columns: Columns) -> Layout | None:
    chosen, rejected = columns.named(CHOSEN), columns.named(REJECTED)
    prompt = prompt_of(columns, chosen, rejected)
    if chosen is None or rejected is None or prompt is None:
        return None
    mapped = {"prompt": prompt, "chosen": chosen, "rejected": rejected} | about_prompt(columns, prompt, chosen, rejected)
    mapped.pop("model", None)
    scores = dict(_side_scores(columns))
    source: dict[str, Any] = {"columns": mapped} | ({"scores": scores} if scores else {})
    return Layout("a pair", source, next(iter(scores), None), code=is_code(columns, chosen))


def _side_scores(columns: Columns) -> Iterator[tuple[str, dict[str, str]]]:
    """Raters that score both sides, from columns such as score_chosen and score_rejected."""
    for chosen in columns.own:
        rejected = re.sub("chosen", "rejected", chosen, flags=re.IGNORECASE)
        if rejected != chosen and columns.kinds[chosen] == columns.kinds.get(rejected) == "number":
            rater = re.sub(r"[^A-Za-z0-9_]+", "-", re.sub("chosen", "", chosen, flags=re.IGNORECASE)).strip("-_")
            yield rater or "score", {"chosen": chosen, "rejected": rejected}


def _lists(columns: Columns) -> Layout | None:
    """A prompt with several answers: lists side by side, or one list of objects."""
    responses = columns.named(RESPONSES, ("texts", "conversations")) or columns.inside(RESPONSE, ("texts",), RESPONSES)
    prompt = prompt_of(columns)
    if prompt is None or responses is None:
        return None
    mapped = {"prompt": prompt, "responses": responses} | about_prompt(columns, prompt, responses)
    mapped.pop("model", None)
    outer = responses.partition("[]")[0]
    models = columns.named(("models", "generators"), ("texts",)) or columns.inside(MODEL, ("texts",), {outer.lower()})
    scores = {rater_name(name.rpartition("[].")[2] or name): name for name in columns.lists()}
    source: dict[str, Any] = {"rows": "lists", "columns": mapped | ({"models": models} if models else {})}
    return Layout(
        "a prompt with several answers",
        source | ({"scores": scores} if scores else {}),
        next(iter(scores), None),
        grain="responses",
        code=is_code(columns, responses),
        check=None if scores else check_of(columns, mapped),
    )


def _candidates(columns: Columns) -> Layout | None:
    """An answer to a prompt; the prompt may be missing where a key tells which it was."""
    prompt = prompt_of(columns)
    response = columns.named([name for name in RESPONSE if columns.by_lower.get(name) not in (prompt, *parts_of(prompt))])
    if response is None or (prompt is None and (response.lower() == "text" or not columns.keys())):
        return None
    scores = {rater_name(name): name for name in columns.numbers()}
    model = columns.named(MODEL, ("text",))
    if prompt is not None and response.lower() in GOLD and not scores and model is None and _is_gold(columns, prompt, response):
        return None
    mapped = {"prompt": prompt or "?", "response": response} | about_prompt(columns, prompt, response)
    source: dict[str, Any] = {"columns": mapped} | ({"scores": scores} if scores else {})
    rater = next(iter(scores), None)
    return Layout(
        "one answer to a prompt",
        source,
        rater,
        right_or_wrong=rater is not None and columns.values(scores[rater]) <= {"true", "false", "0", "1", "0.0", "1.0"},
        grain="responses",
        lacks_prompt=prompt is None,
        code=is_code(columns, response),
        check=None if scores else check_of(columns, mapped),
    )


def _is_gold(columns: Columns, prompt: str, response: str) -> bool:
    """Whether the answers are the right ones: a letter each, or one to every prompt."""
    if all(re.fullmatch(r"[A-Z]", text) for text in columns.texts(response)):
        return True
    asked = columns.held[prompt] if prompt in columns.held else columns.held[parts_of(prompt)[0]]
    return len({str(value) for value in asked}) == len(columns.rows)


def _prompts(columns: Columns) -> Layout | None:
    prompt = prompt_of(columns)
    if prompt is None:
        return None
    mapped = {"prompt": prompt} | about_prompt(columns, prompt)
    mapped.pop("model", None)
    gold = columns.named(GOLD, ("text", "number"))
    if gold is not None and gold != prompt:
        mapped["reference"] = gold
    code = prompt in columns.held and is_code(columns, prompt)
    return Layout("a prompt", {"rows": "prompts", "columns": mapped}, grain="prompts", code=code)
