"""What goes wrong is told in one sentence that names the way out, with the right exit code and no trace."""

from pathlib import Path

import pytest

from curate.cli.main import _explained
from tests.cli.conftest import EVIL, Curate, shell, write_project


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("show colours@v9", "'colours' has no version v9; it has v1 to v2, `curate versions colours` lists them"),
        ("show colour", "no dataset 'colour' in STORE (there: colours)"),
        ("show colours@nightly", "'colours' has no tag 'nightly' (there: none)"),
        ("show colours@preview", "'colours' has no preview; `curate run RECIPE --limit N` makes one"),
        ("show ../../etc", "'../../etc' cannot name a dataset"),
        ("versions colour", "no dataset 'colour' in STORE (there: colours)"),
        ("why colours zz", "'zz' is no row: give its number, or at least the first 6 digits of its id"),
        ("diff colours@v1 colours@v3", "'colours' has no version v3"),
        ("tag colours@v1 v3", "'v3' cannot be a tag"),
        ("tag colours nightly --delete", "'colours' has no tag 'nightly' (there: none)"),
        ("show colours --where marginn>2", "colours@v2 pairs has no column 'marginn'; did you mean margin?"),
        ("show colours --where margin>", "where 'margin>': "),
        ("show colours --table pear", "colours@v2 has no table 'pear' (there: "),
        ("show colours --split dev", "colours@v2 has no split 'dev' (there: test, train)"),
        ("show colours --columns nothing", "colours@v2 pairs has no column 'nothing'"),
        ("show colours --rethreshold margin", "--rethreshold takes STEP=VALUE, such as margin=0.5, got 'margin'"),
        ("show colours --rethreshold margin=much", "--rethreshold takes STEP=VALUE, such as margin=0.5, got 'margin=much'"),
        ("show colours --rethreshold marginn=2", "colours@v2 has no step 'marginn'; did you mean margin?"),
        ("show colours --rethreshold pair=2", "step pair of colours@v2 has no threshold that can be moved"),
        ("export colours --to trl-dpoo", "no export format 'trl-dpoo'"),
        ("export colours --to trl-dpo --max-length 9", "--tokenizer and --max-length belong to --check"),
        ("run nowhere.yaml", "nowhere.yaml does not exist; `curate init` writes a recipe, `curate recipes` lists those at hand"),
        ("run dmo", "'dmo' is neither a file nor a recipe of the gallery: did you mean demo?"),
        ("plan demo --set margin.mn=3", "--set margin.mn=3: step 6 (margin), mn: unknown; did you mean min?"),
        ("init --data nowhere.jsonl", "nowhere.jsonl does not exist; name a file of rows"),
    ],
)
def test_a_wrong_call_is_2(curate: Curate, read_only: Path, words: str, sentence: str) -> None:
    verb, *more = words.split(" ")
    told = curate(verb, *more, *([] if verb == "init" else ["--store", read_only]))
    assert told.code == 2
    assert told.out == ""
    assert told.err.startswith(f"error: {sentence.replace('STORE', str(read_only))}"), told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("words", ["run", "show", "frobnicate", "show colours --bogus", "show colours -n 0", "show colours -n x"])
def test_a_call_that_cannot_be_read_is_2_and_says_how_to_get_help(curate: Curate, words: str) -> None:
    told = curate(*words.split(" "))
    assert told.code == 2
    assert "-h' for help." in told.err and "Error: " in told.err
    assert "Traceback" not in told.err


def test_a_recipe_is_not_overwritten(curate: Curate, tmp_path: Path) -> None:
    recipe = tmp_path / "curate.yaml"
    assert curate("init", recipe).code == 0
    recipe.write_text("mine")
    told = curate("init", recipe)
    assert (told.code, told.err) == (2, f"error: {recipe} exists; choose another name or say --force\n")
    assert recipe.read_text() == "mine"
    assert curate("init", recipe, "--force").code == 0


def test_a_preview_cannot_be_tagged(curate: Curate, store: Path) -> None:
    assert curate("run", store.parent / "curate.yaml", "--limit", "6", "--store", store).code == 0
    told = curate("tag", "colours@preview", "good", "--store", store)
    assert (told.code, told.err) == (2, "error: a preview cannot be tagged: it is replaced by the next preview\n")


