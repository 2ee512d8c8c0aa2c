"""One HTML page about a version that loads nothing: funnel, scores, lengths, models, and pairs side by side.

Every text in it comes from data or from a recipe and is escaped; the page allows no script and no request.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from curate.publish import noise_report
from curate.publish.card import LISTED
from curate.publish.diff import recipe_text
from curate.publish.figures import (
    SIDES,
    Compared,
    Distribution,
    Figures,
    Step,
    figures,
    files_of,
    flat_scores,
    ranked,
)
from curate.publish.gates import gate_rows
from curate.publish.models_used import used_rows
from curate.publish.report_style import STYLE
from curate.publish.show import seeded_rows
from curate.publish.wording import escape, messages_text, number, one_line, plural, share, short_id, shorten
from curate.store.versions import Version

SAMPLES = 20
DROPPED = 10
TEXT_CHARACTERS = 4_000
PLOT = (340, 120)
"""Width and height of a plot's area, in its own units."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def report(version: Version, seed: int = 0) -> str:
    """The page. seed: which rows are shown."""
    found = figures(version.path, version.manifest)
    sections = [
        _section("Gates", _gates(version.manifest), "gates"),
        _section("From source to version", _funnel(found.funnel), "funnel"),
        _section("Why rows were dropped", _reasons(found.funnel), "dropped"),
        _section("Noise", noise_report.section(found.noise) if found.grain == "pairs" and found.rows else "", "noise"),
        _section("Scores", _plots(found.scores, found.measures, _exchanged(found)), "scores"),
        _section("Lengths", _lengths(found), "lengths"),
        _section("Models", _models(found), "models"),
        _section("Models that were asked", _used(version), "asked"),
        _section("Where the rows come from", _kinds(found), "kinds"),
        _section(_sample_title(found), _samples(version, found, seed), "sample"),
        _section("Dropped rows, drawn at random", _dropped(version, found, seed), "dropped-rows"),
        _section("Steps", _steps(version.manifest), "steps"),
        _section("Recipe", _recipe(version), "recipe"),
    ]
    body = _header(version, found) + "".join(sections) + _footer(version)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(version)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str, anchor: str) -> str:
    return f'<section id="{anchor}">\n<h2>{escape(title)}</h2>\n{content}\n</section>\n' if content else ""


def _header(version: Version, found: Figures) -> str:
    tiles = [(f"{found.rows:,}", found.grain), *((f"{rows:,}", split) for split, rows in sorted(found.splits.items()))]
    tiles = tiles if len(found.splits) > 1 else tiles[:1]
    if found.prompts and found.grain != "prompts":
        tiles.append((f"{found.prompts:,}", "distinct prompts"))
    tiles.append((f"{sum(rows for name, rows in found.other_rows.items() if name.startswith('dropped/')):,}", "rows dropped"))
    if found.lengths is not None and found.lengths.effect is not None:
        tiles.append((f"{found.lengths.effect:+.2f}", "length bias, Cohen’s d"))
    cells = "".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in tiles)
    title = f'<p class="kind">dataset of {escape(found.grain)}</p><h1>{escape(version)}</h1>'
    return f'<header>{title}<div class="tiles">{cells}</div></header>\n'


def _footer(version: Version) -> str:
    run = version.run
    started = f", run {escape(run['started'])}" if run.get("started") else ""
    made = f"curate {escape(version.manifest['curate'])}{started}, content {escape(version.manifest['content'][:16])}"
    return f"<footer>{made}</footer>\n"


def _gates(manifest: Mapping[str, Any]) -> str:
    rows = gate_rows(manifest)
    if not rows:
        return ""
    cells = [[f"<td{' class=n' if name == 'value' else ''}>{escape(text)}</td>" for name, text in row.items()] for row in rows]
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    head = _heads(0, "metric") + _heads(1, "value") + _heads(0, "condition", "result")
    anyway = "<p><b>Published although a gate is closed.</b></p>" if manifest.get("published_anyway") else ""
    return f"{anyway}{_wide_table(head, body)}"


# -- the funnel


def _funnel(funnel: Sequence[Step]) -> str:
    """A bar a step, as long as its rows; bars of different kinds of rows have scales of their own."""
    widest: dict[str, int] = {}
    for step in funnel:
        widest[step.grain] = max(widest.get(step.grain, 1), step.rows_in)
    rows, grain = [], ""
    for step in funnel:
        if step.grain != grain:
            grain = step.grain
            rows.append(f'<div class="grain">{escape(grain)}</div>')
        rows.append(_funnel_row(step, widest[step.grain]))
    last = funnel[-1]
    if last.makes and last.made is not None:
        rows.append(f'<div class="grain">{escape(f"{last.made:,} {last.makes}")}</div>')
    return f'<div class="funnel">{"".join(rows)}</div><p class="key"><i class="kept"></i> kept <i class="lost"></i> dropped</p>'


