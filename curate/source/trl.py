"""Read TRL's preference formats, standard and conversational: explicit and implicit pairs, unpaired, prompt-only.

`rows` says which: pairs (default), candidates for unpaired rows {prompt, completion, label}, prompts for prompt-only.
Source: TRL 1.16, docs/source/dataset_formats.md and trl/data_utils.py (extract_prompt).
"""

from typing import Any

from curate.source import generic
from curate.source.fields import Raw, answer, kind_of, text
from curate.source.messages import completion, prompt_messages
from curate.source.rejects import BadRow
from curate.source.spec import Mapper, Source

COLUMNS = {"tools": "tools", "images": "images"}
LABEL = "label"
FORMS = {"pairs": "chosen and rejected", "candidates": "prompt, completion and label", "prompts": "prompt alone"}


def as_generic(source: Source) -> Source:
    """The generic source that reads what all of TRL's formats share."""
    sides = {"chosen": "chosen", "rejected": "rejected"} if source.kind() == "pairs" else {}
    columns = {"prompt": "prompt"} | sides | COLUMNS
    return source.model_copy(update={"dialect": "generic", "rows": source.kind(), "columns": columns})


def mapper(source: Source) -> Mapper:
    """The function from one source row to its table rows."""
    kind = source.kind()
    read = generic.common(as_generic(source))
    make = {"pairs": pair, "candidates": candidate, "prompts": prompt}[kind]

    def rows(row: Raw) -> list[dict[str, Any]]:
        if (found := form(row)) != kind:
            raise BadRow(None, "other format", f"rows: {kind} need {FORMS[kind]}; this row is of rows: {found}")
        return [make(row) | read(_with_image(row))]

    return rows


def form(row: Raw) -> str:
    """What kind of row TRL takes this for."""
    if row.get("chosen") is not None or row.get("rejected") is not None:
        return "pairs"
    return "candidates" if row.get("completion") is not None or row.get(LABEL) is not None else "prompts"


def _with_image(row: Raw) -> Raw:
    image = row.get("image")
    return row if image is None else {**row, "images": [image]}


def prompt(row: Raw) -> dict[str, Any]:
    """A prompt-only row."""
    return {"prompt": prompt_messages(row.get("prompt"))}


def candidate(row: Raw) -> dict[str, Any]:
    """An unpaired row; its label is a score of rater `label`, 1 for good and 0 for bad."""
    asked = prompt_messages(row.get("prompt"))
    answer, turns = completion(row.get("completion"), "completion", asked)
    label = row.get(LABEL)
    if not isinstance(label, bool):
        # the trainer reads a label of any other type as no label at all
        raise BadRow(
            LABEL,
            "missing field" if label is None else "wrong type",
            "" if label is None else f"true or false expected, got {kind_of(label)}",
        )
    scores = [{"rater": LABEL, "aspect": LABEL, "value": float(label)}]
    return {"prompt": asked, "response": answer, "turns": turns, "scores": scores}


def pair(row: Raw) -> dict[str, Any]:
    """A pair, its prompt given or shared by both sides."""
    sides = [row.get("chosen"), row.get("rejected")]
    names = ["chosen", "rejected"]
    if row.get("prompt") is not None:
        asked = prompt_messages(row["prompt"])
        answers = [completion(side, name, asked) for side, name in zip(sides, names, strict=True)]
    elif all(isinstance(side, str) and not side.lstrip().startswith("[{") for side in sides):
        asked, answers = shared_text(text(sides[0], "chosen"), text(sides[1], "rejected"))
    else:
        asked, answers = generic.shared_prompt(sides, names, "prompt")
    out = {"prompt": asked} | generic.pair_columns(answers)
    vote = {"rater": "source", "aspect": "preference", "p_chosen": 1.0}
    return out | {"votes": [vote], "flags": generic.pair_flags(out)}


def shared_text(chosen: str, rejected: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """The text both sides begin with as the prompt, a space before the difference left to the answers, as TRL cuts it."""
    if chosen == rejected:
        raise BadRow(
            "chosen", "identical sides", "chosen and rejected are the same text, so the prompt cannot be told from the answer"
        )
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
    if same and chosen[same - 1] == " ":
        same -= 1
    if not same:
        raise BadRow("prompt", "no shared prompt", "the two texts do not begin alike")
    answers = [(answer(side[same:], name), None) for side, name in ((chosen, "chosen"), (rejected, "rejected"))]
    return [{"role": "user", "content": chosen[:same]}], answers


def provides(source: Source) -> set[str]:
    """Columns, scores and votes that the rows can have."""
    columns = generic.provides(as_generic(source))
    return columns | {"response", "scores", f"scores.{LABEL}.{LABEL}"} if source.kind() == "candidates" else columns


def used_fields(source: Source) -> set[str] | None:
    """Top-level fields that are read."""
    return {"prompt", "chosen", "rejected", "completion", LABEL, "tools", "image", "images"} | set(source.meta)


def needs(source: Source) -> list[str]:
    """Paths that a columnar file must have."""
    return {"pairs": ["chosen", "rejected"], "candidates": ["prompt", "completion", LABEL], "prompts": ["prompt"]}[source.kind()]
