"""Run a small recipe again and again in forked children, dying where the environment says: helper of test_crash.py.

Reads one request a line, `STORE FAILPOINT LOG` (`-` for none), and answers with the child's exit code. Forking from a
process that has imported everything but started no thread makes hundreds of runs affordable.
"""

import os
import sys
from pathlib import Path

import polars  # noqa: F401, I001  (imported before the fork, used only after it)

import curate.run
from curate.engine.local import LocalEngine
from curate.recipe import read_recipe
from curate.store import disk


def child(recipe: Path, store: str, failpoint: str, log: str) -> int:
    if failpoint != "-":
        os.environ["CURATE_FAILPOINT"] = failpoint
    if log != "-":
        os.environ["CURATE_FAILPOINT_LOG"] = log
    disk._passed.clear()
    curate.run.run_recipe(read_recipe(recipe), store, engine=LocalEngine(1))
    return 0


def main() -> None:
    recipe = Path(sys.argv[1])
    for line in sys.stdin:
        store, failpoint, log = line.split()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = child(recipe, store, failpoint, log)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
