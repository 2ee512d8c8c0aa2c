"""CPU seconds and memory of every filter of wrong labels, each in a process of its own.

    python -m tests.benchmarks.noise_speed [--rows 100000] [--width 384] [--filters ...] [--larger 10]

Pairs: prompts of four responses, all six pairs of them, labelled by a teacher with 30 % flips; features as the operators keep
them, in the store's batches. Memory is the peak over what the process held before it read the features (they count as 1,
and as 1 more where batches are put together), as a multiple of the bytes of rows x width; the implicit learner reads two
margins instead; a library is imported beforehand. `--larger 10` runs each again on ten times the rows. Targets: 100k x 384
within 60 CPU s and 3 x the features; 1M within 12 x the CPU time of 100k.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate import tables
from curate.filter.label_em import LabelEm
from curate.filter.peer_review import PeerReview
from curate.filter.wrong_labels import WrongLabels
from curate.maths import noise_baselines
from curate.maths.noise_baselines import METHODS
from curate.maths.noise_rate import area_under_curve
from curate.maths.peer_review import Settings

FLIPS = 0.3
SHARD = 10_000
"""Rows to which a decision is applied at once, as runs do."""
BLOCK = 4098
"""Rows made at once and in a batch: about as many as the store's, and whole prompts."""
SIDES_OF_SIX = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
Told = dict[str, np.ndarray]


def by_operator(made: Callable[[], WrongLabels], measure: str, sign: float) -> Callable[[pa.Table], np.ndarray]:
    """Decides and applies; how suspicious each label is."""

    def run(features: pa.Table) -> np.ndarray:
        it = made()
        state = it.decide(features)
        empty = tables.from_rows([], "pairs")
        for start in range(0, features.num_rows, SHARD):
            part = state.slice(start, SHARD)
            rows = {name: pa.array([[]] * part.num_rows, empty[name].type) for name in ("evidence", "flags")}
            assert it.apply(pa.table(rows), part).num_rows == part.num_rows
        return np.asarray(sign * state[measure].to_numpy())

    return run


def by_method(method: str) -> Callable[[pa.Table], np.ndarray]:
    """A baseline in the same frame."""

    def run(features: pa.Table) -> np.ndarray:
        _, given = PeerReview(name="bench", model="m", use=[]).comparable(features)
        assert given is not None
        return noise_baselines.verdict(method, given, Settings()).suspicion

    return run


def review(**told: Any) -> Callable[[pa.Table], np.ndarray]:
    return by_operator(lambda: PeerReview(name="f", **({"model": "m", "use": []} | told)), "flip_prob", 1.0)


def em(**told: Any) -> Callable[[pa.Table], np.ndarray]:
    return by_operator(lambda: LabelEm(name="f", model="m", use=[], **told), "label_prob", -1.0)


FILTERS: dict[str, Callable[[pa.Table], np.ndarray]] = {
    "peer_review": review(),
    "peer_review apart": review(related="apart"),
    "peer_review self": review(reviewer="self"),
    "peer_review mlp": review(learner="mlp", related="apart"),
    "peer_review implicit": review(learner="implicit", model=None, use=["a", "b"]),
    "label_em": em(),
    "label_em apart": em(related="apart"),
    "label_em annotators": em(annotator="source"),
    **{name: by_method(name) for name in METHODS if name not in ("label_em", "oracle") and "review" not in name},
}


