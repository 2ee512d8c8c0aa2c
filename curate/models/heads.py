"""Whether a checkpoint was trained to score: one that lacks its head is given a random one by the libraries, which say nothing.

Needs the standard library alone, for vLLM's worker uses it, too.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

NO_TEMPLATE = (
    "the model has no chat template, by which it was taught to take conversations: name one that has, or with backend vllm a "
    "file of one by options.chat_template"
)
NAMED = 3
"""Missing weights that an error names."""
CLASSIFIER = "ForSequenceClassification"
HEAD = re.compile(r"(^|\.)(?!lm_head)[a-z_0-9]*(score|classif|head|reward|regress|rank)[a-z_0-9]*\.", re.IGNORECASE)
"""A weight of a head, by what its layer is called: score.weight, classifier.out_proj.bias, v_head.weight, …"""
FROM_WORDS = ("classifier_from_token", "method")
"""What a configuration says where vLLM makes the head of the words that a model answers with."""


class Unfit(ValueError):
    """A model that cannot do what a step asks of it."""


def without_head(architectures: Sequence[str], missing: Iterable[str] = ()) -> str:
    """What is wrong with a checkpoint whose scores would be random, and the way out."""
    names = sorted(missing)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    saved = ", ".join(architectures) or "of an unknown architecture"
    lacks = f"has no weights for {', '.join(names[:NAMED])}{more}" if names else "has no head that gives scores"
    return (
        f"the checkpoint, {saved}, {lacks}, so that its scores would be random: name one that was trained to score "
        f"and saved with its head (…{CLASSIFIER}), or let `judge` ask a chat model for marks"
    )


def head_fault(folder: Path) -> str | None:
    """Why a folder with a model's files gives no scores, or None. What is not written as safetensors cannot be told."""
    about = json.loads((folder / "config.json").read_text(encoding="utf-8")) if (folder / "config.json").is_file() else {}
    architectures = [str(one) for one in about.get("architectures") or ()]
    if not any(one.endswith(CLASSIFIER) for one in architectures) or any(about.get(name) for name in FROM_WORDS):
        return None
    names = [name for path in sorted(folder.glob("*.safetensors")) for name in weights_in(path)]
    if not names or any(HEAD.search(name) for name in names):
        return None
    return without_head(architectures)


def weights_in(path: Path) -> list[str]:
    """Names of the weights in a file of safetensors: its first 8 bytes tell how long the JSON is that describes them."""
    with path.open("rb") as source:
        about = json.loads(source.read(int.from_bytes(source.read(8), "little")))
    return [name for name in about if name != "__metadata__"]
