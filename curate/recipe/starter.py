"""Write a commented recipe to start from: for a data file whose columns are recognised, or for the packaged samples."""

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from curate.errors import CurateError, UsageError
from curate.packaged import SAMPLES, samples_folder
from curate.publish.wording import one_line
from curate.recipe import document
from curate.recipe.columns import Columns, Row
from curate.recipe.layout import Layout
from curate.recipe.prompts_beside import joined, prompts_beside, without_prompt
from curate.recipe.recognise import recognise
from curate.source.files import files_of
from curate.source.formats import format_of, read_file
from curate.source.rejects import Rejects
from curate.source.spec import Place
from curate.store.versions import NAME

ROWS_SEEN = 100  # rows that columns are recognised by
FILES_SEEN = 20  # files beside it that are searched for the prompts
NOTE = 300  # characters of a note
SAMPLES_NAME = "my-first-pairs"


@dataclass(frozen=True)
class Starter:
    """A recipe to start from."""

    text: str
    """The recipe; it reads without problems."""
    notes: tuple[str, ...] = ()
    """What a person should know or check; the text has them as comments."""


def init_text(data: Path | str | None = None, name: str | None = None, base: Path | str | None = None) -> str:
    """Text of a recipe that reads without problems; see `starter`."""
    return starter(data, name, base).text


def starter(data: Path | str | None = None, name: str | None = None, base: Path | str | None = None) -> Starter:
    """A recipe that reads without problems.

    data: a file of rows, recognised by its first 100; the packaged samples if None. name: of the dataset; the file's if
    None. base: the folder the recipe will stand in; paths below it are written relative to it. UsageError, saying what
    was recognised and what not, if the columns make no source.
    """
    folder = Path(base) if base is not None else Path.cwd()
    if data is None:
        return Starter(_samples_text(name or SAMPLES_NAME))
    place = Place(path=str(Path(data).expanduser().absolute()))
    file = files_of(place, folder)[0]
    layout = layout_of(file, folder)
    layout = replace(layout, notes=[one_line(note, NOTE) for note in layout.notes])  # they quote the file, and become comments
    text = _text(name or dataset_name(Path(data)), _shown(Path(data), folder), layout)
    return Starter(text, tuple(layout.notes))


def layout_of(file: Path, folder: Path) -> Layout:
    """What a file's columns mean, by its first 100 rows; UsageError if they make no source.

    Where it holds answers alone, the prompts are looked for in the files beside it. folder: what their path is relative to.
    """
    rows = _first_rows(file)
    layout = recognise(rows, file.name)
    return _with_prompts(layout, rows, file, folder) if layout.lacks_prompt else layout


def _with_prompts(layout: Layout, rows: list[Row], file: Path, folder: Path) -> Layout:
    """The layout joined to a file beside it that has the prompts; UsageError if there is none."""
    found = prompts_beside(rows, _beside(file))
    if found is None:
        raise UsageError(f"{file.name}: {without_prompt(layout, Columns(rows).keys())}")
    name, key, columns = found
    layout = joined(layout, _shown(file.parent / name, folder), key, columns)
    return replace(layout, notes=[f"the prompts were found beside it, in {name}, by {key}", *layout.notes])


def _beside(file: Path) -> Iterator[tuple[str, list[Row]]]:
    """The first rows of the other files in a file's folder."""
    others = [path for path in sorted(file.parent.iterdir()) if path != file and path.is_file() and format_of(path.name)]
    for path in others[:FILES_SEEN]:
        try:
            yield path.name, _first_rows(path)
        except (CurateError, OSError):
            continue  # a file that cannot be read has no prompts for us


def dataset_name(file: Path) -> str:
    """A dataset's name from a file's: what stands before the first dot, other characters than a name's made dashes."""
    stem = file.name.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")
    return name if NAME.fullmatch(name) else "my-pairs"


def _first_rows(file: Path) -> list[Row]:
    kind = format_of(file.name)
    if kind is None:
        raise UsageError(f"{file}: its suffix tells no format; rename it to .jsonl, .json, .csv, .tsv, .parquet or .arrow")
    with tempfile.TemporaryDirectory() as scratch, Rejects(Path(scratch) / "rejects.jsonl") as rejects:
        rows = (row for batch in read_file(file, kind, None, [], rejects) for _, row in batch)
        listed: list[Row] = list(islice(rows, ROWS_SEEN))
    if not listed:
        raise UsageError(f"{file} has no rows that can be read; `curate init` needs some to recognise its columns")
    return listed


