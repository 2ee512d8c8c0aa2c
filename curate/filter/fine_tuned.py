"""Pairs as whole conversations, for `peer_review` by models that are trained on their texts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curate import tables
from curate.filter.wrong_labels import SIDES, numbers_of
from curate.maths.peer_review import Review, Settings
from curate.maths.reviewers import trained_review
from curate.models.fine_tuning import LOG, RewardTrainer, Tuning

TEXTS = ("prompt", *SIDES, *(f"{side}_turns" for side in SIDES))
"""Columns that make up the conversations."""


def texts_of(table: pa.Table) -> pa.Table:
    """The conversations of both sides, and numbers for prompt and responses."""
    told = {f"text_{name}": tables.flat(table[name]) for name in TEXTS}
    return pa.table(told | numbers_of(table))


def conversations(features: pa.Table, side: str) -> list[list[Mapping[str, Any]]]:
    """Prompt and answer of one side of every pair; no answer where its text is missing."""
    prompts, texts, wholes = (features[f"text_{name}"].to_pylist() for name in ("prompt", side, f"{side}_turns"))
    return [
        [*(prompt or []), *(whole or [{"role": "assistant", "content": text}])]
        for prompt, text, whole in zip(prompts, texts, wholes, strict=True)
    ]


def read_by(trainer: RewardTrainer, features: pa.Table) -> pa.Table:
    """The pairs handed to the trainer, with a feature x that is NaN where it cannot read them."""
    readable = trainer.read(*(conversations(features, side) for side in SIDES))
    x = np.where(readable, 1.0, np.nan).astype(np.float32)
    return features.append_column("x", pa.FixedSizeListArray.from_arrays(pa.array(x), 1))


def reviewed(trainer: RewardTrainer, usable: np.ndarray, groups_N: np.ndarray, tuning: Tuning, settings: Settings) -> Review:
    """The review of the usable pairs by copies of the model."""
    trainer.select(usable)
    return trained_review(lambda seed: trainer.new(seed, tuning), groups_N, settings, LOG.info)
