"""Help: every verb says what it does, with an example that works."""

import re
import shlex

import pytest
import typer

from curate import __version__
from curate.cli.main import app
from tests.cli.conftest import Curate

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
VERBS = sorted(COMMANDS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_that_its_options_allow(curate: Curate, verb: str) -> None:
    told = curate(verb, "--help")
    assert told.code == 0
    (example,) = re.findall(r"Example: curate (.*)", " ".join(told.out.split()))
    called, *words = shlex.split(example)
    assert called == verb
    COMMANDS[verb].make_context(verb, words)  # raises for an option it does not have, or an argument too few


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_says_what_it_is_for(verb: str) -> None:
    silent = [option.name for option in COMMANDS[verb].params if not getattr(option, "help", "told") and option.name != "help"]
    assert not silent


def test_the_list_of_verbs_is_told_in_whole_sentences(curate: Curate) -> None:
    told = curate("--help")
    listed = re.findall(r"^  ([a-z]+)  +(\S.*)$", told.out.split("Commands:")[1], re.MULTILINE)
    assert sorted(verb for verb, _ in listed) == VERBS
    assert [line for _, line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_without_a_verb_help_is_shown_as_for_a_wrong_call(curate: Curate) -> None:
    told = curate()
    assert told.code == 2
    assert "Commands:" in told.out + told.err


def test_the_version_is_told(curate: Curate) -> None:
    assert curate("--version") == (0, f"curate {__version__}\n", "")
