"""The card of a version: what a person wants to know before training on it, as a Hugging Face README.md."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from curate.publish import noise_words
from curate.publish.figures import (
    SIDES,
    Compared,
    Figures,
    Step,
    figures,
    files_of,
    flat_scores,
    ranked,
)
from curate.publish.gates import gate_rows
from curate.publish.models_used import used_rows
from curate.publish.reliability import Rater, written
from curate.publish.show import seeded_rows
from curate.publish.wording import code, fence, markdown_table, messages_text, number, plural, share, shorten, visible

LICENSES = re.compile(
    r"afl-3\.0|agpl-3\.0|apache-2\.0|artistic-2\.0|bigscience-openrail-m|bsd(-[23]-clause)?|bsl-1\.0|c-uda|cc0-1\.0|"
    r"cc-by(-nc)?(-nd|-sa)?-[234]\.[05]|cdla-permissive-[12]\.0|cdla-sharing-1\.0|creativeml-openrail-m|ecl-2\.0|epl-[12]\.0|"
    r"etalab-2\.0|eupl-1\.[12]|gemma|gfdl|gpl(-[23]\.0)?|isc|lgpl(-2\.1|-3\.0)?|llama2|llama3(\.[1-3])?|mit|mpl-2\.0|ms-pl|"
    r"odbl|odc-by|openrail(\+\+)?|pddl|postgresql|unlicense|wtfpl|zlib"
)
"""Licence names that the Hub knows."""
SIZES = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"]
"""By powers of ten, from 1,000 rows on."""
TAGS = {
    "pairs": ["preference", "dpo", "rlhf", "reward-modeling", "curate"],
    "responses": ["responses", "rlhf", "curate"],
    "prompts": ["prompts", "curate"],
}
SAMPLES = 3
SAMPLE_CHARACTERS = 600
LISTED = 15  # values of a column that the card lists
REASONS = 6  # drop reasons that a cell lists


def card(folder: Path, manifest: dict[str, Any], found: Figures | None = None) -> str:
    """README.md of a version, the same for the same files: no times, hosts or paths. found: its figures, if they are known."""
    found = figures(folder, manifest) if found is None else found
    recipe = folder / "recipe.yaml"
    parts = [
        f"---\n{yaml.safe_dump(header(folder, manifest, found), sort_keys=False, allow_unicode=True)}---",
        f"# {manifest['name']}",
        _about(manifest, found),
        _gates(manifest),
        _funnel(found.funnel),
        noise_words.section(found.noise) if found.grain == "pairs" and found.rows else "",
        _raters(written(folder)),
        _scores(found),
        _lengths(found),
        _models(found),
        _used(folder, manifest),
        _kinds(found),
        _samples(folder, manifest, found),
        _loading(manifest, found),
        _making(recipe.read_text(encoding="utf-8") if recipe.exists() else ""),
        _licences(found),
        _rejects(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# -- header


def header(folder: Path, manifest: Mapping[str, Any], found: Figures) -> dict[str, Any]:
    """The YAML header: licence, task, size, and which files make up which configuration."""
    task = {"task_categories": ["text-generation"]}
    size = SIZES[min(max(len(str(found.rows)) - 3, 0), len(SIZES) - 1)]
    about = {"pretty_name": manifest["name"], "tags": TAGS[found.grain], "size_categories": [size]}
    return license_of(found.kinds.get("license", Counter())) | task | about | {"configs": _configs(found)}


def license_of(counts: Mapping[str | None, int]) -> dict[str, Any]:
    """license: the one all rows have, if the Hub knows it; other, with the names, if not; unknown if no row tells."""
    told = sorted({name for name in counts if name})
    if not told:
        return {"license": "unknown"}
    known = {re.sub(r"[\s_]+", "-", name.strip().lower()) for name in told}
    if len(known) == 1 and None not in counts and LICENSES.fullmatch(only := known.pop()):
        return {"license": only}
    names = [*told, "not told"] if None in counts else told
    return {"license": "other", "license_name": shorten(visible(", ".join(names)), 200)}


def _configs(found: Figures) -> list[dict[str, Any]]:
    order = {"train": 0, "validation": 1, "test": 2}
    splits = sorted(found.splits, key=lambda name: (order.get(name, 3), name))
    default = [{"split": split, "path": f"{found.grain}/{split}-*.arrow"} for split in splits]
    configs: list[dict[str, Any]] = [{"config_name": "default", "default": True, "data_files": default}]
    for table in found.other_rows:
        files = [{"split": "train", "path": f"{table}-*.arrow" if "/" in table else f"{table}/*.arrow"}]
        configs.append({"config_name": config_name(table, found.grain), "data_files": files})
    return configs


def config_name(table: str, grain: str) -> str:
    """Name under which `datasets` loads a table that is not the product: responses, dropped, dropped_responses."""
    return "dropped" if table == f"dropped/{grain}" else table.replace("/", "_")


# -- sections


def _about(manifest: Mapping[str, Any], found: Figures) -> str:
    noun = found.grain[:-1]
    what = {
        "pairs": "pairs of a chosen and a rejected response",
        "responses": "responses to prompts",
        "prompts": "prompts",
    }[found.grain]
    prompts = f" to {plural(found.prompts, 'distinct prompt')}" if found.prompts and found.grain != "prompts" else ""
    source = found.funnel[0]
    steps = ", ".join(code(step.name) for step in found.funnel[1:]) or "no step"
    splits = ", ".join(f"{code(split)} {rows:,}" for split, rows in sorted(found.splits.items()))
    size = f": {plural(found.rows, noun)}{prompts} ({splits})" if found.rows else ", of which none was kept"
    first = f"A dataset of {what}{size}."
    second = (
        f"It was made from {plural(source.rows_in, source.grain[:-1])} of the source by {steps}; "
        "every row that was dropped on the way is kept beside it with the step and the reason."
    )
    names = {f"dropped/{grain}": f"dropped {grain}" for grain in SIDES} | {"responses": "candidate responses behind the pairs"}
    rest = [f"{rows:,} {names.get(table, table)}" for table, rows in found.other_rows.items()]
    beside = f" Beside it: {', '.join(rest)}." if rest else ""
    return f"{first} {second}{beside}\n\nMade with curate {manifest['curate']}, content `{manifest['content'][:16]}`."


def _gates(manifest: Mapping[str, Any]) -> str:
    rows = [[code(text, 200) for text in row.values()] for row in gate_rows(manifest)]
    if not rows:
        return ""
    table = markdown_table(["metric", "value", "condition", "result"], rows, numbers=(1,))
    anyway = "Published although a gate is closed.\n\n" if manifest.get("published_anyway") else ""
    return f"## Gates\n\n{anyway}{table}"


def _funnel(funnel: Sequence[Step]) -> str:
    rows = []
    for step in funnel:
        made = f"{step.made:,} {step.makes}" if step.made is not None else ""
        counts = [f"{step.rows_in:,}", f"{step.kept:,}", share(step.kept, step.rows_in)]
        rows.append([code(step.name), step.grain, *counts, _reasons(step), made])
    table = markdown_table(["step", "rows are", "rows in", "kept", "share", "dropped", "made"], rows, numbers=(2, 3, 4))
    return f"## From source to version\n\n{table}"


def _reasons(step: Step) -> str:
    listed = ranked(step.dropped)  # type: ignore[arg-type]
    told = [f"{count:,} {code(reason)}" for reason, count in listed[:REASONS]]
    more = sum(count for _, count in listed[REASONS:])
    return ", ".join([*told, f"{more:,} for other reasons"] if more else told) or "none"


def _scores(found: Figures) -> str:
    rows = [row for compared in (*found.scores, *found.measures) for row in _distribution_rows(compared)]
    if not rows:
        return ""
    table = markdown_table(["score", "side", "n", "mean", "min", "25 %", "median", "75 %", "max"], rows, numbers=range(2, 9))
    return f"## Scores\n\nEach in its rater's own unit.\n\n{table}"


def _distribution_rows(compared: Compared) -> list[list[str]]:
    rows = []
    for side, spread in compared.sides.items():
        values = [f"{spread.n:,}", number(spread.mean), *(number(q) for q in spread.quartiles)]
        rows.append([code(compared.name), side or "–", *values])
    return rows


def _lengths(found: Figures) -> str:
    if found.lengths is None or not found.rows:
        return ""
    rows = [row[1:] for row in _distribution_rows(found.lengths)]
    table = markdown_table(["side", "n", "mean", "min", "25 %", "median", "75 %", "max"], rows, numbers=range(1, 8))
    return f"## Lengths\n\nCharacters of text.\n\n{table}{_bias(found)}"


def _bias(found: Figures) -> str:
    if found.lengths is None or found.longer_chosen is None:
        return ""
    effect = found.lengths.effect
    d = "The lengths do not vary enough for Cohen's d"
    if effect is not None:
        d = f"Cohen's d of the lengths is {effect:+.2f} (chosen − rejected)"
    said = f"\n\n{d}; the chosen side is the longer one in {share(found.longer_chosen, 1)} of the pairs (ties count half)."
    exchanged = found.kinds.get("origin", Counter()).get("goal_rejected", 0)
    note = f" {exchanged:,} pairs have their sides exchanged for the lower goal, which evens this out." if exchanged else ""
    return said + note


def _raters(raters: Sequence[Rater]) -> str:
    """Whom the votes come from, those with most pairs first, and how far each is relied on."""
    if not raters:
        return ""
    rows = []
    for rater in raters[:LISTED]:
        name = f"{rater.rater} {rater.aspect}" if rater.aspect not in ("", rater.rater) else rater.rater
        right = "not told" if rater.reliability is None else f"{rater.reliability:.2f} ({rater.low:.2f} to {rater.high:.2f})"
        agreement = "not told" if rater.agreement is None else f"{rater.agreement:.2f} of {rater.others:,}"
        rows.append([code(name), f"{rater.pairs:,}", right, agreement])
    table = markdown_table(["rater", "pairs", "reliability (95 %)", "agrees with most others"], rows, numbers=(1,))
    rest = f"\n\n{plural(len(raters) - LISTED, 'more rater')} in raters.jsonl." if len(raters) > LISTED else ""
    return (
        f"## Raters\n\nReliability is the probability of naming the better side, found from all votes together, where any two "
        f"raters judged the same pairs.\n\n{table}{rest}"
    )


def _models(found: Figures) -> str:
    names = Counter[str | None]()
    for counts in found.models.values():
        names.update(counts)
    if not set(names) - {None}:
        return ""
    sides = list(found.models)
    rows = [[_name(name), *(share(found.models[side][name], found.rows) for side in sides)] for name, _ in ranked(names, LISTED)]
    if len(names) > LISTED:
        rows.append([f"{len(names) - LISTED:,} more", *("" for _ in sides)])
    table = markdown_table(["model", *(side or "share" for side in sides)], rows, numbers=range(1, 1 + len(sides)))
    return f"## Models\n\n{table}"


def _used(folder: Path, manifest: Mapping[str, Any]) -> str:
    rows = used_rows(folder, manifest)
    if not rows:
        return ""
    plain = ("where", "remark", "not read in full")
    cells = [[text if column in plain else code(text) if text else "" for column, text in row.items()] for row in rows]
    return f"## Models that were asked\n\n{markdown_table(list(rows[0]), cells)}"


def _name(value: str | None) -> str:
    return "not told" if value is None else code(value)


def _kinds(found: Figures) -> str:
    parts = []
    for column, title in (("domain", "domain"), ("source", "source"), ("origin", "origin"), ("goal", "goal"), ("stage", "stage")):
        counts = found.kinds.get(column, Counter())
        if set(counts) - {None} and not (column == "origin" and set(counts) == {"observed"}):
            parts.append(_counted(title, counts, found.rows))
    return "## Where the rows come from\n\n" + "\n\n".join(parts) if parts else ""


def _counted(title: str, counts: Mapping[str | None, int], total: int) -> str:
    rows = [[_name(value), f"{count:,}", share(count, total)] for value, count in ranked(counts, LISTED)]
    if len(counts) > LISTED:
        rest = sum(count for _, count in ranked(counts)[LISTED:])
        rows.append([f"{len(counts) - LISTED:,} more", f"{rest:,}", share(rest, total)])
    return markdown_table([title, "rows", "share"], rows, numbers=(1, 2))


def _samples(folder: Path, manifest: Mapping[str, Any], found: Figures) -> str:
    files = files_of(folder, found.grain)
    scores = flat_scores(folder, manifest)
    sides = SIDES[found.grain]
    extra = [name for name in ("goal", "margin", *(f"{side}_model" for side in sides), "model") if name in files.schema.names]
    rows = seeded_rows(files, SAMPLES, columns=["prompt", *sides, *extra, *(flat for _, flat, _, _ in scores)])
    if not rows:
        return ""
    shown = "\n\n".join(_sample(i, row, sides, scores) for i, row in enumerate(rows, 1))
    return f"## Examples\n\n{plural(len(rows), found.grain[:-1])} drawn at random, long texts shortened.\n\n{shown}"


def _sample(place: int, row: Mapping[str, Any], sides: Sequence[str], scores: Sequence[tuple[str, str, str, str]]) -> str:
    parts = [f"### Example {place}", f"**Prompt**\n\n{_block(messages_text(row['prompt']))}"]
    about = [f"margin {number(row['margin'])}"] if row.get("margin") is not None else []
    about += [f"goal {code(row['goal'])}"] if row.get("goal") is not None else []
    if about:
        parts.insert(1, ", ".join(about))
    for side in sides:
        text = row[side] if isinstance(row[side], str) or row[side] is None else messages_text(row[side])
        model = row.get("model" if side == "response" else f"{side}_model")
        column = "scores" if side == "response" else f"{side}_scores"
        told = [code(model)] if model else []
        told += [f"{code(f'{rater} {aspect}'.strip())} {number(row[flat])}" for of, flat, rater, aspect in scores if of == column]
        parts.append(f"**{side.capitalize()}**{' (' + ', '.join(told) + ')' if told else ''}\n\n{_block(text)}")
    return "\n\n".join(parts)


def _block(text: str | None) -> str:
    return "(no text)" if text is None else fence(visible(shorten(text, SAMPLE_CHARACTERS)))


def _loading(manifest: Mapping[str, Any], found: Figures) -> str:
    grain, split = found.grain, next(iter(sorted(found.splits)), "train")
    others = [config_name(table, grain) for table in found.other_rows]
    more = f'\nload_dataset(folder, "{others[0]}", split="train")  # also: {", ".join(others)}' if others else ""
    python = (
        'folder = "."  # this folder, or its name on the Hub for `datasets`\n\n'
        f'from datasets import load_dataset\nload_dataset(folder, split="{split}"){more}\n\n'
        f'import polars as pl\npl.read_ipc(f"{{folder}}/{grain}/*.arrow")\n\n'
        f'import pyarrow.dataset as ds\nds.dataset(f"{{folder}}/{grain}", format="ipc").to_table()'
    )
    about = "Scores are also flat float columns; null means that there is no score."
    if grain == "pairs":
        about = f"`prompt`, `chosen` and `rejected` are lists of messages, as TRL takes them. {about}"
    return f"## Loading\n\n{about}\n\n{fence(python, 'python')}"


def _making(recipe: str) -> str:
    command = fence("curate run recipe.yaml", "bash")
    block = f"<details>\n<summary>recipe.yaml</summary>\n\n{fence(recipe.rstrip(), 'yaml')}\n\n</details>"
    return "\n\n".join(["## How it was made", command, *([block] if recipe.strip() else [])])


def _licences(found: Figures) -> str:
    counts = found.kinds.get("license", Counter())
    if not set(counts) - {None}:
        return "## Licences\n\nNo row names its licence; that of the source holds." if found.rows else ""
    return f"## Licences\n\nAs the rows name them.\n\n{_counted('licence', counts, found.rows)}"


def _rejects(found: Figures) -> str:
    rejected = found.rejects.get("rejected", found.rejects.get("rows", 0))
    if not rejected:
        return ""
    reasons: dict[str | None, int] = dict(found.rejects.get("reasons", {}))
    rows = [[_name(reason), f"{count:,}"] for reason, count in ranked(reasons, LISTED)]
    table = markdown_table(["reason", "rows"], rows, numbers=(1,)) if rows else ""
    said = f"{plural(rejected, 'row')} of the source could not be used; `rejects.jsonl` names each."
    return f"## Rejected rows\n\n{said}\n\n{table}".rstrip()
