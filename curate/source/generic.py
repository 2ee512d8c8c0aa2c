"""Read any rows through a recipe's own mapping: pairs, candidates, lists of candidates, prompts."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from curate.ids import canonical_json
from curate.source import fields
from curate.source.fields import Raw, getter, json_text, kind_of, label_text, plain, read_with, real, whole
from curate.source.messages import Message, after, as_messages, completion, ended, prompt_messages, shared_prefix
from curate.source.rejects import BadRow
from curate.source.spec import COLUMNS_OF, GRAINS, MADE_FROM, SIDES, JoinScores, Mapper, PairScore, ScoreField, Source
from curate.source.votes import majority, read_label, read_votes, turned

Row = dict[str, Any]
CHOICES = {"policy": ("on", "off", "unknown"), "split": ("train", "validation", "test")}
SMALL_WHOLE = ("sample", "prompt_tokens", "response_tokens", "stage")
WHOLE = ("seed", *SMALL_WHOLE)
REAL = ("logprob_sum", "margin", "label_prob", "weight", "difficulty")
JSON = ("tools", "sampling", "goal")
HANDLED = ("prompt", "system", "response", "responses", "models", "first_model", "second_model", *SIDES)
"""Columns that the functions below read themselves; the others are converted one by one."""


def mapper(source: Source) -> Mapper:
    """The function from one source row to its table rows."""
    return {"prompts": _prompts, "candidates": _candidates, "lists": _lists, "pairs": _pairs}[source.kind()](source)


def mapping_of(source: Source) -> dict[str, str]:
    """Our columns and their fields. Columns a row cannot do without are read from fields of their own name."""
    kind = source.kind()
    if not source.columns:
        return {name: name for name in COLUMNS_OF[kind] if name not in source.constants and name not in ("first", "second")}
    needed = {"prompts": ["prompt"], "candidates": ["prompt", "response"], "lists": ["prompt", "responses"], "pairs": ["prompt"]}[
        kind
    ]
    if kind == "pairs" and "first" not in source.columns:
        needed = [*needed, "chosen", "rejected"]
    return {name: name for name in needed} | source.columns


def provides(source: Source) -> set[str]:
    """Columns, scores and votes that the rows can have."""
    mapped = {*mapping_of(source), *source.constants}
    columns = {MADE_FROM.get(name, name) for name in mapped} | ({"meta"} if source.meta else set())
    return columns | _evidence(source)


def _evidence(source: Source) -> set[str]:
    out = set()
    for rater, score in source.scores.items():
        kinds = ("chosen_scores", "rejected_scores") if isinstance(score, PairScore) else ("scores",)
        out |= {f"{kind}.{rater}.{score.aspect}" for kind in kinds} | set(kinds)
    if GRAINS[source.kind()] == "pairs":
        out |= {"votes", "flags"}
        if not (source.votes and not source.label and "first" in source.columns):
            out.add("votes.*.preference" if source.label and source.label.rater else "votes.source.preference")
    if source.votes:
        raters = source.votes.columns or ("*",)
        out |= {f"votes.{rater}.{source.votes.aspect}" for rater in raters}
    return out


def used_fields(source: Source) -> set[str] | None:
    """Top-level fields that the mapping reads."""
    paths = [*mapping_of(source).values(), *needs(source)]
    for score in source.scores.values():
        if isinstance(score, ScoreField) and score.rationale:
            paths.append(score.rationale)
    if source.label and source.label.rater:
        paths.append(source.label.rater)
    return {name for path in paths for name in fields.roots(path)}


def needs(source: Source) -> list[str]:
    """Paths that a columnar file must have: those the recipe names itself."""
    paths = [hole for mapped in source.columns.values() for hole in fields.holes(mapped)] + list(source.meta)
    for score in source.scores.values():
        named = [score.value] if isinstance(score, ScoreField) else [getattr(score, side) for side in SIDES]
        paths += [path for path in named if path]
    if source.votes:
        paths += [*source.votes.columns, *([source.votes.list_] if source.votes.list_ else [])]
    return paths + ([source.label.column] if source.label else [])


def common(source: Source) -> Callable[[Raw], Row]:
    """The function that reads what every kind of row has, but its prompt."""
    readers = [(name, read_with(path), path) for name, path in mapping_of(source).items() if name not in HANDLED]
    constants = {name: value for name, value in source.constants.items() if name not in HANDLED}
    metas = [(path, getter(path)) for path in source.meta]
    scores = [read_score(rater, score) for rater, score in source.scores.items() if isinstance(score, ScoreField)]
    single = source.kind() != "lists"

    def read(row: Raw) -> Row:
        out: Row = dict(constants)
        for name, get, path in readers:
            value = get(row)
            if value is not None and value != "":
                out[name] = convert(name, value, path)
        if metas:
            kept = {path: plain(value, path) for path, get in metas if (value := get(row)) is not None}
            out["meta"] = canonical_json(kept) if kept else None
        if scores and single:
            out["scores"] = [entry for score in scores if (entry := score(row)) is not None]
        return out

    return read


def convert(name: str, value: Any, path: str) -> Any:
    """A field's value as its column's type; BadRow if it is none."""
    if name in WHOLE:
        return whole(value, path, 32 if name in SMALL_WHOLE else 64)
    if name in REAL:
        return real(value, path)
    if name in JSON:
        return json_text(value, path)
    if name == "images":
        return images(value, path)
    told = label_text(value, path)
    if name in CHOICES and told not in CHOICES[name]:
        raise BadRow(path, "wrong value", f"{name} is one of {', '.join(CHOICES[name])}, got {told!r:.40}")
    return told


def images(value: Any, path: str) -> list[dict[str, str]]:
    """Images carried as {bytes, path}: named by the sha256 of their bytes. BadRow where the bytes are not in the row."""
    out = []
    for entry in value if isinstance(value, list) else [value]:
        content = entry.get("bytes") if isinstance(entry, Mapping) else None
        if not isinstance(content, bytes):
            raise BadRow(path, "wrong type", f"an image needs its bytes in the row, got {kind_of(entry)}")
        sha = hashlib.sha256(content).hexdigest()
        # only the suffix of the given name is used: a path in a data file must not lead anywhere
        out.append({"sha256": sha, "path": f"media/{sha}{PurePosixPath(str(entry.get('path') or '')).suffix}"})
    return out


def score_entry(rater: str, score: ScoreField | PairScore | JoinScores, value: Any, path: str, rationale: Any = None) -> Row:
    """An entry of a score column. What is no finite number, and no value that `values` lists, is null, with its text as error."""
    listed = score.values.get(str(fields.same_key(value))) if score.values else None
    number = fields.numeric(value) if listed is None else listed
    entry: Row = {"rater": rater, "aspect": score.aspect, "value": number}
    if number is None:
        entry["error"] = "not a number: " + (
            repr(value) if isinstance(value, float) else label_text(value, path) if value is not None else "null"
        )
    if rationale is not None:
        entry["rationale"] = label_text(rationale, path)
    return entry


def read_score(rater: str, score: ScoreField) -> Callable[[Raw], Row | None]:
    """The function that reads a score of a row, None where the row has none."""
    get, reason = getter(score.value), getter(score.rationale) if score.rationale else None

    def read(row: Raw) -> Row | None:
        value = get(row)
        return None if value is None else score_entry(rater, score, value, score.value, reason(row) if reason else None)

    return read


def read_prompt(source: Source) -> Callable[[Raw], list[Message]]:
    """The function that reads a row's prompt."""
    columns = mapping_of(source)
    path = columns["prompt"]
    get = read_with(path)
    get_system = read_with(columns["system"]) if "system" in columns else None
    constant = source.constants.get("system")
    return lambda row: prompt_messages(get(row), get_system(row) if get_system else constant, path)


