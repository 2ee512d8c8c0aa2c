"""Prove that an export loads: every row against its schema, then through TRL's own data preparation where TRL is installed."""

import importlib.util
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curate.errors import ExportError, UsageError
from curate.export import tokenizing
from curate.export.exporting import NOTE
from curate.export.format import Format
from curate.export.formats import FORMATS

MISSING = "TRL is not installed, so only the schema was checked: pip install 'curate[export-check]', then check again"
TRAINER_ROWS = 64  # enough to pass every branch of a trainer's preparation; all rows are tokenised before
SHOWN = 5  # problems of one kind worth printing


@dataclass
class SplitCheck:
    """What was found in one file. Lengths in tokens."""

    rows: int = 0
    not_prefix: int = 0
    """Rows whose tokenised prompt does not begin the tokenised prompt and completion; TRL cuts the difference off."""
    longest_prompt: int = 0
    longest: int = 0
    over_max_length: int = 0
    """Rows that the trainer truncates or leaves out."""


@dataclass
class Report:
    """The outcome of a check."""

    splits: dict[str, SplitCheck] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trl: str | None = None
    """Version of TRL it was proven with; None if only the schema was checked."""
    tokenizer: str | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"passed": self.passed}


def check(folder: Path | str, tokenizer: str | None = None, max_length: int | None = None) -> Report:
    """Check a folder that `export` wrote.

    tokenizer: folder of a tokenizer with a chat template; else one made here, a token a byte, in ChatML. max_length: the
    trainer's limit in tokens of prompt and completion together; None for no limit.
    """
    folder = Path(folder)
    try:
        note = json.loads((folder / NOTE).read_bytes())
        form = FORMATS[note["to"]]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder} is no export that can be checked: {NOTE} {error}") from error
    report = Report({split: SplitCheck(rows) for split, rows in note["rows"].items()})
    files = {split: folder / f"{split}.{form.suffix}" for split in note["rows"]}
    for split, path in files.items():
        _check_schema(form, path, note["rows"][split], report)
    if not form.typed:
        return report
    if importlib.util.find_spec("trl") is None:
        report.notes.append(MISSING)
        return report
    if report.passed:
        with _quiet():
            _check_with_trl(form, folder, files, tokenizer, max_length, report)
    return report


