"""The `curate` command. Exit 0: done; 1: the work failed; 2: wrong use; 130: stopped by Ctrl-C."""

import io
import os
import sys

import typer

from curate import __version__
from curate.cli import bench, exporting, inspect, ledger, lint, serving, vllm, work
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
lint.add_to(app)
inspect.add_to(app)
exporting.add_to(app)
ledger.add_to(app)
serving.add_to(app)
vllm.add_to(app)
bench.add_to(app)


def main() -> None:
    """Run the command line, turning errors into one sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character shows its number
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except CurateError as error:
        code = _say(str(error), error.exit_code)
    except (BrokenPipeError, SystemExit):  # typer and rich exit so, too, when the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        code = _explained(error)
    sys.exit(code if isinstance(code, int) else 0)


def _say(text: str, code: int) -> int:
    """One sentence on standard error; what it quotes from data cannot command a terminal."""
    from curate.publish.wording import visible

    typer.echo(f"error: {visible(text)}", err=True)
    return code


def _explained(error: Exception) -> int:
    """Exit code of a wrong call or a file that cannot be used; any other exception is a fault of ours and keeps its trace."""
    if (show := getattr(error, "show", None)) is not None:
        show()
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, OSError) and error.filename is not None:
        return _say(f"{error.filename}: {error.strerror}", 1)
    if type(error).__module__.split(".")[0] == "pyarrow":
        first = str(error).split("\n", 1)[0]
        return _say(f"a stored file cannot be read ({first}); `curate verify` names files that were changed or cut short", 1)
    raise error


if __name__ == "__main__":
    main()