def write_features(path: Path, rows: int, width: int, seed: int = 0) -> None:
    """Differences of unit vectors of a prompt's responses, with flips that `wrong` tells, in batches as the store's."""
    worth_D = np.random.default_rng(seed).normal(size=width).astype(np.float32)
    with pa.OSFile(str(path), "wb") as sink:
        writer = None
        for start in range(0, rows, BLOCK):
            table = block_of(min(BLOCK, rows - start), worth_D, start, np.random.default_rng([seed, start]))
            writer = writer or pa.ipc.new_file(sink, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()


def block_of(rows: int, worth_D: np.ndarray, start: int, random: np.random.Generator) -> pa.Table:
    """Whole prompts: rows from `start` on, which is a multiple of six."""
    prompts, width = -(-rows // 6), len(worth_D)
    vectors = random.normal(size=(4 * prompts, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    worth = vectors @ worth_D
    sides = (4 * np.arange(prompts)[:, None, None] + np.array(SIDES_OF_SIX)).reshape(-1, 2)[:rows]
    wrong = random.random(rows) < FLIPS
    turned = (worth[sides[:, 0]] < worth[sides[:, 1]]) ^ wrong
    sides[turned] = sides[turned, ::-1]
    difference = vectors[sides[:, 0]] - vectors[sides[:, 1]]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(difference.ravel()), width)
    seen = random.normal(1, 1, (rows, 2)) * np.where(wrong, -1, 1)[:, None]
    implied = pa.FixedSizeListArray.from_arrays(pa.array(seen.astype(np.float32).ravel()), 2)
    who = pa.array([f"worker {n}" for n in range(200)]).take(pa.array(random.integers(0, 200, rows)))
    first = 4 * (start // 6)
    numbers = {"prompt": first + sides[:, 0] // 4, "chosen": first + sides[:, 0], "rejected": first + sides[:, 1]}
    told = {name: pa.array(values.astype(np.uint64)) for name, values in numbers.items()}
    cut = pa.array(np.zeros(rows, dtype=np.float32))
    return pa.table({"x": lists, "implied": implied} | told | {"cut": cut, "annotator": who, "wrong": pa.array(wrong)})


def read_features(path: Path, name: str) -> pa.Table:
    """The features as a filter is given them."""
    left_out = "x" if name == "peer_review implicit" else "implied"
    with pa.OSFile(str(path)) as source:
        fields = [n for n, field in enumerate(pa.ipc.open_file(source).schema) if field.name != left_out]
        table = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields)).read_all()
    names = ["x" if column == "implied" else column for column in table.column_names]
    table = table.rename_columns(names)
    if name in ("label_em", "label_em apart"):
        at = table.schema.get_field_index("annotator")
        table = table.set_column(at, "annotator", pa.array([""] * table.num_rows))
    return table


def held_bytes(what: str) -> int:
    """VmRSS (now) or VmHWM (at most so far) of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def measured(name: str, path: Path) -> dict[str, float]:
    """One filter, in this process."""
    if name in noise_baselines.LIBRARIES:
        importlib.import_module(f"{name}.filter")
    before = held_bytes("VmRSS")
    features = read_features(path, name)
    started = time.process_time()
    suspicion = FILTERS[name](features)
    seconds = time.process_time() - started
    return {
        "cpu": seconds,
        "memory": held_bytes("VmHWM") - before,
        "auc": area_under_curve(suspicion, features["wrong"].to_numpy()),
    }


def apart(name: str, path: Path) -> dict[str, float]:
    """The same in a fresh process."""
    line = [sys.executable, "-m", "tests.benchmarks.noise_speed", "--one", name, "--features", str(path)]
    told: dict[str, float] = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--filters", nargs="+", choices=list(FILTERS), default=list(FILTERS))
    parser.add_argument("--larger", type=int, default=0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.one, asked.features)))
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = [asked.rows, *([asked.rows * asked.larger] if asked.larger else [])]
        paths = [Path(folder) / f"{rows}.arrow" for rows in sizes]
        for rows, path in zip(sizes, paths, strict=True):
            write_features(path, rows, asked.width)
        print(f"{'filter':24}" + "".join(f"{rows:>12,} rows: CPU s   x features    AUC" for rows in sizes))
        for name in asked.filters:
            found = [apart(name, path) for path in paths]
            held = [one["memory"] / (4 * rows * asked.width) for one, rows in zip(found, sizes, strict=True)]
            cells = "".join(f"{one['cpu']:25.1f}{of:12.2f}{one['auc']:8.3f}" for one, of in zip(found, held, strict=True))
            ratio = f"   {found[1]['cpu'] / found[0]['cpu']:.1f} x" if len(found) > 1 else ""
            print(f"{name:24}{cells}{ratio}", flush=True)


if __name__ == "__main__":
    main()