def file_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of an export's file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches(1024):
            yield from batch.to_pylist()
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _check_schema(form: Format, path: Path, rows: int, report: Report) -> None:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(form.schema())
    found = count = 0
    for count, row in enumerate(file_rows(path), 1):
        if (error := next(validator.iter_errors(row), None)) is not None:
            found += 1
            if found <= SHOWN:
                report.problems.append(f"{path.name}, row {count}: {'.'.join(map(str, error.path))}: {error.message:.200}")
    if found > SHOWN:
        report.problems.append(f"{path.name}: {found - SHOWN} more rows do not agree with the schema")
    if count != rows:
        report.problems.append(f"{path.name} holds {count} rows, {NOTE} says {rows}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and warnings of the libraries that are tried."""
    import datasets
    from transformers.utils import logging as transformers_logging

    bars = not datasets.are_progress_bars_disabled(), transformers_logging.is_progress_bar_enabled()
    silenced = logging.root.manager.disable
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(silenced)
        if bars[0]:
            datasets.enable_progress_bars()
        if bars[1]:
            transformers_logging.enable_progress_bar()


def _check_with_trl(
    form: Format, folder: Path, files: dict[str, Path], tokenizer: str | None, max_length: int | None, report: Report
) -> None:
    import trl
    from datasets import load_dataset

    from curate.export.trainers import prepare

    report.trl = trl.__version__
    report.tokenizer = tokenizer or "built in, one token a byte"
    reader = tokenizing.load(tokenizer) if tokenizer else tokenizing.bytewise()
    with tempfile.TemporaryDirectory(prefix="curate-check-") as scratch:
        try:
            loaded = load_dataset(str(folder), cache_dir=f"{scratch}/cache")
        except Exception as error:  # whatever a loader throws at a user is what we are here to find
            report.problems.append(f"load_dataset cannot load {folder}: {_said(error)}")
            return
        if set(loaded) != set(files):
            report.problems.append(f"load_dataset found splits {sorted(loaded)}, {NOTE} says {sorted(files)}")
            return
        for split, path in files.items():
            _check_split(split, path, loaded[split], reader, max_length, report)
        if not report.passed:
            return
        split = next(iter(files))
        part = loaded[split].select(range(min(TRAINER_ROWS, len(loaded[split]))))
        try:
            prepared = prepare(form.name, part, reader, f"{scratch}/trainer")
        except Exception as error:
            report.problems.append(f"{form.trainer} cannot prepare {split}: {_said(error)}")
            return
        if len(prepared) != len(part):
            report.problems.append(f"{form.trainer} prepared {len(prepared)} of {len(part)} rows of {split}")


def _said(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {str(cause)[:300]}"


def _check_split(split: str, path: Path, loaded: Any, reader: Any, max_length: int | None, report: Report) -> None:
    """Every row as loaded: equal to the file's, conversational, and tokenised as the trainers do."""
    from trl.data_utils import is_conversational

    found = report.splits[split]
    refused = changed = 0
    for number, (row, written) in enumerate(zip(loaded, file_rows(path), strict=True), 1):
        if row != written:
            changed += 1
            if changed == 1:
                report.problems.append(f"{path.name}, row {number} is not the same once loaded by load_dataset")
        if not is_conversational(row):
            report.problems.append(f"{path.name}, row {number} is not conversational to TRL")
            return
        try:
            _measure(row, reader, max_length, found)
        except Exception as error:  # chat templates raise whatever they like
            refused += 1
            if refused == 1:
                report.problems.append(f"{path.name}, row {number}: the chat template refuses it: {_said(error)}{_hint(row)}")
    if refused > 1:
        report.problems.append(f"{path.name}: the chat template refuses {refused} rows in all")
    if changed > 1:
        report.problems.append(f"{path.name}: {changed} rows are not the same once loaded")
    if found.not_prefix:
        report.notes.append(
            f"{path.name}: in {found.not_prefix} rows the tokenised prompt does not begin prompt and completion; "
            f"TRL cuts off the difference"
        )
    if found.over_max_length:
        report.notes.append(
            f"{path.name}: {found.over_max_length} rows are over {max_length} tokens; the trainer truncates or drops them"
        )


def _hint(row: dict[str, Any]) -> str:
    system = any(message["role"] == "system" for message in row["prompt"])
    return "; if it takes no system message, export with --goal user" if system else ""


def _measure(row: dict[str, Any], reader: Any, max_length: int | None, found: SplitCheck) -> None:
    """Tokenise a row as DPOTrainer, KTOTrainer and SFTTrainer of TRL 1.16 do, and add it to what was found."""
    tools = json.loads(row["tools"]) if row.get("tools") else None
    prompt = _tokens(reader, row["prompt"], tools, add_generation_prompt=True)
    sides = [_tokens(reader, row["prompt"] + row[side], tools) for side in ("chosen", "rejected", "completion") if side in row]
    longest = max(len(side) for side in sides)
    found.not_prefix += any(side[: len(prompt)] != prompt for side in sides)
    found.longest_prompt = max(found.longest_prompt, len(prompt))
    found.longest = max(found.longest, longest)
    found.over_max_length += max_length is not None and longest > max_length


def _tokens(reader: Any, messages: list[dict[str, Any]], tools: Any, **options: Any) -> list[int]:
    encoded = reader.apply_chat_template(messages, tools=tools, tokenize=True, return_dict=True, **options)
    ids: list[int] = encoded["input_ids"]
    if not ids:
        raise ExportError("no tokens")
    return ids
