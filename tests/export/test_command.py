import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from curate.cli import exporting
from curate.errors import UsageError
from curate.export import FORMATS
from curate.store.versions import Version
from tests.export.conftest import MakeVersion, pair, read

STORE = "store"


@pytest.fixture
def app() -> typer.Typer:
    """The export command beside another, so that it is called by name."""
    made = typer.Typer()
    made.command("other")(lambda: None)
    exporting.add_to(made)
    return made


def test_it_says_where_and_how_to_load(app: typer.Typer, version: MakeVersion, tmp_path: Path) -> None:
    version([pair("A?", "good", "bad"), pair("B?", "same", "same")])
    arguments = ["export", "demo", "--to", "trl-dpo", "--out", str(tmp_path / "out"), "--skip", "identical"]
    told = CliRunner().invoke(app, [*arguments, "--store", str(tmp_path / STORE)])
    assert told.exit_code == 0, told.output
    assert f"wrote {tmp_path / 'out'}: train 1, from demo@v1 as trl-dpo" in told.output
    assert "left out: identical 1" in told.output
    assert "from trl import DPOTrainer" in told.output
    assert len(read(tmp_path / "out")) == 1


def test_options_reach_the_export(app: typer.Typer, version: MakeVersion, tmp_path: Path) -> None:
    version([pair("A?", "good", "bad", weight=2)])
    arguments = ["export", "demo", "--to", "trl-kto", "--out", str(tmp_path / "out"), "--store", str(tmp_path / STORE), "--json"]
    told = CliRunner().invoke(app, [*arguments, "--by", "rm", "--threshold", "5", "--drop", "weight", "--drop", "stage"])
    note = json.loads(told.output)
    given = {"by": "rm", "threshold": 5.0, "goal": "system", "skip": [], "drop": ["weight", "stage"]}
    assert note["options"] == given | {"attribute": [], "tokenizer": None}
    assert note["rows"] == {"train": 2}


def test_a_failed_check_exits_with_1(
    app: typer.Typer, version: MakeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.export import check as checking

    version([pair("A?", "good", "bad")])
    arguments = ["export", "demo", "--to", "jsonl", "--store", str(tmp_path / STORE), "--check"]
    assert CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "good")]).exit_code == 0
    # the schema of a stricter world, so that a good export fails
    monkeypatch.setattr(checking.FORMATS["jsonl"], "schema", lambda: {"required": ["nowhere"]}, raising=False)
    told = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "bad")])
    assert told.exit_code == 1
    assert "problem: train.jsonl, row 1" in told.output


def test_options_of_the_check_alone_are_wrong(app: typer.Typer, version: MakeVersion, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["export", "demo", "--to", "jsonl", "--max-length", "9"])
    assert isinstance(told.exception, UsageError)


def test_help_and_readme_tell_every_format(app: typer.Typer) -> None:
    told = " ".join(CliRunner().invoke(app, ["export", "--help"]).output.split())
    shown = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for name in FORMATS:
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", told), name
        assert f"`{name}`" in shown, name


def test_token_weights_need_no_check(app: typer.Typer, fitting: Callable[[str], Version], tmp_path: Path) -> None:
    from curate.export.tokenizing import bytewise

    bytewise().save_pretrained(tmp_path / "bytes")
    fitting("masked-dpo")
    arguments = ["export", "demo", "--to", "masked-dpo", "--out", str(tmp_path / "out"), "--store", str(tmp_path / STORE)]
    told = CliRunner().invoke(app, [*arguments, "--tokenizer", str(tmp_path / "bytes")])
    assert told.exit_code == 0, told.output
    assert read(tmp_path / "out")[0]["chosen_token_weights"][:4] == [0.0, 0.0, 1.0, 1.0]


def test_attributes_are_chosen_by_name(app: typer.Typer, fitting: Callable[[str], Version], tmp_path: Path) -> None:
    fitting("attributes")
    arguments = ["export", "demo", "--to", "attributes", "--out", str(tmp_path / "out"), "--store", str(tmp_path / STORE)]
    told = CliRunner().invoke(app, [*arguments, "--attribute", "rm:help", "--json", "--check"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["options"]["attribute"] == ["rm:help"]
    assert [row["help"] for row in read(tmp_path / "out")] == [9.0, 5.0, 1.0]
