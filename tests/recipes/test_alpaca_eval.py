"""AlpacaEval: every count of the version, recomputed with polars over the raw files.

Of 106,250 annotations, 51,236 say that the text they judged is among the outputs; 50,571 of those agree with an output
in prompt, generator and length. The other 665 do not: 661 judged a model that is not among the outputs (its text is that
of another model, mostly a short or an empty one), 2 a text of text_davinci_001 for a prompt to which the outputs hold
none, and 2 an empty text of gemini-pro where the outputs hold another one. Their judgement must not be given to the text
that happens to be there.

A trap: in the folder falcon-7b-instruct, the judgements by alpaca_eval_gpt4 say that generator_2 is falcon-40b-instruct,
and so do the lengths. Joining on the folder would give the smaller model all of the larger one's preferences.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from curate.store.versions import Version
from tests.recipes.conftest import check_sound, dropped, one_space, steps_of, table_of, text_of

pytestmark = pytest.mark.slow

GAP = 0.5  # the recipe's min_gap
JUDGES = [
    "weighted_alpaca_eval_gpt4_turbo",
    "alpaca_eval_gpt4",
    "alpaca_eval_cot_gpt4_turbo_fn",
    "alpaca_eval_gpt4_turbo_fn",
]
KEY, THEIRS = ["prompt_id", "generator", "chars"], ["prompt_id", "generator_2", "output_2_chars"]


class Case(NamedTuple):
    version: Version
    outputs: pl.DataFrame
    """The candidates in the file's order, numbered."""
    annotations: pl.DataFrame
    """The judgements in the file's order, numbered from 1 as rejects.jsonl does."""
    matched: pl.DataFrame
    """Judgements of a text that is there, with its `row` among the outputs."""


@pytest.fixture(scope="module")
def case(run: Callable[..., Version], real_data: Path) -> Case:
    folder = real_data / "alpaca_eval"
    version = run("alpaca_eval", data=real_data)
    outputs = (
        pl.read_parquet(folder / "model_outputs.parquet")
        .with_row_index("row")
        .with_columns(chars=pl.col("output").str.len_chars().cast(pl.Int64), plain=one_space("output"))
    )
    annotations = pl.read_parquet(folder / "annotations.parquet").with_row_index("line", offset=1)
    there = annotations.filter("output_2_in_model_outputs")
    return Case(version, outputs, annotations, there.join(outputs.select("row", *KEY), left_on=THEIRS, right_on=KEY))


def test_the_version_is_sound_and_its_card_tells_its_numbers(case: Case) -> None:
    check_sound(case.version)


def test_a_preference_attaches_only_to_the_text_that_was_judged(case: Case) -> None:
    there = case.annotations.filter("output_2_in_model_outputs")
    assert (case.annotations.height, there.height, case.matched.height) == (106_250, 51_236, 50_571)
    assert case.matched["line"].n_unique() == case.matched.height  # no judgement fits two texts
    lost = there.join(case.outputs, left_on=THEIRS, right_on=KEY, how="anti")
    no_model = lost.filter(~pl.col("generator_2").is_in(case.outputs["generator"].unique().implode()))
    no_text = lost.join(case.outputs, left_on=THEIRS[:2], right_on=KEY[:2], how="anti")
    assert (lost.height, no_model.height, no_text.height) == (665, 661, 663)
    reasons = {
        "output_2_in_model_outputs is not true": case.annotations.height - there.height,
        "no row matches the joined score": lost.height,
    }
    rejects = case.version.manifest["rejects"]
    assert rejects["reasons"] == reasons
    assert rejects["read"] == case.outputs.height + case.annotations.height + 805
    told = pl.read_ndjson(case.version.path / "rejects.jsonl")
    assert set(told["file"]) == {"annotations.parquet"}
    assert {reason: set(lines) for reason, lines in told.group_by("reason").agg("line").rows()} == {
        "output_2_in_model_outputs is not true": set(case.annotations["line"]) - set(there["line"]),
        "no row matches the joined score": set(lost["line"]),
    }
    assert told.height + case.matched.height == case.annotations.height


def test_the_published_scores_are_the_judges_own(case: Case) -> None:
    """Every score of every candidate, kept or dropped, ties told as 0 read as 1.5, the later of two judgements counting."""
    told = pl.when(pl.col("preference") == 0).then(1.5).otherwise("preference").cast(pl.Float32)
    assert case.matched.filter(preference=0).height == 145
    last = case.matched.sort("line").with_columns(told=told).group_by("row", "annotator").agg(pl.col("told").last())
    expected = case.outputs.select("row").join(
        last.pivot("annotator", index="row", values="told"), on="row", how="left", maintain_order="left"
    )
    flat = {f"score_{judge}_preference": judge for judge in JUDGES}
    columns = ["row", "model", *flat]
    rows = pl.concat([table_of(case.version, name).select(columns) for name in ("responses", "dropped/responses")]).sort("row")
    assert rows["row"].to_list() == case.outputs["row"].to_list()
    assert rows["model"].to_list() == case.outputs["generator"].to_list()
    for column, judge in flat.items():
        assert rows[column].to_list() == expected[judge].to_list(), judge


