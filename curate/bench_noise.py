"""Plant wrong labels in somebody's own pairs and hold every filter against them: `curate bench noise`."""

import html
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate import ids, tables
from curate.errors import DataError
from curate.filter.wrong_labels import WrongLabels
from curate.maths import noise_bench
from curate.maths.noise_baselines import METHODS
from curate.maths.noise_frame import Comparisons
from curate.maths.peer_review import Settings
from curate.maths.planted import Kind
from curate.models.session import Session
from curate.models.spec import ModelSpec

COLUMNS = ("accuracy", "auc", "drop_precision", "drop_recall", "flip_precision", "flip_recall", "noise", "ece", "cpu_seconds")


def read_pairs(path: Path) -> pa.Table:
    """A pairs table from a folder of a version, or a Parquet, Arrow or JSON-lines file with prompt, chosen and rejected."""
    import datasets

    kinds = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".arrow": "arrow"}
    files = sorted(path.glob("pairs/train-*.arrow")) if path.is_dir() else [path]
    if not files or files[0].suffix not in kinds:
        raise DataError(f"{path}: a version's folder, or a .parquet, .arrow or .jsonl file with prompt, chosen and rejected")
    rows = datasets.load_dataset(kinds[files[0].suffix], data_files=[str(file) for file in files], split="train")
    missing = [name for name in ("chosen", "rejected") if name not in rows.column_names]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; it has {', '.join(rows.column_names)}")
    return tables.from_rows([_row(row) for row in rows], "pairs")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    prompt, chosen, rejected = (_text(row.get(name)) for name in ("prompt", "chosen", "rejected"))
    messages = [{"role": "user", "content": prompt}]
    return {
        "prompt": messages,
        "prompt_id": row.get("prompt_id") or ids.prompt_id(messages),
        "chosen": chosen,
        "rejected": rejected,
        "chosen_id": row.get("chosen_id"),
        "rejected_id": row.get("rejected_id"),
        "margin": row.get("margin"),
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(str(message.get("content") or "") for message in value)
    return "" if value is None else str(value)


def compared(table: pa.Table, spec: ModelSpec) -> tuple[Comparisons, np.ndarray]:
    """The pairs as filters see them, and the log-length gap of each."""
    with tempfile.TemporaryDirectory() as folder, Session({"embed": spec}, Path(folder)) as session:
        operator = WrongLabelsOnly(name="bench", model="embed").with_models(session.for_step("bench"))
        features = operator.features(table)
    usable, given = operator.comparable(features)
    if given is None:
        raise DataError("no pairs to plant flips in")
    lengths = [np.array([len(text or "") for text in table[side].to_pylist()], dtype=float) for side in ("chosen", "rejected")]
    return given, (np.log1p(lengths[0]) - np.log1p(lengths[1]))[usable]


class WrongLabelsOnly(WrongLabels):
    """The features of the filters, without a decision."""

    def writes(self, grain: tables.Grain) -> set[str]:
        """Nothing."""
        return set()

    def decide(self, features: pa.Table, /) -> pa.Table:
        """Nothing."""
        return features

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """Nothing."""
        return table


def bench(
    given: Comparisons,
    length_gap: np.ndarray,
    kinds: Sequence[Kind],
    rates: Sequence[float],
    methods: Sequence[str] = METHODS,
    seeds: int = 3,
    settings: Settings = Settings(),  # noqa: B008
    said: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Every run: one dictionary for each kind, rate, seed and method."""
    runs = []
    for kind, rate, seed in _plan(kinds, rates, seeds):
        held = noise_bench.held_out(given.groups_N, 0.3, seed)
        measure = {"length": length_gap, "gap": np.abs(length_gap)}.get(kind)
        wrong = noise_bench.plant(given, held, kind, rate, measure, seed)
        said(f"{kind} flips, {rate:.0%}, seed {seed}")
        for method in methods:
            found = noise_bench.one(given, wrong, held, method, noise_bench.with_seed(settings, seed))
            runs.append({"kind": kind, "rate": rate, "seed": seed, **found})
    return runs


def _plan(kinds: Sequence[Kind], rates: Sequence[float], seeds: int) -> Iterator[tuple[Kind, float, int]]:
    clean = False
    for kind in kinds:
        for rate in rates:
            if rate == 0 and clean:
                continue  # without flips the kinds are one
            clean = clean or rate == 0
            yield from ((kind, rate, seed) for seed in range(seeds))


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """The summary as a table for a terminal."""
    head = f"{'flips':22}{'method':20}" + "".join(f"{name.replace('_', ' '):>15}" for name in COLUMNS)
    lines = [head]
    for row in rows:
        cells = "".join(f"{_number(row[name], name):>15}" for name in COLUMNS)
        lines.append(f"{row['kind']:12}{row['rate']:6.0%}    {row['method']:20}{cells}")
    return "\n".join(lines)


def _number(value: float | None, name: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if name == "accuracy" else f"{value:.3f}" if name != "cpu_seconds" else f"{value:.1f}"


def write(rows: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]], title: str, out: Path) -> list[Path]:
    """`noise.json` and `noise.html` in a folder."""
    out.mkdir(parents=True, exist_ok=True)
    told, page = out / "noise.json", out / "noise.html"
    body = {"data": title, "summary": rows, "runs": runs, "shares": noise_bench.SHARES}
    told.write_text(json.dumps(_plain(body), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page.write_text(as_page(rows, title), encoding="utf-8")
    return [told, page]


def _plain(value: Any) -> Any:
    """Numbers that are none as null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


COLOURS = (
    "#1b6ca8",
    "#c0392b",
    "#27ae60",
    "#8e44ad",
    "#d68910",
    "#16a085",
    "#7f8c8d",
    "#2c3e50",
    "#e84393",
    "#6c5ce7",
    "#b33939",
    "#218c74",
)
STYLE = "body{font:15px system-ui;max-width:70em;margin:2em auto;padding:0 1em}td,th{padding:.2em .6em;text-align:right}"
STYLE += (
    "td:first-child,th:first-child,td:nth-child(2){text-align:left}tr:nth-child(even){background:#f4f4f4}svg{margin:1em 1em 0 0}"
)


def as_page(rows: Sequence[dict[str, Any]], title: str) -> str:
    """One self-contained page: plots of accuracy and AUC by rate, purity by volume, and the whole table."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    parts = [f"<h1>Noise: {html.escape(title)}</h1><p>Flips planted in labels taken as right; accuracy on held-out prompts.</p>"]
    for kind in kinds:
        mine = [row for row in rows if row["kind"] == kind]
        parts.append(f"<h2>{html.escape(kind)} flips</h2>")
        for name, label in (("accuracy", "held-out accuracy"), ("auc", "flip AUC"), ("noise", "noise found")):
            lines = {m: [(r["rate"], r[name]) for r in mine if r["method"] == m and r[name] is not None] for m in _methods(mine)}
            parts.append(_plot(lines, f"{label} by share of flips"))
        worst = max(row["rate"] for row in mine)
        volumes = {r["method"]: list(zip(noise_bench.SHARES, r["purity"], strict=True)) for r in mine if r["rate"] == worst}
        parts.append(_plot(volumes, f"purity by volume kept, {worst:.0%} flips"))
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ("flips", "method", *COLUMNS))
    body = "".join(
        f"<tr><td>{html.escape(row['kind'])} {row['rate']:.0%}</td><td>{row['method']}</td>"
        + "".join(f"<td>{_number(row[name], name)}</td>" for name in COLUMNS)
        + "</tr>"
        for row in rows
    )
    page = f"<table><tr>{head}</tr>{body}</table>"
    return f"<!doctype html><meta charset=utf-8><title>Noise</title><style>{STYLE}</style>{''.join(parts)}{page}\n"


def _methods(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def _plot(lines: dict[str, list[tuple[float, float]]], title: str) -> str:
    """Lines as an SVG with a legend."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    low, high = min(y for _, y in points), max(y for _, y in points)
    left, right = min(x for x, _ in points), max(x for x, _ in points)

    def at(x: float, y: float) -> str:
        return f"{45 + 250 * (x - left) / ((right - left) or 1):.1f},{215 - 180 * (y - low) / ((high - low) or 1):.1f}"

    drawn = []
    for place, (name, line) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(at(x, y) for x, y in line)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn.append(f'<text x="310" y="{40 + 15 * place}" fill="{colour}">{html.escape(name)}</text>')
    axes = f'<text x="2" y="40">{high:.2f}</text><text x="2" y="215">{low:.2f}</text>'
    axes += f'<text x="45" y="235">{left:.0%}</text><text x="275" y="235">{right:.0%}</text>'
    axes += f'<text x="45" y="18" font-weight="bold">{html.escape(title)}</text>'
    return f'<svg width="450" height="245" font-size="12" role="img">{axes}{"".join(drawn)}</svg>'
