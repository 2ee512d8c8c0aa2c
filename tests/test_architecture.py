"""Imports run one way, heavy modules wait until they are needed, and starting is quick."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent / "curate"

STAGES = frozenset({"source", "generate", "score", "pair", "filter", "relabel", "publish", "export"})
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"curate", "tables", "ids", "errors", "packaged", "rubrics"}),
    frozenset({"operator", "maths"}),
    frozenset({"store", "models"}),
    STAGES,
    frozenset({"operators", "refresh"}),
    frozenset({"recipe"}),
    frozenset({"engine", "run", "planning", "bench_noise", "schemas", "logs", "notify"}),
    frozenset({"flow", "services", "services_processes", "scheduling"}),
    frozenset({"cli"}),
)
"""Parts of the package, lowest first: a part imports from its own layer and from those before it."""
HEAVY = frozenset(
    ("polars", "datasets", "pandas", "sklearn", "faiss", "torch", "trl", "transformers", "sentence_transformers", "vllm")
    + ("openai", "prefect", "ray")
)


class Import(NamedTuple):
    """One import statement."""

    by: str
    """The module it stands in: curate.store.gc."""
    of: str
    """The module it names."""
    line: int
    on_loading: bool
    """False inside a function and where only type checkers look."""

    def __str__(self) -> str:
        return f"{self.by}, line {self.line}: imports {self.of}"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def walk(node: ast.AST, on_loading: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, on_loading
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from ((found, False) for found, _ in walk(child))
        else:
            yield from walk(child, on_loading and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def imports_of(module: str) -> Iterator[Import]:
    for statement, on_loading in walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            named = [alias.name for alias in statement.names]
        else:
            assert statement.level == 0, f"{module}, line {statement.lineno}: a relative import"
            # `from curate.export import check` names a module, `from curate.errors import DataError` something in one
            inner = [f"{statement.module}.{alias.name}" for alias in statement.names]
            named = [name if name in MODULES else str(statement.module) for name in inner]
        yield from (Import(module, name, statement.lineno, on_loading) for name in dict.fromkeys(named))


IMPORTS = [found for module in MODULES for found in imports_of(module)]
OWN = [found for found in IMPORTS if found.of.split(".")[0] == "curate"]


def part(module: str) -> str:
    """store of curate.store.gc; curate of the package itself."""
    return (module.split(".") + ["curate"])[1] if "." in module else "curate"


def layer(module: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part(module) in parts)


def test_every_part_has_its_place() -> None:
    placed = frozenset().union(*LAYERS)
    unplaced = sorted({part(module) for module in MODULES} - placed)
    assert not unplaced, f"say in LAYERS where {', '.join(unplaced)} belongs"


def test_imports_run_one_way() -> None:
    wrong = [str(found) for found in OWN if layer(found.of) > layer(found.by)]
    assert not wrong, "\n".join(wrong)


def test_stages_do_not_import_each_other() -> None:
    wrong = [str(f) for f in OWN if part(f.by) in STAGES and part(f.of) in STAGES and part(f.by) != part(f.of)]
    assert not wrong, "\n".join(wrong)


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """Some cycle of a graph, or nothing."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        found = next((loop for after in sorted(edges.get(node, ())) if (loop := visit(after, [*path, node]))), [])
        done.add(node)
        return found

    return next((loop for node in sorted(edges) if (loop := visit(node, []))), [])


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_parts_do_not_depend_on_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for found in OWN:
        if part(found.by) != part(found.of):
            edges.setdefault(part(found.by), set()).add(part(found.of))
    assert cycle(edges) == []


def test_modules_do_not_load_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for found in OWN:
        if found.on_loading and found.of != "curate":
            edges.setdefault(found.by, set()).add(found.of)
    assert cycle(edges) == []


def test_heavy_modules_are_imported_where_they_are_needed() -> None:
    # curate.flow is what Prefect itself loads: nothing else imports it on loading
    loading = [found for found in IMPORTS if found.on_loading and found.by != "curate.flow"]
    wrong = [str(found) for found in loading if found.of.split(".")[0] in HEAVY or found.of == "curate.flow"]
    assert not wrong, "\n".join(wrong)


def test_what_belongs_to_the_user_is_never_imported() -> None:
    """The wheel ships `curate` alone: flows and schemas as top-level modules would be the user's."""
    wrong = [str(found) for found in IMPORTS if found.of.split(".")[0] in ("flows", "schemas", "tests")]
    assert not wrong, "\n".join(wrong)


def loaded(code: str) -> tuple[set[str], float]:
    """What a fresh interpreter has loaded after some code, and the seconds it took."""
    around = (
        f"import sys, time; began = time.perf_counter()\n{code}\nseconds = time.perf_counter() - began\n"
        "import json; print('\\n' + json.dumps([sorted({name.split('.')[0] for name in sys.modules}), seconds]))"
    )
    told = subprocess.run([sys.executable, "-c", around], capture_output=True, text=True, check=True)
    modules, seconds = json.loads(told.stdout.splitlines()[-1])
    return set(modules), seconds


@pytest.mark.parametrize(
    "code",
    [
        "import curate",
        "from curate.cli.main import app; app(['--help'], standalone_mode=False)",
        "from curate.cli.main import app; app(['run', '--help'], standalone_mode=False)",
    ],
)
def test_starting_is_quick_and_loads_nothing_heavy(code: str) -> None:
    modules, seconds = loaded(code)
    assert "curate" in modules
    assert not (HEAVY | {"pyarrow", "numpy"}) & modules
    assert seconds < 1.0
