"""A judge's word on each sentence of a response."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate import ids, tables
from curate.maths.sentences import sentences
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.score.judge_sentences import JudgeSentences

RIGHT, WRONG = "The engine works precisely. ", "The garden somehow fails. "
SPECS = {"judge": ModelSpec(backend="fake", name="judge", options={"accuracy": 1.0})}


def responses(*texts: str | None, **fields: Any) -> pa.Table:
    prompt = [{"role": "user", "content": "How does it work?"}]
    about = {"prompt": prompt, "prompt_id": ids.prompt_id(prompt)} | fields
    rows = [about | {"row": n, "response": text, "response_id": f"r{n}"} for n, text in enumerate(texts)]
    return tables.from_rows(rows, "responses")


def judged(table: pa.Table, tmp_path: Path, **parameters: Any) -> list[list[dict[str, Any]]]:
    with Session(SPECS, tmp_path / "models") as session:
        step = JudgeSentences(name="checked", model="judge", **parameters)
        made: list[list[dict[str, Any]]] = step.with_models(session.for_step("checked"))(table)["scores"].to_pylist()
        return made


@pytest.mark.parametrize("structured", ["json", "text"])
@pytest.mark.parametrize("per_call", [20, 2])
def test_each_sentence_has_its_own_label_and_the_value_is_the_share_of_correct_ones(
    tmp_path: Path, structured: str, per_call: int
) -> None:
    text = RIGHT + WRONG + RIGHT + RIGHT + WRONG.strip()
    ((score,),) = judged(responses(text), tmp_path, structured=structured, per_call=per_call)
    told = json.loads(score["rationale"])
    assert (score["rater"], score["aspect"], score["error"]) == ("judge", "truthfulness_sentences", None)
    assert told["labels"] == ["correct", "incorrect", "correct", "correct", "incorrect"]
    assert [text[a:b] for a, b in zip([0, *told["ends"]], told["ends"], strict=False)] == sentences(text)
    assert score["value"] == pytest.approx(3 / 5) and told["reasons"]


def test_what_cannot_be_asked_is_null_with_the_reason(tmp_path: Path) -> None:
    found = judged(responses(None, "", RIGHT * 4), tmp_path, max_sentences=3)
    errors = [score["error"] for (score,) in found]
    assert errors == ["no text", "no text", "too long: more sentences than max_sentences"]
    assert all(score["value"] is None for (score,) in found)
    (((score),),) = judged(responses(RIGHT), tmp_path, reference=True)
    assert score["error"] == "no reference"


def test_both_sides_of_a_pair_are_judged_every_round(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "How?"}]
    row = {"prompt": prompt, "prompt_id": ids.prompt_id(prompt), "chosen": RIGHT + WRONG, "rejected": WRONG}
    table = tables.from_rows([row | {"chosen_id": "c", "rejected_id": "r", "pair_id": "p"}], "pairs")
    with Session(SPECS, tmp_path / "models") as session:
        step = JudgeSentences(name="checked", model="judge", repeats=2).with_models(session.for_step("checked"))
        made = step(table)
    assert [score["round"] for score in made["chosen_scores"].to_pylist()[0]] == [0, 1]
    assert {score["value"] for score in made["rejected_scores"].to_pylist()[0]} == {0.0}
