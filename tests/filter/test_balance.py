"""Rows above a quota are dropped, and the flag says which quota."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import tables
from curate.filter.balance import Balance
from curate.operator import Cut


def prompts(*domains: str | None, **more: list[Any]) -> pa.Table:
    rows = [{"domain": domain, "prompt_id": f"{n:032x}"} for n, domain in enumerate(domains)]
    for name, values in more.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return tables.from_rows(rows, "prompts")


def scored(*values: float | None) -> list[list[dict[str, Any]]]:
    return [[{"rater": "rm", "aspect": "quality", "value": value}] for value in values]


def reasons(columns: pa.Table) -> list[str | None]:
    return [flags[-1]["reason"] if flags else None for flags in columns["flags"].to_pylist()]


def places(columns: pa.Table) -> list[float | None]:
    return [row[-1]["value"] for row in columns["evidence"].to_pylist()]


def test_so_many_of_each_value_the_earliest_first() -> None:
    made = Balance(by="domain", at_most=1)(prompts("code", "maths", "code", None, None))
    assert reasons(made) == [None, None, "over_domain", None, None]
    assert places(made) == [1, 1, 2, None, None]
    assert Balance(by="domain", at_most=1).cut() == Cut("place", "<=", 1, "at_most")


def test_so_many_a_prompt() -> None:
    rows = [{"prompt_id": prompt, "response_id": str(n)} for n, prompt in enumerate("aabab")]
    assert reasons(Balance(by="prompt", at_most=2)(tables.from_rows(rows, "responses"))) == [
        None,
        None,
        None,
        "over_prompt",
        None,
    ]


def test_so_many_a_cluster_that_a_step_wrote() -> None:
    evidence = [[{"by": "near", "name": "cluster", "value": value}] for value in (3, 3, 4, None)]
    made = Balance(by="evidence.near.cluster", at_most=1)(prompts("a", "a", "a", "a", evidence=evidence))
    assert reasons(made) == [None, "over_evidence_near_cluster", None, None]


def test_a_field_of_meta() -> None:
    meta = ['{"language": "en"}', '{"language": "en"}', '{"language": 5}', "{}", None]
    made = Balance(by="meta.language", quotas={"en": 1, "5": 0})(prompts(*"aaaaa", meta=meta))
    assert reasons(made) == [None, "quota_en", "quota_5", None, None]


def test_quotas_of_named_values_and_of_all_others() -> None:
    rows = prompts("code", "code", "maths", "maths", "facts", None)
    assert reasons(Balance(by="domain", quotas={"code": 1})(rows)) == [None, "quota_code", None, None, None, None]
    named = Balance(by="domain", quotas={"code": 1}, other=0)(rows)
    assert reasons(named) == [None, "quota_code", "quota_other", "quota_other", "quota_other", "quota_other"]


def test_a_mixture_by_weights() -> None:
    rows = prompts("code", "code", "maths", "code", "facts", "maths", "code")
    # two of maths allow four of code at 2 : 1
    assert reasons(Balance(by="domain", weights={"code": 2, "maths": 1})(rows)) == [None] * 4 + ["mix_unnamed", None, None]
    fewer = Balance(by="domain", weights={"code": 2, "maths": 1}, total=3)(rows)
    assert reasons(fewer) == [None, None, None, "mix_code", "mix_unnamed", "mix_maths", "mix_code"]


def test_a_weight_of_a_value_that_no_row_has_plays_no_part() -> None:
    assert reasons(Balance(by="domain", weights={"code": 1, "poems": 1})(prompts("code", "code"))) == [None, None]


def test_the_best_of_a_group_stay_and_rows_without_a_score_go_first() -> None:
    rows = prompts("a", "a", "a", scores=scored(None, 1.0, 2.0))
    assert reasons(Balance(by="domain", at_most=2, keep="best", score="rm")(rows)) == ["over_domain", None, None]


def test_of_pairs_the_gap_ranks() -> None:
    sides = [(5, 5), (9, 3), (2, 1)]
    rows = [
        {"domain": "a", "pair_id": str(n), "chosen_scores": scored(chosen)[0], "rejected_scores": scored(rejected)[0]}
        for n, (chosen, rejected) in enumerate(sides)
    ]
    made = Balance(by="domain", at_most=1, keep="best", score="rm:quality")(tables.from_rows(rows, "pairs"))
    assert reasons(made) == ["over_domain", None, "over_domain"]


def test_a_draw_depends_on_ids_and_seed_alone() -> None:
    rows = prompts(*["a"] * 40)
    kept = {seed: np.array(reasons(Balance(by="domain", at_most=10, keep="random", seed=seed)(rows))) for seed in (1, 2)}
    backwards = np.array(reasons(Balance(by="domain", at_most=10, keep="random", seed=1)(rows.take(pa.array(range(39, -1, -1))))))
    assert (kept[1] == backwards[::-1]).all()
    assert (kept[1] != kept[2]).any()


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"by": "domain"}, "one of at_most"),
        ({"by": "domain", "at_most": 1, "quotas": {"a": 1}}, "one of at_most"),
        ({"by": "domain", "at_most": 1, "other": 1}, "`other` goes with"),
        ({"by": "domain", "at_most": 1, "total": 1}, "`total` goes with"),
        ({"by": "domain", "weights": {"a": -1}}, "negative"),
        ({"by": "domain", "weights": {"a": 0}}, "above 0"),
        ({"by": "domain", "at_most": 1, "keep": "best"}, "`score` names"),
        ({"by": "margin", "at_most": 1}, "takes a text column"),
        ({"by": "domian", "at_most": 1}, "takes a text column"),
    ],
)
def test_requests_that_contradict_themselves(parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Balance(**parameters)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30), st.integers(1, 4))
def test_no_group_keeps_more_than_it_may_and_none_less_than_it_could(domains: list[str | None], most: int) -> None:
    told = reasons(Balance(by="domain", at_most=most)(prompts(*domains)))
    for value in {*domains} - {None}:
        kept = sum(domain == value and reason is None for domain, reason in zip(domains, told, strict=True))
        assert kept == min(most, domains.count(value))
