"""What an export format is: which rows it makes of a version's rows, and what it can carry."""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, FiniteFloat

from curate import tables
from curate.errors import ExportError
from curate.export import goals, messages
from curate.export.refusals import Reason, refuse_left_out
from curate.store.versions import Version, data_files, read_version
from curate.tables import Grain

EVIDENCE = ("label_prob", "weight", "stage", "spans", "images", "goal")
"""Columns without which the same rows would train another model: a format that cannot carry them refuses."""
Place = Literal["system", "user", "none"]
Dropped = Literal["label_prob", "weight", "stage", "spans", "images", "goal", "margin"]


class Options(BaseModel):
    """What the user decides about an export."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str | None = None
    """Score that decides an absolute label or the order of a list, or is a win probability, as rater or rater:aspect."""
    threshold: FiniteFloat | None = None
    """Lowest score of a good response, in the rater's unit."""
    goal: Place = "system"
    """Where a goal is put into words."""
    attribute: tuple[str, ...] = ()
    """Scores that become columns, as rater or rater:aspect; all if none is named."""
    tokenizer: str | None = None
    """Folder of the tokenizer whose tokens get the weights of spans."""
    skip: tuple[Reason, ...] = ()
    """Rows to leave out rather than refuse."""
    drop: tuple[Dropped, ...] = ()
    """Columns to leave out rather than refuse."""


@dataclass
class Run:
    """One export under way: what it reads, what was decided, what it counts."""

    version: Version
    options: Options
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows or sides left out, by reason."""
    counts: Counter[str] = field(default_factory=Counter)
    """What else is worth telling."""
    seen: dict[bytes, bool] = field(default_factory=dict)
    """128-bit hash of every response written, and its label: about 150 bytes each."""
    examples: dict[str, str] = field(default_factory=dict)
    """Id of the first row left out, by reason."""
    reader: Any = None
    """The tokenizer of the options, where the format uses it."""

    @property
    def grain(self) -> Grain:
        """Grain of the version's rows."""
        grain: Grain = self.version.manifest["grain"]
        return grain

    def splits(self) -> list[str]:
        """Its splits: train, validation, test, then any others by name."""
        usual = ["train", "validation", "test"]
        return sorted(
            self.version.manifest["splits"], key=lambda name: (usual.index(name) if name in usual else len(usual), name)
        )

    def columns(self, grain: Grain | None = None) -> pa.Schema:
        """Columns of its rows, or of its rows of another grain."""
        files = data_files(self.version, f"{grain or self.grain}/")
        if not files:
            raise ExportError(
                f"{self.version} has no {grain or self.grain} files in {self.version.path}; `curate verify` says what is missing"
            )
        with pa.memory_map(str(files[0])) as source:
            return pa.ipc.open_file(source).schema

    def read(self, split: str | None, columns: list[str]) -> Iterator[pa.Table]:
        """Batches of some columns, of one split or of all."""
        present = set(self.columns().names)
        prefix = f"{self.grain}/" if split is None else f"{self.grain}/{split}-"
        yield from read_version(self.version, prefix, [name for name in columns if name in present])

    def has(self, column: str) -> bool:
        """Whether any row has a value there."""
        schema = self.columns()
        if column not in schema.names:
            return False
        if pa.types.is_list(schema.field(column).type):
            return any(messages.lengths(table[column]).any() for table in self.read(None, [column]))
        return any(table[column].null_count < table.num_rows for table in self.read(None, [column]))

    def leave_out(self, reason: str, rows: np.ndarray, ids: pa.ChunkedArray) -> None:
        """Count the rows left out for a reason."""
        count = int(rows.sum())
        if count:
            self.left_out[reason] += count
            self.examples.setdefault(reason, str(ids[int(np.argmax(rows))].as_py()))


