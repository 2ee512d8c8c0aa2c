"""Repeats beside datasketch, rensa, FAISS and semhash: CPU seconds, recall, wrong merges and memory, each in its own process.

    python -m tests.benchmarks.repeats texts 100000 1000000
    python -m tests.benchmarks.repeats vectors 100000 300000 --like real
    python -m tests.benchmarks.repeats real
    python -m tests.benchmarks.repeats vectors 0 --like minilm

CURATE_BENCH_PYTHON: the interpreter of an environment with datasketch, rensa, semhash and faiss-cpu, for the others.
CURATE_TEST_DATA: real texts. CURATE_BENCH_VECTORS: a .npy file of real embeddings, (N, D) float32: `--like minilm` takes them as
they are (0: all of them), and tells the recall against exact search; `--like real` makes more of them and plants copies.
One thread each; times leave out making the data, and GB more is what was held at most beyond it. Planted copies are texts with
one or two words changed, and vectors at a cosine from 0.91 to 0.99; near misses (a third of the words replaced) must not be
merged.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

Pairs = set[tuple[int, int]]
COPIES = 0.13
THRESHOLD, COSINE = 0.7, 0.9
CROWD = 0.955  # of rows at this cosine to one point any two are at 0.91 or more
PERMUTATIONS = 128


# -- data


def words_of(random: np.random.Generator, count: int) -> np.ndarray:
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return np.array(["".join(random.choice(letters, random.integers(2, 10))) for _ in range(count)])


def planted_texts(count: int, seed: int = 0) -> tuple[list[str], Pairs]:
    """Texts of about 60 words; a share are copies with one or two words changed, half as many near misses."""
    random = np.random.default_rng(seed)
    words = words_of(random, 20_000)
    share = 1 / np.arange(1, len(words) + 1)
    copies = int(count * COPIES)
    base = count - copies - copies // 2
    drawn = random.choice(len(words), size=(base, 75), p=share / share.sum())
    lengths = np.clip(random.normal(60, 12, base), 30, 75).astype(int)
    texts = [words[row[:length]].tolist() for row, length in zip(drawn, lengths, strict=True)]
    pairs = set()
    for origin in random.choice(base, copies, replace=False).tolist():
        pairs.add((origin, len(texts)))
        texts.append(edited(list(texts[origin]), words, random))
    for origin in random.choice(base, copies // 2).tolist():
        text = list(texts[origin])
        at, many = int(random.integers(len(text) // 2)), len(text) // 3
        text[at : at + many] = words[random.choice(len(words), many, p=share / share.sum())].tolist()
        texts.append(text)
    return [" ".join(text) for text in texts], pairs


def edited(text: list[str], words: np.ndarray, random: np.random.Generator) -> list[str]:
    for _ in range(int(random.integers(1, 3))):
        at, how, word = int(random.integers(len(text))), int(random.integers(3)), str(words[random.integers(len(words))])
        text[at : at + (how != 1)] = [] if how == 2 else [word]
    return text


def real_texts() -> list[str]:
    """Answers and questions of the shared sets."""
    import gzip

    folder = Path(os.environ["CURATE_TEST_DATA"])

    def lines(name: str) -> Iterable[Any]:
        return map(json.loads, gzip.decompress((folder / name).read_bytes()).splitlines())

    texts = [row["output"] for row in lines("oasst_samples/outputs.jsonl.gz") if row.get("output")]
    texts += [row["question"] for row in lines("gsm8k/train.jsonl.gz")]
    texts += [row["question"] for row in lines("mmlu_pro/questions.dev.jsonl.gz")]
    return texts


def vectors_like(kind: str, count: int, seed: int = 0) -> tuple[np.ndarray, Pairs]:
    """Unit vectors with planted neighbours: in random directions, or mixtures of near real embeddings and some noise.

    A crowd is a tenth of the rows, all around one point.
    """
    if kind == "minilm":
        return np.load(os.environ["CURATE_BENCH_VECTORS"])[: count or None], set()
    random = np.random.default_rng(seed)
    copies = count // 10 if kind == "crowd" else int(count * COPIES)
    base = mixtures(np.load(os.environ["CURATE_BENCH_VECTORS"]), count - copies, random) if kind == "real" else None
    vectors = np.empty((count, 384 if base is None else base.shape[1]), np.float32)
    vectors[: count - copies] = random.standard_normal((count - copies, 384), np.float32) if base is None else base
    del base
    origins = np.zeros(copies, np.int64) if kind == "crowd" else random.choice(count - copies, copies, replace=False)
    for start in range(0, count, 100_000):
        part = slice(start, start + 100_000)
        vectors[part] /= np.maximum(np.linalg.norm(vectors[part], axis=1, keepdims=True), 1e-9)
    cosine = random.uniform(CROWD if kind == "crowd" else COSINE + 0.01, 0.99, (copies, 1)).astype(np.float32)
    aside = random.standard_normal((copies, vectors.shape[1]), np.float32)
    origin = vectors[origins]
    aside -= (aside * origin).sum(axis=1, keepdims=True) * origin
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    vectors[count - copies :] = cosine * origin + np.sqrt(1 - cosine**2) * aside
    return vectors, {(int(one), count - copies + place) for place, one in enumerate(origins)}


def mixtures(real: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Real vectors, and beyond their number mixtures of two that lie in one region, with noise at a cosine of about 0.94."""
    if count <= len(real):
        return real[random.permutation(len(real))[:count]]
    parts = [real]
    for start in range(len(real), count, 50_000):
        many = min(50_000, count - start)
        one, others = random.integers(0, len(real), many), random.integers(0, len(real), (8, many))
        near = np.argmax([np.einsum("nd,nd->n", real[one], real[other]) for other in others], axis=0)
        share = random.uniform(0.35, 0.65, (many, 1)).astype(np.float32)
        mixed = share * real[one] + (1 - share) * real[others[near, np.arange(many)]]
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        parts.append(mixed + random.standard_normal(mixed.shape, np.float32) * np.float32(0.35 / mixed.shape[1] ** 0.5))
    return np.concatenate(parts)