def _funnel_row(step: Step, widest: int) -> str:
    kept, lost = 100 * step.kept / widest, 100 * step.lost / widest
    made = f" → {step.made:,} {step.makes}" if step.made is not None else ""
    loss = f"−{step.lost:,}" if step.lost else ""
    title = ", ".join(f"{count:,} {reason}" for reason, count in _ranked(step.dropped)) or "none dropped"
    operator = f" <small>{escape(step.operator)}</small>" if step.operator != step.name else ""
    return (
        f'<div class="name">{escape(step.name)}{operator}</div>'
        f'<div class="bar" title="{escape(title)}"><i class="kept" style="width:{kept:.2f}%"></i>'
        f'<i class="lost" style="width:{lost:.2f}%"></i></div>'
        f'<div class="count"><b>{step.kept:,}</b> <span class="loss">{loss}</span>{escape(made)}</div>'
    )


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _reasons(funnel: Sequence[Step]) -> str:
    reasons = [(count, step, reason) for step in funnel for reason, count in _ranked(step.dropped)]
    if not reasons:
        return ""
    most = max(count for count, _, _ in reasons)
    rows = [
        f'<div class="name">{escape(reason)} <small>{escape(step.name)}</small></div>'
        f'<div class="bar"><i class="lost" style="width:{100 * count / most:.2f}%"></i></div>'
        f'<div class="count">{plural(count, step.grain[:-1])} <small>{share(count, step.rows_in)}</small></div>'
        for count, step, reason in sorted(reasons, key=lambda item: -item[0])[:LISTED]
    ]
    return f'<div class="funnel">{"".join(rows)}</div>'


# -- plots


def _plots(scores: Sequence[Compared], measures: Sequence[Compared], note: str) -> str:
    filled = [compared for compared in (*scores, *measures) if any(spread.n for spread in compared.sides.values())]
    plots = [_plot(compared) for compared in filled]
    return f'<div class="plots">{"".join(plots)}</div>{_key(scores)}{note}' if plots else ""


def _exchanged(found: Figures) -> str:
    """Why the sides of goal pairs look alike."""
    count = found.kinds.get("origin", Counter()).get("goal_rejected", 0)
    told = f"{count:,} of the {found.rows:,} pairs have their sides exchanged for the lower goal, so that the sides look alike."
    return f"<p>{told}</p>" if count else ""


def _key(compared: Sequence[Compared]) -> str:
    if not any("chosen" in c.sides for c in compared):
        return ""
    return '<p class="key"><i class="chosen"></i> chosen <i class="rejected"></i> rejected; dashed: medians</p>'


