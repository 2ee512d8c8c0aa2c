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

DPO: dict[str, Schema] = {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES, "tools": TOOLS, "pair_id": PAIR_ID}
REWARD: dict[str, Schema] = DPO | {
    "margin": {"type": "number", "minimum": 0, "description": "Score of chosen minus score of rejected, in the rater's unit."}
}
SWIFT: dict[str, Schema] = {
    "messages": MESSAGES | {"description": "Prompt and chosen response."},
    "rejected_messages": MESSAGES | {"description": "The same prompt and the rejected response."},
    "tools": TOOLS,
    "rejected_tools": TOOLS,
    "pair_id": PAIR_ID,
    "margin": REWARD["margin"],
}
SFT: dict[str, Schema] = {"prompt": MESSAGES, "completion": MESSAGES, "tools": TOOLS, "response_id": RESPONSE_ID}
KTO: dict[str, Schema] = {
    "prompt": MESSAGES,
    "completion": MESSAGES,
    "label": {"type": "boolean", "description": "Whether the response's score reaches the threshold."},
    "tools": TOOLS,
    "response_id": RESPONSE_ID,
}
PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
SOFT: dict[str, Schema] = DPO | {
    "label_prob": PROBABILITY | {"description": "Probability that the chosen side is better."},
    "weight": {"type": "number", "description": "Weight of the pair in the loss; 1 where the version has none."},
}
SPPO: dict[str, Schema] = {
    "chosen": MESSAGES | {"description": "Prompt and chosen response; the trainer takes all but the last message as prompt."},
    "rejected": MESSAGES | {"description": "The same prompt and the rejected response."},
    "chosen_probs": PROBABILITY | {"description": "Probability that chosen is better than rejected."},
    "chosen_probs_win": PROBABILITY | {"description": "Mean probability of chosen over the prompt's responses."},
    "chosen_probs_lose": PROBABILITY | {"description": "Mean probability of rejected over the prompt's responses."},
    "pair_id": PAIR_ID,
}
REGRESSION: dict[str, Schema] = DPO | {
    "p_win": PROBABILITY | {"description": "Probability that chosen is better, as the votes have it."},
    "target": {"type": "number", "description": "Log-odds that chosen is better, finite: what the rewards' difference learns."},
}
SPANS: Schema = {
    "type": "array",
    "description": "Spans of characters of the side's last message, end excluded; weight 0 keeps a span out of the loss.",
    "items": {
        "type": "object",
        "properties": {
            "start": {"type": "integer", "minimum": 0},
            "end": {"type": "integer", "minimum": 0},
            "weight": {"type": "number"},
        },
        "required": ["start", "end", "weight"],
        "additionalProperties": False,
    },
}
TOKEN_IDS: Schema = {"type": "array", "items": {"type": "integer"}, "description": "The side's tokens after the prompt's."}
TOKEN_WEIGHTS: Schema = {"type": "array", "items": {"type": "number"}, "description": "Weight of each of these tokens."}
MASKED: dict[str, Schema] = DPO | {
    f"{side}_{name}": kind
    for side in ("chosen", "rejected")
    for name, kind in (("spans", SPANS), ("token_ids", TOKEN_IDS), ("token_weights", TOKEN_WEIGHTS))
}
TEXTS: Schema = {"type": "array", "minItems": 2, "items": {"type": "string"}}
NUMBERS: Schema = {"type": "array", "minItems": 2, "items": {"type": "number"}}
PROMPT_ID: Schema = {"type": "string", "description": "The prompt in its version."}
RANKED: dict[str, Schema] = {
    "prefix": {
        "type": "array",
        "minItems": 2,
        "items": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "description": "The prompt once for each response: turns after role marks, the last the assistant's mark alone.",
    },
    "suffix": TEXTS | {"description": "The responses, the best first."},
    "reward": NUMBERS | {"description": "Their scores, falling; equal ones stand side by side."},
    "sft_index": {"const": 0, "description": "The response whose likelihood is learnt too: the best."},
    "prompt_id": PROMPT_ID,
}
SCORED: dict[str, Schema] = {
    "query": {"type": "string", "description": "The prompt's one message."},
    "responses": TEXTS | {"description": "The responses, the best first."},
    "scores": NUMBERS | {"description": "Their scores, falling."},
    "prompt_id": PROMPT_ID,
}
RLHFLOW: dict[str, Schema] = {
    "prompt": MESSAGES,
    "responses": TEXTS | {"description": "The responses, the best first."},
    "rewards": NUMBERS | {"description": "Their scores, falling."},
    "tools": TOOLS,
    "prompt_id": PROMPT_ID,
}
TRIPLE: dict[str, Schema] = {
    "prompt": MESSAGES,
    "reference": MESSAGES | {"description": "The best response."},
    "chosen": MESSAGES | {"description": "The second best."},
    "rejected": MESSAGES | {"description": "The worst."},
    "tools": TOOLS,
    "prompt_id": PROMPT_ID,
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


def rated_schema(form: "Format") -> Schema:
    """Schema of a response with a column for each of its attributes."""
    rating = {"type": ["number", "null"], "description": "An attribute, named by its aspect; null: not rated, out of the loss."}
    return row_schema(form, SFT, ["prompt", "completion"]) | {"additionalProperties": rating}


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
