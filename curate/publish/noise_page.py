"""The page of `curate bench noise`: which filter to use and why, plots by kind of flip, and every number in tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from curate.publish import plots
from curate.publish.noise_words import percent
from curate.publish.plots import Axis, Point
from curate.publish.report import POLICY
from curate.publish.report_style import STYLE
from curate.publish.wording import escape, number, plural

SHARE_AXIS = Axis("share of labels that were flipped")
PLOTS: tuple[tuple[str, str, Axis], ...] = (
    ("accuracy", "Held-out accuracy", Axis("")),
    ("auc", "AUC: are wrong labels ranked first?", Axis("", percent=False)),
    ("flip_precision", "Flips: how many are right", Axis("")),
    ("flip_recall", "Flips: how many of the wrong labels", Axis("")),
    ("drop_precision", "Drops: how many are wrong labels", Axis("")),
    ("drop_recall", "Drops: how many of the wrong labels", Axis("")),
    ("noise", "Noise found (dotted: what was planted)", Axis("")),
    ("ece", "Calibration error of the probabilities (ECE)", Axis("", percent=False)),
    ("cpu_seconds", "CPU seconds", Axis("", percent=False)),
)
"""By measure: the title of its plot and its axis."""
MEANING = (
    ("accuracy", "share of held-out pairs that a linear head, trained on what the filter keeps, orders as their labels do"),
    ("AUC", "probability that a wrong label is ranked as more suspicious than a right one"),
    ("drops, flips", "right: how many of them are wrong labels; found: how many of the wrong labels are among them"),
    ("noise", "share of wrong labels that the method reads off the labels, without knowing the truth"),
    ("ECE", "how far the probability of a wrong label is from how often it is one, 0 at best"),
    ("purity", "share of right labels among the pairs that are kept, by how many are kept"),
)
MORE = """
.say { font-size: 1.06rem; max-width: 62em; } .say p { margin: 0 0 10px; } .say p:last-child { margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 22px 26px; }
tr.chosen td { font-weight: 650; } .soft { color: var(--soft); }
.charts + .scroll { margin-top: 22px; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 4px 18px; }
dt { color: var(--soft); } dd { margin: 0; }
"""


def page(title: str, tiles: Mapping[str, str], said: Sequence[str], rows: Sequence[Mapping[str, Any]], strong: str) -> str:
    """One self-contained page. tiles: number by what it counts; said: paragraphs; strong: the method that is chosen."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    kinds = list(dict.fromkeys(row["kind"] for row in rows if row["rate"] > 0)) or [row["kind"] for row in rows[:1]]
    clean = [row for row in rows if row["rate"] == 0]
    parts = [_kind(kind, [*clean, *(r for r in rows if r["kind"] == kind and r["rate"] > 0)], names, strong) for kind in kinds]
    counted = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in tiles.items()
    )
    told = "".join(f"<p>{_sentence(text)}</p>" for text in said)
    meanings = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in MEANING)
    head = f'<p class="kind">wrong labels planted and looked for</p><h1>{escape(title)}</h1><div class="tiles">{counted}</div>'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>Noise: {escape(title)}</title>\n<style>{STYLE}{plots.STYLE}{MORE}</style>\n</head>\n<body>\n<main>\n"
        f'<header>{head}</header>\n<section id="use"><h2>Which filter</h2><div class="say">{told}</div></section>\n'
        f'{"".join(parts)}<section id="meaning"><h2>What the numbers say</h2><dl>{meanings}</dl></section>\n'
        "</main>\n</body>\n</html>\n"
    )


