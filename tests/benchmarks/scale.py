"""How a run grows: time, CPU and memory of every step at 1, 3 and 10 times 100,000 candidates.

    python -m tests.benchmarks.scale [--rows 100000 300000 1000000]

Candidates of four a prompt, half a kilobyte of text each, shuffled, go from one Parquet file to a published version.
Memory is the proportional set size of the whole process tree, sampled every 50 ms. Each annotating step stands beside
the plain polars expression that computes the same columns from and to the same files.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RECIPE = """
name: scale
source: {{path: {path}, rows: candidates, columns: {{prompt: prompt, response: response, model: model}}, scores: {{rm: rm, judge: judge}}}}
steps:
  - exact_duplicate: {{within: prompt}}
  - aggregate: {{name: both, from: [rm, judge], calibrate: z}}
  - pair: {{by: both, how: best_worst, min_gap: 0.1}}
  - margin: {{min: 0.5}}
  - split: {{test: 0.02}}
"""
CHILD = """
import json, os, sys, time
from curate.run import Run, Silence
from curate.recipe import read_recipe
from curate.store.store import Store

def cpu():
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system

class Watch(Silence):
    def __init__(self):
        self.rows, self.cpu, self.wall = [], cpu(), time.perf_counter()
    def finished(self, stage, seconds, reused):
        now, wall = cpu(), time.perf_counter()
        self.rows.append([stage.name, stage.counts["rows_in"], stage.counts["kept"], stage.counts["made"], now - self.cpu, wall - self.wall])
        self.cpu, self.wall = now, wall

watch = Watch()
began = time.perf_counter()
done = Run(read_recipe(sys.argv[1]), Store(sys.argv[2]), watch=watch)()
watch.rows.append(["publish", sum(done.version.manifest["splits"].values()), 0, None, cpu() - watch.cpu, time.perf_counter() - watch.wall])
print(json.dumps({"steps": watch.rows, "wall": time.perf_counter() - began, "published": done.published}))
"""


def make(path: Path, rows: int, seed: int = 0) -> None:
    """Candidates of random words, four a prompt, in random order."""
    random = np.random.default_rng(seed)
    words = np.array(["".join(chr(97 + c) for c in random.integers(26, size=random.integers(3, 9))) for _ in range(20_000)])
    writer = None
    for start in range(0, rows, 100_000):
        count = min(100_000, rows - start)
        texts = [" ".join(words[random.integers(len(words), size=75)]) for _ in range(count)]
        prompts = random.integers(rows // 4, size=count)
        table = pa.table(
            {
                "prompt": [f"What follows from statement number {p} of the long list? {words[p % 20_000]}" for p in prompts],
                "response": texts,
                "model": [f"model-{m}" for m in random.integers(16, size=count)],
                "rm": random.normal(size=count).astype(np.float32),
                "judge": random.integers(1, 11, size=count).astype(np.float32),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def pss(pid: int) -> int:
    """Proportional set size of a process and its descendants, bytes."""
    total, todo = 0, [pid]
    while todo:
        current = todo.pop()
        try:
            for line in Path(f"/proc/{current}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
            for task in Path(f"/proc/{current}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return total


def watched(command: list[str]) -> tuple[str, int, float]:
    """Standard output, peak memory in bytes and wall seconds of a command."""
    peak, began = 0, time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    stop = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, pss(process.pid))

    thread = threading.Thread(target=sample)
    thread.start()
    out, _ = process.communicate()
    stop.set()
    thread.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    return out, peak, time.perf_counter() - began


def cpu_of(function: Any) -> float:
    """CPU seconds of a call, the better of two."""
    best = float("inf")
    for _ in range(2):
        began = time.process_time()
        function()
        best = min(best, time.process_time() - began)
    return best


def plain(store: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of each annotating step as one polars expression over the columns it needs, from Arrow IPC to Arrow IPC."""
    import polars as pl

    from curate.store.store import Store

    opened = Store(store)
    snapshots = {}
    for path in (store / "steps").glob("*.json"):
        value = json.loads(path.read_text())
        snapshots[value["asked"]["operator"]] = opened.snapshot(value["snapshot"])

    def spill(operator: str, columns: list[str]) -> Path:
        path = folder / f"{operator}-{columns[0]}.arrow"
        table = pa.concat_tables(opened.read(snapshots[operator], columns))
        pl.from_arrow(table).write_ipc(path, compression="zstd")  # type: ignore[union-attr]
        return path

    texts = spill("source", ["prompt_id", "response"])
    lists = spill("source", ["scores"])
    sides = spill("Pair", ["chosen_scores", "rejected_scores"])
    prompts = spill("Pair", ["prompt_id", "prompt"])

    def score(column: str, rater: str) -> pl.Expr:
        return pl.col(column).list.filter(pl.element().struct.field("rater") == rater).list.last().struct.field("value")

    def entry(rater: str, aspect: str, value: pl.Expr) -> pl.Expr:
        nulls = [
            pl.lit(None, pl.String).alias("rationale"),
            pl.lit(None, pl.Int8).alias("position"),
            pl.lit(None, pl.Int8).alias("round"),
        ]
        names = [pl.lit(rater).alias("rater"), pl.lit(aspect).alias("aspect"), value.alias("value")]
        return pl.concat_list(pl.struct([*names, *nulls, pl.lit(None, pl.String).alias("error")]))

    def duplicates() -> None:
        frame = pl.read_ipc(texts)
        frame.select(
            pl.len().over("prompt_id", "response"), pl.int_range(pl.len()).first().over("prompt_id", "response").alias("kept")
        ).write_ipc(folder / "out.arrow", compression="zstd")

    def aggregate() -> None:
        z = [(score("scores", r) - score("scores", r).mean()) / score("scores", r).std() for r in ("rm", "judge")]
        pl.read_ipc(lists).select(
            pl.concat_list("scores", entry("both", "score", pl.mean_horizontal(z).cast(pl.Float32)))
        ).write_ipc(folder / "out.arrow", compression="zstd")

    def margin() -> None:
        gap = score("chosen_scores", "both") - score("rejected_scores", "both")
        pl.read_ipc(sides).select(gap.alias("margin"), (gap < 0.5).alias("flag")).write_ipc(
            folder / "out.arrow", compression="zstd"
        )

    def split() -> None:
        text = pl.col("prompt").list.first().struct.field("content").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ")
        pl.read_ipc(prompts).select(
            pl.when(text.hash(0) % 50 == 0).then(pl.lit("test")).otherwise(pl.lit("train"))
        ).write_ipc(folder / "out.arrow", compression="zstd")

    return {"exact_duplicate": cpu_of(duplicates), "both": cpu_of(aggregate), "margin": cpu_of(margin), "split": cpu_of(split)}


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """One size: a first run, a second with nothing changed, and a look at the version."""
    data, recipe, store = folder / "data.parquet", folder / "recipe.yaml", folder / "store"
    make(data, rows)
    recipe.write_text(RECIPE.format(path=data))
    first, peak, _ = watched([sys.executable, "-c", CHILD, str(recipe), str(store)])
    run = json.loads(first)
    _, _, again = watched([sys.executable, "-m", "curate.cli.main", "run", str(recipe), "--store", str(store)])
    show = [sys.executable, "-c", SHOW, str(store)]
    found = json.loads(watched(show)[0])
    return {
        "rows": rows,
        "bytes": data.stat().st_size,
        "peak": peak,
        "again": again,
        **run,
        **found,
        "plain": plain(store, folder),
    }


