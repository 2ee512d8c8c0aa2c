"""Real files through the generic mapping; expected counts are recomputed from the raw files."""

import polars as pl

ALPACA = {
    "path": "alpaca_eval/model_outputs.parquet",
    "columns": {"prompt": "instruction", "response": "output", "model": "generator", "domain": "dataset"},
    "max_rejects": 0.5,
    "join": [
        {"path": "alpaca_eval/prompts.jsonl.gz", "on": ["prompt_id"], "columns": {"instruction": "instruction"}},
        {
            "path": "alpaca_eval/annotations.parquet",
            "on": {"prompt_id": "prompt_id", "generator_2": "generator", "output_2_chars": "chars(output)"},
            "where": "output_2_in_model_outputs",
            "scores": {"rater": "judge", "value": "preference", "aspect": "preference"},
        },
    ],
}


def test_alpaca_preferences_attach_to_the_judged_text(reading, real_data):
    folder = real_data / "alpaca_eval"
    outputs = pl.read_parquet(folder / "model_outputs.parquet").with_columns(
        chars=pl.col("output").str.len_chars().cast(pl.Int64)
    )
    judged = pl.read_parquet(folder / "annotations.parquet")
    there = judged.filter("output_2_in_model_outputs")
    ours, theirs = ["prompt_id", "generator", "chars"], ["prompt_id", "generator_2", "output_2_chars"]
    matching = there.join(outputs, left_on=theirs, right_on=ours)
    outcome = reading(ALPACA, real_data)
    attached = sum(len(row["scores"] or ()) for row in outcome.rows)
    assert (len(outcome.rows), attached) == (outputs.height, matching.height) == (26_559, 50_571)
    unmatched = there.join(outputs, left_on=theirs, right_on=ours, how="anti").height
    assert outcome.reasons == {
        "output_2_in_model_outputs is not true": judged.height - there.height,
        "no row matches the joined score": unmatched,
    }
    assert attached + len(outcome.rejects) == judged.height


def test_mmlu_pro_candidates_get_their_question_options_and_answer(reading, real_data):
    source = {
        "path": "mmlu_pro/candidates.dev.parquet",
        "columns": {
            "prompt": "{question}\n\n{options:letters}",
            "response": "generated_text",
            "model": "model",
            "reference": "answer",
        },
        "scores": {"file": "correct"},
        "join": {"path": "mmlu_pro/questions.dev.jsonl.gz", "on": "question_id"},
        "meta": ["pred"],
    }
    outcome = reading(source, real_data)
    raw = pl.read_parquet(real_data / "mmlu_pro" / "candidates.dev.parquet")
    assert (len(outcome.rows), outcome.rejects) == (raw.height, [])
    assert sum(row["scores"][0]["value"] for row in outcome.rows) == raw["correct"].sum()
    assert {row["reference"] for row in outcome.rows} <= set("ABCDEFGHIJ")
    assert "\n\nA) " in outcome.rows[0]["prompt"][0]["content"]


def test_ukp_votes_choose_the_majority(reading, real_data):
    votes = {"list": "mTurkAssignments", "rater": "workerID", "value": "value", "rationale": "reason"}
    source = {
        "path": "ukp_convarg/pairs.dev.jsonl.gz",
        "columns": {"prompt": "{debateMetaData.title}", "first": "arg1.text", "second": "arg2.text"},
        "votes": votes | {"first": "a1", "second": "a2", "tie": "equal"},
    }
    outcome = reading(source, real_data)
    assert (len(outcome.rows), sum(len(row["votes"]) for row in outcome.rows)) == (11_653, 58_129)
    means = [sum(v["p_chosen"] for v in row["votes"]) / len(row["votes"]) for row in outcome.rows]
    assert min(means) == 0.5
    assert all((mean == 0.5) <= bool(row["flags"]) for mean, row in zip(means, outcome.rows, strict=True))


def test_pandalm_annotators_and_a_joined_judge_vote(reading, real_data):
    source = {
        "path": "pandalm/testset-v1.jsonl.gz",
        "columns": {"prompt": "{instruction}\n{input}", "first": "response1", "second": "response2"},
        "votes": {"columns": ["annotator1", "annotator2", "annotator3", "gpt_result"], "first": 1, "second": 2, "tie": 0},
        "join": {"path": "pandalm/gpt-3.5-turbo-testset-v1.jsonl.gz", "on": "idx"},
    }
    outcome = reading(source, real_data)
    assert len(outcome.rows) + len(outcome.rejects) == 999
    assert {vote["rater"] for row in outcome.rows for vote in row["votes"]} == {*source["votes"]["columns"]}
    assert outcome.reasons == {"wrong type": 6}  # a spreadsheet made truth values of the answers "True" and "False"


def test_tulu_experts_label_and_tie(reading, real_data):
    label = {"column": "preference", "rater": "evaluator", "tie": "tie"}
    source = {
        "path": "tulu_human_eval/annotations.jsonl.gz",
        "columns": {"prompt": "prompt", "first": "completion_a", "second": "completion_b", "first_model": "model_a"},
        "label": label | {s: [f"{x}-is-better", f"{x}-is-slightly-better"] for s, x in (("first", "a"), ("second", "b"))},
    }
    rows = reading(source, real_data).rows
    raw = pl.read_ndjson(real_data / "tulu_human_eval" / "annotations.jsonl.gz")
    assert len(rows) == raw.height == 1_150
    assert sum(row["votes"][0]["p_chosen"] == 0.5 for row in rows) == (raw["preference"] == "tie").sum()
    assert {row["votes"][0]["rater"] for row in rows} == set(raw["evaluator"])
