"""The demo's second act: a recipe on a schedule, run by a worker, refreshed when prompts come, stopped by a gate."""

import json
import time
from pathlib import Path
from typing import Any

from curate.cli.demo import make_anew, say, type_out
from curate.errors import CurateError
from curate.packaged import samples_folder
from curate.store.runs import past_runs

KNOWN = 60
"""Prompts at first."""
NEW = 10
INTERVAL = "5s"
PATIENCE_SECONDS = 120.0
RECIPE = """\
# Two pretended writers and a pretended judge; what they say follows from what they are asked.
name: scheduled
models:
  alpha: {backend: fake, name: alpha, options: {quality: 0.8}}
  beta: {backend: fake, name: beta, options: {quality: 0.4}}
  judge: {backend: fake, name: judge, options: {accuracy: 0.9}}
source: {path: prompts.jsonl, rows: prompts, columns: {prompt: prompt}}
steps:
  - generate: {model: [alpha, beta], temperature: 0.8, seed: 7}
  - judge: {model: judge, rubric: helpfulness}
  - pair: {by: judge, how: best_worst}
  - split: {test: 0.1, seed: 7}
gates:
  kept_share: ">= 0.3"
refresh: append
"""
GATE, TOO_HIGH = 'kept_share: ">= 0.3"', 'kept_share: ">= 0.99"'


def play(folder: Path) -> None:
    """Play the act into `folder`, which is made anew if an earlier demo made it."""
    from curate.services import down

    make_anew(folder)
    began = time.perf_counter()
    store, recipe, prompts = folder / "store", folder / "recipe.yaml", folder / "prompts.jsonl"
    recipe.write_text(RECIPE, encoding="utf-8")
    lines = (samples_folder() / "prompts.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    prompts.write_text("".join(lines[:KNOWN]), encoding="utf-8")
    say(f"A recipe on a schedule: {KNOWN} prompts, two pretended writers, a pretended judge, and a gate on the share kept.")
    try:
        type_out("A Prefect server and a worker, on this machine only.", "up", "--store", store)
        type_out(f"Every {INTERVAL}; in life, --cron '0 3 * * *'.", "schedule", recipe, "--interval", INTERVAL, "--store", store)
        first = await_run(store, "done")
        say(f"The worker published {first['version']}. Nothing is new for the next run, so it publishes nothing:")
        await_run(store, "unchanged")
        _show_runs(store)
        before = _paid(store)
        prompts.write_text("".join(lines[: KNOWN + NEW]), encoding="utf-8")
        say(f"{NEW} prompts are added to the file.")
        second = await_run(store, "done", but=first["id"])
        say(f"{second['version']}: {_paid(store) - before} calls, all of them for the {NEW} new prompts.")
        type_out("What did that change?", "diff", first["version"], second["version"], "--store", store)
        recipe.write_text(RECIPE.replace(GATE, TOO_HIGH), encoding="utf-8")
        prompts.write_text("".join(lines[: KNOWN + 2 * NEW]), encoding="utf-8")
        say(f"The gate is set too high ({TOO_HIGH}) and more prompts come: nothing is published, and it says why.")
        closed = await_run(store, "gate_closed")
        type_out("Why is there no new version this morning?", "runs", closed["id"], "--store", store)
        type_out("What is scheduled?", "schedules", "--store", store)
        type_out("Enough.", "schedule", recipe, "--off", "--store", store)
        type_out("Stop the server and the worker.", "down", "--store", store)
    finally:
        down(store)
    say(f"That took {time.perf_counter() - began:.0f} s.")


def await_run(store: Path, state: str, but: str = "") -> dict[str, Any]:
    """The newest run in that state, once there is one; `but` is not it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for record in past_runs(store):
            if record["state"] == state and record["id"] != but:
                return record
        time.sleep(0.5)
    said = json.dumps([[record["id"], record["state"], record.get("error")] for record in past_runs(store)])
    raise CurateError(f"no run is {state} after {PATIENCE_SECONDS:.0f} s; runs: {said}; see {store}/services/worker.log")


def _show_runs(store: Path) -> None:
    type_out("Runs so far.", "runs", "--store", store)


def _paid(store: Path) -> int:
    from curate.models.ledger import Ledger

    with Ledger(store / "ledger") as ledger:
        return sum(row.answered for row in ledger.spent())