def _sentence(text: str) -> str:
    """A paragraph; what stands between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _kind(kind: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str], strong: str) -> str:
    drawn = [
        plots.chart(title, _lines(rows, names, name, strong), SHARE_AXIS, axis, strong, ideal=name == "noise")
        for name, title, axis in PLOTS
    ]
    most = max(row["rate"] for row in rows)
    drawn.insert(2, _purity([row for row in rows if row["rate"] == most], most, strong, names))
    many = len({row["rate"] for row in rows}) > 1
    charts = f'{plots.legend(names, strong)}<div class="charts">{"".join(drawn)}</div>' if many else ""
    return f'<section id="{escape(kind)}"><h2>{escape(KINDS.get(kind, kind))}</h2>{charts}{table(rows, strong)}</section>\n'


KINDS = {
    "symmetric": "Any label may be flipped",
    "length": "Only labels that prefer the shorter side are flipped",
    "gap": "Close pairs are flipped most",
    "annotator": "Some annotators flip more than others",
}


def _lines(rows: Sequence[Mapping[str, Any]], names: Sequence[str], name: str, strong: str) -> dict[str, list[Point]]:
    """The lines of one measure: what was found only where there was something to find, intervals where they can be seen."""
    found = name.endswith(("_precision", "_recall"))
    lines: dict[str, list[Point]] = {method: [] for method in names}
    for row in rows:
        method = row["method"]
        if row[name] is None or (found and not row["rate"]) or (method == "oracle" and name not in KNOWING):
            continue
        half = row.get(f"{name}_half") if name == "accuracy" and method in (strong, *plots.QUIET) else None
        lines[method].append(Point(row["planted"], row[name], half))
    return lines


KNOWING = ("accuracy", "cpu_seconds")
"""Measures that say something of who knows the truth."""


def _purity(rows: Sequence[Mapping[str, Any]], rate: float, strong: str, names: Sequence[str]) -> str:
    lines: dict[str, list[Point]] = {method: [] for method in names}
    for row in rows:
        if row["method"] != "oracle":
            lines[row["method"]] = [Point(x, y) for x, y in zip(row["shares"], row["purity"], strict=True)]
    title = f"Purity of what is kept, {percent(rate)} flips"
    return plots.chart(title, lines, Axis("share of pairs that is kept"), Axis(""), strong)


HEADS = ("flips", "method", "accuracy", "AUC", "drops right", "found", "flips right", "found", "noise", "ECE", "CPU s")


def table(rows: Sequence[Mapping[str, Any]], strong: str) -> str:
    """Every number of one kind of flips."""
    heads = "".join(f"<th{' class=n' if place > 1 else ''}>{escape(title)}</th>" for place, title in enumerate(HEADS))
    body = []
    for row in rows:
        cells = "".join(f'<td class="n">{escape(text)}</td>' for text in row_cells(row))
        mark = ' class="chosen"' if row["method"] == strong else ""
        body.append(
            f"<tr{mark}><td>{escape(rate_told(row, percent(row['rate'])))}</td><td>{escape(row['method'])}</td>{cells}</tr>"
        )
    seeds = max((row["runs"] for row in rows), default=0)
    note = (
        f"Means of {plural(seeds, 'seed')}, ± half of the 95 % interval (Student's t)."
        if seeds > 1
        else "One seed: no intervals."
    )
    return (
        f'<div class="scroll"><table class="full"><thead><tr>{heads}</tr></thead>{"".join(body)}</table></div>'
        f'<p class="soft">{escape(note)}</p>'
    )


def rate_told(row: Mapping[str, Any], asked: str) -> str:
    """The share of flips as asked for, and how many could be planted where that is fewer."""
    return f"{asked} ({100 * row['planted']:.0f} planted)" if row["planted"] < 0.8 * row["rate"] else asked


def row_cells(row: Mapping[str, Any]) -> list[str]:
    """The numbers of one method at one rate as texts, in the order of HEADS from accuracy on."""
    half = row.get("accuracy_half")
    accuracy = "–" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}" + (f" ± {100 * half:.1f}" if half else "")
    shares = [_share(row[f"{what}_{of}"]) for what in ("drop", "flip") for of in ("precision", "recall")]
    between = f" ({_share(row['noise_low'])} to {_share(row['noise_high'])})" if row["noise_low"] != row["noise_high"] else ""
    ece = "–" if row["ece"] is None else f"{row['ece']:.3f}"
    auc = "–" if row["auc"] is None else f"{row['auc']:.3f}"
    return [accuracy, auc, *shares, f"{_share(row['noise'])}{between}", ece, number(row["cpu_seconds"], 2)]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"
