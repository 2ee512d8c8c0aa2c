"""How versions, rows, differences and stories are printed for people.

Texts come from data: control characters and turns of direction are made visible, and nothing in them is markup.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from curate.publish.wording import messages_text, number, one_line, plural, share, short_id, shorten, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from curate.publish.diff import Diff, Example
    from curate.publish.show import Moved, Rethreshold, Shown
    from curate.publish.why import Why
    from curate.store.versions import Version

TEXT_CHARACTERS = 1_200
BAR = 24  # characters of the longest bar of a funnel
BARS_FIT = 120  # columns a terminal needs for a funnel with bars
WIDE = 100  # columns a terminal needs for two texts beside each other, and for all columns of a table
COLOURS = {"chosen": "green", "rejected": "red", "response": "blue"}
STATES = {
    "done": "green",
    "unchanged": "green",
    "running": "cyan",
    "waiting": "cyan",
    "failed": "red",
    "crashed": "red",
    "gate_closed": "red",
    "skipped": "dim",
    "interrupted": "yellow",
}
DID = {"came": "dim", "saw": "", "scored": "cyan", "made": "blue", "dropped": "red", "unseen": "dim", "ended": "bold"}


def print_versions(
    console: "Console", versions: Sequence["Version"], tags: Mapping[str, Mapping[str, int]] | None = None
) -> None:
    """A line for each version, in the order given. tags: of each dataset, the version number by tag."""
    from rich.text import Text

    if not versions:
        console.print("no versions yet; `curate run RECIPE` publishes one")
        return
    wide = console.width >= WIDE
    table = _table("version", ">rows", "rows are", ">dropped", *(("splits", "made") if wide else ()), "tags")
    for version in versions:
        manifest = version.manifest
        splits = manifest["splits"]
        dropped = sum(sum(step["dropped"].values()) for step in manifest["steps"])
        named = sorted(tag for tag, at in ((tags or {}).get(version.name) or {}).items() if at == version.number)
        made = visible(str(version.run.get("started", "")))[:16].replace("T", " ")
        more = [split_rows(splits) if len(splits) > 1 else "", made] if wide else []
        rows = f"{sum(splits.values()):,}"
        table.add_row(Text(str(version), "bold"), rows, manifest["grain"], f"{dropped:,}", *more, ", ".join(named))
    console.print(table)


def split_rows(splits: Mapping[str, int]) -> str:
    """Rows of each split, in the order in which they are used."""
    order = ("train", "validation", "test")
    names = sorted(splits, key=lambda name: (order.index(name) if name in order else len(order), name))
    return ", ".join(f"{name} {splits[name]:,}" for name in names)


def print_runs(console: "Console", records: Sequence[Mapping[str, Any]], name: str | None = None) -> None:
    """A line for each run, in the order given. name: of the only dataset whose runs were asked for."""
    from rich.text import Text

    if not records:
        console.print(f"no runs of {visible(name)}" if name else "no runs yet; `curate run RECIPE` makes one")
        return
    wide = console.width >= WIDE
    table = _table("run", "dataset", "state", *(("via", "started", ">took", "step") if wide else ()), "result")
    for record in records:
        more = [_via(record), _local_time(record["started"])[:16], _took(record), visible(record.get("step"))] if wide else []
        state = Text(visible(record["state"]), STATES.get(record["state"], ""))
        table.add_row(visible(record["id"]), visible(record.get("name")), state, *more, one_line(_ended(record), 200))
    console.print(table)


def print_run(console: "Console", record: Mapping[str, Any], again: str | None = None) -> None:
    """One run in full. again: the command that goes on with it, if there is one."""
    from rich.text import Text

    console.print(
        Text.assemble((f"run {visible(record['id'])}", "bold"), " ", (record["state"], STATES.get(record["state"], "")))
    )
    table = _grid(2, expand=False)
    for title, value in _particulars(record):
        table.add_row(Text(title, "dim"), Text(value))
    console.print(table)
    if gates := [gate for gate in record.get("gates") or () if isinstance(gate, Mapping)]:
        console.print(_gates(gates))
    elif error := record.get("error"):
        console.print(Text(visible(error), "red"))
    if again is not None:
        console.print(Text.assemble("to continue: ", (again, "bold")), soft_wrap=True)


def _particulars(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rows = "" if record.get("rows") is None else f" ({record['rows']:,} rows)"
    last = f"{_local_time(record['crashed_at'])}, its last sign of life" if record.get("crashed_at") else None
    told = {
        "dataset": record.get("name"),
        "version": _ended(record) if record.get("version") else None,
        "recipe": record.get("recipe"),
        "preview of": None if record.get("limit") is None else f"{record['limit']:,} rows",
        "via": _via(record),
        "flow run": record.get("flow_run_id"),
        "started": _local_time(record["started"]),
        "took": _took(record),
        "crashed": last,
        "step": f"{record['step']}{rows}" if record.get("step") else None,
        "waits for": record.get("waits_for"),
        "process": f"{record['pid']} on {record.get('host')}" if record.get("pid") else None,
    }
    return ((title, visible(str(value))) for title, value in told.items() if value)


GATE = ("metric", "value", "condition", "passed", "note")


def _gates(gates: Sequence[Mapping[str, Any]]) -> "Table":
    told = dict.fromkeys(key for gate in gates for key in gate)
    titles = [title for title in GATE if title in told] + [title for title in told if title not in GATE]
    table = _table(*map(visible, titles))
    for gate in gates:
        table.add_row(*(visible(_value(gate.get(title))) for title in titles))
    return table


def _via(record: Mapping[str, Any]) -> str:
    return visible("schedule " + record["schedule"] if record.get("schedule") else record.get("via") or "inline")


def _local_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"


def _took(record: Mapping[str, Any]) -> str:
    """How long it took, or takes already as far as its record tells."""
    end = record.get("ended") or record.get("crashed_at") or record.get("heartbeat")
    if not end:
        return ""
    seconds = max(0.0, end - record["started"])
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _ended(record: Mapping[str, Any]) -> str:
    """The version, or the reason why there is none."""
    if version := record.get("version"):
        same = record["state"] == "unchanged" or not record.get("published", True)
        return visible(version) + (" (the same content: nothing published)" if same else "")
    first = str(record.get("error") or record.get("waits_for") or "").split("\n", 1)[0]
    return visible(first)


# -- rows


def print_pairs(
    console: "Console",
    shown: "Shown",
    limit: int = TEXT_CHARACTERS,
    measurers: Collection[str] = ("features",),
    noise: str | None = None,
) -> None:
    """Rows as a person reads them: pairs side by side where the terminal is wide enough.

    limit: characters of a text. measurers: raters that are `features` steps, whose measures are told in short. noise: a line
    on the version's wrong labels, if something is known of them.
    """
    from rich.text import Text

    for row in shown.rows:
        console.print(render_row(row, console.width, limit, measurers))
        console.print()
    matched = "" if shown.matched == shown.total else f" of {shown.matched:,} that match"
    console.print(Text(f"{plural(len(shown.rows), 'row')}{matched} of {shown.total:,} in {shown.version} {shown.table}", "dim"))
    if noise:
        console.print(Text(noise, "dim"))


def render_row(
    row: Mapping[str, Any], width: int = 140, limit: int = TEXT_CHARACTERS, measurers: Collection[str] = ("features",)
) -> "RenderableType":
    """One row of any table, whatever columns were asked for."""
    from rich.console import Group
    from rich.rule import Rule

    sides = [side for side in ("chosen", "rejected", "response") if side in row]
    if not sides and "prompt" not in row:
        return plain_row(row)
    parts: list[RenderableType] = [Rule(_title(row), align="left", style="dim")]
    if "prompt" in row:
        parts.append(_labelled("prompt", row["prompt"], "bold", limit))
    panels = [_labelled(_side_title(row, side, measurers), row[side], COLOURS[side], limit) for side in sides]
    if len(panels) == 2 and width >= WIDE:
        table = _grid(2)
        table.add_row(*panels)
        panels = [table]
    return Group(*parts, *panels)


def _grid(columns: int, expand: bool = True) -> "Table":
    from rich.table import Table

    table = Table.grid(expand=expand, padding=(0, 2))
    for _ in range(columns):
        table.add_column(ratio=1, overflow="fold")
    return table


def _labelled(label: str, value: Any, style: str, limit: int) -> "RenderableType":
    from rich.text import Text

    text = value if isinstance(value, str) or value is None else messages_text(value)
    body = Text("(no text)", "dim") if text is None else Text(visible(shorten(text, limit)))
    return Text.assemble((label, style), "\n", body, overflow="fold")


def _title(row: Mapping[str, Any]) -> Any:
    from rich.text import Text

    row_id = next((row[name] for name in ("pair_id", "response_id", "prompt_id") if row.get(name)), None)
    facts = [f"row {row['row']}"] if row.get("row") is not None else []
    named = [name for name in ("margin", "weight", "label_prob", "split") if row.get(name) is not None]
    facts += [f"{name} {_value(row[name])}" for name in named]
    if row.get("goal") is not None:
        facts.append(f"goal {_goal(row['goal'])}" + (", sides swapped for it" if row.get("origin") == "goal_rejected" else ""))
    if row.get("dropped_by"):
        facts.append(f"dropped by {row['dropped_by']}: {row.get('reason')} {number(row.get('value'))}")
    return Text(one_line(" · ".join([short_id(row_id), *facts]), 120), "default")


def _goal(goal: str) -> str:
    """A goal's attributes without the JSON around them."""
    try:
        attributes = json.loads(goal)
        return ", ".join(f"{name} {number(value)}" for name, value in attributes.items())
    except (ValueError, TypeError, AttributeError):
        return str(goal)