# -- contenders: pairs found


def ours_texts(texts: list[str]) -> Any:
    from curate.maths.jaccard import alike
    from curate.maths.shingles import shingle_sets

    return alike(shingle_sets(texts), THRESHOLD)


def shingled(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[at : at + 3]) for at in range(max(len(words) - 2, 1))]


def with_datasketch(texts: list[str]) -> Pairs:
    from datasketch import MinHash, MinHashLSH

    index, found = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS), set()
    sketches = []
    for place, text in enumerate(texts):
        sketch = MinHash(PERMUTATIONS)
        sketch.update_batch([one.encode() for one in shingled(text)])
        found |= {(other, place) for other in index.query(sketch) if sketches[other].jaccard(sketch) >= THRESHOLD}
        sketches.append(sketch)
        index.insert(place, sketch)
    return found


def with_rensa(texts: list[str]) -> Pairs:
    from rensa import RMinHash, RMinHashLSH

    index, found = RMinHashLSH(THRESHOLD, PERMUTATIONS, 16), set()
    sketches = []
    for place, text in enumerate(texts):
        sketch = RMinHash(PERMUTATIONS, 42)
        sketch.update(shingled(text))
        found |= {(other, place) for other in index.query(sketch) if sketches[other].jaccard(sketch) >= THRESHOLD}
        sketches.append(sketch)
        index.insert(place, sketch)
    return found


def ours_vectors(vectors: np.ndarray) -> Any:
    from curate.maths.neighbours import near

    found = near(vectors, COSINE)
    print(f"   {found.how}, recall told {found.recall:.4f} of {found.checked}", file=sys.stderr)
    return found.edges


def with_faiss_flat(vectors: np.ndarray) -> Pairs:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return ranged(index, vectors)


def with_faiss_ivf(vectors: np.ndarray, random_pivots: bool = False) -> Pairs:
    import faiss

    cells = int(4 * len(vectors) ** 0.5)
    coarse = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(coarse, vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    if random_pivots:
        coarse.add(vectors[np.random.default_rng(0).choice(len(vectors), cells, replace=False)])
    index.train(vectors)
    index.add(vectors)
    index.nprobe = 8 if random_pivots else 2
    return ranged(index, vectors)


def with_faiss_ivf_pivots(vectors: np.ndarray) -> Pairs:
    return with_faiss_ivf(vectors, random_pivots=True)


def ranged(index: Any, vectors: np.ndarray) -> Pairs:
    found: Pairs = set()
    for start in range(0, len(vectors), 10_000):
        limits, _, near = index.range_search(vectors[start : start + 10_000], COSINE)
        rows = start + np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
        found |= set(zip(rows[rows < near].tolist(), near[rows < near].tolist(), strict=True))
    return found


def with_semhash(vectors: np.ndarray) -> int:
    from semhash import SemHash

    class Given:
        def encode(self, texts: Any, **_: Any) -> np.ndarray:
            return vectors[[int(text) for text in texts]]

    made = SemHash.from_embeddings(vectors, [str(place) for place in range(len(vectors))], model=Given())
    return len(made.self_deduplicate(threshold=COSINE).filtered)


CONTENDERS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "texts": {"curate": ours_texts, "rensa": with_rensa, "datasketch": with_datasketch},
    "real": {"curate": ours_texts, "rensa": with_rensa, "datasketch": with_datasketch},
    "vectors": {
        "curate": ours_vectors,
        "faiss ivf, random pivots": with_faiss_ivf_pivots,
        "faiss ivf, k-means": with_faiss_ivf,
        "semhash": with_semhash,
        "faiss flat": with_faiss_flat,
    },
}


