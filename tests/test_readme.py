"""What the README says is so: its commands run, its output is what they print, its recipe and its lists are right."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from curate.cli.main import app
from curate.operators import OPERATORS
from curate.recipe import read_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
VERBS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]

MAKE = {
    "demo": [r"-m venv \.venv", r"pip install .*--editable \.", r"\.venv/bin/curate demo build/demo"],
    "test": [
        r"bash tests/system_packages\.sh",
        r"-m venv \.venv-test",
        r"\.venv-test/bin/ruff check \.",
        r"\.venv-test/bin/mypy",
        r"\.venv-test/bin/python -m pytest -n auto --dist loadfile$",
    ],
}
"""What the README says that a target does, as patterns of the commands that it runs."""


def blocks(language: str) -> list[str]:
    """The README's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(block: str) -> Iterator[list[str]]:
    """The commands of a shell block, without their comments."""
    for line in block.splitlines():
        if words := shlex.split(line, comments=True):
            yield words


COMMANDS = [words for block in blocks("sh") for words in commands(block)]


def run(folder: Path, *words: str) -> str:
    """What `curate` prints in a folder, on a terminal of 100 columns."""
    kept = {name: value for name, value in os.environ.items() if name != "CURATE_STORE" and not name.startswith("PREFECT_")}
    environment = kept | {"COLUMNS": "100"}
    told = subprocess.run(
        [sys.executable, "-m", "curate.cli.main", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, f"curate {shlex.join(words)}: {told.stdout}{told.stderr}"
    return told.stdout + told.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which `make demo` has done its work, and what it printed."""
    folder = tmp_path_factory.mktemp("readme")
    return folder, run(folder, "demo", "build/demo")


def write_answers(path: Path) -> None:
    """The file of the section on one's own data: 40 prompts, three scored answers each."""
    with path.open("w", encoding="utf-8") as out:
        for number in range(40):
            for place, model in enumerate("abc"):
                answer = f"Door {number} is {('red', 'green', 'blue')[place]}, as far as I can see from here."
                row = {"prompt": f"What colour has door {number}?", "response": answer, "model": model}
                out.write(json.dumps(row | {"score": (number + 3 * place) % 7}) + "\n")


def planned(target: str) -> str:
    """The commands that `make` would run for a target on a fresh machine."""
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", target]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


# -- commands


def test_only_known_commands_are_named() -> None:
    assert len(COMMANDS) > 10
    for words in COMMANDS:
        assert words[0] in ("make", "curate", "."), f"the README names a command that no test knows: {shlex.join(words)}"
        assert words[0] != "curate" or words[1] in VERBS, shlex.join(words)
        assert words[0] != "make" or words[1] in MAKE, shlex.join(words)
    named = re.findall(r"`curate ([a-z]+)", README)
    assert set(named) <= VERBS, set(named) - VERBS


@pytest.mark.parametrize("target", MAKE)
def test_a_target_runs_what_the_readme_says(target: str) -> None:
    assert ["make", target] in COMMANDS
    would_run = planned(target)
    for pattern in MAKE[target]:
        assert re.search(pattern, would_run, re.MULTILINE), f"make {target} does not run {pattern}:\n{would_run}"


def test_the_environment_that_is_activated_is_the_one_that_make_makes() -> None:
    assert [words[1] for words in COMMANDS if words[0] == "."] == [".venv/bin/activate"]
    assert re.search(r"-m venv \.venv$", planned("demo"), re.MULTILINE)


@pytest.mark.slow
def test_every_command_runs(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    write_answers(folder / "answers.jsonl")
    try:
        for words in COMMANDS:
            if words[0] == "curate":
                run(folder, *words[1:])
    finally:
        run(folder, "down")
    assert (folder / "report.html").exists() and (folder / "train").is_dir()


# -- output


def as_patterns(block: str) -> Iterator[re.Pattern[str]]:
    """A pattern for each line that is shown: an ellipsis stands for anything, and seconds may differ."""
    for line in block.splitlines():
        escaped = re.escape(re.sub(r"\d+\.\d s\b", "SECONDS", line.rstrip()))
        yield re.compile(escaped.replace("SECONDS", r"\d+\.\d s").replace("…", ".*") + r"\s*")


@pytest.mark.slow
def test_the_output_of_the_demo_is_true(demo: tuple[Path, str]) -> None:
    shown = next(block for block in blocks("text") if block.startswith("$ curate"))
    printed = iter(demo[1].splitlines())
    # progress goes to standard error: it is looked for anywhere, everything else in the order in which it is shown
    progress = [line for line in demo[1].splitlines() if re.search(r" in +[\d,]+ kept ", line)]
    for pattern in as_patterns(shown):
        if pattern.pattern in (r"\s*",) or any(pattern.fullmatch(line) for line in progress):
            continue
        assert any(pattern.fullmatch(line) for line in printed), f"not in the demo's output, or not there: {pattern.pattern}"


@pytest.mark.slow
def test_a_version_holds_what_is_listed(demo: tuple[Path, str]) -> None:
    tree = next(block for block in blocks("text") if block.startswith("datasets/")).splitlines()
    version = demo[0] / "build" / "demo" / "store" / tree[0]
    listed = {line.split()[0] for line in tree[1:]}
    assert listed == {str(path.relative_to(version)) for path in version.rglob("*") if path.is_file()}


# -- lists


def test_the_recipe_is_read_without_a_problem(tmp_path: Path) -> None:
    block, asking, gated = blocks("yaml")
    (tmp_path / "asked.yaml").write_text(asking, encoding="utf-8")
    assert [step.key for step in read_recipe(tmp_path / "asked.yaml").steps] == ["generate", "judge", "pair", "vote"]
    write_answers(tmp_path / "answers.jsonl")
    (tmp_path / "curate.yaml").write_text(block, encoding="utf-8")
    assert read_recipe(tmp_path / "curate.yaml").gates == {}
    (tmp_path / "curate.yaml").write_text(block + gated, encoding="utf-8")
    recipe = read_recipe(tmp_path / "curate.yaml")
    assert (len(recipe.gates), str(recipe.refresh)) == (4, "append")
    assert [step.key for step in recipe.steps] == re.findall(r"^  - (\w+):", block, re.MULTILINE)


def test_the_table_names_every_command_and_no_other() -> None:
    rows = [line.split("|")[1] for line in README.splitlines() if line.startswith("| `curate ")]
    assert {verb for row in rows for verb in re.findall(r"`curate ([a-z]+)`", row)} == VERBS


def test_what_is_linked_is_there() -> None:
    linked = [path for path in re.findall(r"\]\(([^)]+)\)", README) if "://" not in path]
    named = re.findall(r"`(schemas/[\w./]+)`", README)
    assert linked and named
    assert [path for path in linked + named if not (ROOT / path).exists()] == []


def test_the_exit_codes_are_told() -> None:
    (sentence,) = re.findall(r"Exit codes: (.*?)\.$", README, re.MULTILINE)
    assert sentence == "0 done, 1 the work failed, 2 wrong use, 130 stopped by Ctrl-C"


def test_what_is_not_there_yet_is_not_there() -> None:
    planned_steps = README.partition("## Not there yet")[2]
    assert planned_steps
    for step in set(re.findall(r"`(\w+)`", planned_steps)) & set(OPERATORS):
        pytest.fail(f"{step} is there now: take it out of 'Not there yet'")