def test_every_problem_of_a_recipe_is_told_at_once(curate: Curate, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    recipe.write_text(recipe.read_text().replace("by: rm", "by: rmm").replace("normalise: text", "normalise: txt"))
    told = curate("run", recipe, "--store", tmp_path / "store")
    assert told.code == 2
    assert told.err.startswith("error: 2 problems in the recipe:\n")
    assert "curate.yaml:9: step 1 (exact_duplicate), normalise: " in told.err
    assert "curate.yaml:11: step 3 (pair), by reads scores.rmm: no step before it writes that; did you mean rm" in told.err
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written_is_1(curate: Curate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = curate("run", write_project(tmp_path), "--store", tmp_path / "file")
    assert told.code == 1
    assert told.err.startswith(f"error: cannot write {tmp_path / 'file'}")
    assert told.err.count("\n") == 1
    assert "--store" in told.err


def test_a_file_that_cannot_be_written_is_1(curate: Curate, read_only: Path, tmp_path: Path) -> None:
    told = curate("report", "colours", "--out", tmp_path / "nowhere" / "report.html", "--store", read_only)
    assert (told.code, told.err) == (1, f"error: {tmp_path}/nowhere/report.html: No such file or directory\n")


def test_too_many_bad_rows_are_1(curate: Curate, tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    with (tmp_path / "answers.jsonl").open("a") as out:
        out.write("not JSON\n" * 20)
    told = curate("run", recipe, "--store", tmp_path / "store")
    assert told.code == 1
    error = told.err.splitlines()[-1]
    assert error.startswith("error: ") and "20 of 51" in error and "max_rejects" in error


@pytest.mark.parametrize("verb", ["show", "why", "report", "export"])
def test_a_damaged_version_is_1_and_verify_names_the_file(curate: Curate, store: Path, tmp_path: Path, verb: str) -> None:
    damaged = store / "datasets" / "colours" / "v0002" / "pairs" / "train-00000.arrow"
    damaged.write_bytes(damaged.read_bytes()[:500])
    words = {"why": ["0"], "report": ["--out", tmp_path / "r.html"], "export": ["--to", "jsonl", "--out", tmp_path / "out"]}
    told = curate(verb, "colours@v2", *words.get(verb, []), "--store", store)
    assert told.code == 1
    assert told.err.startswith("error: a stored file cannot be read (")
    assert "`curate verify` names files that were changed or cut short" in told.err and told.err.count("\n") == 1
    told = curate("verify", "--store", store)
    assert told.code == 1
    assert told.out == ("colours@v2: pairs/train-00000.arrow was changed after it was published\n2 versions checked, 1 problem\n")


def test_a_damaged_file_of_the_store_is_1_and_verify_names_it(curate: Curate, store: Path) -> None:
    objects = sorted((store / "objects").rglob("*.arrow"))
    for path in objects:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:100])
    told = curate("run", store.parent / "curate.yaml", "--set", "margin.min=1", "--store", store)
    assert told.code == 1
    assert told.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in told.err
    told = curate("verify", "--store", store)
    assert told.code == 1
    assert told.out.endswith(f"2 versions checked, {len(objects)} problems\n")


def test_a_manifest_that_is_no_json_is_told_by_its_path(curate: Curate, store: Path) -> None:
    manifest = store / "datasets" / "colours" / "v0001" / "manifest.json"
    manifest.write_text("{")
    told = curate("show", "colours@v1", "--store", store)
    assert told.code == 1
    assert told.err.startswith(f"error: {manifest} cannot be read: ")


def test_an_error_cannot_command_the_terminal(curate: Curate, read_only: Path) -> None:
    told = curate("show", f"colours@{EVIL}", "--store", read_only)
    assert told.code == 2
    assert "⟨U+001B⟩[31mred" in told.err
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(told.err)


def test_a_fault_of_ours_keeps_its_trace() -> None:
    with pytest.raises(ZeroDivisionError):
        _explained(ZeroDivisionError("division by zero"))


def test_the_exit_codes_hold_in_a_shell(read_only: Path) -> None:
    assert shell("versions", "--store", read_only).code == 0
    assert shell("show", "colours@v9", "--store", read_only).code == 2
