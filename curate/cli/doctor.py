"""What is present and missing on this machine, and what to do about it."""

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from curate.errors import CurateError

if TYPE_CHECKING:
    from rich.table import Table

CORE = ("pyarrow", "polars", "numpy", "datasets", "pydantic", "typer", "rich", "py3langid", "jsonschema", "zstandard")
OPTIONAL = {"trl": "proves exports with TRL's own code: pip install 'curate[export-check]'"}


class Check(NamedTuple):
    """One thing looked at."""

    what: str
    state: Literal["ok", "missing", "broken"]
    detail: str


def checkup(store: Path) -> list[Check]:
    """Everything a run may need: Python, packages, memory, disk and the store."""
    checks = [Check("python", "ok" if sys.version_info >= (3, 11) else "broken", platform.python_version())]
    checks += [_package(name, "broken", "pip install curate installs it") for name in CORE]
    checks += [_package(name, "missing", why) for name, why in OPTIONAL.items()]
    checks.append(_vllm())
    checks.append(Check("cores", "ok", str(len(os.sched_getaffinity(0)))))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    checks.append(Check("memory", "ok", f"{memory:.0f} GB; a run takes up to about 1.5 GB plus what a step must see whole"))
    return [*checks, _store(store)]


def _package(name: str, absent: Literal["missing", "broken"], advice: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, absent, advice)


def _vllm() -> Check:
    from curate.models import vllm_install

    found = vllm_install.look()
    if found is None:
        return Check("vllm", "missing", "runs models on this machine: curate vllm install")
    if found.fault is not None:
        return Check("vllm", "broken", f"{found.fault} ({found.told_by}); curate vllm install builds one")
    return Check("vllm", "ok", f"{found.version}, torch {found.packages.get('torch')}, in {found.python}")


def _store(root: Path) -> Check:
    from curate.store.store import Store

    existing = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not root.exists():
        return Check("store", "ok", f"{root} does not exist yet; the first run makes it ({_free(existing)} free)")
    try:
        Store(root).writable()
    except (CurateError, OSError) as error:
        return Check("store", "broken", str(error))
    return Check("store", "ok", f"{root}, {_free(existing)} free")


def _free(path: Path) -> str:
    return f"{shutil.disk_usage(path).free / 1e9:,.0f} GB"


def render(checks: list[Check]) -> "Table":
    """The checks as a table for people."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for check in checks:
        table.add_row(check.what, check.state, check.detail, style="" if check.state == "ok" else "red")
    return table
