"""Prove that an export loads: every row against its schema, then through TRL's own data preparation where TRL is installed."""

import importlib.util
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from curate.errors import ExportError, UsageError
from curate.export import tokenizing
from curate.export.exporting import NOTE
from curate.export.format import Format
from curate.export.formats import FORMATS

MISSING = "TRL is not installed, so only the schema was checked: pip install 'curate[export-check]', then check again"
NO_TRAINER = "TRL has no trainer for {name}: checked were the schema of every row, and that load_dataset loads them unchanged"
TRAINER_ROWS = 64  # enough to pass every branch of a trainer's preparation; all rows are tokenised before
SIDES = ("chosen", "rejected", "reference", "completion")
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
    """Version of TRL it was proven with; None if no trainer of it was tried."""
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
    if form.proof is None:
        report.notes.append(NO_TRAINER.format(name=form.name))
    elif importlib.util.find_spec("trl") is None:
        report.notes.append(MISSING)
        return report
    if report.passed:
        with _quiet():
            _check_loading(_Job(form, folder, files, tokenizer, max_length, report))
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
    silenced = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore")
            for bars in _progress_bars():
                if bars.shown:
                    bars.hide()
                    stack.callback(bars.show)
            yield
    finally:
        logging.disable(silenced)


class _Bars(NamedTuple):
    """The progress bars of a library."""

    shown: bool
    hide: Callable[[], None]
    show: Callable[[], None]


def _progress_bars() -> Iterator[_Bars]:
    import datasets

    yield _Bars(not datasets.are_progress_bars_disabled(), datasets.disable_progress_bars, datasets.enable_progress_bars)
    if importlib.util.find_spec("transformers") is not None:
        from transformers.utils import logging as others

        yield _Bars(others.is_progress_bar_enabled(), others.disable_progress_bar, others.enable_progress_bar)


@dataclass(frozen=True)
class _Job:
    """What is checked, with what, and where findings go."""

    form: Format
    folder: Path
    files: dict[str, Path]
    """By split."""
    tokenizer: str | None
    max_length: int | None
    report: Report


def _check_loading(job: _Job) -> None:
    """Every row as `load_dataset` loads it, and what the format's trainer makes of some."""
    from datasets import load_dataset

    with tempfile.TemporaryDirectory(prefix="curate-check-") as scratch:
        try:
            loaded = load_dataset(str(job.folder), cache_dir=f"{scratch}/cache")
        except Exception as error:  # whatever a loader throws at a user is what we are here to find
            job.report.problems.append(f"load_dataset cannot load {job.folder}: {_said(error)}")
            return
        if set(loaded) != set(job.files):
            job.report.problems.append(f"load_dataset found splits {sorted(loaded)}, {NOTE} says {sorted(job.files)}")
            return
        for split, path in job.files.items():
            _check_unchanged(path, loaded[split], job.report)
        if job.form.proof is not None:
            _check_with_trl(job, job.form.proof, loaded, f"{scratch}/trainer")


def _check_unchanged(path: Path, loaded: Any, report: Report) -> None:
    """Whether every row is the file's."""
    changed = [number for number, (row, written) in enumerate(zip(loaded, file_rows(path), strict=True), 1) if row != written]
    if changed:
        report.problems.append(f"{path.name}, row {changed[0]} is not the same once loaded by load_dataset")
    if len(changed) > 1:
        report.problems.append(f"{path.name}: {len(changed)} rows are not the same once loaded")


def _check_with_trl(job: _Job, proof: str, loaded: Any, scratch: str) -> None:
    import trl

    from curate.export.trainers import prepare

    report = job.report
    report.trl = trl.__version__
    report.tokenizer = job.tokenizer or "built in, one token a byte"
    reader = tokenizing.load(job.tokenizer) if job.tokenizer else tokenizing.bytewise()
    for split, path in job.files.items():
        _check_split(split, path, loaded[split], reader, job.max_length, report)
    if not report.passed:
        return
    split = next(iter(job.files))
    part = loaded[split].select(range(min(TRAINER_ROWS, len(loaded[split]))))
    try:
        prepared = prepare(proof, part, reader, scratch)
    except Exception as error:
        report.problems.append(f"{job.form.trainer} cannot prepare {split}: {_said(error)}")
        return
    if len(prepared) != len(part):
        report.problems.append(f"{job.form.trainer} prepared {len(prepared)} of {len(part)} rows of {split}")


def _said(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {str(cause)[:300]}"


def _check_split(split: str, path: Path, loaded: Any, reader: Any, max_length: int | None, report: Report) -> None:
    """Every row as loaded: conversational, and tokenised as the trainers do."""
    from trl.data_utils import is_conversational

    found = report.splits[split]
    refused = 0
    for number, row in enumerate(loaded, 1):
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
    sides = [_tokens(reader, row["prompt"] + row[side], tools) for side in SIDES if side in row]
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