def _side_title(row: Mapping[str, Any], side: str, measurers: Collection[str]) -> str:
    """The side, its model, what raters gave it, and then what was measured."""
    column, model = ("scores", "model") if side == "response" else (f"{side}_scores", f"{side}_model")
    scores = row.get(column) or ()
    told = [_score(entry) for entry in scores if entry["rater"] not in measurers]
    told += [_measure(entry) for entry in scores if entry["rater"] in measurers]
    parts = [side, one_line(row.get(model), 40), *told]
    return one_line(" · ".join(part for part in parts if part), 240)


def _score(entry: Mapping[str, Any]) -> str:
    rater, aspect = entry["rater"], entry["aspect"]
    return f"{rater}{f' {aspect}' if aspect and aspect != rater else ''} {number(entry['value'])}"


def _measure(entry: Mapping[str, Any]) -> str:
    """A measure in short: 34 characters, truncated, en; empty for what was not found."""
    aspect, value = entry["aspect"] or entry["rater"], entry["value"]
    if aspect == "language":
        return one_line(entry.get("rationale"), 20)
    if not value or math.isnan(value):
        return ""
    if aspect in ("characters", "words"):
        return plural(int(value), aspect[:-1])
    return str(aspect) if value == 1 else f"{aspect} {number(value)}"