def _plot(compared: Compared) -> str:
    """Shares of each side over the measure, one above the other; the dashed lines are medians."""
    width, height = PLOT
    peak = max((max(spread.bins) / spread.n for spread in compared.sides.values() if spread.n), default=1.0)
    shapes = "".join(_shape(compared, side, spread, peak) for side, spread in compared.sides.items() if spread.n)
    ticks = "".join(_tick(compared, place) for place in range(0, len(compared.edges), (len(compared.edges) - 1) // 4))
    axis = f'<line class="axis" x1="0" x2="{width}" y1="{height}" y2="{height}"/>'
    told = "; ".join(_told(side, spread) for side, spread in compared.sides.items())
    return (
        f'<figure><figcaption>{escape(compared.name)}</figcaption><svg viewBox="-14 -6 {width + 28} {height + 30}" role="img" '
        f'aria-label="{escape(f"{compared.name}: {told}")}">{shapes}{axis}{ticks}</svg>'
        f'<p class="told">{escape(told)}</p></figure>'
    )


def _shape(compared: Compared, side: str, spread: Distribution, peak: float) -> str:
    width, height = PLOT
    step = width / len(spread.bins)
    points = [f"M0 {height}"]
    for place, count in enumerate(spread.bins):
        y = height - height * count / spread.n / peak
        points.append(f"L{place * step:.1f} {y:.1f}L{(place + 1) * step:.1f} {y:.1f}")
    points.append(f"L{width} {height}Z")
    x = _x(compared, spread.quartiles[2])
    name = side or "own"
    median = f'<line class="median {name}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>'
    return f'<path class="{name}" d="{"".join(points)}"/>{median}'


def _x(compared: Compared, value: float) -> float:
    """Where a value stands on the plot's axis; its edges may be evenly spaced or in even ratios."""
    edges = compared.edges
    place = next((i for i in range(len(edges) - 1) if value <= edges[i + 1]), len(edges) - 2)
    inside = (value - edges[place]) / (edges[place + 1] - edges[place])
    return PLOT[0] * (place + min(max(inside, 0.0), 1.0)) / (len(edges) - 1)


def _tick(compared: Compared, place: int) -> str:
    width, height = PLOT
    x = width * place / (len(compared.edges) - 1)
    anchor = "start" if place == 0 else "end" if place == len(compared.edges) - 1 else "middle"
    return f'<text x="{x:.1f}" y="{height + 18}" text-anchor="{anchor}">{escape(number(compared.edges[place]))}</text>'


def _told(side: str, spread: Distribution) -> str:
    if not spread.n:
        return f"{side} none".strip()
    _, low, median, high, _ = spread.quartiles
    middle = f"median {number(median)} ({number(low)} to {number(high)})"
    return f"{side} {middle}, mean {number(spread.mean)}, n {spread.n:,}".strip()


def _lengths(found: Figures) -> str:
    if found.lengths is None or not found.rows:
        return ""
    plot = f'<div class="plots wide">{_plot(found.lengths)}</div>{_key([found.lengths])}'
    if found.longer_chosen is None:
        return plot
    longer = f"The chosen side is the longer one in {share(found.longer_chosen, 1)} of the pairs (ties count half)"
    effect = "" if found.lengths.effect is None else f"; Cohen’s d {found.lengths.effect:+.2f}, chosen − rejected"
    return f"{plot}<p>{escape(longer + effect)}. The axis is logarithmic.</p>{_exchanged(found)}"


# -- names


def _models(found: Figures) -> str:
    total: dict[str | None, int] = {}
    for counts in found.models.values():
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    if not set(total) - {None}:
        return ""
    most = max(count for counts in found.models.values() for count in counts.values())
    rows = []
    for name, _ in ranked(total, LISTED):
        bars = "".join(
            f'<i class="{side or "own"}" style="width:{100 * counts[name] / most:.2f}%"></i>'
            for side, counts in found.models.items()
        )
        told = " / ".join(share(counts[name], found.rows) for counts in found.models.values())
        rows.append(f'<div class="name">{_value(name)}</div><div class="bar two">{bars}</div><div class="count">{told}</div>')
    more = f"<p>and {len(total) - LISTED:,} more models</p>" if len(total) > LISTED else ""
    key = _key([Compared("", (), {side: Distribution(0, 0, 0, (0, 0, 0, 0, 0), ()) for side in found.models})])
    return f'<div class="funnel">{"".join(rows)}</div>{more}{key.replace("; dashed: medians", ", share of rows")}'


def _used(version: Version) -> str:
    rows = used_rows(version.path, version.manifest)
    if not rows:
        return ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(one_line(text, 200))}</td>' for text in row.values())}</tr>" for row in rows)
    return _wide_table(_heads(0, *rows[0]), body)


def _value(name: str | None) -> str:
    return "<em>not told</em>" if name is None else f"<bdi>{escape(one_line(name, 60))}</bdi>"


def _kinds(found: Figures) -> str:
    parts = []
    for column in ("domain", "source", "license", "origin", "goal", "stage"):
        counts: Mapping[str | None, int] = found.kinds.get(column, {})
        if set(counts) - {None, "observed"}:  # that a pair is as observed goes without saying
            rows = "".join(
                f'<tr><td>{_value(value)}</td><td class="n">{count:,}</td><td class="n">{share(count, found.rows)}</td></tr>'
                for value, count in ranked(counts, LISTED)
            )
            more = f'<tr><td colspan="3">and {len(counts) - LISTED:,} more</td></tr>' if len(counts) > LISTED else ""
            parts.append(f"<table><thead><tr>{_heads(2, column, 'rows', 'share')}</tr></thead>{rows}{more}</table>")
    return f'<div class="tables">{"".join(parts)}</div>' if parts else ""


# -- rows


def _sample_title(found: Figures) -> str:
    shown = min(SAMPLES, found.rows)
    if not shown:
        return found.grain.capitalize()
    some = plural(shown, found.grain[:-1])
    return f"{some}, drawn at random" if shown < found.rows else f"All {some}"


def _samples(version: Version, found: Figures, seed: int) -> str:
    files = files_of(version.path, found.grain)
    if not found.rows:
        return "<p>No row was kept.</p>"
    scores = flat_scores(version.path, version.manifest)
    rows = seeded_rows(files, SAMPLES, seed)
    return "".join(_card(row, found.grain, scores) for row in rows)


def _card(row: Mapping[str, Any], grain: str, scores: Sequence[tuple[str, str, str, str]]) -> str:
    sides = "".join(_side(row, side, scores) for side in SIDES[grain])
    row_id = row[{"pairs": "pair_id", "responses": "response_id"}.get(grain, "prompt_id")]
    chips = [("", short_id(row_id)), *((name, _chip(row[name])) for name in _noted(row))]
    told = [entry for entry in row.get("evidence") or () if row.get(entry["name"]) != entry["value"]]  # margin is a column too
    chips += [(f"{entry['by']} {entry['name']}", number(entry["value"])) for entry in told]
    chips += [(f"vote {vote['rater']}", number(vote["p_chosen"])) for vote in row.get("votes") or ()]
    body = f'<div class="sides">{sides}</div>' if sides else ""
    return f'<article>{_chips(chips)}<div class="prompt">{_text(messages_text(row["prompt"]))}</div>{body}</article>\n'


def _noted(row: Mapping[str, Any]) -> list[str]:
    names = ("goal", "margin", "label_prob", "weight", "origin", "split", "domain", "source")
    return [name for name in names if row.get(name) is not None and not (name == "origin" and row[name] == "observed")]


def _chip(value: Any) -> str:
    return one_line(value, 80) if isinstance(value, str) else number(value)


def _chips(chips: Sequence[tuple[str, str]]) -> str:
    named = [(f"{escape(name)} " if name else "", escape(value)) for name, value in chips]
    cells = "".join(f"<span>{name}<b><bdi>{value}</bdi></b></span>" for name, value in named)
    return f'<div class="chips">{cells}</div>'


def _side(row: Mapping[str, Any], side: str, scores: Sequence[tuple[str, str, str, str]]) -> str:
    column, model = ("scores", "model") if side == "response" else (f"{side}_scores", f"{side}_model")
    text = row[side] if isinstance(row[side], str) or row[side] is None else messages_text(row[side])
    chips = [("", one_line(row[model], 60))] if row.get(model) else []
    chips += [(f"{rater} {aspect}".strip(), number(row[flat])) for of, flat, rater, aspect in scores if of == column]
    characters = f"{len(text):,} characters" if text is not None else "no text"
    name = "own" if side == "response" else side
    return f'<div class="side {name}"><h3>{escape(side)} <small>{characters}</small></h3>{_chips(chips)}{_text(text)}</div>'


def _text(text: str | None) -> str:
    return f'<div class="text" dir="auto">{escape(shorten(text, TEXT_CHARACTERS))}</div>'


def _dropped(version: Version, found: Figures, seed: int) -> str:
    tables = [name for name in found.other_rows if name.startswith("dropped/")]
    parts = []
    for name in tables:
        grain = name.rpartition("/")[2]
        files = files_of(version.path, name)
        wanted = ["dropped_by", "reason", "value", "prompt", *SIDES[grain]]
        rows = seeded_rows(files, DROPPED, seed, [column for column in wanted if column in files.schema.names])
        body = "".join(f"<tr>{''.join(_dropped_cells(row, grain))}</tr>" for row in rows)
        caption = plural(files.rows, grain[:-1]) + (f", {len(rows)} of them" if len(rows) < files.rows else "")
        head = _heads(0, "step", "reason", "value", "prompt", *SIDES[grain])
        parts.append(f"<h3>{caption}</h3>{_wide_table(head, body)}")
    return "".join(parts)


def _heads(numbers: int, *titles: str) -> str:
    """Cells of a table's head; the last `numbers` are over numbers."""
    first = len(titles) - numbers
    return "".join(f"<th{' class=n' if place >= first else ''}>{escape(title)}</th>" for place, title in enumerate(titles))


def _wide_table(head: str, body: str) -> str:
    return f'<div class="scroll"><table class="full"><thead><tr>{head}</tr></thead>{body}</table></div>'


def _dropped_cells(row: Mapping[str, Any], grain: str) -> list[str]:
    texts = [messages_text(row["prompt"]), *(_plain(row[side]) for side in SIDES[grain])]
    told = (row["dropped_by"] or "", row["reason"] or "", number(row["value"]))
    cells = [f'<td class="short">{escape(text)}</td>' for text in told]
    return cells + [f'<td dir="auto">{escape(one_line(text, 110))}</td>' for text in texts]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else messages_text(value)


# -- how it was made


def _steps(manifest: Mapping[str, Any]) -> str:
    rows = []
    for step in manifest["steps"]:
        given = [(name, value) for name, value in step["parameters"].items() if value not in (None, [], False, "")]
        shown = ", ".join(f"{name}: {one_line(str(value), 60)}" for name, value in given if name != "name")
        line = step["line"] if step["line"] is not None else ""
        rows.append(
            f"<tr><td>{escape(step['name'])}</td><td>{escape(step['operator'])}</td><td>{escape(step['grain'])}</td>"
            f'<td class="n">{step["rows_in"]:,}</td><td class="n">{step["kept"]:,}</td><td class="n">{escape(line)}</td>'
            f"<td>{escape(shown)}</td></tr>"
        )
    head = _heads(0, "step", "operator", "rows are") + _heads(3, "rows in", "kept", "line") + _heads(0, "parameters")
    return _wide_table(head, "".join(rows))


def _recipe(version: Version) -> str:
    text = recipe_text(version).rstrip()
    return f"<pre>{escape(text)}</pre>" if text else ""
