"""The `curate` command. Exit 0: done; 1: the work failed; 2: wrong use; 130: stopped by Ctrl-C."""

import os
import sys

import typer

from curate import __version__
from curate.cli import exporting, inspect, work
from curate.errors import CurateError

app = typer.Typer(
    help="Turn prompts or preference data into preference datasets that can be trusted.",
    epilog="Start with `curate demo`, or `curate init --data FILE` for your own file, then `curate run curate.yaml`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"curate {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", callback=_version, is_eager=True),
) -> None:
    """Turn prompts or preference data into preference datasets that can be trusted."""


work.add_to(app)
inspect.add_to(app)
exporting.add_to(app)


def main() -> None:
    """Run the command line, turning errors into one sentence and an exit code."""
    try:
        code = app(standalone_mode=False)
    except CurateError as error:
        typer.echo(f"error: {error}", err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output went away: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except typer.Abort:
        code = 130
    except Exception as error:
        code = _usage(error)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Exception) -> int:
    """Exit code of a wrong call, its message shown; any other exception is a fault of ours and keeps its trace."""
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    return int(getattr(error, "exit_code", 2))


if __name__ == "__main__":
    main()
