"""The published contracts: a JSON schema of recipes, and a description of each table."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from curate import tables
from curate.models.spec import ModelSpec
from curate.operator import Operator
from curate.operators import OPERATORS
from curate.publish.gates import PATTERN
from curate.recipe.check import NEVER_NULL
from curate.recipe.reader import STEP_NAME
from curate.refresh import PATTERN as REFRESH
from curate.source.spec import Source
from curate.store.versions import NAME
from curate.tables import Grain

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
ROWS: dict[Grain, str] = {
    "prompts": "one prompt",
    "responses": "one candidate response",
    "pairs": "one comparison of two responses",
}
SHORT_LISTS = [("source", "join"), ("source", "meta")]
SHORT_LISTS += [(f"source.{part}", side) for part in ("Label", "Votes") for side in ("first", "second", "tie")]
"""Lists of a source that may be written as their only item."""


def recipe_schema(operators: Mapping[str, type[Operator]] = OPERATORS) -> Schema:
    """JSON schema of a recipe, for editors; steps are described by their operators' own parameters."""
    definitions: Schema = {}
    steps = [_step(name, operator, definitions) for name, operator in operators.items()]
    source = _hoisted(Source, "source", definitions)
    _allow_short_forms(definitions)
    properties: Schema = {
        "name": {
            "type": "string",
            "pattern": f"^{NAME.pattern}$",
            "description": "Name of the dataset; versions are counted under it.",
        },
        "models": {
            "type": "object",
            "additionalProperties": _hoisted(ModelSpec, "model", definitions),
            "description": "Models by the names that steps use.",
        },
        "source": {
            "anyOf": [source, {"type": "array", "items": source, "minItems": 1}],
            "description": "Where the rows come from.",
        },
        "steps": {
            "type": ["array", "null"],
            "items": {"oneOf": steps},
            "description": "Operators in the order they are applied.",
        },
        "refresh": {
            "anyOf": [
                {"type": "string", "pattern": REFRESH},
                {
                    "type": "object",
                    "properties": {
                        "policy": {"enum": ["replace", "append", "window"]},
                        "prompts": {"type": "integer", "minimum": 1},
                        "versions": {"type": "integer", "minimum": 1},
                        "days": {"type": "number", "exclusiveMinimum": 0},
                    },
                    "additionalProperties": False,
                },
            ],
            "description": "What a run takes of a changed source: replace (default: the source as it is now), append "
            "(everything ever seen), or a window of the newest prompts, versions or days, such as window:30d.",
        },
        "max_errors": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "Share of a step's rows that may stay without an answer (default 0.02).",
        },
        "gates": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string", "pattern": PATTERN},
            "description": "Metric: condition, such as '>= 0.3', '< 5%', '>= 1_000, < 2_000' or 'between 0.2 and 0.4'; a version "
            "is published only if all hold. `curate show NAME --metrics` lists the metrics of a version.",
        },
        "exports": {
            "type": ["array", "null"],
            "items": {
                "anyOf": [{"type": "string"}, {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}]
            },
            "description": "Training files to write: formats, or mappings with the format under `to`.",
        },
    }
    return {
        "$schema": DRAFT,
        "title": "curate recipe",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "source"],
        "properties": properties,
        "$defs": dict(sorted(definitions.items())),
    }


def table_schemas() -> dict[Grain, Schema]:
    """Each table's columns: name, Arrow type, whether it may be null, and what it means."""
    return {
        grain: {
            "title": grain,
            "row": ROWS[grain],
            "columns": [
                {
                    "name": column.name,
                    "type": str(column.type),
                    "nullable": column.name not in NEVER_NULL[grain],
                    "meaning": column.meaning,
                }
                for column in columns
            ],
        }
        for grain, columns in tables.COLUMNS.items()
    }


def _step(name: str, operator: type[Operator], definitions: Schema) -> Schema:
    """What a step of one operator may look like: its parameters under its name, or the bare name if it needs none."""
    parameters = _hoisted(operator, name, definitions)
    own = definitions[name]
    own["properties"]["name"] = {
        "type": "string",
        "pattern": f"^{STEP_NAME.pattern}$",
        "description": "Name of the step in flags, evidence and reports; the operator's name if not given.",
    }
    own["properties"].setdefault(
        "replace", {"type": "boolean", "default": False, "description": "Allow overwriting a value that an earlier step wrote."}
    )
    about = " ".join((operator.__doc__ or "").strip().split("\n\n")[0].split())
    needed = bool(own.get("required"))
    step: Schema = {
        "type": "object",
        "description": about,
        "properties": {name: parameters if needed else {"anyOf": [parameters, {"type": "null"}]}},
        "required": [name],
        "additionalProperties": False,
    }
    return step if needed else {"anyOf": [{"const": name, "description": about}, step]}


def _allow_short_forms(definitions: Schema) -> None:
    """Let a source say `join: {...}` for a list of one, `scores: {rm: field}` and the like, as its reader does."""
    for part, key in SHORT_LISTS:
        listed = definitions[part]["properties"][key]
        definitions[part]["properties"][key] = _either(listed, listed["items"])
    scores = definitions["source"]["properties"]["scores"]
    scores["additionalProperties"] = _either(scores["additionalProperties"], {"type": "string"})
    on = definitions["source.Join"]["properties"]["on"]
    texts = {"type": "array", "items": {"type": "string"}}
    definitions["source.Join"]["properties"]["on"] = _either(on, {"type": "string"}, texts)


def _either(schema: Schema, *others: Schema) -> Schema:
    """A schema that also takes other forms, under its own description and default."""
    about = {key: schema[key] for key in ("description", "default") if key in schema}
    return {"anyOf": [{key: value for key, value in schema.items() if key not in about}, *others]} | about


def _hoisted(model: type[BaseModel], name: str, definitions: Schema) -> Schema:
    """A reference to the model's schema, stored among the definitions under `name`, its parts under `name.Part`."""
    schema = TypeAdapter(model).json_schema(by_alias=True, ref_template=f"#/$defs/{name}.{{model}}")
    for part, content in schema.pop("$defs", {}).items():
        definitions[f"{name}.{part}"] = content
    definitions[name] = {key: value for key, value in schema.items() if key != "title"}
    return {"$ref": f"#/$defs/{name}"}
