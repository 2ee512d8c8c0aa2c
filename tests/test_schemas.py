"""The published schemas say what the code says, and recipes keep to them."""

from pathlib import Path

import jsonschema
import pytest

from curate.recipe import document, recipe_schema, table_schemas
from curate.schemas import main, stale, write

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "flows" / "recipes").glob("*.yaml"))


@pytest.mark.skipif(not (ROOT / "schemas").is_dir(), reason="schemas/ is not part of the wheel")
def test_the_folder_is_up_to_date() -> None:
    assert stale(ROOT / "schemas") == [], "run `python -m curate.schemas`"


def test_a_stale_folder_is_noticed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert "recipe.schema.json is not up to date" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / "pairs.json").write_text("{}")
    assert write(tmp_path) == ["pairs.json"]


def test_wrong_use_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--chek"]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(recipe_schema())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_of_the_gallery_keep_to_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(recipe_schema()).validate(document.read(path.read_text(encoding="utf-8")).value)


@pytest.mark.parametrize(
    "short",
    [
        {"join": {"path": "p.jsonl", "on": "id"}},
        {"join": [{"path": "p.jsonl", "on": ["a", "b"]}]},
        {"meta": "id"},
        {"scores": {"rm": "rm"}},
    ],
)
def test_the_schema_takes_the_short_forms_of_a_source(short: dict[str, object]) -> None:
    jsonschema.Draft202012Validator(recipe_schema()).validate({"name": "demo", "source": SOURCE | short})


SOURCE = {"path": "rows.jsonl", "columns": {"prompt": "q", "response": "a"}}


@pytest.mark.parametrize(
    "steps",
    [
        ["exact_duplicate"],
        [{"exact_duplicate": None}],
        [{"pair": {"by": "rm", "name": "best"}}],
        [{"margin": {"by": "rm", "replace": True}}],
    ],
)
def test_the_schema_takes_what_recipes_may_say(steps: list[object]) -> None:
    recipe = {"name": "demo", "source": {**SOURCE, "as": "prompts"}, "steps": steps}
    jsonschema.Draft202012Validator(recipe_schema()).validate(recipe)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": ["goal"]},
        {"steps": [{"pair": {"by": "rm", "hwo": 1}}]},
        {"steps": [{"pear": {}}]},
        {"steps": [{"pair": {"by": "rm"}, "margin": {"by": "rm"}}]},
        {"source": {**SOURCE, "colums": {}}},
        {"gates": {"kept_share": "high"}},
        {"name": "../x"},
        {"stpes": []},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(recipe_schema()).validate({"name": "demo", "source": SOURCE} | wrong)


def test_a_table_schema_tells_type_null_and_meaning() -> None:
    pairs = {column["name"]: column for column in table_schemas()["pairs"]["columns"]}
    assert pairs["margin"]["type"] == "float" and pairs["margin"]["nullable"] is True
    assert pairs["chosen"]["nullable"] is False
    assert all(column["meaning"] for column in pairs.values())