def _shown(data: Path, folder: Path) -> str:
    """A path as the recipe writes it: relative where the file lies below the recipe's folder, samples: for sample data."""
    path = data.expanduser().absolute()
    if path.resolve().is_relative_to(samples_folder()):
        return f"{SAMPLES}{path.resolve().relative_to(samples_folder()).as_posix()}"
    inside = path.relative_to(folder.absolute()) if path.is_relative_to(folder.absolute()) else path
    return str(inside)


def _yaml(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)  # on one line
    return document.dump([value], flow=True)[1:-1]


def _head(name: str) -> list[str]:
    return [
        "# A recipe: where rows come from, and what is done to them. `curate plan` checks it, `curate run` runs it.",
        f"name: {_yaml(name)}  # versions are published as {name}@v1, {name}@v2, ...",
    ]


def _text(name: str, path: str, layout: Layout) -> str:
    lines = [*_head(name), "", f"# Each row is {layout.about}."]
    lines += [f"# {note}" for note in layout.notes]
    lines += ["source:", f"  path: {_yaml(path)}"]
    for key, value in layout.source.items():
        if key in ("columns", "scores"):
            comment = "# ours: the field of your file" if key == "columns" else "# rater: where its score is"
            lines += [f"  {key}:  {comment}", *(f"    {_yaml(ours)}: {_yaml(theirs)}" for ours, theirs in value.items())]
        elif key == "join":
            joins = f"{{path: {_yaml(value['path'])}, on: {_yaml(value['on'])}}}"
            lines.append(f"  join: {joins}  # a second file that holds the prompts")
        else:
            lines.append(f"  {key}: {_yaml(value)}")
    lines += ["  max_rejects: 0.01  # share of bad rows that is allowed; they are listed in rejects.jsonl"]
    return "\n".join([*lines, "", "steps:", *(f"  {line}" for line in _steps(layout)), ""])


def _steps(layout: Layout) -> Iterator[str]:
    if layout.code:
        yield "- exact_duplicate: {normalise: none}  # one of each program; in code every character counts"
    else:
        yield "- exact_duplicate: {normalise: text}  # one of each text; case, spacing and punctuation do not count"
    if layout.grain == "responses":
        yield from _pairing(layout)
    elif layout.grain == "prompts":
        if layout.source["columns"].get("reference"):
            yield "# The references wait for answers: answer the prompts with models, and `verify` checks what they say."
        return
    elif layout.rater:
        yield f"- margin: {{by: {_yaml(layout.rater)}, drop_negative: true}}  # drops pairs whose rejected side scores higher"
    if layout.grain == "pairs" or layout.rater or layout.check:
        yield "- split: {test: 0.02, seed: 7}  # like prompts never straddle train and test"


def _pairing(layout: Layout) -> Iterator[str]:
    best = "# the best answer of each prompt against the worst"
    right = "# answers that are right against answers that are wrong"
    if layout.rater and layout.right_or_wrong:
        yield f"- pair: {{by: {_yaml(layout.rater)}, how: correct_incorrect, per_prompt: 4}}  {right}"
    elif layout.rater:
        yield f"- pair: {{by: {_yaml(layout.rater)}, how: best_worst}}  {best}"
    elif layout.check:
        yield f"- verify: {{check: {layout.check}}}  # holds each answer against its reference"
        yield f"- pair: {{by: verify, how: correct_incorrect, per_prompt: 4}}  {right}"
    else:
        yield "# Pairs need scores: `verify` checks answers against a reference, `attach` brings scores from a file. Then:"
        yield f"# - pair: {{by: RATER, how: best_worst}}  {best}"


def _samples_text(name: str) -> str:
    return "\n".join(
        [
            *_head(name),
            "",
            "# The packaged samples: some 800 answers to 150 prompts, each with a rating from 1 to 10.",
            "# For a file of your own: `curate init --data FILE`.",
            "source:",
            f"  path: {SAMPLES}responses.jsonl",
            f"  join: {{path: {SAMPLES}prompts.jsonl, on: prompt_id}}  # a second file that holds the prompts",
            "  columns: {prompt: prompt, response: response, model: model, reference: reference, domain: kind}  # ours: theirs",
            "  scores: {rating: rating}  # rater: where its score is",
            "",
            "steps:",
            "  - exact_duplicate: {normalise: text}  # one of each answer; case, spacing and punctuation do not count",
            "  - features: {drop: [refusal, truncated]}  # length, language, repetition; refusals and cut answers are dropped",
            "  - pair: {by: rating, how: best_worst, min_gap: 2}  # the best answer of each prompt against the worst",
            "  - split: {test: 0.1, seed: 7}  # like prompts never straddle train and test",
            "",
        ]
    )
