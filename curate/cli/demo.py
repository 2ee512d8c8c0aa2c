"""The demo: curate the sample data from answers to export by the very commands a user would type."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from curate.errors import UsageError
from curate.packaged import find_recipe, samples_folder
from curate.store.versions import Version, Versions, read_version

MARKER = ".curate-demo"
KILLS = 3
CALLS = 608
"""What the recipe of pretended models asks: two answers to each of 152 prompts, and a mark for each answer."""


class Judged(NamedTuple):
    """Pairs held against the truth that no step reads."""

    pairs: int
    wrong: int
    """Pairs whose chosen side is truly the worse one."""


def play(folder: Path) -> None:
    """Play every act into `folder`, which is made anew if an earlier demo made it."""
    from curate.cli.demo_findings import repeats, wrong_labels

    make_anew(folder)
    began = time.perf_counter()
    store, recipe = folder / "store", folder / "demo.yaml"
    recipe.write_bytes(find_recipe("demo").read_bytes())
    say(
        "The data: 806 answers by five pretended writers to 152 prompts, written for this project. Each answer came with a "
        "rating from 1 to 10; 12 % of the ratings are planted wrong, and 40 answers are near-repeats of another. "
        "Nothing is downloaded, no real model is called: maths, choices, patterns and JSON are verified by reading the answers."
    )
    type_out("Run the recipe: a version comes out.", "run", recipe, "--store", store)
    version = Versions(store).find("demo")
    type_out(
        "Look at three of its pairs. Each is there twice: as here, and with sides swapped for the lower goal (margin < 0).",
        *("show", version, "--where", "margin > 0", "-n", "3", "--seed", "20", "--store", store),
    )
    type_out("Where did all the answers go?", "show", version, "--funnel", "--store", store)
    _judge(version)
    dropped = next(_ids(version, "dropped/pairs", "consistency"))
    type_out("Why was this pair dropped?", "why", version, dropped[:12], "--store", store)
    type_out(
        "Export it for TRL's DPOTrainer.",
        *("export", version, "--to", "trl-dpo", "--out", folder / "demo-trl-dpo", "--store", store),
    )
    type_out(
        "Ask for clearer pairs: one threshold up. Steps before it are not run again.",
        *("run", recipe, "--set", "margin.min=5", "--store", store),
    )
    type_out("What did that change?", "diff", "demo@v1", "demo@v2", "--store", store)
    wrong_labels(folder, store)
    repeats(folder, store)
    _kill_and_resume(store)
    page = folder / "report.html"
    type_out("All of it on one page.", "report", "demo@v2", "--out", page, "--store", store)
    say(f"That took {time.perf_counter() - began:.1f} s. Open {page.absolute()} in a browser.")
    say("Your own file next:   curate init --data FILE   writes a recipe for it;   curate run curate.yaml   runs it.")


def _kill_and_resume(store: Path) -> None:
    """Kill a run that asks models at three moments, finish it, and count what was asked twice."""
    from curate.models.ledger import Ledger

    words = ["run", "fake-pipeline", "--store", str(store)]
    say(
        "Models next. Two pretended writers answer each of the 152 prompts and a pretended judge marks the answers: "
        f"{CALLS} calls that cost nothing, but take their time. The run is killed {KILLS} times (kill -9) and given again."
    )
    killed, step = 0, CALLS // (KILLS + 1)
    with Ledger(store / "ledger") as ledger:
        for number in range(1, KILLS + 1):
            with subprocess.Popen(
                [sys.executable, "-m", "curate.cli.main", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                while process.poll() is None and len(ledger) < number * step:
                    time.sleep(0.02)
                    ledger.refresh()
                process.kill()
            ledger.refresh()
            killed += process.returncode < 0
            typer.echo(f"$ curate {' '.join(words)}    # killed with {len(ledger)} answers in the ledger")
        type_out("The same command once more, to the end.", *words)
        ledger.refresh()
        paid, kept = sum(row.answered for row in ledger.spent()), len(ledger)
    say(f"Killed {killed} times, {kept} calls answered; answered calls that were asked again: {paid - kept}.")


def make_anew(folder: Path) -> None:
    """An empty folder for a demo; only one that an earlier demo made is emptied."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise UsageError(f"{folder} is not empty and no demo made it; name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def say(text: str) -> None:
    """Something to explain."""
    typer.echo("")
    typer.echo("\n".join(wrapped(text)))


def wrapped(text: str) -> list[str]:
    """The text in lines of a screen."""
    import textwrap

    return textwrap.wrap(text, width=110, break_long_words=False, break_on_hyphens=False)


def type_out(what_for: str, *words: object) -> None:
    """Show a command and run it."""
    import shlex

    from curate.cli.main import app

    arguments = [str(word) for word in words]
    typer.echo("")
    typer.echo(f"# {what_for}")
    typer.echo(f"$ curate {shlex.join(arguments)}")
    app(arguments, standalone_mode=False)


def _ids(version: Version, table: str, by: str) -> Iterator[str]:
    for batch in read_version(version, table, ["pair_id", "dropped_by"]):
        for row in batch.to_pylist():
            if row["dropped_by"] == by:
                yield row["pair_id"]


def _judge(version: Version) -> None:
    """Hold the pairs against the planted truth and say what was found."""
    truth = {name: row["rating"] for name, row in sample_truth().items()}
    names = sample_names(version)
    kept, dropped = (_held_against(version, table, truth, names) for table in ("pairs", "dropped/pairs"))
    say(
        f"Held against the planted truth, which no step reads: of {kept.pairs + dropped.pairs} pairs made from the ratings, "
        f"{kept.wrong + dropped.wrong} prefer the truly worse answer. The checks dropped {dropped.wrong} of those "
        f"(and {dropped.pairs - dropped.wrong} pairs that were right but too close or refused by a check); "
        f"{kept.wrong} wrong ones are left among {kept.pairs}."
    )


def sample_truth() -> dict[str, dict[str, Any]]:
    """What is true of each sample answer, by its name: no step reads it."""
    lines = (samples_folder() / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def sample_names(version: Version) -> dict[str, str]:
    """The name of each sample answer of a version, kept or dropped, by its id."""
    names: dict[str, str] = {}
    for table in ("responses", "dropped/responses"):
        for batch in read_version(version, table, ["response_id", "meta"]):
            names |= {row["response_id"]: json.loads(row["meta"])["id"] for row in batch.to_pylist()}
    return names


def _held_against(version: Version, table: str, truth: dict[str, int], names: dict[str, str]) -> Judged:
    """Each pair once: a relabelled pair appears twice, once for each goal."""
    seen = {}
    for batch in read_version(version, table, ["chosen_id", "rejected_id", "origin"]):
        for row in batch.to_pylist():
            if row["origin"] != "goal_rejected":
                seen[row["chosen_id"], row["rejected_id"]] = truth[names[row["chosen_id"]]] < truth[names[row["rejected_id"]]]
    return Judged(len(seen), sum(seen.values()))