def _prompts(source: Source) -> Mapper:
    read, prompt = common(source), read_prompt(source)
    return lambda row: [{"prompt": prompt(row)} | read(row)]


def _candidates(source: Source) -> Mapper:
    read, prompt = common(source), read_prompt(source)
    path = mapping_of(source)["response"]
    response = read_with(path)

    def rows(row: Raw) -> list[Row]:
        asked = prompt(row)
        text, turns = completion(response(row), path, asked)
        return [{"prompt": asked, "response": text, "turns": turns} | read(row)]

    return rows


def _lists(source: Source) -> Mapper:
    read, prompt = common(source), read_prompt(source)
    columns = mapping_of(source)
    responses, models = read_with(columns["responses"]), read_with(columns["models"]) if "models" in columns else None
    scores = [(rater, s, getter(s.value)) for rater, s in source.scores.items() if isinstance(s, ScoreField)]

    def rows(row: Raw) -> list[Row]:
        asked, about = prompt(row), read(row)
        answers = _list(responses(row), columns["responses"])
        named = models(row) if models else None
        names = [None] * len(answers) if named is None else _list(named, columns["models"], len(answers))
        marks = [(rater, s, _list(found, s.value, len(answers))) for rater, s, get in scores if (found := get(row)) is not None]
        out = []
        for place, answer in enumerate(answers):
            path = f"{columns['responses']}[{place}]"
            text, turns = completion(answer, path, asked)
            model = None if names[place] is None else label_text(names[place], columns["models"])
            given = [score_entry(rater, s, m[place], s.value) for rater, s, m in marks if m[place] is not None]
            told = {"scores": given} if model is None else {"model": model, "scores": given}
            out.append({"prompt": asked, "response": text, "turns": turns} | about | told)
        return out

    return rows


