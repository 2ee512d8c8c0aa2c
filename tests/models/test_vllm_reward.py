"""Reward models in vLLM's own process: the numbers of transformers, whatever stands beside them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from curate.models.session import Session
from curate.models.spec import ModelSpec
from tests import tiny
from tests.models.vllms import need_vllm, spec

pytestmark = pytest.mark.slow
TEXTS = [
    "yes",
    "no",
    "The quick brown fox " * 12,
    "",
    "42",
    "مرحبا",
    "🙂" * 9,
    "a\n\nb",
    *(f"answer {i}" * (i + 1) for i in range(9)),
]
CONVERSATIONS = [
    ({"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": text or "."}) for i, text in enumerate(TEXTS)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_vllm()
    return tiny.reward_model(tmp_path_factory.mktemp("tiny") / "rm")


@pytest.fixture(scope="module")
def truth(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The logits of transformers, each conversation alone and written out here."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, words = AutoModelForSequenceClassification.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    made = []
    for conversation in CONVERSATIONS:
        text = words.apply_chat_template(list(conversation), tokenize=False)
        with torch.inference_mode():
            made.append(model(**words(text, return_tensors="pt", add_special_tokens=False)).logits[0].numpy())
    return np.array(made)


@pytest.fixture(scope="module")
def engine(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with Session({"rm": spec(folder)}, tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.mark.parametrize("size", [1, 2, 3, 17])
@pytest.mark.parametrize("backwards", [False, True])
def test_rewards_are_the_logits_of_transformers_in_any_company(
    engine: Session, truth: np.ndarray, size: int, backwards: bool, tmp_path: Path
) -> None:
    order = list(range(17))[:: -1 if backwards else 1][:size]
    model = engine.reward("rm")
    found = model._ask([CONVERSATIONS[place] for place in order])  # past the shelf
    assert found.errors == [None] * size
    assert np.abs(found.values - truth[order]).max() < 1e-4


def test_rewards_are_kept(engine: Session, truth: np.ndarray) -> None:
    first = engine.reward("rm").rewards(CONVERSATIONS)
    calls = engine.statistics()[""].calls
    again = engine.reward("rm").rewards(CONVERSATIONS)
    assert engine.statistics()[""].calls == calls and (again.values == first.values).all()


def test_what_is_too_long_is_cut_as_transformers_back_end_cuts_it_and_counted(
    engine: Session, folder: Path, tmp_path: Path
) -> None:
    long = ({"role": "user", "content": "word " * 600}, {"role": "assistant", "content": "short"})
    ours = engine.reward("rm").rewards([long, ()])
    with Session({"rm": ModelSpec(backend="transformers", name=str(folder))}, tmp_path) as other:
        theirs = other.reward("rm").rewards([long, ()])
    assert ours.cut[0] == theirs.cut[0] > 0 and abs(ours.values[0, 0] - theirs.values[0, 0]) < 1e-4
    assert (ours.errors[1] or "").startswith("request") and (theirs.errors[1] or "").startswith("request")


def test_a_model_in_two_parts_gives_the_same_rewards(folder: Path, truth: np.ndarray, tmp_path: Path) -> None:
    with Session({"rm": spec(folder, tensor_parallel_size=2)}, tmp_path) as session:
        found = session.reward("rm").rewards(CONVERSATIONS[:3])
    assert found.errors == [None] * 3 and np.abs(found.values - truth[:3]).max() < 1e-4


def test_a_checkpoint_without_a_trained_head_never_scores(tmp_path: Path) -> None:
    """vLLM would score with a head of whatever lay in memory."""
    need_vllm()
    lost = tiny.reward_model(tmp_path / "rm")
    weights = load_file(lost / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, lost / "model.safetensors", {"format": "pt"})
    models = {"lost": spec(lost), "chat": spec(tiny.chat_model(tmp_path / "chat"))}
    with Session(models, tmp_path / "store") as session:
        for key, saved in (("lost", "LlamaForSequenceClassification"), ("chat", "Qwen2ForCausalLM")):
            found = session.reward(key).rewards(CONVERSATIONS[:2])
            assert np.isnan(found.values).all()
            assert (found.errors[0] or "").startswith(f"engine: the checkpoint, {saved}, has no head that gives scores, so that")
            assert "\n" not in (found.errors[0] or "")