def test_the_larger_falcons_judgements_are_not_given_to_the_smaller(case: Case) -> None:
    trap = case.annotations.filter(model_dir="falcon-7b-instruct", annotator="alpaca_eval_gpt4")
    assert trap.filter("output_2_in_model_outputs", generator_2="falcon-40b-instruct").height == trap.height == 805
    lengths = {
        name: case.outputs.filter(generator=f"falcon-{name}-instruct").select("prompt_id", "chars") for name in ("7b", "40b")
    }
    on = {"left_on": ["prompt_id", "output_2_chars"], "right_on": ["prompt_id", "chars"]}
    assert trap.join(lengths["40b"], **on).height == 805
    assert trap.join(lengths["7b"], **on).height < 80
    columns = ["model", "score_alpaca_eval_gpt4_preference"]
    rows = pl.concat([table_of(case.version, name).select(columns) for name in ("responses", "dropped/responses")])
    scored = dict(rows.group_by("model").agg(pl.col(columns[1]).count()).rows())
    assert (scored["falcon-7b-instruct"], scored["falcon-40b-instruct"]) == (0, 805)


def test_repeats_within_a_prompt_are_dropped(case: Case) -> None:
    first = case.outputs.unique(["prompt_id", "plain"], keep="first")
    repeats = case.outputs.height - first.height
    assert repeats == 471
    step = steps_of(case.version)["exact_duplicate"]
    assert step["dropped"] == dropped(case.version, "responses", "exact_duplicate") == {"exact_duplicate": repeats}
    gone = table_of(case.version, "dropped/responses").filter(dropped_by="exact_duplicate")
    assert set(gone["row"]) == set(case.outputs["row"]) - set(first["row"])


def test_loops_are_dropped(case: Case) -> None:
    """Against a plainer measure than the one under test, which tells counting from looping and reads more than words."""
    loops = table_of(case.version, "dropped/responses").filter(reason="repetition")
    seen = case.outputs.unique(["prompt_id", "plain"], keep="first").select("row", "output")
    clear = {row for row, text in seen.rows() if len(text) > 100 and looped(text) >= 0.5}
    assert len(clear) > 100
    assert len(clear - set(loops["row"])) <= 3  # a table of dates is none
    plain = [text for text in loops["response"] if is_loop(text)]
    assert len(plain) / loops.height >= 0.9


def is_loop(text: str) -> bool:
    """Words that come back, numbers aside, or a few characters over and over."""
    return max(looped(text), looped(re.sub(r"\d+", "", text))) >= 0.35 or bool(re.search(r"(?s)(.{1,8}?)\1{20}", text))


def looped(text: str) -> float:
    """Share of a text's characters in words that belong to eight in a row met before."""
    words = re.findall(r"[^\W\d_]+|\d+", text.lower())
    runs = [tuple(words[i : i + 8]) for i in range(len(words) - 7)]
    seen: set[tuple[str, ...]] = set()
    again: set[int] = set()
    for place, run in enumerate(runs):
        if run in seen:
            again.update(range(place, place + 8))
        seen.add(run)
    return sum(len(words[i]) for i in again) / max(1, sum(map(len, words)))


def test_template_leftovers_are_dropped(case: Case) -> None:
    gone = table_of(case.version, "dropped/responses").filter(dropped_by="features")
    step = steps_of(case.version)["features"]
    assert step["dropped"] == dropped(case.version, "responses", "features")
    assert set(step["dropped"]) == {"template", "repetition"}
    assert sum(step["dropped"].values()) == gone.height
    seen = case.outputs.unique(["prompt_id", "plain"], keep="first")
    unfilled = seen.filter(pl.col("output").str.contains(r"\[insert [^\[\]<>\n]{2,60}\]"), ~pl.col("output").str.contains("`"))
    template = gone.filter(reason="template")
    assert template.height >= unfilled.height >= 20
    assert set(unfilled["row"]) <= set(gone["row"])
    entry = pl.col("scores").list.filter(pl.element().struct.field("aspect") == "template").list.first()
    quoted = template.select("response", piece=entry.struct.field("rationale"))
    assert all(piece in text for text, piece in quoted.rows())


@pytest.fixture(scope="module")
def judged(case: Case) -> pl.DataFrame:
    """What reached the pairing, with the calibrated mean of the judges recomputed (`z`, null where nobody judged)."""
    gone = table_of(case.version, "dropped/responses").filter(pl.col("dropped_by") != "pair")
    told = pl.when(pl.col("preference") == 0).then(1.5).otherwise("preference")
    last = case.matched.sort("line").with_columns(told=told).group_by("row", "annotator").agg(pl.col("told").last())
    last = last.filter(~pl.col("row").is_in(gone["row"].implode()), pl.col("told").is_not_null())
    z = (pl.col("told") - pl.col("told").mean()) / pl.col("told").std(ddof=0)
    means = last.with_columns(z=z.over("annotator")).group_by("row").agg(pl.col("z").mean())
    left = case.outputs.filter(~pl.col("row").is_in(gone["row"].implode()))
    return left.join(means, on="row", how="left", maintain_order="left")


