"""Flag rows with faults that need no model to see: empty, cut, looping or leaking texts, twins, echoes, broken turns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field, FiniteFloat, field_validator, model_validator

from curate import tables
from curate.filter.lint_rules import (
    ALL,
    ASKED_FOR,
    RULES,
    SIDES,
    TURNS,
    characters,
    counter,
    grain_of,
    look,
    rows_of,
    rules_of,
    speaks,
)
from curate.maths.effect import Spread, pooled_sd
from curate.operator import DatasetOperator, RunsOn
from curate.tables import Grain

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja", "special_tokens_map.json")


class Lint(DatasetOperator):
    """Look for faults that need no model to see (`curate lint --rules`); every rule leaves its measure of each row as evidence.

    Of `length_bias` that is chosen minus rejected characters in pooled standard deviations, so that its mean is Cohen's d.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    takes: ClassVar[tuple[Grain, ...]] = ALL

    only: tuple[str, ...] = Field(
        default=(), description=f"Rules to run; of {', '.join(RULES)}. Default: all but pii and window."
    )
    except_: tuple[str, ...] = Field(default=(), alias="except", description="Rules to leave out.")
    drop: tuple[str, ...] | None = Field(
        default=None,
        description="Rules whose rows are dropped; the others are only counted. Default: those of severity error that run.",
    )
    thresholds: dict[str, FiniteFloat] = Field(
        default={}, description="Rule: the least value that speaks against a row, instead of the rule's own."
    )
    tokenizer: Path | None = Field(default=None, description="Folder of the trainer's tokenizer, for `window`.")
    window: int | None = Field(default=None, ge=1, description="Tokens that prompt and answer may have together, for `window`.")

    @field_validator("only", "except_", "drop", "thresholds")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if unknown := sorted(set(value or ()) - set(RULES)):
            raise ValueError(f"there is no rule {', '.join(unknown)}; there are {', '.join(RULES)}")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        dropped = set(self.drop or ())
        if "length_bias" in dropped:
            raise ValueError("length_bias is said of all rows together and drops none; set a gate on length_bias_d instead")
        stray = sorted(dropped & set(self.except_) | (dropped - set(self.only) if self.only else set()))
        if stray:
            raise ValueError(f"`drop` names {', '.join(stray)}, which only or except leave out")
        if (self.tokenizer is None) != (self.window is None):
            raise ValueError("`window` needs both a tokenizer and the number of tokens; give both or neither")
        if self.tokenizer is None and "window" in {*self.only, *dropped}:
            raise ValueError("the rule window needs `tokenizer` and `window`")
        return self

    @property
    def runs_on(self) -> RunsOn:
        """Python looks at every text."""
        return "process"

    def rules(self, grain: Grain) -> list[str]:
        """The rules it runs on a grain."""
        return rules_of(grain, self.only, self.except_, self.drop or (), self.window is not None)

    def dropping(self, grain: Grain) -> list[str]:
        """The rules whose rows it drops, in the order in which they are told."""
        wanted = [name for name, rule in RULES.items() if rule.severity == "error"] if self.drop is None else self.drop
        return [name for name in self.rules(grain) if name in wanted]

    def files(self) -> set[str]:
        """The tokenizer's."""
        if self.tokenizer is None:
            return set()
        return {str(self.tokenizer / name) for name in TOKENIZER_FILES if (self.tokenizer / name).exists()} or {
            str(self.tokenizer)
        }

    def parameters(self) -> dict[str, Any]:
        """Where the tokenizer lies changes nothing; its contents are told apart by `files`."""
        told = self.model_dump(mode="json", by_alias=True)
        return told | {"tokenizer": self.tokenizer.name if self.tokenizer else None}

    def feature_parameters(self) -> dict[str, Any]:
        """What decides which rules run, and the tokenizer; neither the name nor what is dropped."""
        told = self.parameters()
        asked = {name: told[name] for name in ("only", "except", "tokenizer")}
        return asked | {"named": sorted(set(self.drop or ()) & set(ASKED_FOR)), "files": self._hashes()}

    def _hashes(self) -> list[str]:
        import hashlib

        return [hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in sorted(self.files()) if Path(name).is_file()]

    def reads(self, grain: Grain) -> set[str]:
        """The texts, and why generation ended."""
        columns = {"prompt", *SIDES[grain], *(TURNS[side] for side in SIDES[grain])}
        return columns | ({"finish_reason"} if grain == "responses" else set())

    def writes(self, grain: Grain) -> set[str]:
        """A measure for each rule, and flags."""
        return {f"evidence.{self.name}.{rule}" for rule in self.rules(grain)} | {"flags"}

    def features(self, table: pa.Table, /) -> pa.Table:
        """Each rule's measure of each row, float32; for length_bias the characters of both sides."""
        grain = grain_of(table)
        rules = [name for name in self.rules(grain) if name != "length_bias"]
        tokens = counter(self.tokenizer)
        seen = [[look(row, rule, tokens).value for rule in rules] for row in rows_of(table, grain)]
        values = np.array(seen, dtype=np.float32).reshape(table.num_rows, len(rules))
        columns = {rule: pa.array(values[:, place], mask=np.isnan(values[:, place])) for place, rule in enumerate(rules)}
        if "length_bias" in self.rules(grain):
            columns |= {f"{side} characters": pa.array(characters(table, side), from_pandas=True) for side in SIDES[grain]}
        return pa.table(columns) if columns else pa.table({"none": pa.nulls(table.num_rows)})

    def decide(self, features: pa.Table, /) -> pa.Table:
        """The measures, with length_bias worked out over all rows."""
        if "chosen characters" not in features.column_names:
            return features
        sides = [features[f"{side} characters"].to_numpy() for side in SIDES["pairs"]]
        sd = pooled_sd(*map(Spread.of, sides))
        gap = (sides[0] - sides[1]) / np.float32(sd) if sd else np.full(len(sides[0]), np.nan, np.float32)
        kept = features.drop_columns([f"{side} characters" for side in SIDES["pairs"]])
        return kept.append_column("length_bias", pa.array(gap, pa.float32(), from_pandas=True))

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The measures as evidence, and one flag on each row to drop: the first rule that speaks against it."""
        grain = grain_of(table)
        rules = [name for name in RULES if name in state.column_names]
        values = {rule: state[rule].to_numpy().astype(np.float32) for rule in rules}
        reason = np.full(table.num_rows, -1)
        told = np.full(table.num_rows, np.nan, dtype=np.float32)
        dropping = [rule for rule in self.dropping(grain) if rule in values]
        for place, rule in enumerate(dropping):
            fires = (reason < 0) & self.speaks(rule, values[rule])
            reason[fires], told[fires] = place, values[rule][fires]
        names = pa.array(dropping, pa.string()).take(pa.array(reason, mask=reason < 0))
        flags = tables.add_flags(table, reason >= 0, self.name, names, told)
        return pa.table({"evidence": self._evidence(table, values), "flags": flags})

    def speaks(self, rule: str, values: np.ndarray) -> np.ndarray:
        """Where a rule's measure speaks against the row; NaN never does."""
        return speaks(rule, values, self.window, self.thresholds)

    def _evidence(self, table: pa.Table, values: Mapping[str, np.ndarray]) -> pa.Array:
        """All measures appended, rule after rule within each row."""
        rows = table.num_rows
        parts = [tables.structs(tables.EVIDENCE, rows, by=self.name, name=rule, value=found) for rule, found in values.items()]
        if not parts:
            return tables.flat(table["evidence"])
        order = np.arange(rows * len(parts)).reshape(len(parts), rows).T.ravel()
        entries = pa.concat_arrays(parts).take(pa.array(order))
        return tables.append(table["evidence"], entries, np.repeat(np.arange(rows), len(parts)))