def plain_row(row: Mapping[str, Any]) -> "Table":
    """A row by its columns."""
    table = _table("", "")
    table.show_header = False
    for name, value in row.items():
        table.add_row(name, _value(value))
    return table


def _value(value: Any) -> str:
    if isinstance(value, list):
        return one_line(messages_text(value) if value and "role" in value[0] else str(value), 200)
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else one_line(str(value), 200)


# -- the funnel, and another threshold


def print_funnel(console: "Console", version: "Version") -> None:
    """What each step kept, dropped and made."""
    from curate.publish.figures import steps_of

    wide = console.width >= BARS_FIT
    table = _table(*(("step", "rows are", ">rows in", ">kept", ">share", "") if wide else ("step", ">rows in", ">kept")))
    table.add_column("dropped", overflow="fold")
    table.add_column("made", overflow="fold")
    widest: dict[str, int] = {}
    for step in steps_of(version.manifest):
        widest[step.grain] = max(widest.get(step.grain, 1), step.rows_in)
        kept = round(BAR * step.kept / widest[step.grain])
        lost = round(BAR * step.rows_in / widest[step.grain]) - kept
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(step.dropped.items(), key=lambda item: -item[1]))
        made = f"{step.made:,} {step.makes}" if step.made is not None else ""
        counts = [f"{step.rows_in:,}", f"{step.kept:,}"]
        if wide:
            counts = [step.grain, *counts, share(step.kept, step.rows_in), "█" * kept + "░" * lost]
        table.add_row(visible(step.name), *counts, one_line(reasons, 200), made)
    console.print(table)


