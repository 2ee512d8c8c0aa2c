"""What reaches a terminal, a pipe or a log: readable, no wider than it is, and unable to command anything."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.cells import cell_len

from curate.logs import Lines
from tests.cli.conftest import EVIL, Curate, Told, make_store, shell, start, write_project

COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7])[0-9;]*m")
HIDDEN = set("\x1b\x07\x9b\u202e\r")


def on_a_terminal(*words: object, env: Mapping[str, str] | None = None, columns: int = 100, press: bytes = b"") -> Told:
    """Run the command on a pseudo-terminal: everything it wrote there, as `out`. press: keys to press once it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = start(
        *words,
        env={"TERM": "xterm-256color"} | dict(env or {}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65_536)
        except OSError:  # the last process closed the other end
            break
        if not chunk:
            break
        written += chunk
        if press and b"source" in written:
            os.write(ours, press)
            press = b""
    os.close(ours)
    return Told(process.wait(timeout=60), written.decode(), "")


# -- progress


@pytest.mark.slow
def test_a_log_gets_plain_lines(tmp_path: Path) -> None:
    told = shell("run", write_project(tmp_path), "--store", tmp_path / "store")
    assert told.code == 0
    assert not HIDDEN & set(told.out + told.err)
    assert re.match(r"source +31 in +31 kept +\d+\.\d s\nexact_duplicate +31 in +30 kept ", told.err)
    assert told.out.startswith("published colours@v1: ")


def test_a_long_step_says_in_a_log_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.started("pair", 4_000)
    lines.advanced(500)
    assert capsys.readouterr().err == ""  # not at every shard
    lines.began = lines.spoke = time.monotonic() - 20
    lines.advanced(500)
    assert re.fullmatch(r"pair: 1,000 of 4,000 rows, (49|50) rows/s, 60 s left\n", capsys.readouterr().err)


@pytest.mark.slow
def test_a_terminal_gets_a_live_bar_that_leaves_the_lines_behind(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, prompts=2_000)
    told = on_a_terminal("run", recipe, "--store", tmp_path / "store", env={"CURATE_SHARD_MB": "0.1"})
    assert told.code == 0
    assert "\x1b[2K" in told.out  # the bar is drawn over
    assert "━" in told.out and "rows/s" in told.out
    assert told.out.endswith("\r\n") and told.out.count("\x1b[?25l") == told.out.count("\x1b[?25h") > 0  # the cursor is back
    assert re.search(r"exact_duplicate +6,001 in +6,000 kept", told.out)


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_says_how_to_go_on_and_gives_the_cursor_back(tmp_path: Path) -> None:
    told = on_a_terminal("run", write_project(tmp_path, prompts=5_000), "--store", tmp_path / "store", press=b"\x03")
    assert told.code == 130
    assert "run the same command again to continue" in told.out
    assert "Traceback" not in told.out
    assert told.out.rfind("\x1b[?25h") > told.out.rfind("\x1b[?25l")


@pytest.mark.slow
def test_a_run_goes_on_when_nobody_reads_its_progress(tmp_path: Path, curate: Curate) -> None:
    recipe, store = write_project(tmp_path), tmp_path / "store"
    run = start("run", recipe, "--store", store)
    assert run.stderr
    run.stderr.close()
    out, _ = run.communicate(timeout=60)
    assert (run.returncode, out.startswith("published colours@v1: ")) == (0, True)


# -- pipes


@pytest.mark.slow
@pytest.mark.parametrize("words", ["show colours -n 9 --full", "show colours -n 9 --json", "versions", "why colours 0", "--help"])
def test_a_reader_may_stop_reading(read_only: Path, words: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    process = start(*words.split(), env={"CURATE_STORE": str(read_only)}, stdout=theirs)
    os.close(theirs)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_piping_to_head_shows_the_first_lines_and_no_trace(read_only: Path) -> None:
    with start("show", "colours", "-n", "9", "--full", "--store", read_only) as show:
        head = subprocess.run(["head", "-n", "2"], stdin=show.stdout, capture_output=True, text=True)
        assert show.stdout and show.stderr
        show.stdout.close()
        assert head.stdout.splitlines()[1] == "prompt"
        assert show.stderr.read() == "" and show.wait() == 0


@pytest.mark.slow
def test_a_pipe_that_only_knows_ascii_gets_numbers_for_other_characters(tmp_path: Path) -> None:
    rows = [{"prompt": "Où?", "response": text, "model": "m", "domain": None, "score": s} for text, s in (("là", 5), ("ça", 1))]
    store = make_store(tmp_path, rows)
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    told = shell("show", "colours", "--store", store, env=ascii_only)
    assert told.code == 0 and "O\\xf9?" in told.out
    assert "\\u00f9" in shell("show", "colours", "--json", "--store", store, env=ascii_only).out


# -- colour and width


@pytest.mark.slow
def test_colour_is_for_terminals_that_want_it(read_only: Path) -> None:
    words = ("show", "colours", "-n", "1", "--store", read_only)
    assert COLOUR.search(on_a_terminal(*words).out)
    assert not COLOUR.search(on_a_terminal(*words, env={"NO_COLOR": "1"}).out)
    assert "\x1b" not in shell(*words).out


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize(
    "words",
    [
        "show colours@v1 -n 3",
        "show colours@v1 -n 3 --columns pair_id,margin,prompt",
        "show colours@v1 --funnel",
        "show colours@v1 --rethreshold margin=3",
        "versions",
        "runs",
        "plan RECIPE",
        "why colours@v1 0",
        "diff colours@v1 colours@v2",
        "doctor",
    ],
)
def test_no_line_is_wider_than_the_terminal(
    curate: Curate, read_only: Path, monkeypatch: pytest.MonkeyPatch, words: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    told = curate(*words.replace("RECIPE", str(read_only.parent / "curate.yaml")).split(), "--store", read_only)
    assert told.code == 0
    assert max(cell_len(line) for line in told.out.splitlines()) <= columns


@pytest.mark.parametrize("words", ["show colours@v1 --funnel", "plan RECIPE", "why colours@v1 0"])
def test_names_of_steps_stay_whole_on_a_narrow_terminal(
    curate: Curate, read_only: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    told = curate(*words.replace("RECIPE", str(read_only.parent / "curate.yaml")).split(), "--store", read_only)
    assert re.search(r"^exact_duplicate ", told.out, re.MULTILINE)


def test_pairs_stand_side_by_side_only_where_there_is_room(
    curate: Curate, read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("show", "colours@v1", "-n", "1", "--store", read_only)
    assert re.search(r"^chosen .* rejected ", curate(*words).out, re.MULTILINE)
    monkeypatch.setenv("COLUMNS", "60")
    narrow = curate(*words).out
    assert re.search(r"^chosen ", narrow, re.MULTILINE) and re.search(r"^rejected ", narrow, re.MULTILINE)


# -- what a row's line tells


def test_what_raters_gave_comes_first_and_measures_that_found_nothing_are_left_out(curate: Curate, tmp_path: Path) -> None:
    rows = [
        {"prompt": "A?", "response": "good", "model": "m1", "domain": None, "score": 9},
        {"prompt": "A?", "response": "The leaves are full of chlorophyll, which", "model": "m2", "score": 1},
    ]
    told = curate("show", "colours", "--store", make_store(tmp_path, rows))
    (line,) = re.findall(r"^chosen .*", told.out, re.MULTILINE)
    assert re.sub(r" {2,}", " | ", line.strip()) == (
        "chosen · m1 · rm score 9 · 4 characters · 1 word | rejected · m2 · rm score 1 · 35 characters · 7 words · truncated"
    )


def test_measures_are_told_in_short_whatever_their_step_is_called(curate: Curate, store: Path) -> None:
    recipe = store.parent / "curate.yaml"
    recipe.write_text(recipe.read_text().replace("features: {", "features: {name: look, "))
    curate("run", recipe, "--store", store)
    out = curate("show", "colours", "-n", "1", "--store", store).out
    assert "look" not in out and " characters · " in out


# -- untrusted text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose texts, models and domains try to command the terminal."""
    base = {"prompt": f"Say {EVIL}", "domain": EVIL}
    said = (("a", 9), ("b", 1), ("c", 6.5), ("A", 3))
    rows = [base | {"response": f"{name} {EVIL}", "model": f"m {EVIL}", "score": score} for name, score in said]
    return make_store(tmp_path_factory.mktemp("hostile"), rows)


@pytest.mark.parametrize(
    "words",
    [
        "show colours",
        "show colours --full",
        "show colours --columns prompt,domain,chosen_model,chosen",
        "show colours --table dropped/responses",
        "show colours --funnel",
        "why colours 0",
        "why colours@v1 0",
        "diff colours@v1 colours@v2",
        "versions",
    ],
)
def test_text_from_data_is_shown_and_never_obeyed(curate: Curate, hostile: Path, words: str) -> None:
    told = curate(*words.split(), "--store", hostile)
    assert told.code == 0
    assert not HIDDEN & set(told.out)
    if words.startswith(("show colours --full", "why")):
        whole = " ".join(told.out.split())
        assert "⟨U+001B⟩[31mred⟨U+001B⟩[0m ⟨U+001B⟩]0;title⟨U+0007⟩ ⟨U+009B⟩1m ⟨U+202E⟩" in whole
        assert "[bold]x[/bold] :smile:" in whole


def test_square_brackets_in_an_error_are_no_markup_in_the_list_of_runs(curate: Curate, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    (tmp_path / "[bold]x.jsonl").write_text("not JSON\n")
    recipe.write_text(recipe.read_text().replace("path: answers.jsonl", "path: '[bold]x.jsonl'"))
    assert curate("run", recipe, "--store", tmp_path / "store").code == 1
    assert "[bold]x.jsonl" in "".join(curate("runs", "--store", tmp_path / "store").out.split())


@pytest.mark.slow
def test_nor_is_it_on_a_terminal(hostile: Path) -> None:
    told = on_a_terminal("show", "colours", "--full", "--store", hostile, env={"NO_COLOR": "1"}, columns=140)
    assert told.code == 0
    assert "]0;title" in told.out and "\x1b]0;" not in told.out
    assert not {"\x07", "\x9b", "\u202e"} & set(told.out)
    assert "[bold]x[/bold] :smile:" in told.out
