"""How probable answers are: sums, means, implied rewards, and what has none."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate import tables
from curate.errors import StepError
from curate.models.asking import LikelihoodRequest
from curate.models.likelihood import Tokens
from curate.models.session import Session
from curate.models.spec import ModelSpec
from curate.score.likelihood import Likelihood
from curate.store.store import Store
from tests import tiny

ANSWERS = ["yes", "no, not at all", None, "cut"]


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Session]:
    with Session({name: ModelSpec(backend="fake", name=name) for name in ("policy", "ref", "old")}, tmp_path) as made:
        yield made


def rows() -> pa.Table:
    told = [
        {"prompt_id": "q", "prompt": [{"role": "user", "content": "q"}], "response": text, "response_id": str(place)}
        | {"finish_reason": "length" if text == "cut" else "stop"}
        for place, text in enumerate(ANSWERS)
    ]
    return tables.from_rows(told, "responses")


def scored(operator: Likelihood, models: Any, table: pa.Table, column: str = "scores") -> list[dict[tuple[str, str], Any]]:
    made = operator.with_models(models)(table)[column].to_pylist()
    return [{(one["rater"], one["aspect"]): one for one in row} for row in made]


def test_sum_and_mean_of_every_token(models: Session) -> None:
    plain = scored(Likelihood(model="policy", name="l"), models, rows())
    tokens = Likelihood(model="policy", name="l", tokens=True).with_models(models)(rows())["logprobs.policy"].to_pylist()
    assert [len(row) if row else None for row in tokens] == [2, 6, None, None]  # words and signs, and the end
    for row, each in zip(plain[:2], tokens[:2], strict=True):
        total = sum(token["logprob"] for token in each)
        assert row["policy", "logprob"]["value"] == pytest.approx(total, rel=1e-6)
        assert row["policy", "mean_logprob"]["value"] == pytest.approx(total / len(each), rel=1e-6)
    assert [token["end"] for token in tokens[1]] == [2, 3, 7, 10, 14, 14]  # no|,| not| at| all|


def test_what_cannot_be_measured_is_null_and_says_why(models: Session) -> None:
    found = scored(Likelihood(model="policy", reference="ref", name="l"), models, rows())
    for row, why in zip(found[2:], ["no text", "truncated"], strict=True):
        assert len(row) == 5
        assert all(one["value"] is None and one["error"].startswith(why) for one in row.values())
    [*_, cut] = scored(Likelihood(model="policy", end=False, name="l"), models, rows())
    assert cut["policy", "logprob"]["error"] is None  # without an ending, what is there can be measured


def test_the_implied_reward_is_beta_times_the_difference(models: Session) -> None:
    [row, *_] = scored(Likelihood(model="policy", reference="ref", beta=0.5, name="l"), models, rows())
    difference = row["policy", "logprob"]["value"] - row["ref", "logprob"]["value"]
    assert row["l", "dpo"]["value"] == pytest.approx(0.5 * difference, rel=1e-5)
    several = Likelihood(model="policy", reference=("ref", "old"), beta=0.5, name="l")
    [row, *_] = scored(several, models, rows())
    assert row["l", "dpo_ref"]["value"] == pytest.approx(0.5 * difference, rel=1e-5)
    assert row["l", "dpo_old"]["value"] != row["l", "dpo_ref"]["value"]


def test_both_sides_of_a_pair_are_measured(models: Session) -> None:
    pair = {"prompt_id": "q", "prompt": [{"role": "user", "content": "q"}], "chosen": "yes", "rejected": "no", "pair_id": "1"}
    table = tables.from_rows([pair], "pairs")
    operator = Likelihood(model="policy", name="l", tokens=True)
    chosen, rejected = (scored(operator, models, table, f"{side}_scores")[0] for side in ("chosen", "rejected"))
    assert chosen["policy", "logprob"]["value"] != rejected["policy", "logprob"]["value"]
    assert {"chosen_logprobs.policy", "rejected_logprobs.policy"} <= set(operator.with_models(models)(table).column_names)


def test_tokens_are_a_file_of_their_own_column(models: Session, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    table = rows()
    shard = store.put_shard(table)
    made = Likelihood(model="policy", name="l", tokens=True).with_models(models)(table)
    after = store.put_shard(made, over=shard)
    assert "logprobs.policy" in after.columns and "logprobs.policy" not in store.read_shard(after, "responses").column_names


def test_a_tokenizer_that_does_not_tell_where_tokens_end_leaves_that_open() -> None:
    class Slow:
        def likelihood(self, key: str) -> "Slow":
            return self

        def logprobs(self, requests: Sequence[LikelihoodRequest]) -> list[Tokens]:
            return [Tokens(np.array([-1.0, -2.0], np.float32)) for _ in requests]

    operator = Likelihood(model="policy", name="l", tokens=True).with_models(Slow())  # type: ignore[arg-type]
    told = operator(rows())["logprobs.policy"].to_pylist()
    assert told[0] == [{"end": None, "logprob": -1.0}, {"end": None, "logprob": -2.0}] and told[2] is None


def test_a_model_is_no_reference_of_itself() -> None:
    with pytest.raises(ValidationError, match="different"):
        Likelihood(model="policy", reference="policy")


@pytest.mark.slow
def test_a_model_without_a_chat_template_stops_the_step(tmp_path: Path) -> None:
    folder = tiny.chat_model(tmp_path / "chat")
    tiny.without_template(folder)
    with (
        Session({"policy": ModelSpec(backend="transformers", name=str(folder))}, tmp_path / "store") as session,
        pytest.raises(StepError, match="cannot be loaded: the model has no chat template"),
    ):
        scored(Likelihood(model="policy", name="l"), session, rows())


@pytest.mark.slow
def test_an_answer_too_long_for_transformers_is_an_error_of_its_own(tmp_path: Path) -> None:
    folder = tiny.chat_model(tmp_path / "chat", positions=32)
    long = {"prompt_id": "q", "prompt": [{"role": "user", "content": "q"}], "response": "yes " * 60, "response_id": "l"}
    table = tables.from_rows([long, rows().slice(0, 1).to_pylist()[0]], "responses")
    with Session({"policy": ModelSpec(backend="transformers", name=str(folder))}, tmp_path / "store") as session:
        first, second = scored(Likelihood(model="policy", name="l"), session, table)
    assert first["policy", "logprob"]["value"] is None and second["policy", "logprob"]["value"] is not None
    assert first["policy", "logprob"]["error"].endswith("tokens, and the model takes 32")


@pytest.mark.slow
def test_transformers_measures_what_a_forward_pass_says(tmp_path: Path) -> None:
    """The same summed here from the logits of one conversation alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny.chat_model(tmp_path / "chat")
    model, words = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    table = rows().slice(0, 2)
    with Session({"policy": ModelSpec(backend="transformers", name=str(folder))}, tmp_path / "store") as session:
        found = scored(Likelihood(model="policy", name="l"), session, table)
    for row, text in zip(found, ANSWERS, strict=False):
        prompt = words.apply_chat_template([{"role": "user", "content": "q"}], tokenize=False, add_generation_prompt=True)
        start = len(words(prompt)["input_ids"])
        ids = words(f"{prompt}{text}<|im_end|>", return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logs = torch.log_softmax(model(ids).logits[0].double(), -1)
        expected = sum(float(logs[place - 1, ids[0, place]]) for place in range(start, ids.shape[1]))
        assert row["policy", "logprob"]["value"] == pytest.approx(expected, abs=1e-3)
        assert np.isfinite(expected)
