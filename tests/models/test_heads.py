"""Checkpoints that were not trained to score are told by the names of their weights, and those that were are let pass."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from curate.models.heads import head_fault, without_head

BODY = ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.norm.weight", "lm_head.weight"]


def folder(place: Path, *more: str, architecture: str = "Qwen2ForSequenceClassification", **config: object) -> Path:
    save_file({name: np.zeros(2, np.float32) for name in [*BODY, *more]}, place / "model.safetensors", {"format": "pt"})
    (place / "config.json").write_text(json.dumps({"architectures": [architecture], **config}))
    return place


def test_a_classifier_without_a_head_is_told(tmp_path: Path) -> None:
    assert "Qwen2ForSequenceClassification, has no head that gives scores" in (head_fault(folder(tmp_path)) or "")


@pytest.mark.parametrize(
    "head",
    ["score.weight", "classifier.weight", "classifier.out_proj.bias", "classification_head.dense.weight", "v_head.summary.weight"]
    + ["model.score.weight", "head.dense.weight", "reward_head.weight", "value_head.0.weight", "regression_layer.weight"],
)
def test_a_head_by_any_usual_name_is_one(tmp_path: Path, head: str) -> None:
    assert head_fault(folder(tmp_path, head)) is None


def test_what_cannot_be_told_passes(tmp_path: Path) -> None:
    assert head_fault(tmp_path) is None  # no configuration
    assert head_fault(folder(tmp_path, architecture="InternLM2ForRewardModel")) is None
    assert head_fault(folder(tmp_path, classifier_from_token=["no", "yes"])) is None  # vLLM makes it of these words
    (folder(tmp_path) / "model.safetensors").unlink()
    assert head_fault(tmp_path) is None


def test_many_missing_weights_are_counted() -> None:
    assert "has no weights for a, b, c and 2 more, so that" in without_head(["X"], "ebcda")
