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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RECIPE = """
name: scale
source:
  path: {path}
  rows: candidates
  columns: {{prompt: prompt, response: response, model: model}}
  scores: {{rm: rm, judge: judge}}
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
        counts = [stage.counts[name] for name in ("rows_in", "kept", "made")]
        self.rows.append([stage.name, *counts, now - self.cpu, wall - self.wall])
        self.cpu, self.wall = now, wall

watch = Watch()
began = time.perf_counter()
done = Run(read_recipe(sys.argv[1]), Store(sys.argv[2]), watch=watch)()
rows = sum(done.version.manifest["splits"].values())
watch.rows.append(["publish", rows, rows, None, cpu() - watch.cpu, time.perf_counter() - watch.wall])
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


def cpu_of(function: Callable[[int], object]) -> float:
    """CPU seconds of a call, the better of two; the call is told which of the two it is."""
    best = float("inf")
    for turn in range(2):
        began = time.process_time()
        function(turn)
        best = min(best, time.process_time() - began)
    return best


def steps_alone(store: Path) -> dict[str, float]:
    """CPU seconds of each annotating step by itself, from the column files it reads to those it writes."""
    from curate.engine.shard import ApplyTask, FeatureTask, Task, read_objects, run_apply, run_chain, run_features
    from curate.operator import DatasetOperator, ShardOperator
    from curate.operators import OPERATORS
    from curate.store.store import Store

    opened = Store(store)
    classes = {operator.__name__: operator for operator in OPERATORS.values()}
    found = {}
    for path in (store / "steps").glob("*.json"):
        asked = json.loads(path.read_text())["asked"]
        if asked["operator"] in classes and classes[asked["operator"]].makes is None:
            operator = classes[asked["operator"]](**{k.removesuffix("_"): v for k, v in asked["parameters"].items()})
            before = opened.snapshot(asked["parents"][0])

            def run(turn: int, operator: Any = operator, before: Any = before) -> None:
                told, grain = f"benchmark {os.getpid()} {turn}", before.grain  # a name of its own: nothing is remembered
                if isinstance(operator, ShardOperator):
                    for i, shard in enumerate(before.shards):
                        run_chain(Task(store, (operator,), (told,), grain, i, shard))
                    return
                assert isinstance(operator, DatasetOperator)
                measured = [run_features(FeatureTask(store, operator, told, grain, i, s)) for i, s in enumerate(before.shards)]
                state = operator.decide(read_objects(opened, [name for name, _ in measured]))
                start = 0
                for i, (shard, (_, rows)) in enumerate(zip(before.shards, measured, strict=True)):
                    own = opened.put_table(state.slice(start, rows) if operator.aligned else state)
                    run_apply(ApplyTask(store, operator, told, grain, i, shard, own))
                    start += rows

            found[operator.name] = cpu_of(run)
    return found


def pairing_alone(store: Path) -> dict[str, float]:
    """CPU seconds of pairing: reading its rows, making the pairs, and writing them with their text."""
    from curate.engine.shard import load, save, unflagged
    from curate.pair.pair import Pair
    from curate.store.store import Store

    opened = Store(store)
    asked = [json.loads(path.read_text())["asked"] for path in (store / "steps").glob("*.json")]
    (told,) = [one for one in asked if one["operator"] == "Pair"]
    operator = Pair(**told["parameters"])
    spent = dict.fromkeys(("read", "pair", "write"), 0.0)
    for shard in opened.snapshot(told["parents"][0]).shards:
        times = [time.process_time()]
        table, kept = load(opened, operator, "responses", shard)
        times.append(time.process_time())
        made = operator(unflagged(table, kept))
        times.append(time.process_time())
        save(Store(store.parent / "again"), operator, "responses", shard, table, kept, made)
        times.append(time.process_time())
        for name, (begin, end) in zip(spent, zip(times, times[1:], strict=False), strict=True):
            spent[name] += end - begin
    return spent


def plain(store: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of each annotating step as plain polars expressions, from Arrow IPC to Arrow IPC."""
    import polars as pl

    from curate.store.store import Store

    opened = Store(store)
    snapshots = {}
    for path in (store / "steps").glob("*.json"):
        value = json.loads(path.read_text())
        snapshots[value["asked"]["operator"]] = opened.snapshot(value["snapshot"])

    def spill(operator: str, columns: list[str]) -> Path:
        path = folder / f"{operator}-{columns[0]}.arrow"
        frame = pl.from_arrow(pa.concat_tables(opened.read(snapshots[operator], columns)))
        assert isinstance(frame, pl.DataFrame)
        frame.write_ipc(path, compression="zstd")
        return path

    def write(frame: pl.DataFrame) -> None:
        frame.write_ipc(folder / "out.arrow", compression="zstd")

    texts = spill("source", ["prompt_id", "response", "response_id"])
    lists = spill("source", ["scores"])
    margins = spill("Pair", ["margin"])
    prompts = spill("Pair", ["prompt_id", "prompt"])

    def score(column: str, rater: str) -> pl.Expr:
        return pl.col(column).list.filter(pl.element().struct.field("rater") == rater).list.last().struct.field("value")

    def entry(**fields: pl.Expr) -> pl.Expr:
        return pl.concat_list(pl.struct([value.alias(name) for name, value in fields.items()]))

    def duplicates(_: int) -> None:
        text = pl.struct("prompt_id", "response")
        copies = pl.len().over(text).cast(pl.Float32)
        first = pl.col("response_id").first().over(text)
        measure = entry(by=pl.lit("exact_duplicate"), name=pl.lit("copies"), value=copies)
        flag = entry(by=pl.lit("exact_duplicate"), reason=pl.lit("exact_duplicate"), value=copies, other=first)
        flags = pl.when(first != pl.col("response_id")).then(flag)
        write(pl.read_ipc(texts).select(evidence=measure, flags=flags))

    def aggregate(_: int) -> None:
        z = [(score("scores", r) - score("scores", r).mean()) / score("scores", r).std() for r in ("rm", "judge")]
        value = pl.mean_horizontal(z).cast(pl.Float32)
        nulls = {"rationale": pl.lit(None, pl.String), "position": pl.lit(None, pl.Int8), "round": pl.lit(None, pl.Int8)}
        both = entry(rater=pl.lit("both"), aspect=pl.lit("score"), value=value, **nulls, error=pl.lit(None, pl.String))
        write(pl.read_ipc(lists).select(pl.concat_list("scores", both)))

    def margin(_: int) -> None:
        gap = pl.col("margin")
        measure = entry(by=pl.lit("margin"), name=pl.lit("margin"), value=gap)
        none = pl.lit(None, pl.String)
        flag = entry(by=pl.lit("margin"), reason=pl.lit("small_margin"), value=gap, other=none)
        write(pl.read_ipc(margins).select(evidence=measure, flags=pl.when(gap < 0.5).then(flag)))

    def split(_: int) -> None:
        # prompts that read alike after normalisation, and rows of one prompt, go the same way
        text = pl.col("prompt").list.first().struct.field("content").str.normalize("NFKC").str.to_lowercase()
        words = text.str.replace_all(r"[\pP\pZ\s]+", " ").str.strip_chars()
        anchor = words.hash(0).min().over("prompt_id").min().over(words.hash(0))
        write(pl.read_ipc(prompts).select(pl.when(anchor % 50 == 0).then(pl.lit("test")).otherwise(pl.lit("train"))))

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
        "alone": steps_alone(store),
        "plain": plain(store, folder),
        "pairing": pairing_alone(store),
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