# -- one contender in a process of its own


def measured(what: str, name: str, count: int, kind: str) -> dict[str, Any]:
    given: Any
    if what == "vectors":
        given, truth = vectors_like(kind, count)
    else:
        given, truth = (real_texts(), set()) if what == "real" else planted_texts(count)
    before, began = settled(), time.process_time()
    found = CONTENDERS[what][name](given)
    seconds = time.process_time() - began
    if isinstance(found, int):
        return {"seconds": seconds, "found": found, "recall": None, "wrong": None, "before": before, "peak": peak()}
    edges = found if isinstance(found, set) else set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    about = {"seconds": seconds, "found": len(edges), "before": before, "peak": peak()}
    if not truth:
        return about | {"pairs": sorted(edges)}
    return about | {"recall": len(edges & truth) / len(truth), "wrong": wrong(what, given, edges - truth)}


def wrong(what: str, given: Any, others: Pairs) -> int:
    """Pairs that were not planted and are not alike: by shingles, or by cosine."""
    if what == "vectors":
        return sum(float(given[i] @ given[j]) < COSINE - 1e-4 for i, j in others)
    return sum(true_jaccard(given[i], given[j]) < THRESHOLD for i, j in others)


def true_jaccard(one: str, other: str) -> float:
    a, b = set(shingled(one)), set(shingled(other))
    return len(a & b) / len(a | b)


def settled() -> float:
    """Gigabytes this process holds, after what it needs no more is given back; from here on the peak is counted anew."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak() -> float:
    """Gigabytes this process has held at most."""
    return status("VmHWM")


def status(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1e6


def ask(what: str, name: str, count: int, kind: str) -> dict[str, Any] | None:
    theirs = os.environ.get("CURATE_BENCH_PYTHON", sys.executable)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    command = [
        sys.executable if name == "curate" else theirs,
        "-m",
        __spec__.name,
        what,
        str(count),
        "--one",
        name,
        "--like",
        kind,
    ]
    told = subprocess.run(command, env=os.environ | one_thread, stdout=subprocess.PIPE, text=True)
    return json.loads(told.stdout.splitlines()[-1]) if told.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=CONTENDERS)
    parser.add_argument("counts", nargs="*", type=int, default=[0])
    parser.add_argument("--like", choices=["planted", "real", "minilm", "crowd"], default="planted")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--one")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.what, given.one, given.counts[0], given.like)))
        return
    for count in given.counts:
        print(f"{given.what} {count or ''} {given.like if given.what == 'vectors' else ''}")
        print(f"{'':<28}{'CPU s':>9}{'pairs':>10}{'recall':>9}{'wrong':>7}{'GB more':>9}{'GB peak':>9}", flush=True)
        results = {}
        for name in given.only or CONTENDERS[given.what]:
            one = ask(given.what, name, count, given.like)
            if one is None:
                print(f"{name:<28}{'failed or not installed':>40}", flush=True)
                continue
            results[name] = one
            shown = [f"{one[key]:.4f}" if one.get(key) is not None else "-" for key in ("recall",)]
            wrongs = "-" if one.get("wrong") is None else str(one["wrong"])
            memory = f"{one['peak'] - one['before']:>9.2f}{one['peak']:>9.2f}"
            print(f"{name:<28}{one['seconds']:>9.2f}{one['found']:>10}{shown[0]:>9}{wrongs:>7}{memory}", flush=True)
        exactly = "faiss flat" if given.what == "vectors" else "curate"
        if "pairs" in results.get(exactly, ()):
            exact = set(map(tuple, results[exactly]["pairs"]))
            for name, one in results.items():
                if "pairs" in one:
                    theirs = set(map(tuple, one["pairs"]))
                    share = len(exact & theirs) / max(len(exact), 1)
                    print(f"{name:<28} of the {len(exact)} pairs {share:.4f}, others {len(theirs - exact)}")


if __name__ == "__main__":
    main()
