"""What a recipe's `source:` may say: where rows lie, and which of their fields are which of our columns.

One mapping or a list of them; all sources of a recipe must make the same kind of rows.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from curate.maths.recorded import Layout
from curate.source import fields
from curate.tables import PROMPT_COLUMNS, Grain

Format = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]
Rows = Literal["candidates", "pairs", "prompts", "lists"]
GRAINS: dict[str, Grain] = {"candidates": "responses", "lists": "responses", "pairs": "pairs", "prompts": "prompts"}

TEXTS = ("source", "license", "domain", "reference", "parent_id")
ABOUT_PROMPT = ("prompt", "system", "tools", "images", *TEXTS)
ABOUT_CANDIDATE = (
    "reasoning",
    "model",
    "policy",
    "sampling",
    "seed",
    "sample",
    "finish_reason",
    "prompt_tokens",
    "response_tokens",
    "logprob_sum",
)
ABOUT_PAIR = ("margin", "label_prob", "weight", "difficulty", "stage", "split", "goal")
COLUMNS_OF: dict[str, tuple[str, ...]] = {
    "prompts": ABOUT_PROMPT,
    "candidates": (*ABOUT_PROMPT, "response", *ABOUT_CANDIDATE),
    "lists": (*ABOUT_PROMPT, "responses", "models"),
    "pairs": (
        *ABOUT_PROMPT,
        "chosen",
        "rejected",
        "chosen_model",
        "rejected_model",
        "first",
        "second",
        "first_model",
        "second_model",
        *ABOUT_PAIR,
    ),
}
"""Columns that a mapping may fill, by kind of row."""
SIDES = ("chosen", "rejected", "first", "second")
MADE_FROM = {"system": "prompt", "responses": "response", "models": "model"}
MADE_FROM |= {"first": "chosen", "second": "rejected", "first_model": "chosen_model", "second_model": "rejected_model"}
"""Table columns behind the mapping's own words."""
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*@v\d+")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
LABEL_ASPECT = "preference"
SCORE_ASPECT = "score"

Scalar = str | int | float | bool


def _path(value: str) -> str:
    fields.getter(value)
    return value


def _mapping(value: str) -> str:
    fields.read_with(value)
    return value


def _aspect(value: str) -> str:
    if not re.fullmatch(r"[^.:]+", value):
        raise ValueError(f"an aspect has no dot or colon, got {value!r}")
    return value


