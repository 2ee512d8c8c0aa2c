"""MMLU-Pro: every count of the version, recomputed with polars over the raw files."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from curate.store.versions import Version
from tests.recipes.conftest import check_sound, dropped, one_space, steps_of, table_of, text_of

pytestmark = pytest.mark.slow

RATIO, PER_PROMPT = 4, 4  # the recipe's guard and limit
STATED = pl.when(pl.col("response").str.count_matches(r"(?i)answer is") == 1).then(
    pl.col("response").str.extract(r"answer is:?\s*\**\(?([A-J])\)?")
)
"""The letter of texts that make one statement, in the words they were asked for: most do. Not the reader under test."""


class Case(NamedTuple):
    version: Version
    raw: pl.DataFrame
    """Candidates with their question, in the file's order."""
    read: pl.DataFrame
    """What `verify` read (`letter`, null if nothing) of each candidate that is no repeat."""


@pytest.fixture(scope="module")
def case(run: Callable[..., Version], real_data: Path) -> Case:
    version = run("mmlu_pro", data=real_data)
    questions = pl.read_ndjson(real_data / "mmlu_pro" / "questions.dev.jsonl.gz")
    candidates = pl.read_parquet(real_data / "mmlu_pro" / "candidates.dev.parquet").with_row_index("row")
    options = pl.col("options").list.eval(
        pl.concat_str(pl.lit("ABCDEFGHIJ").str.slice(pl.int_range(pl.len()), 1), pl.lit(") "), pl.element())
    )
    asked = questions.with_columns(prompt=pl.concat_str("question", pl.lit("\n\n"), options.list.join("\n")))
    raw = candidates.join(asked, on="question_id", how="left", maintain_order="left").with_columns(
        plain=one_space("generated_text")
    )
    columns = ["row", "prompt", "response", "model", "reference", "scores"]
    kept = table_of(version, "responses").select(columns)
    gone = table_of(version, "dropped/responses").filter(pl.col("dropped_by") != "exact_duplicate").select(columns)
    verdict = pl.col("scores").list.filter(pl.element().struct.field("rater") == "verify").list.first().struct
    read = pl.concat([kept, gone]).select(
        pl.col("row").cast(pl.UInt32),
        text_of("prompt"),
        "response",
        verdict.field("rationale").alias("letter"),
        verdict.field("value"),
    )
    return Case(version, raw, read.join(raw.drop("prompt"), on="row", how="left").sort("row"))


def test_the_version_is_sound_and_its_card_tells_its_numbers(case: Case) -> None:
    check_sound(case.version)


def test_every_candidate_is_read_with_its_question(case: Case, real_data: Path) -> None:
    manifest, raw = case.version.manifest, case.raw
    questions = pl.read_ndjson(real_data / "mmlu_pro" / "questions.dev.jsonl.gz")
    assert (raw.height, questions.height) == (56_775, 3_570)
    assert manifest["rejects"]["read"] == raw.height + questions.height
    assert (manifest["rejects"]["rejected"], manifest["rejects"]["reasons"]) == (0, {})
    source = steps_of(case.version)["source"]
    assert (source["rows_in"], source["kept"], source["dropped"]) == (raw.height, raw.height, {})
    # ten questions are in the file twice, under two ids and with the same answer
    assert raw.select("prompt").n_unique() == 3_560
    assert raw.group_by("prompt").agg(pl.col("answer").n_unique())["answer"].max() == 1


def test_texts_and_prompts_are_those_of_the_files(case: Case) -> None:
    joined = case.read.join(case.raw.select("row", asked="prompt"), on="row")
    assert (joined["prompt"] == joined["asked"]).all()
    assert (joined["response"] == joined["generated_text"]).all()


def test_repeats_within_a_prompt_are_dropped(case: Case) -> None:
    first = case.raw.unique(["prompt", "plain"], keep="first", maintain_order=True)
    repeats = case.raw.height - first.height
    assert repeats == 2_225
    step = steps_of(case.version)["exact_duplicate"]
    assert step["dropped"] == dropped(case.version, "responses", "exact_duplicate") == {"exact_duplicate": repeats}
    assert case.read["row"].to_list() == first["row"].to_list()  # of equal texts the first in the file stays