def print_metrics(console: "Console", version: "Version") -> None:
    """How a version stands to its gates, and all its metrics."""
    from rich.text import Text

    from curate.publish import gates
    from curate.publish.metric_names import meaning

    manifest = version.manifest
    if results := gates.results_of(manifest):
        table = _table("gate", ">value", "condition", "result")
        for result in results:
            row = {name: visible(text) for name, text in result.row().items()}
            table.add_row(*list(row.values())[:3], Text(row["result"], "" if result.passed else "red"))
        console.print(table)
        console.print(Text("published although a gate is closed\n" if manifest.get("published_anyway") else "", "red"))
    if "metrics" not in manifest:
        console.print(f"{version} was published without metrics; the next version has them")
        return
    table = _table("metric", ">value", "what it says")
    for name, value in manifest["metrics"].items():
        table.add_row(visible(name), "none" if value is None else gates.number(value), meaning(name))
    console.print(table)


def print_rethreshold(console: "Console", moved: "Rethreshold") -> None:
    """What other thresholds would keep and drop."""
    from rich.text import Text

    for move in moved.moved:
        console.print(_moved(move))
    line = f"{moved.version} would keep {moved.rows_then:,} of its {moved.rows_now:,} {moved.grain}"
    back = sum(move.returned for move in moved.moved)
    more = f", and {plural(back, 'row')} would come back" if back else ""
    console.print(Text(f"{line}{more}. Nothing was changed: `curate run` with --set does it.", "bold"))


def _moved(move: "Moved") -> "RenderableType":
    from rich.text import Text

    lines = [f"{move.step}: {move.measure} {move.keep} {number(move.old)} becomes {move.keep} {number(move.new)}"]
    lines.append(f"  keeps {move.kept_then:,} of the {move.grain} it saw instead of {move.kept_now:,}")
    if move.dropped:
        lines.append(f"  would drop {move.dropped:,}{_nearest(move.dropped_rows)}")
    if move.dropped and move.product_lost != move.dropped:
        lines.append(f"  which takes {plural(move.product_lost, 'row')} out of the version")
    if move.returned:
        later = f"; they would go on to: {', '.join(move.later)}" if move.later else ""
        lines.append(f"  would bring back {move.returned:,}{_nearest(move.returned_rows)}{later}")
    if not move.dropped and not move.returned:
        lines.append("  changes nothing")
    if move.unmeasured:
        lines.append(f"  {plural(move.unmeasured, 'row')} without the measure stay as they are")
    if move.note:
        lines.append(f"  note: {move.note}")
    return Text("\n".join(lines))


def _nearest(rows: Sequence[Mapping[str, Any]]) -> str:
    told = ", ".join(f"{short_id(row['id'])} ({number(row['value'])})" for row in rows[:3])
    return f", nearest: {told}" if told else ""


# -- differences


def print_diff(console: "Console", found: "Diff") -> None:
    """What changed: rows, steps, recipe, and a few examples."""
    from rich.text import Text

    console.print(Text(f"{found.before} → {found.after}: {found.rows[0]:,} → {found.rows[1]:,} {found.grain}", "bold"))
    if found.same_content:
        console.print("the data files are the same, byte for byte")
    table = _table("", ">")
    table.show_header = False
    kinds = ("added", "removed", *(("flipped",) if found.grain == "pairs" else ()), "changed", "unchanged")
    for kind in kinds:
        table.add_row(kind, f"{getattr(found, kind):,}")
    console.print(table)
    for lines in (_changed_columns(found), _recipe_lines(found), _step_lines(found)):
        if lines:
            console.print()
            console.print(Text("\n").join(lines))
    _print_examples(console, found)


