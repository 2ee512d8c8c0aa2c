"""Faults of published code about scores, labels and prompts: each has a test that would fail if it were here, too.

Held elsewhere: reward-augmented data, ties that contradict each other and a second half whose sides are not exchanged
(tests/relabel/test_goal.py, tests/recipes/test_relabel_recipes.py); sentences tokenised one by one (tests/relabel/test_mask.py,
tests/export); a cut-off `Mark: 1` that was to become 10 (tests/score/test_judge.py).

COIG-P: the paper's tables give different numbers for the same rows. That is no fault of code; what can be held here is that all
numbers a version tells are counted from its own rows.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import ids, tables
from curate.errors import RecipeError
from curate.filter.consistency import Consistency
from curate.filter.margin import Margin
from curate.generate.rewrite import Rewrite
from curate.maths import verdicts
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.pair.pair import Pair
from curate.recipe import read_recipe
from curate.relabel.soft_label import SoftLabel
from curate.relabel.weight import Weight
from curate.score.aggregate import Aggregate
from curate.score.judge import Judge
from curate.store.versions import Version
from tests.recipes.conftest import check_card, table_of
from tests.recipes.test_model_recipes import by_prompt
from tests.recipes.test_reward_recipes import all_pairs, rank_correlation, responses_of, told


def series(**values: float | None) -> list[dict[str, Any]]:
    """Scores by `rater`, or by `rater__aspect`."""
    named = [(*name.split("__"), "x")[:2] for name in values]
    return [
        {"rater": rater, "aspect": aspect, "value": value} for (rater, aspect), value in zip(named, values.values(), strict=True)
    ]


def responses(*rows: tuple[str, list[dict[str, Any]]]) -> pa.Table:
    """Responses by the letter of their prompt and their scores."""
    made = []
    for number, (letter, scores) in enumerate(rows):
        prompt = [{"role": "user", "content": letter}]
        row = {"row": number, "prompt": prompt, "prompt_id": letter, "response": f"answer {number}", "response_id": f"r{number}"}
        made.append(row | {"scores": scores})
    return tables.from_rows(made, "responses")


def with_columns(table: pa.Table, made: pa.Table) -> pa.Table:
    for name in made.column_names:
        table = table.set_column(table.column_names.index(name), name, made[name])
    return table


# -- UltraFeedback: an overall mark of 1 was stored as 10


@pytest.mark.parametrize("number", range(1, 11))
def test_a_mark_is_the_number_that_was_written(number: int) -> None:
    """The released code multiplied what it took for a share of 1 by ten."""
    wanted = [verdicts.mark(1, 10)]
    for reading in (verdicts.read_lines(f"Mark: {number}", wanted), verdicts.read_object(f'{{"mark": {number}}}', wanted, False)):
        assert reading is not None
        assert wanted[0].worth[reading.found[0].choice] == number


@pytest.mark.parametrize("reply", ["Mark: 0.1", "Mark: 1/10", "Mark: 1.0", "Mark: 10%", "Mark: 0", "Mark: 11"])
def test_what_is_no_mark_is_not_made_one(reply: str) -> None:
    assert verdicts.read_lines(reply, [verdicts.mark(1, 10)]) is None


def test_an_overall_mark_that_the_aspects_contradict_wins_no_pair() -> None:
    """Data with the fault in it: the mean of the aspects strikes the pair out, as `reward-augmented` does."""
    table = responses(("p", series(gpt__overall=10, fine=1.25)), ("p", series(gpt__overall=7, fine=4.5)))
    made = Pair(by="gpt:overall", name="pair")(table)
    (row,) = made.rows.to_pylist()
    assert row["chosen_id"] == "r0"
    checked = Margin(by="fine", drop_negative=True, write=False, name="fine_agrees")(made.rows)
    assert [flag["reason"] for flag in checked["flags"].to_pylist()[0]] == ["negative_margin"]
    bounds = {"from": ["gpt:overall"], "bounds": [{"by": "fine", "below": 2.01, "at_most": 1}]}
    repaired = Aggregate(**bounds, name="repaired")(table)  # type: ignore[arg-type]
    assert tables.score_of(with_columns(table, repaired), "repaired").tolist() == [1, 7]


# -- CREAM: consistencies moved to other prompts where scores were missing


def test_the_consistency_of_a_prompt_stays_with_it_where_others_have_none() -> None:
    """Prompt a has a response without a score, prompt b is ranked alike by both, prompt c the other way round."""
    table = responses(
        *(("a", series(now=now, before=before)) for now, before in ((None, 1), (None, 2))),
        *(("b", series(now=n, before=n)) for n in (1, 2, 3)),
        *(("c", series(now=n, before=-n)) for n in (1, 2, 3)),
    )
    table = with_columns(table, Consistency(how="kendall", raters=["now", "before"], name="agree")(table))
    pairs = Pair(by="before", name="pair")(table).rows
    soft = SoftLabel(by="agree:agreement", how="score", name="soft")(pairs)
    assert dict(zip(pairs["prompt_id"].to_pylist(), soft["label_prob"].to_pylist(), strict=True)) == {"a": 0.5, "b": 1, "c": 0}


# -- SPA (Selfie): of an odd number of samples the last was lost


def test_the_last_of_an_odd_number_of_samples_counts() -> None:
    for best in range(3):
        scores = [3.0 if place == best else float(place) / 10 for place in range(3)]
        table = responses(*(("p", series(implicit=score)) for score in scores))
        made = Pair(by="implicit", name="pair")(table)
        (row,) = made.rows.to_pylist()
        assert row["chosen_id"] == f"r{best}"


def test_selfie_looks_at_all_of_three_samples(run: Callable[..., Version]) -> None:
    version = run("selfie", "--set", "steps.generate.n=3")
    rows = by_prompt(responses_of(version))
    assert {len(each) for each in rows.values()} == {3}
    picked = Counter[int]()
    for pair in all_pairs(version):
        rewards = {row["response_id"]: told(row, "implicit", "dpo") for row in rows[pair["prompt_id"]]}
        samples = {row["response_id"]: row["sample"] for row in rows[pair["prompt_id"]]}
        assert rewards[pair["chosen_id"]] == max(rewards.values()) and rewards[pair["rejected_id"]] == min(rewards.values())
        picked[samples[pair["chosen_id"]]] += 1
    assert min(picked[sample] for sample in range(3)) > 20


# -- ArmoRM: the second stage trained on rewards that still held verbosity


def test_gates_mix_the_rewards_freed_of_verbosity_and_not_the_raw_ones() -> None:
    random = np.random.default_rng(4)
    verbosity = random.normal(size=400)
    helpful = random.normal(size=400) + 1.5 * verbosity
    table = responses(*(("p", series(rm__helpful=h, rm__verbosity=v)) for h, v in zip(helpful, verbosity, strict=True)))
    mixing: dict[str, Any] = {"from": ["rm:helpful", "rm:verbosity"], "how": "gated", "name": "mixed"}
    mixing["gates"] = {"*": {"rm:helpful": 0.9, "rm:verbosity": 0.1}}
    apart = {"decorrelate": {"against": "rm:verbosity", "limit": 0.03, "each": True}}
    raw, freed = (Aggregate(**told)(table) for told in (mixing, mixing | apart))
    found = tables.score_of(with_columns(table, freed), "mixed").tolist()
    assert abs(rank_correlation(found, list(verbosity))) <= 0.04
    assert rank_correlation(tables.score_of(with_columns(table, raw), "mixed").tolist(), list(verbosity)) > 0.7
    assert rank_correlation(found, list(helpful - 1.5 * verbosity)) > 0.95  # what is left is what the reward knows besides


# -- EVOREFUSE: children were accepted on the verdict about their parents


def test_a_child_has_no_verdict_until_it_is_judged_itself(tmp_path: Path) -> None:
    models = {
        "writer": ModelSpec(backend="fake", name="writer"),
        "judge": ModelSpec(backend="fake", name="judge", options={"accuracy": 1.0}),
    }
    prompt = [{"role": "user", "content": "Explain how a lock works."}]
    row = {"row": 0, "prompt": prompt, "prompt_id": ids.prompt_id(prompt)}
    with Session(models, tmp_path / "models") as session:

        def judged(table: pa.Table) -> pa.Table:
            step = Judge(name="safe", model="judge", rubric="harmlessness").with_models(session.for_step("safe"))
            return with_columns(table, step(table))

        evolve = Rewrite(name="evolve", model="writer", kind="evolve", rounds=2, keep_original=True, n=3)
        parents = judged(tables.from_rows([row], "prompts"))
        made: Any = evolve.with_models(session.for_step("evolve"))(parents)
        family = made.append_column("row", pa.array(range(len(made)))).select(parents.column_names)
        assert [len(scores or []) for scores in family["scores"].to_pylist()] == [1, 0, 0, 0]
        children = family.slice(1)
        own = tables.score_of(judged(children), "judge", "harmlessness")
        alone = [tables.score_of(judged(children.slice(n, 1)), "judge", "harmlessness")[0] for n in range(3)]
        assert own.tolist() == alone and not np.isnan(own).any()
        assert len({*own.tolist(), *tables.score_of(parents, "judge", "harmlessness").tolist()}) > 1


# -- MM-RLHF: a factor of the batch took the place of the one stored for each pair


def test_the_factor_of_a_pair_is_its_own_whoever_stands_beside_it() -> None:
    margins = [0.1, 0.5, 2.0, 8.0]
    table = tables.from_rows([{"margin": margin} for margin in margins], "pairs")
    together = Weight(name="w", how="margin")(table)["weight"].to_pylist()
    assert len(set(together)) == 4
    assert [Weight(name="w", how="margin")(table.slice(n, 1))["weight"][0].as_py() for n in range(4)] == together


def test_a_stored_factor_is_not_overwritten_in_silence(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"p": "?", "c": "yes", "r": "no", "m": 1.5, "beta": 1.2}\n')
    text = (
        "name: stored\nsource: {path: rows.jsonl, columns: {prompt: p, chosen: c, rejected: r, margin: m, weight: beta}}\n"
        "steps:\n  - weight: {how: margin}\n"
    )
    with pytest.raises(RecipeError, match="writes weight, which the source has written"):
        read_recipe(text, base=tmp_path)
    assert read_recipe(text.replace("how: margin", "how: margin, replace: true"), base=tmp_path).steps


# -- COIG-P: tables that contradict each other


def test_every_number_a_version_tells_is_counted_from_its_rows(run: Callable[..., Version]) -> None:
    version = run("coig-p")
    check_card(version)
    kept = table_of(version, "pairs")
    by_domain = kept.group_by("domain").len()["len"].sum()
    assert by_domain == kept.height == sum(version.manifest["splits"].values())