def test_the_letters_read_are_those_the_file_reads(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """Where both read a letter they agree on 99.6 %; where `verify` reads none, the text does not settle on one.

    The file's parser always answers where it can: with the first of several letters ("The answer is (A) and (H)"), with
    the last capital letter in a text cut off in the middle of a formula, with G (Llama 3.1's, mostly) where there is no
    such letter either. Against those 2 % no reader of answers can agree; they are listed by kind.
    """
    both = case.read.filter(pl.col("pred").is_not_null())
    agree = pl.col("letter") == pl.col("pred")
    last = pl.col("response").str.extract(r"(?s).*\b([A-J])\b")
    said = pl.col("response").str.extract(r"answer is \(?([A-J])\)?")
    several = pl.col("response").str.contains(
        r"answer is \(?[A-J]\)?[^.\n]{0,40}(?:,|and|or|&|/)\s*\(?[A-J]\b|answer is \([A-J]{2,}\)"
    )
    kind = (
        pl.when(pl.col("letter").is_null() & (said == pl.col("pred")) & several)
        .then(pl.lit("none: the text states several"))
        .when(pl.col("letter").is_null() & (said == pl.col("pred")))
        .then(pl.lit("none: stated once, then taken back, cut off or left open"))
        .when(pl.col("letter").is_null() & (last == pl.col("pred")))
        .then(pl.lit("none: the file took the last capital letter of the text"))
        .when(pl.col("letter").is_null())
        .then(pl.lit("none: the file's letter is not stated anywhere"))
        .when(said == pl.col("pred"))
        .then(pl.lit("other: the file took the first statement, the text makes a later one"))
        .otherwise(pl.lit("other: the file took a letter from the prose"))
    )
    listed = both.filter(~agree.fill_null(False)).group_by(kind.alias("kind")).len().sort("len", descending=True)
    letters, same = both["letter"].count(), both.filter(agree).height
    told = [f"letter read by both: {letters:,} of {both.height:,} rows; the same on {same:,} ({same / letters:.2%} of those)"]
    told += [f"  {rows:>5,} {name}" for name, rows in listed.rows()]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(told) + "\n")
    assert same / letters >= 0.99
    assert same / both.height >= 0.97
    assert listed["len"].sum() == both.height - same


def test_verdicts_hold_against_the_truth(case: Case) -> None:
    right = case.read["letter"] == case.read["answer"]
    assert (case.read["value"].fill_null(-1) == right.cast(pl.Float32).fill_null(-1)).all()
    stated = case.read.with_columns(stated=STATED).filter(pl.col("stated").is_not_null())
    assert stated.height > 40_000
    assert stated.filter(pl.col("stated") == pl.col("letter")).height / stated.height >= 0.99


def test_pairs_and_what_made_none(case: Case) -> None:
    """A prompt makes at most four pairs of a right and a wrong answer of which neither is over four times as long."""
    scored = case.read.filter(pl.col("letter").is_not_null()).with_columns(
        right=pl.col("letter") == pl.col("answer"), chars=pl.col("response").str.len_chars()
    )
    sides = [scored.filter(pl.col("right") == side).select("prompt", "row", "chars") for side in (True, False)]
    couples = sides[0].join(sides[1], on="prompt", suffix="_wrong")
    longer, shorter = pl.max_horizontal("chars", "chars_wrong"), pl.min_horizontal("chars", "chars_wrong")
    able = couples.filter(longer <= RATIO * shorter)
    made = able.group_by("prompt").len().select(pl.col("len").clip(upper_bound=PER_PROMPT).sum()).item()
    in_one = set(able["row"]) | set(able["row_wrong"])
    met = set(couples["row"]) | set(couples["row_wrong"])
    pairs = table_of(case.version, "pairs")
    used = table_of(case.version, "responses").height
    unmet = scored.filter(~pl.col("row").is_in(met))
    expected = {
        "no_score": case.read["letter"].null_count(),
        "all_right": unmet["right"].sum(),
        "all_wrong": (~unmet["right"]).sum(),
        "length_ratio": len(met - in_one),
        "not_picked": len(in_one) - used,
    }
    step = steps_of(case.version)["pair"]
    assert step["made"] == pairs.height == made
    assert step["dropped"] == dropped(case.version, "responses", "pair") == expected
    assert step["rows_in"] == case.read.height
    assert step["kept"] == used == len(set(pairs["chosen_id"]) | set(pairs["rejected_id"]))
    assert pairs.group_by("prompt_id").len()["len"].max() == PER_PROMPT


def test_chosen_is_right_and_rejected_is_wrong(case: Case) -> None:
    pairs = table_of(case.version, "pairs").with_columns(text_of("prompt"), text_of("chosen"), text_of("rejected"))
    known = case.read.with_columns(stated=STATED).select("prompt", "response", "letter", "answer", "pred", "stated")
    for side, is_right in (("chosen", True), ("rejected", False)):
        judged = pairs.join(known, left_on=["prompt", side], right_on=["prompt", "response"], how="left", maintain_order="left")
        assert judged.height == pairs.height
        assert judged["letter"].null_count() == 0
        assert ((judged["letter"] == judged["answer"]) == is_right).all()
        # the same by the letters that a plain expression and the file's parser read; the latter takes the first of two
        for reader, least in (("stated", 0.998), ("pred", 0.985)):
            told = judged.filter(pl.col(reader).is_not_null())
            assert told.filter((pl.col(reader) == pl.col("answer")) == is_right).height / told.height >= least, (side, reader)
    assert (pairs["margin"] == 1).all()
    assert (pairs["chosen_score_verify_correct"] == 1).all()
    assert (pairs["rejected_score_verify_correct"] == 0).all()