def growth(values: list[float], results: list[dict[str, Any]]) -> str:
    """The power of the rows by which a number grows."""
    if len(results) < 2 or values[0] <= 0:
        return f"{'':>10}"
    power = np.log(values[-1] / values[0]) / np.log(results[-1]["rows"] / results[0]["rows"])
    return f"{'N^' + format(power, '.2f'):>10}"


def table(results: list[dict[str, Any]]) -> None:
    """Print the results side by side, and how each number grows with the rows."""
    large = results[-1]
    print(f"{'':<26}" + "".join(f"{r['rows']:>14,}" for r in results) + f"{'growth':>10}   candidates")
    print("CPU seconds of a run, source to version (steps that share shards are told together)")
    together: dict[str, list[float]] = {}
    for position, (name, *_) in enumerate(large["steps"]):
        values = [r["steps"][position][4] for r in results]
        if values[-1] < 0.005 and together:  # it ran in the same pass as the step before
            last = list(together)[-1]
            together[f"{last} + {name}"] = together.pop(last)
        else:
            together[name] = values
    for name, values in together.items():
        print(f"  {name:<24}" + "".join(f"{value:>14.2f}" for value in values) + growth(values, results))
    print("CPU seconds of annotating steps alone, beside polars (target: ratio at most 2)")
    for name, polars_seconds in large["plain"].items():
        values = [r["alone"][name] for r in results]
        line = f"  {name:<24}" + "".join(f"{value:>14.2f}" for value in values) + growth(values, results)
        print(f"{line}   polars {polars_seconds:.2f}, ratio {values[-1] / polars_seconds:.2f}")
    print("CPU seconds of pairing alone (target: pairs and writing at most 3 at 1,000,000)")
    for name in ("read", "pair", "write"):
        values = [r["pairing"][name] for r in results]
        print(f"  {name:<24}" + "".join(f"{value:>14.2f}" for value in values) + growth(values, results))
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
