"""Tell the whole story of one row of a version: where it came from, what each step saw in it, and where it ended."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UnknownName
from curate.publish import noise_words
from curate.publish.figures import GRAINS, ROW_ID, SIDES, Step, files_of, steps_of, table_names
from curate.publish.noise_figures import PLANTED, TURNED
from curate.publish.show import rows_at
from curate.publish.token_logprobs import least_likely
from curate.publish.wording import messages_text, number, one_line, short_id
from curate.store.store import Store
from curate.store.versions import Version

PREFIX = 6  # hex digits of an id that must be given
LISTED = 10  # rows that a message or an event lists
WRITES = {"split": "split", "goal": "goal", "weight": "weight", "soft_label": "label_prob", "order": "stage"}
"""By operator: the column of one value that it writes."""
EXCHANGES = {"flip": TURNED, "inject_noise": PLANTED}
"""By operator that exchanges the sides of some pairs: its measure, 1 where it did."""
RATE_BY_MODELS = ("reward", "likelihood", "judge", "vote")
"""Operators whose raters are the models that they ask."""
KEEPS_IDS = {"inject_noise"}
"""Operators that turn rows and leave their ids: what a row was made from is no tale of theirs."""

Did = Literal["came", "saw", "scored", "made", "dropped", "unseen", "ended"]


@dataclass(frozen=True)
class Event:
    """Something that happened to the row."""

    step: str
    """Name of the step; source, prompt or version for what no step did."""
    did: Did
    text: str


@dataclass(frozen=True)
class Why:
    """The story of one row."""

    version: str
    table: str
    """Where it lies: pairs, responses, dropped/pairs, ..."""
    grain: str
    id: str
    row: int | None
    """Its ordinal among the rows of its grain, kept and dropped."""
    kept: bool
    prompt: str
    texts: dict[str, str]
    """By side: chosen and rejected, or response."""
    models: dict[str, str | None]
    events: tuple[Event, ...]
    also: tuple[str, ...] = ()
    """Other rows with the same id, as `pairs:17`."""


@dataclass(frozen=True)
class _Place:
    """A row of a table."""

    table: str
    at: int
    id: str

    @property
    def grain(self) -> str:
        return self.table.rpartition("/")[2]


def why(version: Version, row: str | int) -> Why:
    """The story of a row, given by ordinal (17, responses:17), id, or the first six or more digits of its id.

    Looks among kept and dropped rows of every grain. The id of a prompt that is no row of its own tells what became
    of its rows.
    """
    found = _find(version, str(row).strip())
    if isinstance(found, Why):
        return found
    first, *others = found
    values = _row(version, first)
    teller = _Teller(version, values, first.grain, first.table)
    return Why(
        version=str(version),
        table=first.table,
        grain=first.grain,
        id=first.id,
        row=values.get("row"),
        kept=not first.table.startswith("dropped/"),
        prompt=messages_text(values["prompt"]),
        texts={side: _text(values[side]) for side in SIDES[first.grain]},
        models={side: values.get("model" if side == "response" else f"{side}_model") for side in SIDES[first.grain]},
        events=tuple(teller.events()),
        also=tuple(f"{place.grain}:{_row(version, place, ['row'])['row']}" for place in others[:LISTED]),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else messages_text(value)  # null: no text


# -- finding rows


def _find(version: Version, asked: str) -> list[_Place] | Why:
    """The rows meant: several only if they share one id, kept ones first."""
    names = table_names(version.path, version.manifest["grain"])
    if match := re.fullmatch(r"(?:(row|prompts|responses|pairs):)?(\d+)", asked):
        grain = version.manifest["grain"] if match[1] in (None, "row") else match[1]
        by_number = _by_number(version, grain, int(match[2]))
        by_id = _by_id(version, names, asked) if match[1] is None else []
        return _single(version, asked, by_number + by_id)
    if not re.fullmatch(rf"[0-9a-f]{{{PREFIX},}}", asked.lower()):
        raise UnknownName(f"{asked!r} is no row: give its number, or at least the first {PREFIX} digits of its id")
    places = _by_id(version, names, asked.lower())
    if places:
        return _single(version, asked, places)
    return _prompt_story(version, names, asked.lower())


def _single(version: Version, asked: str, places: list[_Place]) -> list[_Place]:
    """The places, if they are all of one id; else an error that lists them."""
    if not places:
        grain = version.manifest["grain"]
        total = sum(files_of(version.path, table).rows for table in (grain, f"dropped/{grain}"))
        known = f"{grain}, kept and dropped, are numbered 0 to {total - 1:,}" if total else f"it has no {grain}"
        raise UnknownName(f"{version} has no row {asked}; {known}")
    if len({(place.grain, place.id) for place in places}) > 1:
        listed = ", ".join(f"{place.id} ({place.table})" for place in places[:LISTED])
        more = f" and {len(places) - LISTED} more" if len(places) > LISTED else ""
        raise UnknownName(f"{asked} is the start of several rows of {version}: {listed}{more}; give more digits, or row:NUMBER")
    return sorted(places, key=lambda place: place.table.startswith("dropped/"))


def _by_number(version: Version, grain: str, row: int) -> list[_Place]:
    return [
        place
        for table in (grain, f"dropped/{grain}")
        for place in _places(version, table, ["row"], lambda batch: pc.equal(batch["row"], row))
    ]


def _by_id(version: Version, names: Sequence[str], prefix: str) -> list[_Place]:
    if len(prefix) < PREFIX:
        return []
    found: list[_Place] = []
    for table in names:
        column = ROW_ID[table.rpartition("/")[2]]
        found += _places(version, table, [column], partial(_begins, column=column, prefix=prefix))
    return found


def _places(version: Version, table: str, columns: Sequence[str], test: Callable[[pa.Table], Any]) -> Iterator[_Place]:
    """Rows of a table that pass a test on some columns."""
    files = files_of(version.path, table)
    if not set(columns) <= set(files.schema.names):
        return
    row_id = ROW_ID[table.rpartition("/")[2]]
    start = 0
    for batch in files.batches(list(dict.fromkeys([row_id, *columns]))):
        hits = np.flatnonzero(pc.fill_null(test(batch), False).to_numpy())
        for hit in hits:
            yield _Place(table, start + int(hit), batch[row_id][int(hit)].as_py())
        start += batch.num_rows


def _row(version: Version, place: _Place, columns: Sequence[str] | None = None) -> dict[str, Any]:
    rows: list[dict[str, Any]] = rows_at(files_of(version.path, place.table), [place.at], columns).to_pylist()
    return rows[0]


def _prompt_story(version: Version, names: Sequence[str], prefix: str) -> Why:
    """What became of a prompt: the rows that carry it."""
    test = partial(_begins, column="prompt_id", prefix=prefix)
    places = [place for table in names for place in _places(version, table, ["prompt_id"], test)]
    if not places:
        _raise_unknown(version, names, prefix)
    ids = _prompt_ids(version, names, prefix)
    if len(ids) > 1:
        raise UnknownName(f"{prefix} is the start of several prompts: {', '.join(sorted(ids)[:LISTED])}; give more digits")
    values = _row(version, places[0])
    events = [Event("source", "came", _origin(values))]
    for table in names:
        there = [place for place in places if place.table == table]
        if there:
            listed = ", ".join(short_id(place.id) for place in there[:LISTED])
            events.append(Event("version", "ended", f"{len(there):,} in {table}: {listed}{'…' if len(there) > LISTED else ''}"))
    kept = any(place.table == version.manifest["grain"] for place in places)
    return Why(str(version), "prompts", "prompts", ids.pop(), None, kept, messages_text(values["prompt"]), {}, {}, tuple(events))


def _prompt_ids(version: Version, names: Sequence[str], prefix: str) -> set[str]:
    found: set[str] = set()
    for batch in (batch for table in names for batch in files_of(version.path, table).batches(["prompt_id"])):
        found.update(pc.unique(batch["prompt_id"].filter(pc.starts_with(batch["prompt_id"], prefix))).to_pylist())
    return found


def _raise_unknown(version: Version, names: Sequence[str], prefix: str) -> None:
    for table in names:
        made = list(_places(version, table, ["parent_id"], partial(_begins, column="parent_id", prefix=prefix)))
        if made:
            listed = ", ".join(place.id for place in made[:LISTED])
            raise UnknownName(f"{prefix} is not in {version} itself; made from it, in {table}: {listed}")
    raise UnknownName(f"no row of {version} has an id that begins with {prefix}; looked in {', '.join(names)}")


# -- telling


@dataclass(frozen=True)
class _Teller:
    """Reads the events of a row off the evidence it carries."""

    version: Version
    row: dict[str, Any]
    grain: str
    table: str

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        return steps_of(self.version.manifest)

    def events(self) -> list[Event]:
        """Everything that happened, in order."""
        events = [Event("source", "came", "; ".join([_origin(self.row), *self._came_with()]))]
        prompt = one_line(messages_text(self.row["prompt"]), 160)
        events.append(Event("prompt", "came", f"{short_id(self.row['prompt_id'])} {prompt}"))
        events += self._parent()
        dropped_by = self.row.get("dropped_by")
        for place, step in enumerate(self.steps[1:], 1):
            if GRAINS.index(step.grain) > GRAINS.index(self.grain):
                break
            events += self._at(step)
            if dropped_by == step.name:
                later = [s.name for s in self.steps[place + 1 :] if s.grain == self.grain]
                events += [Event(", ".join(later), "unseen", "not given this row")] if later else []
                break
        if dropped_by is not None and dropped_by not in [event.step for event in events if event.did == "dropped"]:
            events.append(Event(dropped_by, "dropped", self._drop(None)))
        return events + self._end()

    def _at(self, step: Step) -> list[Event]:
        """What one step did to the row, or to its sides where it worked on those."""
        if step.operator == "flip" and step.grain == self.grain:
            return [self._flip(step)]
        if step.grain != self.grain:
            told = self._sides_at(step)
            if step.makes == self.grain:
                told.append(Event(step.name, "made", self._became()))
            return told
        events: list[Event] = []
        seen = _measures(self.row.get("evidence"), step) + self._wrote(step) + self._tokens(step, self.row[ROW_ID[self.grain]])
        scored = self._scored(step)
        if scored:
            events.append(Event(step.name, "scored", "; ".join(scored)))
        if self.row.get("dropped_by") == step.name:
            more = [text for text in seen if not (step.cut and text.startswith(f"{step.cut['measure']} "))]
            return [*events, Event(step.name, "dropped", "; ".join([self._drop(step), *more]))]
        if step.makes == self.grain and self.row.get("parent_id") and step.operator not in KEEPS_IDS:
            return [*events, Event(step.name, "made", "; ".join([self._remade(), *seen]))]
        if seen or not scored:
            events.append(Event(step.name, "saw", "kept" + "".join(f"; {text}" for text in seen)))
        return events

    def _scored(self, step: Step) -> list[str]:
        """What a step's raters say of the row; those that are models are named."""
        return [text for rater in self._raters[step.name] for text in _scores(self.row, rater, named=rater != step.name)]

    @cached_property
    def _raters(self) -> dict[str, list[str]]:
        """Who scores and votes in each step: the step under its own name, and models in the first step that asks them to."""
        found: dict[str, list[str]] = {}
        for entry in self.version.manifest["steps"][1:]:
            known = {rater for raters in found.values() for rater in raters}
            models = sorted(entry.get("models") or ()) if entry["operator"] in RATE_BY_MODELS else []
            found[entry["name"]] = list(dict.fromkeys([entry["name"], *(model for model in models if model not in known)]))
        return found

    def _flip(self, step: Step) -> Event:
        """Whether a step exchanged the sides, and why."""
        parameters = next(entry["parameters"] for entry in self.version.manifest["steps"] if entry["name"] == step.name)
        turned = _evidence(self.row, f"{step.name}:{TURNED}") == 1
        by = parameters.get("by")
        text = noise_words.flip_story(turned, by, _evidence(self.row, by) if by else None, parameters["above"])
        if turned and self.row.get("origin") == "flipped" and self.row["pair_id"] != self.row["parent_id"]:
            text = f"became pair {short_id(self.row['pair_id'])} out of {short_id(self.row['parent_id'])}; {text}"
        return Event(step.name, "made" if turned else "saw", text if turned else f"kept; {text}")

    def _came_with(self) -> list[str]:
        """Scores and votes of raters that are no step: the source's own."""
        own = {rater for raters in self._raters.values() for rater in raters}
        entries = [e for name in ("scores", "chosen_scores", "rejected_scores", "votes") for e in self.row.get(name) or ()]
        raters = dict.fromkeys(entry["rater"] for entry in entries if entry["rater"] not in own)
        return [f"came with {'; '.join(_scores(self.row, rater, named=True))}" for rater in raters]

    def _parent(self) -> list[Event]:
        parent = self.row.get("parent_id")
        if not parent or parent == self.row[ROW_ID[self.grain]]:  # planted wrong and turned back: the pair it was
            return []
        place = self._first((self.grain, f"dropped/{self.grain}"), ROW_ID[self.grain], parent)
        if place is None:
            return [Event("parent", "came", f"made from {short_id(parent)}, which it replaces")]
        values = _row(self.version, place)
        texts = " / ".join(one_line(_text(values[side]), 60) for side in SIDES[self.grain])
        return [Event("parent", "came", f"made from {short_id(parent)}, which is in {place.table}: {texts}")]

    def _became(self) -> str:
        if self.grain != "pairs":
            return f"became {self.grain[:-1]} {short_id(self.row[ROW_ID[self.grain]])}"
        better, worse = short_id(self.row["chosen_id"]), short_id(self.row["rejected_id"])
        margin = self.row.get("margin")
        if self._exchanged(EXCHANGES):
            better, worse = worse, better
        if margin is not None and self._exchanged({"flip": TURNED}):  # planting leaves the margin as it was claimed
            margin = -margin
        return f"paired {better} over {worse}" + (f"; margin {number(margin)}" if margin is not None else "")

    def _exchanged(self, kinds: Mapping[str, str]) -> bool:
        """Whether the sides stand the other way round than they were paired: by a goal, or by operators with their measure."""
        done = [_evidence(self.row, f"{step.name}:{kinds[step.operator]}") for step in self.steps if step.operator in kinds]
        return (done.count(1) + (self.row.get("origin") == "goal_rejected")) % 2 == 1

    def _remade(self) -> str:
        """How the row was made from another of its grain."""
        words = {
            "goal_chosen": "sides as they were",
            "goal_rejected": "made for the rejected side's goal, for which it is the better one",
        }
        row_id = self.row[ROW_ID[self.grain]]
        twins = [
            place
            for table in (self.grain, f"dropped/{self.grain}")
            for place in _places(self.version, table, ["parent_id"], lambda b: pc.equal(b["parent_id"], self.row["parent_id"]))
            if place.id != row_id
        ]
        how = words.get(self.row.get("origin") or "", "")
        twin = f"its twin is {', '.join(f'{short_id(t.id)} ({t.table})' for t in twins[:3])}" if twins else ""
        made = f"became {self.grain[:-1]} {short_id(row_id)} out of {short_id(self.row['parent_id'])}"
        return "; ".join(part for part in (made, how, twin) if part)

    def _wrote(self, step: Step) -> list[str]:
        column = WRITES.get(step.operator)
        value = self.row.get(column) if column else None
        return [] if value is None else [f"{column} {value if isinstance(value, str) else number(value)}"]

    def _tokens(self, step: Step, row_id: str) -> list[str]:
        """What a step thinks of the row's tokens, where the store this version lies in still has them."""
        kept = step.operator == "likelihood"
        return least_likely(Store(self.version.path.parents[2]), self.version, step.name, row_id) if kept else []

    def _drop(self, step: Step | None) -> str:
        """Reason, measure and threshold of the flag that dropped the row."""
        text = str(self.row["reason"])
        if self.row.get("value") is not None:
            text += f": {number(self.row['value'])}"
            if step and step.cut:
                text += f", kept if {step.cut['keep']} {number(step.cut['threshold'])}"
        other = self.row.get("other")
        if other and step and step.operator == "contamination":  # the item and a quotation
            return f"{text}; {one_line(other, 300)}"
        if other and " > " in other:  # preferences, the row's own first
            return f"{text}; in the cycle {other}"
        return f"{text}; lost to {self._named(other)}" if other else text

    def _named(self, row_id: str) -> str:
        """Another row of the same grain: its id, where it is and how it begins."""
        place = self._first((self.grain, f"dropped/{self.grain}"), ROW_ID[self.grain], row_id)
        if place is None:
            return row_id if "@" in row_id else short_id(row_id)  # name@v3 5f0c...: a row of an earlier version
        values, sides = _row(self.version, place), SIDES[self.grain]
        text = one_line(_text(values[sides[0]] if sides else values["prompt"]), 60)
        return f"{short_id(row_id)} in {place.table}, “{text}”"

    def _sides_at(self, step: Step) -> list[Event]:
        """What a step on responses saw in the sides of a pair."""
        if self.grain != "pairs":
            return []
        scored = self._scored(step)
        events = [Event(step.name, "scored", "; ".join(scored))] if scored else []
        seen = []
        for side, values in self._responses.items():
            told = [*_measures(values.get("evidence"), step), *self._tokens(step, values["response_id"])]
            seen += [f"{side}: {text}" for text in told]
        return events + ([Event(step.name, "saw", "; ".join(seen))] if seen else [])

    @cached_property
    def _responses(self) -> dict[str, dict[str, Any]]:
        """The responses a pair was made of, those that the version holds."""
        found = {}
        for side in SIDES["pairs"]:
            row_id = self.row.get(f"{side}_id")
            place = self._first(("responses", "dropped/responses"), "response_id", row_id) if row_id else None
            if place is not None:
                found[side] = _row(self.version, place)
        return found

    def _first(self, names: Sequence[str], column: str, value: str) -> _Place | None:
        """The first row of some tables that has a value."""
        test = partial(_equals, column=column, value=value)
        return next((place for table in names for place in _places(self.version, table, [column], test)), None)

    def _end(self) -> list[Event]:
        grain = self.version.manifest["grain"]
        if self.table.startswith("dropped/"):
            return [Event("version", "ended", f"not in the data; listed in {self.table}")]
        if self.grain == "responses" and grain == "pairs":
            return self._pairs()
        return [Event("version", "ended", f"in {self.version}, {self.table}, split {self.row.get('split') or 'train'}")]

    def _pairs(self) -> list[Event]:
        """The pairs a response is in."""
        row_id = self.row["response_id"]
        events: list[Event] = []
        for table in ("pairs", "dropped/pairs"):
            places = _places(self.version, table, ["chosen_id", "rejected_id"], lambda batch: _has_side(batch, row_id))
            for place in places:
                if len(events) == LISTED:
                    return [*events, Event("version", "ended", f"and in more; show lists those where chosen_id = '{row_id}'")]
                events.append(Event("version", "ended", _in_pair(_row(self.version, place), row_id, table)))
        return events or [Event("version", "ended", "in no pair")]


