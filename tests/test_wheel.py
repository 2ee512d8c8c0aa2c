"""The wheel alone is enough: installed in an empty folder, curate makes a version with no repository near."""

import os
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

pytestmark = pytest.mark.slow

Call = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(REPOSITORY)], check=True, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own that holds curate from the wheel, and everything else from this one."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # plain lines are appended to sys.path without reading the .pth files there, so this checkout does not come along
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n" + sysconfig.get_path("platlib") + "\n")
    return folder


@pytest.fixture
def curate(installed: Path, tmp_path: Path) -> Call:
    """The `curate` that the wheel brought, called in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CURATE", "PREFECT"))}
    folder = tmp_path / "empty"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    environment["HOME"] = str(tmp_path / "home")

    def call(*words: str) -> str:
        command = [str(installed / "bin" / "curate"), *words]
        told = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert told.returncode == 0, f"{words}: {told.stdout}{told.stderr}"
        return told.stdout

    return call


def test_it_holds_one_package_with_recipes_and_samples(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"curate"}
    recipes = {f"curate/gallery/{path.name}" for path in (REPOSITORY / "flows" / "recipes").glob("*.yaml")}
    samples = {f"curate/samples/{path.name}" for path in (REPOSITORY / "data" / "samples").glob("*.jsonl")}
    assert recipes and samples
    assert recipes | samples | {"curate/py.typed", "curate/cli/main.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or "/store/" in name and name.endswith(".arrow")]


def test_the_package_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    ask = [
        str(installed / "bin" / "python"),
        "-c",
        "import curate, curate.packaged as p; print(curate.__file__, p.samples_folder())",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    package, samples = subprocess.check_output(ask, cwd=tmp_path, env=environment, text=True).split()
    assert Path(package).is_relative_to(installed)
    assert Path(samples).is_relative_to(installed)


def test_a_first_recipe_becomes_a_version(curate: Call) -> None:
    assert "wrote curate.yaml" in curate("init")
    assert "to do" in curate("plan", "curate.yaml")
    assert "published my-first-pairs@v1" in curate("run", "curate.yaml")
    assert "done before" in curate("plan", "curate.yaml")
    assert "in my-first-pairs@v1 pairs" in curate("show", "my-first-pairs@v1", "-n", "2", "--seed", "1")
    assert "no problems" in curate("verify")


def test_the_gallery_and_the_demo_come_along(curate: Call) -> None:
    assert "demo" in curate("recipes")
    assert "curate diff demo@v1 demo@v2" in curate("demo", "x")


def test_a_schedule_makes_a_version_by_itself_and_leaves_the_users_home_alone(curate: Call, tmp_path: Path) -> None:
    curate("init")
    try:
        assert "started the server and worker" in curate("up")
        assert "scheduled my-first-pairs: every 2s" in curate("schedule", "curate.yaml", "--interval", "2s")
        deadline = time.monotonic() + 180
        while "my-first-pairs@v1" not in (told := curate("schedules")) and time.monotonic() < deadline:
            time.sleep(1)
        assert "my-first-pairs@v1" in told, curate("runs")
        assert "in my-first-pairs@v1 pairs" in curate("show", "my-first-pairs@v1", "-n", "1")
        assert "not scheduled any more" in curate("schedule", "curate.yaml", "--off")
    finally:
        assert "stopped server and worker" in curate("down")
    assert list((tmp_path / "home").iterdir()) == []
