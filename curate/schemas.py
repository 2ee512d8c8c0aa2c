"""Write the folder of published schemas, or check that it is up to date: `python -m curate.schemas [--check] [DIR]`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from curate.export.schemas import export_schemas
from curate.recipe.schema import recipe_schema, table_schemas

USAGE = "usage: python -m curate.schemas [--check] [DIR]   (DIR: ./schemas)"


def files() -> dict[str, str]:
    """The files of the schemas folder, by name: recipes, tables, and the rows of each export."""
    tables = {f"{grain}.json": schema for grain, schema in table_schemas().items()}
    contents = {"recipe.schema.json": recipe_schema()} | tables | export_schemas()
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in contents.items()}


def write(folder: Path) -> list[str]:
    """Write every schema that differs; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = stale(folder)
    contents = files()
    for name in changed:
        (folder / name).write_text(contents[name], encoding="utf-8")
    return changed


def stale(folder: Path) -> list[str]:
    """Names of schemas that are absent or not what the code says."""

    def differs(name: str, content: str) -> bool:
        path = folder / name
        return not path.is_file() or path.read_bytes() != content.encode()

    return [name for name, content in files().items() if differs(name, content)]


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 if all is up to date (or now is), 1 if `--check` found a difference, 2 for wrong use."""
    unknown = [argument for argument in arguments if argument.startswith("-") and argument != "--check"]
    folders = [argument for argument in arguments if not argument.startswith("-")]
    if unknown or len(folders) > 1:
        print(USAGE, file=sys.stderr)
        return 2
    folder = Path(folders[0] if folders else "schemas")
    if "--check" not in arguments:
        print("\n".join(f"wrote {folder / name}" for name in write(folder)) or f"{folder} is up to date")
        return 0
    changed = stale(folder)
    for name in changed:
        print(f"{folder / name} is not up to date; run `python -m curate.schemas {folder}`", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
