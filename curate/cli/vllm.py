"""The commands that look after vLLM's own environment: vllm install, vllm show."""

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.common import JsonOption, print_json


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    commands = typer.Typer(
        no_args_is_help=True,
        help="The environment that vLLM runs in, apart from curate's own.",
        epilog="Example: curate vllm install --cpu",
    )
    commands.command(epilog="Example: curate vllm install --cpu")(install)
    commands.command(epilog="Example: curate vllm show")(show)
    app.add_typer(commands, name="vllm")


def install(
    cpu: Annotated[bool | None, typer.Option("--cpu/--gpu", help="The build; by default what this machine has.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where; else .venv-vllm beside the environment of curate.", show_default=False),
    ] = None,
    python: Annotated[str | None, typer.Option(help="Interpreter to build it with; else that of curate.")] = None,
) -> None:
    """Build an environment with the versions of vLLM that curate was tried with. What is complete is left as it is."""
    import sys

    from curate.models import vllm_install

    build: vllm_install.Build = "cpu" if (cpu if cpu is not None else not vllm_install.gpus()) else "gpu"
    place = folder or vllm_install.default_folder()
    made = vllm_install.install(place, build, typer.echo, python or sys.executable)
    typer.echo(f"vllm {made.version} ({build}) in {place}")
    if vllm_install.interpreter()[0] != made.python:
        typer.echo(f"to use it: export {vllm_install.VARIABLE}={made.python.absolute()}")


def show(as_json: JsonOption = False) -> None:
    """Tell which interpreter models with backend vllm run in, and its versions."""
    from curate.errors import CurateError
    from curate.models import vllm_install

    found = vllm_install.look()
    if as_json:
        fault = "not installed" if found is None else found.fault
        print_json({"python": found and str(found.python), "packages": found.packages if found else {}, "fault": fault})
        return
    if found is None:
        raise CurateError("vLLM is not installed; run `curate vllm install`")
    if found.fault:
        raise CurateError(f"{found.fault}; run `curate vllm install`, or name another with {vllm_install.VARIABLE}")
    typer.echo(f"{found.python} ({found.told_by}): " + ", ".join(f"{name} {v}" for name, v in found.packages.items()))