def test_the_judges_are_calibrated_before_they_are_averaged(case: Case, judged: pl.DataFrame) -> None:
    names = ("responses", "dropped/responses")
    rows = pl.concat([table_of(case.version, name).select("row", "score_judges_score") for name in names])
    both = judged.select(pl.col("row").cast(pl.Int64), "z").join(rows, on="row", how="left")
    assert both.filter(pl.col("z").is_null() != pl.col("score_judges_score").is_null()).height == 0
    assert (both["z"] - both["score_judges_score"]).abs().max() < 1e-5
    assert both["z"].null_count() == 65


def test_the_best_of_each_prompt_is_chosen_over_one_clearly_worse(case: Case, judged: pl.DataFrame) -> None:
    ranked = judged.filter(pl.col("z").is_not_null()).sort("prompt_id", -pl.col("z").round(5), "row")
    gap = pl.col("z").max().over("prompt_id") - pl.col("z")
    best = (pl.int_range(pl.len()) == 0).over("prompt_id")
    standing = pl.when(gap < 1e-6).then(pl.lit("tie")).when(gap < GAP - 1e-6).then(pl.lit("small_gap")).otherwise(pl.lit("able"))
    ranked = ranked.with_columns(gap=gap, best=best, standing=standing)
    others = dict(ranked.filter(~pl.col("best")).group_by("standing").len().rows())
    prompts = ranked.filter(~pl.col("best"), standing="able")["prompt_id"].n_unique()
    step = steps_of(case.version)["pair"]
    assert step["made"] == prompts == 805
    assert step["rows_in"] == judged.height
    assert step["dropped"] == dropped(case.version, "responses", "pair")
    assert step["dropped"] == {
        "no_score": judged["z"].null_count(),
        "tie": others["tie"],
        "small_gap": others["small_gap"],
        "not_picked": others["able"] - prompts,
    }
    pairs = goal_pairs(case.version)
    chosen = ranked.filter("best").select("prompt_id", "generator", "output")
    assert set(pairs.select("chosen_model", "chosen").rows()) == set(chosen.select("generator", "output").rows())
    assert pairs.height == prompts
    assert pairs.select(pl.col("chosen_score_judges_score") - pl.col("rejected_score_judges_score")).min().item() >= GAP - 1e-6
    assert (pairs["margin"] - (pairs["chosen_score_judges_score"] - pairs["rejected_score_judges_score"])).abs().max() < 1e-5


def goal_pairs(version: Version) -> pl.DataFrame:
    """The pairs as they were made: the first row of each relabelled one, and those that `goal` passed on with a flag."""
    kept = table_of(version, "pairs").filter(origin="goal_chosen")
    both = [kept, table_of(version, "dropped/pairs").filter(dropped_by="goal").select(kept.columns)]
    return pl.concat(both).with_columns(text_of("prompt"), text_of("chosen"), text_of("rejected"))


def test_each_pair_is_told_once_for_either_score_as_its_goal(case: Case) -> None:
    made = goal_pairs(case.version)
    scores = [made[f"{side}_score_judges_score"] for side in ("chosen", "rejected")]
    rank = pl.concat(scores).rank("average")
    share = (rank - rank.min()) / (rank.max() - rank.min())
    goals = (1 + 9 * share + 0.5).floor().cast(pl.Int64)
    chosen, rejected = goals[: made.height], goals[made.height :]
    ties = int((chosen == rejected).sum())
    step = steps_of(case.version)["goal"]
    assert step["dropped"] == dropped(case.version, "pairs", "goal") == {"goal_tie": ties}
    assert step["made"] == 2 * (made.height - ties) == table_of(case.version, "pairs").height
    rows = table_of(case.version, "pairs").with_columns(text_of("chosen"), text_of("rejected"))
    said = {(row["chosen"], row["rejected"]): json.loads(row["goal"])["score"] for row in rows.iter_rows(named=True)}
    for one, other, high, low in zip(made["chosen"], made["rejected"], chosen, rejected, strict=True):
        assert (said.get((one, other)), said.get((other, one))) == ((high, low) if high != low else (None, None))


def test_shares_of_the_splits_are_about_those_asked_for(case: Case) -> None:
    rows = case.version.manifest["splits"]
    assert sum(rows.values()) == table_of(case.version, "pairs").height
    assert rows["test"] / sum(rows.values()) == pytest.approx(0.05, abs=0.025)
    assert rows["validation"] / sum(rows.values()) == pytest.approx(0.02, abs=0.015)
