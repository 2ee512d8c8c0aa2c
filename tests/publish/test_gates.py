"""Gates: what a condition says, and what a closed one keeps from being published."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import GateClosed
from curate.publish.gates import Bound, Condition, evaluate, results_of, table
from curate.publish.report import report
from curate.store.versions import Version, Versions
from tests.publish.versions import make, steps, three_prompts


@pytest.fixture
def gated(tmp_path: Path) -> Any:
    """Publishes the demo with gates."""

    def call(gates: dict[str, str], minimum: float = 2, **more: Any) -> Version:
        return make(tmp_path, three_prompts(), steps(minimum), gates=gates, **more)

    return call


# -- conditions

NUMBERS = st.floats(-1e9, 1e9).map(repr) | st.integers(-(10**12), 10**12).map(lambda n: f"{n:_}") | st.just("5%")
SIGNS = st.sampled_from([">=", "<=", ">", "<", "==", "!="])


@given(SIGNS, st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_a_comparison_means_what_python_means(sign: str, limit: int, value: int) -> None:
    assert Condition.parse(f"{sign} {limit}").holds(value) is eval(f"{value} {sign} {limit}")


@given(SIGNS, NUMBERS, SIGNS, NUMBERS)
def test_two_comparisons_hold_together_or_no_number_meets_both(sign: str, a: str, other: str, b: str) -> None:
    parts = [Condition.parse(f"{sign}{a}"), Condition.parse(f"{other}{b}")]
    limits = [part.bounds[0].limit for part in parts]
    tried = [*limits, sum(limits) / 2, min(limits) - 1, max(limits) + 1]
    try:
        both = Condition.parse(f"{sign}{a},{other}{b}")
    except ValueError:
        assert not any(part.holds(v) and parts[1 - i].holds(v) for v in tried for i, part in enumerate(parts))
    else:
        assert all(both.holds(v) == all(part.holds(v) for part in parts) for v in tried)


@given(st.text(max_size=30) | st.text("<>=!betwn ad0123456789.%_,-+e\n", max_size=20))
def test_any_text_is_a_condition_or_a_sentence(text: str) -> None:
    try:
        Condition.parse(text)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        (">= 0.3", [(">=", 0.3)]),
        ("<29%", [("<", 0.29)]),
        (" > 1_000 ", [(">", 1000)]),
        ("!= -.5e-1", [("!=", -0.05)]),
        ("between -1 and +2", [(">=", -1), ("<=", 2)]),
        ("between 5% and 10%", [(">=", 0.05), ("<=", 0.1)]),
        (">= 1, < 2.", [(">=", 1), ("<", 2)]),
    ],
)
def test_conditions(text: str, bounds: list[tuple[str, float]]) -> None:
    assert Condition.parse(text).bounds == tuple(Bound(*bound) for bound in bounds)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("high", "should be a condition"),
        ("", "should be a condition"),
        ("= 1", "should be a condition"),
        ("0.3", "should be a condition"),
        (">= nan", "should be a condition"),
        (">= inf", "should be a condition"),
        (">= 1__0", "should be a condition"),
        (">= ٣", "should be a condition"),
        (">= 1, < 2, < 3", "should be a condition"),
        (">= 1 and < 2", "should be a condition"),
        (">= 1; import os", "should be a condition"),
        (">= 1e999", "too large"),
        ("between 2 and 1", "nothing lies between 2 and 1"),
        ("> 5, < 5", "no number meets both"),
        (">= 9, <= 1", "no number meets both"),
    ],
)
def test_what_is_no_condition(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Condition.parse(text)


# -- results


def test_closed_gates_come_first_and_near_ones_are_told() -> None:
    gates = {"rows": ">= 100", "kept_share": ">= 0.3", "tie_rate": "< 0.25", "noise": "between 0 and 5%"}
    results = evaluate(gates, {"rows": 1000, "kept_share": 0.21, "tie_rate": 0.24, "noise": 0.2})
    assert [(r.metric, r.passed, r.note) for r in results] == [
        ("kept_share", False, "0.09 too low"),
        ("noise", False, "0.15 too high"),
        ("tie_rate", True, "near"),
        ("rows", True, ""),
    ]
    assert table(results).splitlines() == [
        "  metric      value  condition         result",
        "  kept_share  0.21   >= 0.3            closed: 0.09 too low",
        "  noise       0.2    between 0 and 5%  closed: 0.15 too high",
        "  tie_rate    0.24   < 0.25            passed: near",
        "  rows        1,000  >= 100            passed",
    ]


def test_a_value_at_the_limit_is_told_as_that() -> None:
    (result,) = evaluate({"rows": "> 5"}, {"rows": 5})
    assert (result.passed, result.note) == (False, "exactly 5")


def test_what_cannot_be_told_closes_the_gate_and_says_why() -> None:
    (result,) = evaluate({"length_bias_d": "< 9"}, {"length_bias_d": None})
    assert (result.passed, result.value) == (False, None) and result.note.startswith("cannot be told of this version (Cohen's d")
    (result,) = evaluate({"kept_shar": "> 0"}, {"kept_share": 1.0})
    assert (result.passed, result.note) == (False, "no such metric; did you mean kept_share?")


def test_drift_of_a_first_version_passes_and_of_a_later_one_does_not() -> None:
    (first,), (later,) = (evaluate({"drift.rows": "> 0"}, {"drift.rows": None}, first=first) for first in (True, False))
    assert (first.passed, first.note) == (True, "no earlier version")
    assert not later.passed


def test_a_reason_that_dropped_nothing_is_0() -> None:
    (result,) = evaluate({"dropped.margin.small_margin": "< 5"}, {"dropped.margin": 0})
    assert (result.value, result.passed) == (0, True)


# -- publishing


def test_a_closed_gate_publishes_nothing_and_leaves_nothing(gated: Any, tmp_path: Path) -> None:
    with pytest.raises(GateClosed, match=r"(?s)1 of 2 gates is closed: nothing was published.*rows .*97 too low") as caught:
        gated({"rows": ">= 100", "prompts": "> 0"})
    error = caught.value
    assert error.exit_code == 1
    assert [(r.metric, r.passed) for r in error.results] == [("rows", False), ("prompts", True)]
    assert error.metrics["rows"] == 3
    assert Versions(tmp_path).names() == [] and list((tmp_path / "tmp").glob("version-*")) == []


def test_passed_gates_are_recorded_and_shown(gated: Any) -> None:
    version = gated({"rows": ">= 3"})
    assert version.manifest["gates"] == [
        {"metric": "rows", "condition": ">= 3", "value": 3, "passed": True, "note": "near"},
    ]
    assert "published_anyway" not in version.manifest
    assert "| `rows` | `3` | `>= 3` | `passed: near` |" in (version.path / "README.md").read_text()
    assert "<td>&gt;= 3</td>" in report(version)


def test_published_anyway_is_on_record(gated: Any) -> None:
    version = gated({"rows": ">= 100"}, publish_anyway=True)
    assert version.manifest["published_anyway"] is True
    assert [result.passed for result in results_of(version.manifest)] == [False]
    assert "although a gate is closed" in (version.path / "README.md").read_text()
    assert "although a gate is closed" in report(version)


def test_publish_anyway_leaves_no_mark_where_all_gates_pass(gated: Any) -> None:
    assert "published_anyway" not in gated({"rows": ">= 1"}, publish_anyway=True).manifest


def test_the_same_content_publishes_nothing_whatever_the_gates(gated: Any) -> None:
    first = gated({})
    assert gated({"rows": ">= 100"}) == first


def test_drift_gates_hold_a_later_version_against_the_first(gated: Any) -> None:
    assert gated({"drift.rows": ">= -0.1"}).manifest["gates"][0]["note"] == "no earlier version"
    with pytest.raises(GateClosed, match=r"drift.rows +-0\.666667 +>= -0\.1 +closed: 0\.566667 too low"):
        gated({"drift.rows": ">= -0.1"}, minimum=4.5)


def test_the_cost_of_the_run_may_close_a_gate_but_is_no_part_of_the_version(gated: Any) -> None:
    with pytest.raises(GateClosed, match=r"cost_usd +2\.5"):
        gated({"cost_usd": "<= 1"}, about={"cost_usd": 2.5})
    version = gated({"cost_usd": "<= 3"}, about={"cost_usd": 2.5})
    assert version.manifest["gates"] == [{"metric": "cost_usd", "condition": "<= 3", "value": None, "passed": True}]


def test_a_preview_tells_which_gates_would_close_and_is_made(gated: Any) -> None:
    version = gated({"rows": "> 9"}, preview=True)
    assert version.label == "preview"
    assert [entry["passed"] for entry in json.loads((version.path / "manifest.json").read_text())["gates"]] == [False]
    assert "published_anyway" not in gated({"rows": "> 9"}, preview=True, publish_anyway=True).manifest


def test_a_closed_gate_may_come_from_another_process(gated: Any) -> None:
    with pytest.raises(GateClosed) as caught:
        gated({"rows": "> 9"})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.results, again.metrics) == (str(caught.value), caught.value.results, caught.value.metrics)
