"""A run killed at any moment and repeated ends with the very files of an undisturbed run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

RECIPE = """
name: crash
source: {path: answers.jsonl, rows: candidates, columns: {prompt: prompt, response: response, model: model}, scores: {rm: score}}
steps:
  - exact_duplicate
  - features: {measures: [characters, words]}
  - aggregate: {name: both, from: [rm], calibrate: z}
  - pair: {by: both, how: all_gap, per_prompt: 2}
  - margin: {min: 0.1}
  - goal: {by: rm, scale: [1, 10], map: quantile}
  - split: {test: 0.2}
"""
KILLS = int(os.environ.get("CURATE_KILLS", "6"))


def write_project(folder: Path, prompts: int, words: int) -> Path:
    source = random.Random(3)
    with (folder / "answers.jsonl").open("w") as out:
        for number in range(prompts):
            for model in "abc":
                text = " ".join(source.choice(["red", "green", "blue"]) for _ in range(words))
                row = {"prompt": f"prompt {number}", "response": text, "model": model, "score": source.randrange(9)}
                out.write(json.dumps(row) + "\n")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    return recipe


def files_of(store: Path) -> dict[str, bytes]:
    """Every file of the only version but run.json, which tells times."""
    assert [path.name for path in (store / "datasets" / "crash").iterdir()] == ["v0001"]
    version = store / "datasets" / "crash" / "v0001"
    return {str(p.relative_to(version)): p.read_bytes() for p in version.rglob("*") if p.is_file() and p.name != "run.json"}


class Zygote:
    """A process that runs the recipe in forked children."""

    def __init__(self, recipe: Path) -> None:
        environment = os.environ | {"CURATE_SHARD_MB": "0.004"}
        command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "crash.py"), str(recipe)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def run(self, store: Path, failpoint: str = "-", log: str = "-") -> int:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{store} {failpoint} {log}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of runs need not wait for a disk's fsync."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_death_at_every_failpoint_changes_nothing(memory_folder: Path) -> None:
    recipe = write_project(memory_folder, prompts=12, words=8)
    first = Zygote(recipe)
    log = memory_folder / "failpoints"
    assert first.run(memory_folder / "whole", log=str(log)) == 0
    expected = files_of(memory_folder / "whole")
    passed = log.read_text().split("\n")[:-1]
    kinds = Counter(passed)
    assert set(kinds) == {f"{when} {what}" for when in ("before", "after") for what in ("fsync", "rename", "shard")}

    def die_at(zygote: Zygote, numbers: range) -> int:
        for number in numbers:
            where = f"failpoint {number} ({passed[number - 1]})"
            store = memory_folder / f"killed {numbers.start}".replace(" ", "-")
            assert zygote.run(store, f"*:{number}") == 137, f"{where} was not reached"
            assert zygote.run(store) == 0, f"no recovery after {where}"
            assert files_of(store) == expected, f"other files after {where}"
            shutil.rmtree(store)
        return len(numbers)

    zygotes = [first, Zygote(recipe)]
    with ThreadPoolExecutor(2) as pool:
        tried = list(pool.map(die_at, zygotes, [range(1 + i, len(passed) + 1, 2) for i in range(2)]))
    assert sum(tried) == len(passed)
    for zygote in zygotes:
        zygote.close()
    print(f"died at each of {len(passed)} failpoints: {dict(kinds)}")  # noqa: T201


def start(recipe: Path, store: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "curate.cli.main", "run", str(recipe), "--store", str(store)]
    environment = os.environ | {"CURATE_SHARD_MB": "0.3"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


@pytest.mark.slow
def test_random_kills_of_the_process_group_change_nothing(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, prompts=2500, words=30)
    began = time.monotonic()
    whole = start(recipe, tmp_path / "whole")
    _, said = whole.communicate()
    assert whole.returncode == 0, said
    duration = time.monotonic() - began
    expected = files_of(tmp_path / "whole")
    source, hit = random.Random(), Counter[str]()
    for _ in range(KILLS):
        store = tmp_path / "killed"
        killed = start(recipe, store)
        time.sleep(source.uniform(0.2, 1.0) * duration)
        os.killpg(killed.pid, signal.SIGKILL)
        _, said = killed.communicate()
        hit["after " + (said.strip().split("\n")[-1].split(" ")[0] or "start")] += 1
        again = start(recipe, store)
        _, said = again.communicate()
        assert again.returncode == 0, said
        assert files_of(store) == expected
        shutil.rmtree(store)
    print(f"killed {KILLS} times: {dict(hit)}")  # noqa: T201


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, prompts=2500, words=30)
    stopped = start(recipe, tmp_path / "store")
    assert stopped.stderr
    while not stopped.stderr.readline().startswith("source"):
        assert stopped.poll() is None
    os.killpg(stopped.pid, signal.SIGINT)
    _, said = stopped.communicate(timeout=30)
    assert stopped.returncode == 130, said
    assert "run the same command again to continue" in said
    again = start(recipe, tmp_path / "store")
    _, said = again.communicate()
    assert again.returncode == 0 and "source" in said and "done before" in said


def test_a_full_disk_is_one_sentence_and_the_published_version_stays_whole(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    recipes = []
    for folder, prompts, words in ((small, 20, 8), (large, 2500, 400)):
        folder.mkdir()
        recipes.append(write_project(folder, prompts, words))
    store = tmp_path / "store"
    store.mkdir()
    curate = f"{sys.executable} -m curate.cli.main"
    script = f"""
        mount -t tmpfs -o size=8m tmpfs {store}
        {curate} run {recipes[0]} --store {store} >/dev/null 2>&1
        code=0; {curate} run {recipes[1]} --store {store} 2>{tmp_path}/said >/dev/null || code=$?
        echo "exit $code"
        {curate} verify --store {store}
        ls {store}/tmp | wc -l
    """
    done = subprocess.run(["unshare", "-Urm", "bash", "-ec", script], capture_output=True, text=True)
    said = (tmp_path / "said").read_text().strip().split("\n")
    assert done.stdout.split("\n")[:3] == ["exit 1", "1 version checked, no problems", "0"], done.stdout + done.stderr
    assert "the disk is full" in said[-1] and said[-1].startswith("error: cannot write ") and "Traceback" not in "".join(said)
