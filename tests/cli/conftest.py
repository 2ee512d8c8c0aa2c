"""A small store, and ways to call `curate`: in this process, or as a user's shell does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from curate.cli.main import main
from curate.engine.local import LocalEngine
from curate.recipe import read_recipe
from curate.run import run_recipe

RECIPE = """\
name: colours
source:
  path: answers.jsonl
  rows: candidates
  columns: {prompt: prompt, response: response, model: model, domain: domain}
  scores: {rm: score}
  max_rejects: 0.2
steps:
  - exact_duplicate: {normalise: text}
  - features: {measures: [characters, words, refusal, truncated]}
  - pair: {by: rm, how: all_gap}
  - margin: {min: 2}
  - split: {test: 0.2, seed: 7}
"""
EVIL = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b1m \u202e [bold]x[/bold] :smile:\rover"
"""Colour, a window title, a C1 control, a turn of direction, markup, an emoji's name, a carriage return."""


class Told(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


Curate = Callable[..., Told]


def write_project(folder: Path, prompts: int = 10, words: int = 3) -> Path:
    """A recipe and its file: three answers to each prompt, and one that says the same as another."""
    colours = ("red", "green", "blue")
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as out:
        for number in range(prompts):
            for place, colour in enumerate(colours):
                text = " ".join([colour] * words) + f" {number}."
                row = {"prompt": f"Name a colour for door {number}.", "response": text, "model": f"writer-{place}"}
                out.write(json.dumps(row | {"domain": "doors", "score": (number + 2 * place) % 7}) + "\n")
        out.write(json.dumps({"prompt": "Name a colour for door 0.", "response": f"{'Red ' * words} 0", "model": "echo"}) + "\n")
    (folder / "curate.yaml").write_text(RECIPE, encoding="utf-8")
    return folder / "curate.yaml"


def make_store(folder: Path, rows: list[dict[str, object]] | None = None) -> Path:
    """A store with colours@v1 and, at another threshold, colours@v2."""
    recipe = write_project(folder)
    if rows is not None:
        (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for overrides in ([], ["margin.min=3"]):
        ready = read_recipe(recipe, overrides=overrides)
        run_recipe(ready, folder / "store", engine=LocalEngine(1), command=["curate", "run", "curate.yaml"])
    return folder / "store"


@pytest.fixture(scope="session")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that no test writes to."""
    return make_store(tmp_path_factory.mktemp("colours"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of the test's own, with the recipe beside it."""
    return make_store(tmp_path)


@pytest.fixture
def curate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Curate:
    """Calls the command in this process."""
    monkeypatch.delenv("CURATE_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "140")

    def call(*words: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["curate", *(str(word) for word in words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Told(ended.value.code, out, err)

    return call


def start(*words: object, env: Mapping[str, str] | None = None, **more: object) -> "subprocess.Popen[str]":
    """Start the command in a process of its own."""
    command = [sys.executable, "-m", "curate.cli.main", *(str(word) for word in words)]
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "CURATE_STORE")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    return subprocess.Popen(command, env=plain | dict(env or {}), text=True, encoding="utf-8", **pipes)  # type: ignore[call-overload,no-any-return]


def shell(*words: object, env: Mapping[str, str] | None = None) -> Told:
    """Run the command in a process of its own, its output piped."""
    process = start(*words, env=env)
    out, err = process.communicate(timeout=120)
    return Told(process.returncode, out, err)