class Format(ABC):
    """An export format. `rows` turns a batch of a version's rows into a batch of training rows."""

    name: ClassVar[str]
    description: ClassVar[str]
    trainer: ClassVar[str]
    """What reads it."""
    tested: ClassVar[str]
    """Versions of the trainer's package it is proven with."""
    suffix: ClassVar[Literal["jsonl", "parquet"]] = "jsonl"
    grains: ClassVar[tuple[Grain, ...]] = ("pairs",)
    carries: ClassVar[frozenset[str]]
    """Columns of EVIDENCE that reach the trainer."""
    load: ClassVar[str]
    """Three lines that load it; {path} is the folder, {split} the first split."""
    typed: ClassVar[bool] = True
    """Whether a card with column types lies beside the files, so that `load_dataset` need not guess them."""
    proof: ClassVar[str | None] = None
    """The trainer of TRL that a check gives it to (see `trainers.prepare`); None if TRL has none that reads it."""

    json_columns: ClassVar[tuple[str, ...]] = ()
    """Columns of JSON text that are written as values."""

    def prepare(self, run: Run) -> None:  # noqa: B027 - most formats have nothing to refuse
        """Refuse what this format cannot do before anything is written."""

    def parts(self, run: Run) -> list[str]:
        """Names of the files it makes, in order: the version's splits."""
        return run.splits()

    def read(self, run: Run, part: str) -> Iterator[pa.Table]:
        """The batches of training rows of a file."""
        for table in run.read(part, self.reads(run)):
            yield self.rows(table, run) if table.num_rows else table

    @abstractmethod
    def reads(self, run: Run) -> list[str]:
        """Columns of the version it needs."""

    @abstractmethod
    def rows(self, table: pa.Table, run: Run) -> pa.Table:
        """Training rows of a batch; messages as message lists."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""

    def finish(self, run: Run) -> None:
        """Refuse what showed only while writing."""
        refuse_left_out(run.left_out, run.examples, run.options.skip)


class TrlFormat(Format):
    """What TRL's formats share: conversational messages, explicit prompts, goals in words."""

    tested = "trl>=1.0,<1.17"
    carries: ClassVar[frozenset[str]] = frozenset({"goal"})

    def reads(self, run: Run) -> list[str]:
        """Messages, tools, the goal and the ids."""
        return ["prompt", "tools", "goal", "pair_id", "prompt_id", "chosen", "rejected", "chosen_id", "rejected_id"]

    def asked(self, table: pa.Table, run: Run) -> pa.Table:
        """The rows with goals put into words, unless they are dropped. ExportError for a prompt or side without text."""
        for column in ("prompt", "chosen", "rejected"):
            empty = messages.unusable(table[column])
            if empty.any():
                pair = table["pair_id"][int(np.argmax(empty))]
                raise ExportError(f"pair {pair} has no text in {column}: no trainer can use it; drop such rows in the recipe")
        if "goal" not in table.column_names:
            return table
        if "goal" in run.options.drop or run.options.goal == "none":
            return table.drop_columns("goal")
        texts = goals.goal_texts(table["goal"], goals.scale_of(run.version.manifest))
        prompt = messages.place(tables.flat(table["prompt"]), texts, run.options.goal)
        return table.set_column(table.column_names.index("prompt"), "prompt", prompt)

    def without_identical(self, table: pa.Table, run: Run) -> pa.Table:
        """The pairs whose sides differ; the others are counted."""
        same = messages.equal(table["chosen"], table["rejected"])
        run.leave_out("identical", same, table["pair_id"])
        return table.filter(pa.array(~same)) if same.any() else table


def first_of_each(keys: list[str], run: Run, labels: list[bool] | None = None) -> np.ndarray:
    """Which keys were not written before, (N,) bool; repeats, and repeats with another label, are counted."""
    fresh = np.zeros(len(keys), dtype=bool)
    for index, (text, label) in enumerate(zip(keys, labels or [True] * len(keys), strict=True)):
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if key not in run.seen:
            run.seen[key] = label
            fresh[index] = True
        elif run.seen[key] == label:
            run.left_out["repeat"] += 1
        else:
            run.left_out["repeat_with_other_label"] += 1
    return fresh


def side_keys(table: pa.Table, side: str) -> list[str]:
    """What tells a response under its prompt from every other; a response without id is like no other."""
    prompts = table["prompt_id"].to_pylist()
    goal = table["goal"].to_pylist() if "goal" in table.column_names else [None] * len(prompts)
    named = zip(prompts, table[f"{side}_id"].to_pylist(), goal, table["pair_id"].to_pylist(), strict=True)
    return [f"{prompt}/{response or f'{side} of {pair}'}/{goal or ''}" for prompt, response, goal, pair in named]


def shortest(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """float32 as the float64 that prints alike: 7.1, not 7.099999904632568."""
    return pc.cast(pc.cast(column, pa.string()), pa.float64())
