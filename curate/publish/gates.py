"""Gates: conditions on the metrics of a version, all of which must hold before it is published."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from curate.errors import GateClosed
from curate.publish.metric_names import COST, DRIFT, find, meaning
from curate.publish.metrics import Metrics
from curate.publish.wording import one_line, plural

NUMBER = r"[-+]?(?:[0-9]+(?:_[0-9]+)*(?:\.(?:[0-9]+(?:_[0-9]+)*)?)?|\.[0-9]+(?:_[0-9]+)*)(?:[eE][-+]?[0-9]{1,3})?\s*%?"
COMPARISON = rf"(?:>=|<=|==|!=|>|<)\s*{NUMBER}"
BETWEEN = rf"between\s+{NUMBER}\s+and\s+{NUMBER}"
PATTERN = rf"^\s*(?:{BETWEEN}|{COMPARISON}(?:\s*,\s*{COMPARISON})?)\s*$"
"""What a condition looks like, also for the schema."""
LARGEST = 1e300  # a larger limit is a slip
NEAR = 0.1  # a gate that holds by no more than this share of its limit is told as near
TOLD = 100  # characters of a metric's name that are shown


@dataclass(frozen=True)
class Bound:
    """One comparison with a number."""

    comparison: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether the value is on the right side."""
        return {
            ">=": value >= self.limit,
            ">": value > self.limit,
            "<=": value <= self.limit,
            "<": value < self.limit,
            "==": value == self.limit,
            "!=": value != self.limit,
        }[self.comparison]

    def missed(self, value: float) -> str:
        """By how much a value fails it: 0.09 too low."""
        if value == self.limit:
            return f"exactly {number(value)}"
        return f"{number(abs(value - self.limit))} too {'low' if value < self.limit else 'high'}"

    def near(self, value: float) -> bool:
        """Whether a value that holds does so narrowly."""
        return self.comparison in (">=", ">", "<=", "<") and abs(value - self.limit) <= NEAR * abs(self.limit)


@dataclass(frozen=True)
class Condition:
    """What a metric must be: every bound must hold."""

    bounds: tuple[Bound, ...]

    @staticmethod
    def parse(text: str) -> "Condition":
        """A condition as a recipe writes it: >= 0.3, < 5%, == 0, between 1_000 and 2_000, or two comparisons with a comma.

        A number with % is that many hundredths; both ends of `between` belong to it. ValueError says what is wrong.
        """
        if not re.match(PATTERN, text) or text != text.rstrip("\n"):
            raise ValueError('should be a condition such as ">= 0.3"')
        limits = re.compile(NUMBER)
        if (head := text.strip()).startswith("between"):
            low, high = (_limit(found) for found in limits.findall(head.removeprefix("between")))
            if low > high:
                raise ValueError(f"nothing lies between {number(low)} and {number(high)}: the smaller number comes first")
            return Condition((Bound(">=", low), Bound("<=", high)))
        bounds = tuple(_bound(part.strip()) for part in head.split(","))
        if not _possible(bounds):
            raise ValueError("no number meets both of its comparisons")
        return Condition(bounds)

    def holds(self, value: float) -> bool:
        """Whether the value meets it."""
        return all(bound.holds(value) for bound in self.bounds)

    def remark(self, value: float) -> str:
        """By how much a value fails, or that it holds narrowly; empty if it holds well."""
        failed = [bound for bound in self.bounds if not bound.holds(value)]
        if failed:
            return failed[0].missed(value)
        return "near" if any(bound.near(value) for bound in self.bounds) else ""


def _bound(text: str) -> Bound:
    comparison = next(sign for sign in (">=", "<=", "==", "!=", ">", "<") if text.startswith(sign))
    return Bound(comparison, _limit(text.removeprefix(comparison)))


def _limit(text: str) -> float:
    """The number; decimal, so that 29% is 0.29."""
    written = text.strip()
    value = Decimal(written.removesuffix("%").strip().replace("_", ""))
    limit = float(value / 100 if written.endswith("%") else value)
    if abs(limit) > LARGEST:
        raise ValueError(f"the number {written} is too large")
    return limit