SHOW = """
import json, sys, time
from curate.publish.show import show
from curate.store.versions import Versions
version = Versions(sys.argv[1]).find("scale")
began = time.perf_counter()
show(version, sample=20, seed=1)
print(json.dumps({"show": time.perf_counter() - began}))
"""


def startup() -> float:
    """Seconds of `curate --help`, the median of five."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "curate.cli.main", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return sorted(times)[2]


def table(results: list[dict[str, Any]]) -> None:
    """Print the results side by side, and how each number grows with the rows."""
    small, large = results[0], results[-1]
    print(f"{'':<26}" + "".join(f"{r['rows']:>14,}" for r in results) + f"{'growth':>10}   candidates")
    print("CPU seconds")
    for position, (name, *_) in enumerate(large["steps"]):
        values = [r["steps"][position][4] for r in results]
        power = (
            np.log(values[-1] / max(values[0], 1e-9)) / np.log(large["rows"] / small["rows"])
            if len(results) > 1
            else float("nan")
        )
        line = f"  {name:<24}" + "".join(f"{value:>14.2f}" for value in values) + f"{'N^' + format(power, '.2f'):>10}"
        if name in large["plain"]:
            plain_seconds = large["plain"][name]
            line += f"   polars {plain_seconds:.2f}, ratio {values[-1] / plain_seconds:.2f} (target 2)"
        print(line)
    for label, key, scale, target in (
        ("wall seconds", "wall", 1, ""),
        ("peak PSS, MB", "peak", 1e6, "target 1,500"),
        ("rerun unchanged, s", "again", 1, "target 3"),
        ("show 20 rows, s", "show", 1, "target 0.3"),
    ):
        print(f"{label:<26}" + "".join(f"{r[key] / scale:>14.2f}" for r in results) + f"{'':>13}{target}")
    print(f"{'curate --help, s':<26}{startup():>14.2f}{'':>{14 * (len(results) - 1) + 13}}target 0.4")


def main() -> None:
    """Measure the sizes asked for and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    results = []
    for rows in parser.parse_args().rows:
        folder = Path(tempfile.mkdtemp(prefix="curate-bench-", dir=os.environ.get("TMPDIR")))
        try:
            results.append(measure(rows, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    table(results)


if __name__ == "__main__":
    main()