def _several(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


Path_ = Annotated[str, AfterValidator(_path)]
Mapped = Annotated[str, AfterValidator(_mapping)]
Aspect = Annotated[str, AfterValidator(_aspect)]
Values = Annotated[tuple[Scalar, ...], BeforeValidator(_several)]
ScoreValues = Annotated[
    dict[str, FiniteFloat], Field(description='Scores of values that are no number, or mean another: "yes": 1, "0": 1.5.')
]


class Frozen(BaseModel):
    """A part of a source: no field may be changed, none invented."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ScoreField(Frozen):
    """A score in a field of the row."""

    value: Path_
    values: ScoreValues = {}
    aspect: Aspect = SCORE_ASPECT
    rationale: Path_ | None = None


class PairScore(Frozen):
    """Scores of both sides of a pair, each in a field of the row."""

    chosen: Path_ | None = None
    rejected: Path_ | None = None
    first: Path_ | None = None
    second: Path_ | None = None
    values: ScoreValues = {}
    aspect: Aspect = SCORE_ASPECT

    @model_validator(mode="after")
    def _both_sides(self) -> Self:
        given = {side for side in SIDES if getattr(self, side)}
        if given not in ({"chosen", "rejected"}, {"first", "second"}):
            raise ValueError("give chosen and rejected, or first and second")
        return self


class Verdicts(Frozen):
    """Which values of a field speak for which side. Numbers and their text are the same value."""

    first: Values = ()
    second: Values = ()
    tie: Values = ()
    values: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}, description="value: probability that the first side is better"
    )

    @model_validator(mode="after")
    def _decides(self) -> Self:
        known = self.known()
        count = len(self.first) + len(self.second) + len(self.tie) + len(self.values)
        if not known and self._names_sides:
            raise ValueError("say which values speak for the first and the second side: first: 1, second: 2, tie: 0")
        if len(known) < count:
            raise ValueError("a value speaks for one side only; one is listed twice")
        return self

    @property
    def _names_sides(self) -> bool:
        """Whether values are names of sides, so that some must be given."""
        return True

    def known(self) -> dict[str, float]:
        """Probability that the first side is better, by value."""
        listed = {**dict.fromkeys(self.first, 1.0), **dict.fromkeys(self.second, 0.0)}
        sides = {str(fields.same_key(value)): p for value, p in listed.items()}
        return (
            sides
            | {str(fields.same_key(value)): 0.5 for value in self.tie}
            | {value: float(p) for value, p in self.values.items()}
        )


class Label(Verdicts):
    """The label of a pair given as first and second."""

    column: Path_
    rater: Path_ | None = Field(default=None, description="Field with the name of who gave the label; `source` if not told.")


class Votes(Verdicts):
    """Votes of several raters on a pair: a list of objects in one field, or one field a rater."""

    list_: Path_ | None = Field(default=None, alias="list")
    rater: Path_ | None = None
    value: Path_ | None = None
    rationale: Path_ | None = None
    columns: tuple[Path_, ...] = ()
    aspect: Aspect = LABEL_ASPECT
    layout: Layout = Field(
        default="exact",
        description="How a recorded verdict is laid out; exact: one of the values and nothing else; choice: begins with one, "
        "remarks may follow; conclusion: reasons that end in a sentence such as `Therefore, A is better.`; ratings: a mark for "
        "either side, a list or a text such as `7 9`, and no values to list.",
    )

    @property
    def _names_sides(self) -> bool:
        return self.layout != "ratings"

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if not self._names_sides and self.known():
            raise ValueError("layout: ratings compares two marks and takes no values")
        if bool(self.list_) == bool(self.columns):
            raise ValueError("give either list (with value, and rater where known) or columns")
        if self.list_ and not self.value:
            raise ValueError("value is missing: the field of each vote that holds its verdict")
        if self.columns and (self.rater or self.value or self.rationale):
            raise ValueError("rater, value and rationale belong to list, not to columns")
        return self


class Constant(Frozen):
    """A fixed text in place of a field."""

    value: str


class JoinScores(Frozen):
    """Scores that the rows of a joined file give to the rows they match."""

    rater: Path_ | Constant
    value: Path_
    values: ScoreValues = {}
    aspect: Aspect = SCORE_ASPECT
    rationale: Path_ | None = None


class Place(Frozen):
    """Where rows lie."""

    path: str | None = Field(
        default=None, description="File, glob or folder, relative to the recipe; ~ and ${NAME} are expanded."
    )
    hf: str | None = Field(default=None, description="Dataset on the Hugging Face hub, or a local dataset folder.")
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    format: Format | None = Field(default=None, description="Told by the suffix if not given.")

    def place(self) -> str:
        """Where the rows lie, for people."""
        return str(self.path or self.hf)

    @model_validator(mode="after")
    def _hub_options(self) -> Self:
        if self.hf is None:
            stray = [name for name in ("split", "config", "revision") if getattr(self, name) is not None]
            if stray:
                raise ValueError(f"{', '.join(stray)}: only for hf")
        if self.hf is not None and self.format is not None:
            raise ValueError("format: only for path")
        return self


class Join(Place):
    """A further file whose rows add fields or scores to those of the source."""

    on: dict[Path_, Path_] = Field(description="Joined field: main field; or a list of fields that both have.")
    where: Path_ | None = Field(default=None, description="Only joined rows in which this field is true count.")
    columns: dict[str, Path_] | None = Field(
        default=None, description="Fields added, new name: joined field. Default: all, but those the row has."
    )
    scores: JoinScores | None = None

    @field_validator("on", mode="before")
    @classmethod
    def _same_names(cls, value: Any) -> Any:
        listed = [value] if isinstance(value, str) else value
        return {name: name for name in listed} if isinstance(listed, (list, tuple)) else listed

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.hf is None):
            raise ValueError("give path or hf")
        if not self.on:
            raise ValueError("on: name at least one field")
        if self.columns is not None and self.scores is not None:
            raise ValueError("a join adds columns or scores; write two joins")
        return self


class Source(Place):
    """One source of rows."""

    version: str | None = Field(default=None, description="An earlier version, name@v3.")
    table: Literal["pairs", "responses", "dropped"] = "pairs"
    dialect: Literal["generic", "trl", "binarized"] = "generic"
    rows: Rows | None = Field(default=None, description="What a row is; told by the mapped columns if not given.")
    as_: Literal["prompts"] | None = Field(default=None, alias="as", description="prompts: take the distinct prompts only.")
    columns: dict[str, Mapped] = Field(
        default={}, description="Our column: field path or template. If empty, fields named like our columns."
    )
    constants: dict[str, str] = Field(default={}, description="Our column: the same text in every row.")
    scores: dict[str, ScoreField | PairScore] = Field(default={}, description="Rater: field of its score.")
    label: Label | None = Field(default=None, description="Which of first and second is better.")
    votes: Votes | None = None
    join: tuple[Join, ...] = ()
    meta: tuple[Path_, ...] = Field(default=(), description="Fields kept as JSON in meta.")
    max_rejects: float = Field(
        default=0.01, ge=0, allow_inf_nan=False, description="Bad rows allowed: a share below 1, rows from 1 on."
    )

    @field_validator("scores", mode="before")
    @classmethod
    def _short_scores(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {rater: {"value": field} if isinstance(field, str) else field for rater, field in value.items()}

    @field_validator("join", mode="before")
    @classmethod
    def _one_join(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("meta", mode="before")
    @classmethod
    def _one_meta(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _shape(self) -> Self:
        problems = [*self._place_problems(), *self._mapping_problems()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _place_problems(self) -> Iterable[str]:
        places = [name for name in ("path", "hf", "version") if getattr(self, name) is not None]
        if len(places) != 1:
            yield f"give one of path, hf and version, got {' and '.join(places) or 'none'}"
        if self.version is not None and not VERSION.fullmatch(self.version):
            yield f"version must look like name@v3, got {self.version!r}"
        if self.version is None and self.table != "pairs":
            yield "table: only for version"
        if self.version is not None and self.dialect != "generic":
            yield "dialect: a version needs none"
        if self.hf is not None and not self.split:
            yield "split: say which split of the dataset to read"

    def _mapping_problems(self) -> Iterable[str]:
        mapping = ("rows", "columns", "scores", "label", "votes", "join", "meta", "constants")
        allowed = (
            set(mapping)
            if self.dialect == "generic" and self.version is None
            else {"meta", "constants", "join"}
            if self.version is None
            else set()
        )
        if self.dialect == "trl":
            allowed |= {"rows"}
        stray = [name for name in mapping if getattr(self, name) and name not in allowed]
        if stray:
            yield (
                f"{', '.join(stray)}: only for the generic dialect"
                if self.version is None
                else f"{', '.join(stray)}: a version is read as it is"
            )
            return
        if self.dialect == "trl" and self.rows == "lists":
            yield "rows: the trl dialect has pairs, candidates (unpaired) and prompts"
        kind = self.kind()
        yield from _unknown_columns("columns", self.columns, COLUMNS_OF[kind], kind)
        texts = [
            name
            for name in COLUMNS_OF[kind]
            if name in (*TEXTS, "model", "policy", "chosen_model", "rejected_model", "split", "system")
        ]
        yield from _unknown_columns("constants", self.constants, texts, kind)
        yield from (f"{name}: both in columns and in constants" for name in self.columns if name in self.constants)
        yield from self._pair_problems(kind)
        if kind == "lists" and any(join.scores for join in self.join):
            yield "join: scores attach to single candidates, not to rows: lists"

    def _pair_problems(self, kind: str) -> Iterable[str]:
        if kind != "pairs":
            yield from (f"{name}: only for rows: pairs" for name in ("label", "votes") if getattr(self, name))
            yield from (
                f"scores.{rater}: chosen and rejected are for rows: pairs"
                for rater, s in self.scores.items()
                if isinstance(s, PairScore)
            )
            return
        unsettled = {"first", "second"} & set(self.columns)
        if unsettled and {"chosen", "rejected"} & set(self.columns):
            yield "columns: give chosen and rejected, or first and second, not both"
        elif len(unsettled) == 1:
            yield f"columns: {'second' if 'first' in unsettled else 'first'} is missing"
        if unsettled and not self.label and not self.votes:
            yield "first and second need a label or votes to say which is better"
        if self.label and not unsettled:
            yield "label: only where columns give first and second"
        for rater, score in self.scores.items():
            if isinstance(score, PairScore) and bool(score.first) != bool(unsettled):
                sides = "first and second" if unsettled else "chosen and rejected"
                yield f"scores.{rater}: name its sides like the columns, {sides}"

    def kind(self) -> Rows:
        """What a row of the source is."""
        if self.rows:
            return self.rows
        if self.dialect != "generic":
            return "pairs"
        if "responses" in self.columns:
            return "lists"
        if "response" in self.columns:
            return "candidates"
        if {"prompt"} == set(self.columns) & {"prompt", *SIDES} and not (self.label or self.votes):
            return "prompts"
        return "pairs"

    def place(self) -> str:
        """Where the rows lie, for people."""
        return str(self.path or self.hf or self.version)


def _unknown_columns(where: str, given: Iterable[str], known: Sequence[str], kind: str) -> Iterable[str]:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f", did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            yield f"{where}: rows: {kind} have no {name!r} to fill{hint}"


def _same_grain(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    if not sources:
        raise ValueError("name at least one source")
    grains = [grain_of(source) for source in sources]
    if len(set(grains)) > 1:
        told = ", ".join(f"{source.place()} makes {grain}" for source, grain in zip(sources, grains, strict=True))
        raise ValueError(f"all sources must make the same rows: {told}")
    return sources


Sources = Annotated[
    tuple[Source, ...],
    BeforeValidator(_several, json_schema_input_type=Source | list[Source]),
    AfterValidator(_same_grain),
]
"""A recipe's `source:`, one mapping or a list, as a tuple of sources of the same grain."""

OneOrMore = Source | Sequence[Source]


def listed(source: OneOrMore) -> Sequence[Source]:
    """One source or several, as a sequence."""
    return [source] if isinstance(source, Source) else source


def grain_of(source: OneOrMore) -> Grain:
    """The grain of the rows that a source (or a list of like sources) makes."""
    first = listed(source)[0]
    if first.as_ == "prompts":
        return "prompts"
    if first.version is not None:
        return "responses" if first.table == "responses" else "pairs"
    return GRAINS[first.kind()]


PROMPT_NAMES = [column.name for column in PROMPT_COLUMNS]
Mapper = Callable[[fields.Raw], list[dict[str, Any]]]
"""A dialect's work: the table rows that one source row makes, evidence included, ids not."""