def _list(value: Any, path: str, length: int | None = None) -> list[Any]:
    if value is None:
        raise BadRow(path, "missing field")
    if not isinstance(value, list):
        raise BadRow(path, "wrong type", f"a list expected, got {kind_of(value)}")
    if not value:
        raise BadRow(path, "empty field")
    if length is not None and len(value) != length:
        raise BadRow(path, "lists differ in length", f"{len(value)} entries for {length} responses")
    return value


def _pairs(source: Source) -> Mapper:
    read, columns = common(source), mapping_of(source)
    sides = ("first", "second") if "first" in columns else ("chosen", "rejected")
    both = [read_with(columns[side]) for side in sides]
    models = [
        read_with(columns[name]) if (name := f"{side}_model") in columns and side in ("first", "second") else None
        for side in sides
    ]
    marks = [
        (rater, s, [getter(str(getattr(s, side))) for side in sides])
        for rater, s in source.scores.items()
        if isinstance(s, PairScore)
    ]
    label = read_label(source.label) if source.label else None
    votes = read_votes(source.votes) if source.votes else None
    split = splitter(source, [columns[side] for side in sides])

    def rows(row: Raw) -> list[Row]:
        prompt, answers = split(row, [get(row) for get in both])
        given = votes(row) if votes else []
        told = label(row) if label else None
        p_first = told["p_chosen"] if told else 1.0 if sides[0] == "chosen" else majority(given)
        if told is None and sides[0] == "chosen":
            told = {"rater": "source", "aspect": "preference", "p_chosen": 1.0}
        cast = ([told] if told else []) + given
        swap = p_first < 0.5
        order = (1, 0) if swap else (0, 1)
        out: Row = {"prompt": prompt} | pair_columns([answers[i] for i in order]) | read(row)
        for name, i in zip(("chosen_model", "rejected_model"), order, strict=True):
            get = models[i]
            if get and (model := get(row)) is not None:
                out[name] = label_text(model, name)
        for name, i in zip(("chosen_scores", "rejected_scores"), order, strict=True):
            found = [(rater, s, getters[i](row), str(getattr(s, sides[i]))) for rater, s, getters in marks]
            out[name] = [score_entry(rater, s, value, path) for rater, s, value, path in found if value is not None]
        out["votes"] = turned(cast) if swap else cast
        out["flags"] = pair_flags(out, p_first)
        return [out]

    return rows


def pair_columns(answers: list[tuple[str, list[Message] | None]]) -> Row:
    """Both sides' columns, chosen first."""
    (chosen, chosen_turns), (rejected, rejected_turns) = answers
    sides = {"chosen": chosen, "rejected": rejected, "chosen_turns": chosen_turns, "rejected_turns": rejected_turns}
    return sides | {"origin": "observed"}


def pair_flags(pair: Row, p_first: float = 1.0) -> list[Row] | None:
    """Why a pair cannot teach anything: no side is better, or both are the same. None for a sound pair."""
    if pair["chosen"] == pair["rejected"] and pair["chosen_turns"] == pair["rejected_turns"]:
        return [{"by": "source", "reason": "identical"}]
    return [{"by": "source", "reason": "tie"}] if p_first == 0.5 else None


def splitter(source: Source, names: list[str]) -> Callable[[Raw, list[Any]], tuple[list[Message], list[Any]]]:
    """The function that gives a pair's prompt and both completions; without a prompt it is what both conversations share."""
    columns = mapping_of(source)
    path = columns["prompt"]
    mapped = "prompt" in source.columns
    get = read_with(path)
    get_system = read_with(columns["system"]) if "system" in columns else None
    constant = source.constants.get("system")

    def split(row: Raw, sides: list[Any]) -> tuple[list[Message], list[Any]]:
        asked = get(row)
        system = get_system(row) if get_system else constant
        if asked is not None or mapped:
            prompt = prompt_messages(asked, system, path)
            return prompt, [completion(side, name, prompt) for side, name in zip(sides, names, strict=True)]
        return shared_prompt(sides, names, path, system)

    return split


def shared_prompt(sides: list[Any], names: list[str], path: str, system: Any = None) -> tuple[list[Message], list[Any]]:
    """The prompt that two whole conversations share, and what follows it on either side."""
    talks = [as_messages(side, name) for side, name in zip(sides, names, strict=True) if side is not None]
    if len(talks) < 2:
        raise BadRow(names[[side is None for side in sides].index(True)], "missing field")
    first, second = talks
    if first is None or second is None:
        raise BadRow(path, "missing field")
    shared = shared_prefix(first, second)
    if not shared:
        raise BadRow(path, "no shared prompt", "the two conversations do not begin alike")
    prompt = prompt_messages(first[:shared], system, path)
    return prompt, [ended(after(first[:shared], talk), name) for talk, name in zip((first, second), names, strict=True)]
