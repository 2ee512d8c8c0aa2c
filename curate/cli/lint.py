"""The lint command: look through a preference file for faults, without a recipe."""

import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.common import JsonOption, StoreOption, console, print_json
from curate.cli.rows import Rows, rows_at
from curate.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.filter.findings import Findings, Looking
    from curate.tables import Grain

SAID_EVERY = 10.0  # seconds between lines of progress where nobody watches a terminal
SEVERITIES = ("error", "warning", "info")
COLOURS = {"error": "red", "warning": "yellow", "info": "dim"}
ABOUT_UNREADABLE = "the row cannot be read as its columns say"
BY_REASON = {"identical sides": "identical", "empty field": "empty"}
"""Why a row could not be read, where a rule is about just that."""


def add_to(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog="Example: curate lint pairs.jsonl --only refusal,template --json")(lint)


def lint(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Pairs, answers or prompts: a file, a folder or a pattern; or a version, NAME@v3."),
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="A,B", help="Only these rules, comma-separated.")] = None,
    without: Annotated[str | None, typer.Option("--except", metavar="A,B", help="Leave these rules out.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Look at the first N rows.")] = None,
    examples: Annotated[int, typer.Option(metavar="N", min=1, help="Rows to name for each rule.")] = 3,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The trainer's tokenizer, for the rule window; with --max-length.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(metavar="N", min=1, help="Tokens that prompt and answer may have.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if a rule of severity error finds anything.")] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules and how precise they are, and look at nothing.")] = False,
    workers: Annotated[int | None, typer.Option(metavar="N", min=1, help="Processes at once; else one a core.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for faults in a preference file or a version.

    A file's columns are recognised as by `curate init --data`. Refusals, leaks, repeats, broken turns, length bias and more.
    """
    from curate.filter.findings import Looking

    if rules:
        _print_rules(as_json)
        return
    if file is None:
        raise UsageError("name a file to look through, such as `curate lint pairs.jsonl`; --rules lists the rules")
    if (tokenizer is None) != (max_length is None):
        raise UsageError("--tokenizer and --max-length belong together: give both or neither")
    there = rows_at(file, store)
    names, unseen = _rules(there.grain, _listed(only), _listed(without), tokenizer)
    looking = Looking(tuple(names), examples, tokenizer, max_length)
    found, unreadable = look_through(there, looking, limit, workers or _cores())
    report = _report(file, there.grain, found, unreadable, names, unseen)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if strict and any(entry["severity"] == "error" and entry["rows"] for entry in report["findings"]):
        raise typer.Exit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _listed(words: str | None) -> list[str]:
    """Comma-separated names of rules, each of which there is."""
    from curate.filter.lint_rules import RULES
    from curate.recipe.problems import did_you_mean

    names = [word.strip() for word in (words or "").split(",") if word.strip()]
    for name in names:
        if name not in RULES:
            raise UsageError(f"there is no rule {name!r}; {did_you_mean(name, RULES, 'there are')}")
    return names


def _rules(grain: "Grain", only: list[str], without: list[str], tokenizer: Path | None) -> tuple[list[str], dict[str, str]]:
    """The rules to run on a grain, and by rule why others are not run."""
    from importlib.util import find_spec

    from curate.filter.lint_rules import RULES, rules_of
    from curate.maths.faults import PII_MISSING

    there = find_spec("datafog") is not None
    if "pii" in only and not there:
        raise UsageError(PII_MISSING)
    if "window" in only and tokenizer is None:
        raise UsageError("the rule window needs --tokenizer and --max-length")
    names = rules_of(grain, only, without, ("pii",) if there else (), tokenizer is not None)
    if not names:
        raise UsageError(f"none of these rules is about {grain}; `curate lint FILE --rules` lists which are")
    unseen = {} if there or only or "pii" in without or grain not in RULES["pii"].grains else {"pii": PII_MISSING}
    return names, unseen


# -- looking


def look_through(
    rows: Rows, looking: "Looking", limit: int | None, workers: int
) -> tuple["Findings", dict[str, tuple[int, str]]]:
    """What is found in rows, and by reason the rows that could not be read: how many, and where first."""
    from curate.filter.findings import Findings
    from curate.source.rejects import Rejects

    total = Findings()
    with tempfile.TemporaryDirectory(prefix="curate-lint-") as folder, Rejects(Path(folder) / "rejects.jsonl") as rejects:
        tables = rows.read(rejects, Path(folder), limit)
        with _Progress() as progress:
            for part in _mapped(tables, looking, workers):
                total.add(part, looking.examples)
                progress.show(total.rows + rejects.count)
        tally = rejects.total
        unreadable = {reason: (count, tally.first[reason]) for reason, count in tally.reasons.most_common()}
    return total, unreadable


def _mapped(tables: Iterator["pa.Table"], looking: "Looking", workers: int) -> Iterator["Findings"]:
    """What is found in each table, in order; a second one is reason enough for processes. A few are in flight at a time."""
    from curate.filter.findings import findings

    first = next(tables, None)
    second = next(tables, None)
    if first is None or second is None or workers == 1:
        for table in (first, second):
            if table is not None:
                yield findings(table, looking)
        yield from (findings(table, looking) for table in tables)
        return
    with _pool(workers) as pool:
        waiting: deque[Future[Findings]] = deque(pool.submit(findings, table, looking) for table in (first, second))
        del first, second
        try:
            for table in tables:
                waiting.append(pool.submit(findings, table, looking))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _pool(workers: int) -> ProcessPoolExecutor:
    from multiprocessing import get_context

    # a forked child would inherit the locks of threads that it does not have
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    """Ctrl-C is the parent's to handle."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Progress:
    """How many rows were looked at: a live line on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.live = console(stderr=True).is_terminal
        self.began = self.said = time.monotonic()

    def show(self, rows: int) -> None:
        """So many rows are done."""
        now = time.monotonic()
        if now - self.said < (0.5 if self.live else SAID_EVERY):
            return
        self.said = now
        text = f"{rows:,} rows, {rows / (now - self.began):,.0f} a second"
        typer.echo(f"\r{text}\x1b[K" if self.live else text, err=True, nl=not self.live)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.live and self.said > self.began:
            typer.echo("\r\x1b[K", err=True, nl=False)


# -- telling


def _report(
    file: Path,
    grain: "Grain",
    found: "Findings",
    unreadable: dict[str, tuple[int, str]],
    names: list[str],
    unseen: dict[str, str],
) -> dict[str, Any]:
    """All that was found, as plain JSON."""
    rows = found.rows + sum(count for count, _ in unreadable.values())
    entries = _unreadable(found, unreadable, names, rows) + [_entry(name, found, rows) for name in names]
    entries.sort(key=lambda entry: SEVERITIES.index(entry["severity"]))  # stable: the rules keep their order
    length = found.length()
    return {
        "file": str(file),
        "rows": rows,
        "rows_are": grain,
        "findings": entries,
        "length": None if length is None or "length_bias" not in names else length._asdict(),
        "not_looked_for": unseen,
    }


def _unreadable(found: "Findings", unreadable: dict[str, tuple[int, str]], names: list[str], rows: int) -> list[dict[str, Any]]:
    """The rows that could not be read, each reason; what a rule is about is counted by that rule."""
    listed = []
    for reason, (count, place) in unreadable.items():
        rule = BY_REASON.get(reason)
        if rule in names:
            from curate.filter.findings import Example

            file, _, line = place.rpartition(":")
            found.counts[str(rule)] = found.counts.get(str(rule), 0) + count
            found.examples.setdefault(str(rule), []).append(Example((file, int(line)), reason))
        else:
            example = {"row": place, "detail": reason}
            entry = {"rule": "unreadable", "severity": "error", "about": ABOUT_UNREADABLE, "rows": count, "untold": 0}
            listed.append(entry | {"share": count / rows if rows else None, "examples": [example], "labelled": None})
    return listed


def _entry(name: str, found: "Findings", rows: int) -> dict[str, Any]:
    from curate.filter.lint_rules import RULES

    rule = RULES[name]
    count = found.counts.get(name, 0)
    examples = [{"row": f"{file}:{line}", "detail": detail} for (file, line), detail in found.examples.get(name, ())]
    if name == "length_bias":
        count, examples = _length_entry(found)
    return {
        "rule": name,
        "severity": rule.severity,
        "about": rule.about,
        "rows": count,
        "untold": found.untold.get(name, 0),
        "share": count / rows if rows else None,
        "examples": examples,
        "labelled": rule.quality._asdict() if rule.quality else None,
    }


def _length_entry(found: "Findings") -> tuple[int, list[dict[str, str]]]:
    """All pairs where lengths differ too much, else none; and what is to be said of them."""
    length = found.length()
    if length is None or length.d is None:
        return 0, []
    said = (
        f"Cohen's d {length.d:+.2f}; the label explains {100 * (length.explained or 0):.0f} % of the variance of lengths; "
        f"chosen is longer in {100 * (length.longer_chosen or 0):.0f} % of pairs"
    )
    return (found.rows if found.length_biased() else 0), [{"row": "all", "detail": said}]


def _print(report: dict[str, Any]) -> None:
    """A line for each rule that found something, then what was looked for and not found."""
    from rich.table import Table
    from rich.text import Text

    from curate.publish.wording import one_line, plural, share, visible

    screen = console()
    noun = report["rows_are"].removesuffix("s")
    found = [entry for entry in report["findings"] if entry["rows"]]
    screen.print(Text(f"{visible(report['file'])}: {plural(report['rows'], noun)}"), soft_wrap=True)
    if found:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for title, justify in (
            ("rule", "left"),
            ("severity", "left"),
            ("rows", "right"),
            ("share", "right"),
            ("example", "left"),
        ):
            table.add_column(title, justify=justify, header_style="dim", no_wrap=title != "example")  # type: ignore[arg-type]
        for entry in found:
            example = entry["examples"][0] if entry["examples"] else {"row": "", "detail": ""}
            told = one_line(f"{example['row']}  {example['detail']}", 160)
            severity = Text(entry["severity"], COLOURS[entry["severity"]])
            table.add_row(entry["rule"], severity, f"{entry['rows']:,}", share(entry["rows"], report["rows"]), Text(told))
        screen.print(table)
    clean = [entry["rule"] for entry in report["findings"] if not entry["rows"]]
    if clean:
        screen.print(Text(f"nothing found by: {', '.join(clean)}", "dim"))
    if report["length"] and not any(entry["rule"] == "length_bias" for entry in found) and report["length"]["d"] is not None:
        screen.print(Text(f"lengths: Cohen's d {report['length']['d']:+.2f}, chosen minus rejected", "dim"))
    for rule, why in report["not_looked_for"].items():
        screen.print(Text(f"not looked for: {rule}; {why}", "dim"), soft_wrap=True)


def _print_rules(as_json: bool) -> None:
    """The rules, what they mean, and how they do on the labelled rows."""
    from curate.filter.lint_rules import RULES

    if as_json:
        keys = ("severity", "about", "example", "grains", "unit", "threshold")
        listed = [{"rule": name} | {key: getattr(rule, key) for key in keys} for name, rule in RULES.items()]
        for entry, rule in zip(listed, RULES.values(), strict=True):
            entry["labelled"] = rule.quality._asdict() if rule.quality else None
        print_json(listed)
        return
    for name, rule in RULES.items():
        quality = rule.quality
        told = (
            f"precision {quality.precision:.2f}, recall {quality.recall:.2f} on {quality.rows} labelled rows" if quality else ""
        )
        typer.echo(f"{name} ({rule.severity}): {rule.about}\n    {rule.example}\n" + (f"    {told}\n" if told else ""), nl=False)