def _possible(bounds: Sequence[Bound]) -> bool:
    """Whether some number meets all bounds: a limit does, or what lies next to or between the limits."""
    limits = sorted({bound.limit for bound in bounds})
    between = [(a + b) / 2 for a, b in zip(limits, limits[1:], strict=False)]
    outside = [limits[0] - 1 - abs(limits[0]), limits[-1] + 1 + abs(limits[-1])]
    return any(all(bound.holds(value) for bound in bounds) for value in (*limits, *between, *outside))


@dataclass(frozen=True)
class Result:
    """How a version stands to one gate."""

    metric: str
    condition: str
    value: float | None
    """None if it cannot be told."""
    passed: bool
    note: str = ""
    """By how much it failed, that it holds narrowly, or why there is no value."""

    def row(self) -> dict[str, str]:
        """Its row of a table for people."""
        said = "passed" if self.passed else "closed"
        return {
            "metric": one_line(self.metric, TOLD),
            "value": "none" if self.value is None else number(self.value),
            "condition": self.condition,
            "result": f"{said}: {self.note}" if self.note else said,
        }

    def to_json(self) -> dict[str, Any]:
        """Its entry in the manifest: the cost of a run is no part of a version."""
        value = None if self.metric == COST else self.value
        note = {} if self.metric == COST or not self.note else {"note": self.note}
        return {"metric": self.metric, "condition": self.condition, "value": value, "passed": self.passed} | note


def evaluate(gates: Mapping[str, str], metrics: Metrics, first: bool = False) -> tuple[Result, ...]:
    """How metrics stand to each gate: the closed ones first, then those that hold narrowly.

    A metric that cannot be told closes its gate, but for a drift where the version is the first of its dataset.
    """
    results = [_result(metric, condition, metrics, first) for metric, condition in gates.items()]
    return tuple(sorted(results, key=lambda result: (result.passed, not result.note)))


def _result(metric: str, text: str, metrics: Metrics, first: bool) -> Result:
    condition = Condition.parse(text)
    if first and metric.startswith(DRIFT):
        return Result(metric, text, None, True, "no earlier version")
    name = find(metrics, metric)
    value = metrics[name] if name is not None else _none_dropped(metric, metrics)
    if value is None:
        return Result(metric, text, None, False, _why_none(metric, name, metrics))
    return Result(metric, text, value, condition.holds(value), condition.remark(value))


def _none_dropped(metric: str, metrics: Metrics) -> float | None:
    """0 for a reason for which a step dropped nothing."""
    kind, _, rest = metric.partition(".")
    return 0 if kind == "dropped" and "." in rest and f"dropped.{rest.partition('.')[0]}" in metrics else None


def _why_none(metric: str, name: str | None, metrics: Metrics) -> str:
    if name is not None:
        means = meaning(name)
        return f"cannot be told of this version ({means})" if means else "cannot be told of this version"
    if metric.startswith(DRIFT):
        return "the last version does not tell it"
    near = difflib.get_close_matches(metric, metrics, n=1)
    return f"no such metric; did you mean {near[0]}?" if near else "no such metric"


def results_of(manifest: Mapping[str, Any]) -> tuple[Result, ...]:
    """The gates that a published version or a preview was held against, as its manifest tells."""
    return tuple(Result(**entry) for entry in manifest.get("gates", ()))


def gate_rows(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """The rows of a version's table of gates: metric, value, condition, result; none if its recipe has no gate."""
    return [result.row() for result in results_of(manifest)]


def closed(results: Sequence[Result]) -> list[Result]:
    """Those that do not hold."""
    return [result for result in results if not result.passed]


def table(results: Sequence[Result]) -> str:
    """The gates as a table in plain text."""
    rows = [result.row() for result in results]
    listed = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(len(line[column]) for line in listed) for column in range(len(listed[0]))]
    return "\n".join("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in listed)


def refuse(results: Sequence[Result], metrics: Metrics) -> None:
    """GateClosed if any gate is."""
    if failed := closed(results):
        are = "is" if len(failed) == 1 else "are"
        said = f"{len(failed)} of {plural(len(results), 'gate')} {are} closed: nothing was published"
        way_out = "What was computed is kept. --publish-anyway publishes all the same, and the manifest says so."
        raise GateClosed(f"{said}\n{table(results)}\n{way_out}", results, metrics)


def number(value: float) -> str:
    """A metric or limit as it is shown: whole numbers with commas, others to six significant digits."""
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