def _changed_columns(found: "Diff") -> list[Any]:
    from rich.text import Text

    lines = [f"changed: {', '.join(f'{name} in {count:,}' for name, count in found.changed_columns.items())}"]
    lines = lines if found.changed_columns else []
    lines += [f"new score columns: {', '.join(found.new_scores)}"] if found.new_scores else []
    lines += [f"score columns gone: {', '.join(found.gone_scores)}"] if found.gone_scores else []
    return [Text(line) for line in lines]


def _recipe_lines(found: "Diff") -> list[Any]:
    from rich.text import Text

    lines = [Text(f"source: its rows {'changed' if found.source_changed else 'are the same'}")]
    lines += [Text(visible(str(change)), "yellow") for change in found.parameters]
    colours = {"+": "green", "-": "red"}
    body = found.recipe[2:]
    lines += [Text(visible(line), colours.get(line[:1], "dim")) for line in body]
    return lines if body else [*lines, Text("recipe: the same")]


def _step_lines(found: "Diff") -> list[Any]:
    from rich.text import Text

    lines = []
    for change in found.steps:
        before, after = change.before, change.after
        if before is None or after is None:
            step, word = (after, "new step") if after is not None else (before, "step gone")
            lines.append(Text(f"{change.name}: {word}, kept {step.kept:,} of {step.rows_in:,} {step.grain}" if step else ""))
            continue
        kept = f"{change.name}: kept {before.kept:,} of {before.rows_in:,} → {after.kept:,} of {after.rows_in:,} {after.grain}"
        reasons = "".join(f"; {reason} {old:,} → {new:,}" for reason, old, new in change.dropped())
        lines.append(Text(one_line(kept + reasons, 300)))
    return lines


def _print_examples(console: "Console", found: "Diff") -> None:
    from rich.text import Text

    for kind, examples in found.examples.items():
        if examples:
            console.print()
            console.print(Text(f"{kind}, {len(examples)} of {getattr(found, kind):,}", "bold"))
        for example in examples:
            console.print(_example(example))


def _example(example: "Example") -> "RenderableType":
    from rich.text import Text

    texts = " / ".join(one_line(text, 60) for text in example.texts)
    lines = [texts] if texts else []
    lines += [f"{name}: {_side_value(old)} → {_side_value(new)}" for name, old, new in example.changes]
    more = "".join(f"\n    {visible(line)}" for line in lines)
    return Text.assemble(("  " + short_id(example.id), "cyan"), f"  {one_line(example.prompt, 100)}{more}")


def _side_value(value: Any) -> str:
    return "none" if value is None else _value(value)


# -- stories


def print_why(console: "Console", story: "Why") -> None:
    """The story of one row."""
    from rich.text import Text

    state = ("kept", "green") if story.kept else ("dropped", "red")
    where = f" in {story.version} {story.table}" + (f", row {story.row}" if story.row is not None else "")
    console.print(Text.assemble((f"{story.grain[:-1]} {story.id}", "bold"), " ", state, where))
    console.print(_labelled("prompt", story.prompt, "bold", 400))
    for side, text in story.texts.items():
        model = f" · {visible(story.models[side])}" if story.models.get(side) else ""
        console.print(_labelled(f"{side}{model}", text, COLOURS.get(side, "bold"), 400))
    console.print()
    console.print(render_events(story))
    if story.also:
        console.print(Text(f"other rows with the same id: {', '.join(story.also)}", "dim"))


def render_events(story: "Why") -> "Table":
    """The events as a table: the step, what it did, and the particulars."""
    from rich.text import Text

    table = _table("step", "", "what happened")
    for event in story.events:
        style = DID[event.did]
        table.add_row(Text(visible(event.step), style), Text(event.did, style), Text(visible(event.text), style))
    return table


def _table(*columns: str) -> "Table":
    """A table without lines; a title that begins with > is over numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in columns:
        table.add_column(title.removeprefix(">"), justify="right" if title.startswith(">") else "left", overflow="fold")
    return table
