"""JSON schemas of the rows of each export."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate import tables

if TYPE_CHECKING:
    from curate.export.format import Format

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
JSON_COLUMNS = ("tools", "goal", "meta", "sampling")
"""Text columns of the tables that hold JSON."""

MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "role": {"type": "string"},
        "content": {"type": "string"},
        "name": {"type": "string"},
        "tool_calls": {"type": "array", "description": "Calls as objects, arguments too."},
        "tool_call_id": {"type": "string"},
    },
    "required": ["role"],
    "anyOf": [{"required": ["content"]}, {"required": ["tool_calls"]}],
    "additionalProperties": False,
}
MESSAGES: Schema = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/message"}}
TOOLS: Schema = {
    "type": ["string", "null"],
    "description": "Tools offered to the model: a JSON list of function schemas, as text; null for none.",
}
PAIR_ID: Schema = {"type": "string", "description": "The pair in its version; `curate why` tells its story."}
RESPONSE_ID: Schema = {"type": ["string", "null"], "description": "The response in its version; null if it has no id."}

MESSAGE_COLUMNS = ("prompt", "chosen", "rejected", "completion")
DPO: dict[str, Schema] = {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES, "tools": TOOLS, "pair_id": PAIR_ID}
REWARD: dict[str, Schema] = DPO | {
    "margin": {"type": "number", "minimum": 0, "description": "Score of chosen minus score of rejected, in the rater's unit."}
}
SFT: dict[str, Schema] = {"prompt": MESSAGES, "completion": MESSAGES, "tools": TOOLS, "response_id": RESPONSE_ID}
KTO: dict[str, Schema] = {
    "prompt": MESSAGES,
    "completion": MESSAGES,
    "label": {"type": "boolean", "description": "Whether the response's score reaches the threshold."},
    "tools": TOOLS,
    "response_id": RESPONSE_ID,
}


def export_schemas() -> dict[str, Schema]:
    """The schema of each export's rows, by file name."""
    from curate.export.formats import FORMATS

    return {f"export-{name}.json": form.schema() for name, form in FORMATS.items()}


def row_schema(form: "Format", columns: dict[str, Schema], required: list[str]) -> Schema:
    """Schema of a trainer's row."""
    return _titled(form) | {
        "required": required,
        "properties": columns,
        "additionalProperties": False,
        "$defs": {"message": MESSAGE},
    }


def everything_schema(form: "Format", parsed: bool = False) -> Schema:
    """Schema of a row with every column of its version; parsed: columns of JSON text are values."""
    known: dict[str, Schema] = {}
    for columns in tables.COLUMNS.values():
        for column in columns:
            meaning: Schema = {"description": column.meaning}
            if column.name in ("chosen", "rejected"):
                continue
            if parsed and column.name in JSON_COLUMNS:
                known[column.name] = meaning
            else:
                known[column.name] = _nullable(column.type, parsed) | meaning
    for side in ("chosen", "rejected"):
        known[side] = _nullable(pa.list_(tables.MESSAGE), parsed) | {"description": f"messages of the {side} side"}
    flat = {
        "type": ["number", "null"],
        "description": "score_RATER_ASPECT, chosen_score_..., rejected_score_...: one column a score",
    }
    return _titled(form) | {
        "properties": known,
        "patternProperties": {"^(chosen_|rejected_)?score_": flat},
        "additionalProperties": False,
    }


def _titled(form: "Format") -> Schema:
    about = f"{form.description}; for {form.trainer} ({form.tested})"
    return {"$schema": DRAFT, "title": f"row of {form.name}", "description": about, "type": "object"}


def _nullable(kind: pa.DataType, parsed: bool) -> Schema:
    """Schema of a column's values, null allowed."""
    if pa.types.is_list(kind):
        if parsed and kind.value_type == tables.MESSAGE:
            return {"type": ["array", "null"], "items": MESSAGE}
        return {"type": ["array", "null"], "items": _nullable(kind.value_type, parsed)}
    if pa.types.is_struct(kind):
        return {
            "type": "object",
            "properties": {field.name: _nullable(field.type, parsed) for field in kind},
            "additionalProperties": False,
        }
    if pa.types.is_integer(kind):
        return {"type": ["integer", "null"]}
    return {"type": ["number" if pa.types.is_floating(kind) else "string", "null"]}