def _begins(batch: pa.Table, column: str, prefix: str) -> Any:
    return pc.starts_with(batch[column], prefix)


def _equals(batch: pa.Table, column: str, value: str) -> Any:
    return pc.equal(batch[column], value)


def _has_side(batch: pa.Table, row_id: str) -> Any:
    first, second = (pc.fill_null(pc.equal(batch[name], row_id), False) for name in ("chosen_id", "rejected_id"))
    return pc.or_(first, second)


def _in_pair(pair: Mapping[str, Any], row_id: str, table: str) -> str:
    side, other = ("chosen", "rejected") if pair["chosen_id"] == row_id else ("rejected", "chosen")
    model = pair.get(f"{other}_model")
    against = f"{short_id(pair[f'{other}_id'])}{f' by {model}' if model else ''}"
    goal = f", goal {pair['goal']}" if pair.get("goal") else ""
    text = f"{side} in pair {short_id(pair['pair_id'])} against {against}, margin {number(pair.get('margin'))}{goal}"
    return f"{text}; dropped by {pair['dropped_by']}: {pair['reason']}" if table.startswith("dropped/") else f"{text}; in {table}"


def _origin(row: Mapping[str, Any]) -> str:
    about = [f"{name} {row[name]}" for name in ("domain", "license") if row.get(name)]
    return ", ".join([str(row.get("source") or "a source that is not told"), *about])


