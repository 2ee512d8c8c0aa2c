"""Each rule's precision and recall on the labelled rows of data/samples, as the rules tell them."""

import importlib.util
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from curate.filter.lint_rules import RULES, Quality, Row, look, speaks
from curate.packaged import samples_folder

OF_TEXTS = {"refusal": "refusal", "truncated": "truncation", "template": "template", "repetition": "repetition"}
"""Rules that are about one text, and the labelled texts of `features`."""
THOUGHTS = ("think", "reasoning tag")
"""How the notes on labelled texts name marks of reasoning: they are the rule reasoning's, not template's."""
WINDOW = 256


def read(name: str) -> list[dict[str, Any]]:
    path = samples_folder() / "detectors" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def labelled(rule: str) -> list[tuple[Row, bool]]:
    found = []
    for row in read("lint"):
        if row["rule"] == rule:
            prompt = row["prompt"] if isinstance(row["prompt"], list) else [{"role": "user", "content": row["prompt"]}]
            found.append((Row(prompt, {"chosen": row["chosen"], "rejected": row["rejected"]}), row["label"]))
    for row in read(OF_TEXTS[rule]) if rule in OF_TEXTS else []:
        if rule != "template" or not any(word in row["note"] for word in THOUGHTS):
            asked = [{"role": "user", "content": "Go on."}]
            found.append((Row(asked, {"response": row["text"]}, finish_reason=row.get("finish_reason")), row["label"]))
    return found


def bytewise() -> Callable[[Any], int]:
    """Counts a prompt's tokens as a tokenizer of one token a byte."""
    return lambda prompt: sum(len(message["content"].encode()) for message in prompt)


def quality(rule: str) -> Quality:
    rows = labelled(rule)
    seen = np.array([look(row, rule, bytewise()).value for row, _ in rows], np.float32)
    found, wanted = speaks(rule, seen, WINDOW), np.array([label for _, label in rows])
    right = int((found & wanted).sum())
    return Quality(round(right / int(found.sum()), 2), round(right / int(wanted.sum()), 2), len(rows))


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "length_bias"])
def test_precision_and_recall_are_as_the_rule_tells(rule: str) -> None:
    if rule == "pii" and importlib.util.find_spec("datafog") is None:
        assert os.environ.get("CI") != "true", "datafog is missing"
        pytest.skip("datafog is not installed: pip install 'curate[pii]'")
    measured = quality(rule)
    print(rule, measured)  # noqa: T201
    assert RULES[rule].quality == measured
    assert measured.precision >= 0.85 and measured.recall >= 0.85


def test_every_rule_of_rows_has_labelled_ones_of_both_kinds() -> None:
    for rule in RULES.keys() - {"length_bias"}:
        labels = [label for _, label in labelled(rule)]
        assert min(labels.count(True), labels.count(False)) >= 3, rule
