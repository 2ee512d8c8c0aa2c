"""The metrics of a version, against counting row by row."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import ids
from curate.filter.consistency import Consistency
from curate.operator import Operator
from curate.publish.diff import diff
from curate.publish.figures import figures
from curate.publish.metric_names import Names, StepNames, find
from curate.publish.metrics import Asked, jensen_shannon, rounded, total_variation
from curate.publish.metrics import metrics as measured
from curate.score.features import Features
from curate.store.versions import Version, Versions, read_version
from tests.publish.versions import answer, make, steps, three_prompts, with_goal


def rows_of(version: Version, table: str = "pairs") -> list[dict[str, Any]]:
    return [row for batch in read_version(version, table) for row in batch.to_pylist()]


def metrics(version: Version) -> dict[str, float | None]:
    told: dict[str, float | None] = version.manifest["metrics"]
    return told


def text(messages: list[dict[str, str]]) -> str:
    return "\n\n".join(message["content"] for message in messages)


def about(value: float) -> Any:
    return pytest.approx(value, rel=1e-5)


def pair(
    prompt: str, chosen: str, rejected: str, votes: Sequence[tuple[str, float | None, float | None]] = (), **more: Any
) -> dict[str, Any]:
    """A pair with votes (rater, shown, swapped); a vote without any verdict is an error."""
    messages = [{"role": "user", "content": prompt}]
    prompt_id = ids.prompt_id(messages)
    sides = [ids.response_id(prompt_id, side, None) for side in (chosen, rejected)]
    entries = [
        {"rater": rater, "aspect": "help", "p_chosen": a, "p_swapped": b, "error": None if (a, b) != (None, None) else "parse: x"}
        for rater, a, b in votes
    ]
    row = {"prompt_id": prompt_id, "prompt": messages, "chosen": chosen, "rejected": rejected, "votes": entries}
    named = {"chosen_id": sides[0], "rejected_id": sides[1], "pair_id": ids.short_id("".join(sides)), "origin": "observed"}
    return row | named | more


# -- rows, steps, texts, scores


def test_rows_and_shares_of_steps(tmp_path: Path) -> None:
    told = metrics(make(tmp_path, three_prompts(), steps(), rejects=[{"file": "f", "line": 1, "reason": "no text"}]))
    # 7 answers, 1 a duplicate, 1 alone; 4 pairs, 1 too close
    assert (told["rows"], told["rows_train"], told["rows_test"], told["prompts"]) == (3, 3, 0, 1)
    assert told["kept_share"] == about(7 / 7 * 6 / 7 * 5 / 6 * 3 / 4)
    assert (told["kept_share.pair"], told["dropped_share.margin"]) == (about(5 / 6), 0.25)
    assert (told["dropped.pair.single_candidate"], told["dropped.margin"], told["made.pair"]) == (1, 1, 4)
    assert told["duplicate_share"] == about(1 / 7)
    assert told["rejected_share"] == about(1 / 8)
    assert "made.margin" not in told


def test_without_a_change_of_grain_the_kept_share_is_rows_kept_over_rows_read(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), steps()[:1])
    assert metrics(version)["kept_share"] == about(6 / 7)


@pytest.mark.parametrize("operators", [steps(0), with_goal(0)])
def test_numbers_of_pairs_are_what_counting_gives(tmp_path: Path, operators: list[Operator]) -> None:
    rows = three_prompts()
    rows[1] = answer("A?", "a fair answer, as they go", 5, model="m2")
    version = make(tmp_path, rows, operators)
    told, pairs = metrics(version), rows_of(version)
    observed = [row for row in pairs if row["origin"] != "goal_rejected"]
    lengths = {side: [len(text(row[side])) for row in pairs] for side in ("chosen", "rejected")}
    pooled = math.sqrt((stdev(lengths["chosen"]) ** 2 + stdev(lengths["rejected"]) ** 2) / 2)
    assert told["length_bias_d"] == about((mean(lengths["chosen"]) - mean(lengths["rejected"])) / pooled)
    sides = [[len(text(row[side])) for row in observed] for side in ("chosen", "rejected")]
    pooled = math.sqrt((stdev(sides[0]) ** 2 + stdev(sides[1]) ** 2) / 2)
    assert told["observed_length_bias_d"] == about((mean(sides[0]) - mean(sides[1])) / pooled)
    longer = [(a > b) + 0.5 * (a == b) for a, b in zip(*lengths.values(), strict=True)]
    assert told["longer_chosen_share"] == about(mean(longer))
    assert told["chosen_characters_mean"] == about(mean(lengths["chosen"]))
    margins = [row["margin"] for row in pairs]
    assert (told["margin_mean"], told["margin_median"]) == (about(mean(margins)), about(median(margins)))
    gaps = [row["chosen_score_rm_help"] - row["rejected_score_rm_help"] for row in observed]
    assert told["score_gap.rm:help"] == about(mean(gaps))
    assert told["chosen_mean.rm:help"] == about(mean(row["chosen_score_rm_help"] for row in pairs))
    assert told["agreement.rm:help"] == about(mean((gap > 0) + 0.5 * (gap == 0) for gap in gaps))
    writers = Counter(row["chosen_model"] for row in pairs)
    assert told["top_model_share"] == about(max(writers.values()) / len(pairs))
    assert told["score_error_share"] == 0 and told["error_share"] == 0


def test_a_measure_of_a_filter_is_told_by_its_mean(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), steps())
    kept = [e["value"] for row in rows_of(version) for e in row["evidence"] if (e["by"], e["name"]) == ("margin", "margin")]
    assert metrics(version)["evidence_mean.margin.margin"] == about(mean(kept))


def test_scores_that_are_errors_are_counted(tmp_path: Path) -> None:
    rows = [answer("A?", "one", 1), answer("B?", "two", None)]
    rows[1]["scores"][0]["error"] = "timeout: 60 s"
    assert metrics(make(tmp_path, rows, []))["score_error_share"] == 0.5


def test_rows_that_models_left_without_an_answer_are_counted_by_step(tmp_path: Path) -> None:
    version = make(tmp_path, three_prompts(), steps())
    asked = {"judge": Asked(errors=1, rows=50), "vote": Asked(errors=0, rows=150)}
    told = measured(version.path, version.manifest, figures(version.path, version.manifest), asked, None)
    assert (told["error_share"], told["error_share.judge"], told["error_share.vote"]) == (1 / 200, 1 / 50, 0)


def test_faults_that_a_features_step_found_are_shares(tmp_path: Path) -> None:
    rows = [answer(f"What is {n}?", "I'm sorry, but I can't help with that.", 1) for n in range(3)]
    rows.append(answer("And 9?", "Nine is the square of three.", 1))
    told = metrics(make(tmp_path, rows, [Features(name="look", measures=("refusal", "truncated"))]))
    assert told["refusal_share"] == 0.75 and told["truncated_share"] == 0
    assert told["off_language_share"] is None  # not measured
    assert told["score_mean.look:refusal"] == 0.75


def test_pairs_tell_faults_of_either_side(tmp_path: Path) -> None:
    rows = [pair("p", "I'm sorry, but I can't help with that.", "Nine."), pair("q", "Four is even.", "Five is odd.")]
    told = metrics(make(tmp_path, rows, [Features(name="look", measures=("refusal",))], grain="pairs"))
    assert (told["chosen_refusal_share"], told["rejected_refusal_share"], told["refusal_share"]) == (0.5, 0, 0.25)


def test_an_empty_version_tells_nothing_rather_than_nonsense(tmp_path: Path) -> None:
    told = metrics(make(tmp_path, [answer("C?", "alone", 3)], steps()))
    assert told["rows"] == 0 and told["prompts"] == 0
    assert told["length_bias_d"] is None and told["longer_chosen_share"] is None and told["top_model_share"] is None
    assert not [name for name, value in told.items() if value is not None and not math.isfinite(value)]


def test_metrics_are_the_same_for_the_same_run(tmp_path: Path) -> None:
    manifests = [(make(tmp_path / name, three_prompts(), with_goal()).path / "manifest.json").read_bytes() for name in "ab"]
    assert manifests[0] == manifests[1]


# -- votes


def test_votes_are_counted_by_rater_whether_the_pair_was_kept_or_not(tmp_path: Path) -> None:
    votes: list[list[tuple[str, float | None, float | None]]] = [
        [("anna", 1, 1), ("ben", 1, 0)],
        [("anna", 1, 0.5), ("ben", 0, 0)],
        [("anna", 0.5, 0.5), ("ben", None, None)],
        [("anna", None, 1)],
    ]
    rows = [
        pair(f"p{n}", "yes", "no", entry, label_prob=p)
        for n, (entry, p) in enumerate(zip(votes, (1, 0.5, 0.9, None), strict=True))
    ]
    version = make(tmp_path, rows, [Consistency(name="firm", voters=["anna", "ben"], how="order")], grain="pairs")
    told = metrics(version)
    assert told["rows"] == 1 + 1  # pairs 1 and 2 flip and are dropped
    assert told["order_flip_rate.anna"] == about(1 / 3) and told["order_flip_rate.ben"] == 0.5
    assert told["order_flip_rate"] == about(2 / 5)
    assert told["tie_rate"] == about(3 / 11) and told["tie_rate.anna"] == about(3 / 7)
    assert told["vote_error_share"] == about(1 / 7) and told["vote_error_share.anna"] == 0
    assert told["noise"] == about(1 - 0.9)  # of the kept pairs, the one that has a label_prob


# -- drift


def test_the_first_version_has_no_drift(tmp_path: Path) -> None:
    told = metrics(make(tmp_path, three_prompts(), steps()))
    drifts = {name: value for name, value in told.items() if name.startswith("drift.")}
    assert {"drift.rows", "drift.length", "drift.margin", "drift.model"} <= set(drifts) and set(drifts.values()) == {None}


def test_drift_is_measured_from_the_last_version(tmp_path: Path) -> None:
    first = [answer(f"p{n}", "x" * 10, 1, model="m1", domain="facts") for n in range(10)]
    second = first[:6] + [answer(f"q{n}", "y" * 500, 9, model="m2", domain="maths") for n in range(2)]
    make(tmp_path, first, [])
    version = make(tmp_path, second, [])
    told = metrics(version)
    assert version.number == 2
    assert told["drift.rows"] == -0.2 and told["drift.prompts_kept"] == 0.6
    assert (told["drift.source"], told["drift.domain"], told["drift.model"]) == (0, 0.25, 0.25)
    # (1, 0) against (3/4, 1/4)
    entropy = -(7 / 8 * math.log2(7 / 8) + 1 / 8 * math.log2(1 / 8)) - 0.5 * -(
        3 / 4 * math.log2(3 / 4) + 1 / 4 * math.log2(1 / 4)
    )
    assert told["drift.length"] == about(entropy) and told["drift.score.rm:help"] == about(entropy)


def test_drift_from_another_kind_of_row_is_not_told(tmp_path: Path) -> None:
    make(tmp_path, three_prompts(), [])
    told = metrics(make(tmp_path, three_prompts(), steps()))
    assert told["drift.rows"] is None


def test_drift_of_prompts_agrees_with_diff(tmp_path: Path) -> None:
    before = make(tmp_path, three_prompts(), steps()[:1])
    after = make(tmp_path, three_prompts()[:5], steps()[:1])
    told = metrics(after)
    assert told["drift.rows"] == about(after.manifest["splits"]["train"] / before.manifest["splits"]["train"] - 1)
    assert diff(before, after).removed == 2 and told["drift.prompts_kept"] == about(2 / 3)


COUNTS = st.dictionaries(st.sampled_from([None, "a", "b", "c"]), st.integers(0, 9), min_size=1).filter(lambda c: any(c.values()))


@given(COUNTS, COUNTS)
def test_total_variation_is_the_largest_difference_any_set_of_values_has(first: dict, second: dict) -> None:
    values = list(first.keys() | second.keys())
    subsets = [[v for i, v in enumerate(values) if bits >> i & 1] for bits in range(2 ** len(values))]
    totals = sum(first.values()), sum(second.values())
    worst = max(sum(first.get(v, 0) for v in s) / totals[0] - sum(second.get(v, 0) for v in s) / totals[1] for s in subsets)
    assert total_variation(first, second) == pytest.approx(worst)


NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32) | st.just(math.nan), min_size=1, max_size=30)


@given(NUMBERS, NUMBERS)
def test_divergence_is_symmetric_between_0_and_1_and_0_for_the_same(first: list[float], second: list[float]) -> None:
    a, b = (np.array(sample, np.float32) for sample in (first, second))
    found = jensen_shannon(a, b)
    if found is None:
        assert np.isnan(a).all() or np.isnan(b).all()
        return
    assert 0 <= found <= 1 + 1e-9 and found == pytest.approx(jensen_shannon(b, a))
    assert jensen_shannon(a, np.concatenate([a, a])) == pytest.approx(0, abs=1e-9)
    if np.nanmax(a) < np.nanmin(b) and not np.isnan(np.concatenate([a, b])).any():
        assert found == pytest.approx(1)


def test_missing_numbers_are_a_class_of_their_own() -> None:
    a, b = np.array([1, 1, 1, 1], np.float32), np.array([1, 1, np.nan, np.nan], np.float32)
    # shares (1, 0) and (1/2, 1/2)
    assert jensen_shannon(a, b) == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) - 0.5)


def test_missing_numbers_are_not_small_numbers() -> None:
    a, b = np.arange(10, dtype=np.float32), np.array([np.nan, *range(1, 10)], np.float32)
    assert jensen_shannon(a, b) == pytest.approx(0.1)  # a tenth of the rows have nothing in common


# -- names


def test_numbers_keep_six_digits_and_counts_all() -> None:
    assert [rounded(v) for v in (1 / 3, 12_345_678, 12_345_678.9, math.nan, None)] == [
        0.333333,
        12_345_678,
        12_345_700.0,
        None,
        None,
    ]


NAMES = Names(
    "pairs",
    (
        StepNames("source", "source", False, False),
        StepNames("pair", "pair", True, False),
        StepNames("judge", "vote", False, True),
    ),
    ("chosen_scores.rm.help", "votes.anna.help", "votes.ben.*", "evidence.margin.margin", "margin"),
)


@pytest.mark.parametrize(
    "name",
    ["rows", "kept_share.pair", "dropped.pair", "dropped.pair.any_reason", "made.pair", "error_share.judge", "score_gap.rm:help"]
    + ["score_gap.rm", "agreement.rm:help", "drift.score.rm:help", "tie_rate.ben", "evidence_mean.margin.margin", "cost_usd"],
)
def test_names_that_a_recipe_can_have(name: str) -> None:
    assert NAMES.known(name)


@pytest.mark.parametrize(
    "name",
    ["row", "kept_share.pare", "dropped.pair.", "made.judge", "error_share.pair", "score_gap.rmm:help", "score_gap.rm:harm"]
    + ["score_mean.rm:help", "characters_mean", "tie_rate.carl", "evidence_mean.margin.other", "kept_share.pair.x", "drift", ""],
)
def test_names_that_it_cannot(name: str) -> None:
    assert not NAMES.known(name)


def test_names_of_a_version_are_names_of_its_recipe(tmp_path: Path) -> None:
    """Nothing is published that a gate could not name."""
    told = metrics(make(tmp_path, three_prompts(), [*with_goal(), Features(name="look")]))
    fields = [f"{side}_scores.{rater}" for side in ("chosen", "rejected") for rater in ("rm.help", "look.*")]
    fields += ["evidence.*.*", "margin", "votes.*.*"]
    known = [StepNames(name, kind) for name, kind in (("exact_duplicate", "exact_duplicate"), ("margin", "margin"))]
    known += [StepNames(name, name) for name in ("source", "pair", "goal", "look")]
    names = Names("pairs", tuple(known), tuple(fields))
    assert [name for name in told if not names.known(name)] == []


def test_a_rater_with_one_aspect_goes_by_its_name() -> None:
    told = {"score_gap.rm:help": 1.0, "score_gap.two:a": 1.0, "score_gap.two:b": 2.0}
    assert find(told, "score_gap.rm") == "score_gap.rm:help" and find(told, "score_gap.two") is None


def test_the_manifest_holds_the_metrics_as_plain_json(tmp_path: Path) -> None:
    version = Versions(tmp_path).version("demo", make(tmp_path, three_prompts(), steps()).number)
    told = json.loads((version.path / "manifest.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert told["metrics"]["rows"] == 3 and "cost_usd" not in told["metrics"]