def _evidence(row: Mapping[str, Any], of: str) -> float | None:
    """A measure of a row, as step:name; the last one where there are several, None where there is none."""
    step, _, name = of.rpartition(":")
    return next((e["value"] for e in reversed(row.get("evidence") or ()) if (e["by"], e["name"]) == (step, name)), None)


def _measures(evidence: Sequence[Mapping[str, Any]] | None, step: Step) -> list[str]:
    """The measures a step left on a row, with its threshold where it has one; those of wrong labels in words."""
    mine = {entry["name"]: entry["value"] for entry in evidence or () if entry["by"] == step.name}
    words, told = noise_words.story(step.operator, mine)
    return _listed(evidence, step, told) + words


def _listed(evidence: Sequence[Mapping[str, Any]] | None, step: Step, but: Collection[str]) -> list[str]:
    found = []
    for entry in evidence or ():
        if entry["by"] == step.name and entry["name"] not in but:
            cut = step.cut if step.cut and step.cut["measure"] == entry["name"] else None
            limit = f" (kept if {cut['keep']} {number(cut['threshold'])})" if cut else ""
            found.append(f"{entry['name']} {number(entry['value'])}{limit}")
    return found


def _scores(row: Mapping[str, Any], rater: str, named: bool = False) -> list[str]:
    """Scores and votes of one rater, side by side; named: with the rater's name."""
    found: dict[str, list[str]] = {}
    notes = []
    for column, side in (("scores", ""), ("chosen_scores", "chosen "), ("rejected_scores", "rejected ")):
        for entry in row.get(column) or ():
            if entry["rater"] == rater:
                found.setdefault(entry["aspect"] or "", []).append(f"{side}{number(entry['value'])}")
                about = f"{side}{entry['aspect'] + ' ' if entry['aspect'] else ''}"
                notes += [f"{about}{kind}: {one_line(entry[kind], 160)}" for kind in ("rationale", "error") if entry.get(kind)]
    who = f"{rater} " if named else ""
    told = [f"{who}{aspect + ' ' if aspect else ''}{', '.join(values)}" for aspect, values in found.items()]
    for vote in row.get("votes") or ():
        if vote["rater"] == rater:
            swapped = f", {number(vote['p_swapped'])} with sides exchanged" if vote.get("p_swapped") is not None else ""
            aspect = f" on {vote['aspect']}" if vote.get("aspect") else ""
            told.append(f"{who}{f'vote{aspect}'}: chosen preferred with {number(vote['p_chosen'])}{swapped}")
            notes += [f"{kind}: {one_line(vote[kind], 160)}" for kind in ("rationale", "error") if vote.get(kind)]
    return told + notes
