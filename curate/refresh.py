"""Take only what is new in a source since the last version, and leave everything known exactly as it was.

Work is remembered by the content of shards. So an increment is the earlier version's source with its shards untouched,
and further shards that hold the rows of new prompts alone: known prompts cost nothing in any step that works shard by
shard, steps that need all rows decide again over all of them, and what is published is the union.

What a row says decides whether it is new (its ids, scores, votes, meta and other columns), never its position or file.
A prompt counts as known whether or not its rows were dropped later.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from curate.errors import CurateError, UsageError
from curate.ids import digest
from curate.source import partition
from curate.store import arrow
from curate.store.store import Shard, Snapshot, Store
from curate.store.versions import Version, Versions
from curate.tables import Grain

Policy = Literal["replace", "append", "window"]
FORMS = "replace, append, window:1000 (prompts), window:30d (days) or window:5v (increments)"
WINDOW = re.compile(r"window:(\d+(?:\.\d+)?)([dv]?)")
PATTERN = r"^(replace|append|window:[0-9]+(\.[0-9]+)?[dv]?)$"
"""What a refresh written as text looks like, for the schema of recipes."""
SIZES = {"": "prompts", "v": "versions", "d": "days"}
DAY = 86_400.0  # seconds

TOLD_BY_IDS = ("prompt_id", "prompt", "response", "turns", "chosen", "rejected", "chosen_turns", "rejected_turns")
POSITION = ("row", "source")
"""Where a row lies, not what it says: a file that was renamed or sorted brings nothing new."""
ID = "S16"  # 128 bits; numpy's bytes compare and sort as ids do
STORED = pa.binary(16)


@dataclass(frozen=True)
class Refresh:
    """What becomes of a source that changed: only the source as it is now, everything ever seen, or the newest of it."""

    policy: Policy = "replace"
    prompts: int | None = None
    """A window of the newest N prompts, those later in the source being newer."""
    versions: int | None = None
    """A window of the prompts that came with the last N increments."""
    days: float | None = None
    """A window of the prompts that came in the last N days; the newest increment stays however old it is."""

    def __post_init__(self) -> None:
        sizes = {name: value for name in SIZES.values() if (value := getattr(self, name)) is not None}
        if self.policy not in ("replace", "append", "window"):
            raise UsageError(f"refresh: no policy is called {self.policy!r}; there are {FORMS}")
        if self.policy != "window" and sizes:
            raise UsageError(f"refresh: {', '.join(sizes)}: only for the window policy, got {self.policy}")
        if self.policy == "window" and len(sizes) != 1:
            given = " and ".join(sizes) or "none of them"
            raise UsageError(f"refresh: a window needs one of prompts, versions and days, got {given}")
        for name, value in sizes.items():
            if not 0 < value < float("inf"):
                raise UsageError(f"refresh, {name}: should be above 0, got {value:g}")

    def __str__(self) -> str:
        """As a recipe or command line writes it."""
        sizes = [f"{getattr(self, name)}{unit}" for unit, name in SIZES.items() if getattr(self, name) is not None]
        return ":".join([self.policy, *sizes])

    @staticmethod
    def parse(given: Any) -> "Refresh":
        """From text (append, window:30d) or from a recipe's mapping {policy: window, days: 30}. UsageError for anything else."""
        if isinstance(given, Refresh):
            return given
        if isinstance(given, Mapping):
            return _from_mapping(given)
        if isinstance(given, str):
            text = given.strip()
            if text in ("replace", "append"):
                return Refresh(text)  # type: ignore[arg-type]
            if (match := WINDOW.fullmatch(text)) is not None:
                return _from_mapping({"policy": "window", SIZES[match[2]]: float(match[1]) if "." in match[1] else int(match[1])})
        raise UsageError(f"refresh: should be one of {FORMS}, got {given!r}")


REPLACE = Refresh()


def _from_mapping(given: Mapping[str, Any]) -> Refresh:
    unknown = sorted(set(given) - {"policy", *SIZES.values()})
    if unknown:
        raise UsageError(f"refresh: has no {', '.join(map(str, unknown))}; it has policy, prompts, versions and days")
    for name in ("prompts", "versions"):
        value = given.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UsageError(f"refresh, {name}: should be a whole number, got {value!r}")
    days = given.get("days")
    if days is not None and (isinstance(days, bool) or not isinstance(days, int | float)):
        raise UsageError(f"refresh, days: should be a number, got {days!r}")
    policy = given.get("policy", "window" if set(given) & set(SIZES.values()) else None)
    if not isinstance(policy, str):
        raise UsageError(f"refresh, policy: should be one of replace, append and window, got {policy!r}")
    return Refresh(policy, given.get("prompts"), given.get("versions"), days)  # type: ignore[arg-type]


# -- the earlier version


def mappings_of(fingerprint: Mapping[str, Any]) -> list[str]:
    """How the rows of a source are mapped: a digest of the settings of each of its parts, file names and contents left out."""
    reader = fingerprint["reader"]
    parts = [[one["settings"], [join["settings"] for join in one.get("join", [])]] for one in fingerprint["sources"]]
    return sorted({digest({"reader": reader, "settings": settings, "join": joins}) for settings, joins in parts})


class Earlier(NamedTuple):
    """The source of the latest version."""

    snapshot: Snapshot | None
    """None if nothing can be added to it."""
    key: str
    """Of its source step."""
    version: Version | None
    reason: str
    """Why there is none; empty if there is one."""


def earlier_source(store: Store, name: str, fresh: Snapshot) -> Earlier:
    """The source of the latest numbered version of that name, if the rows of `fresh` can be added to it; else why not."""
    latest = Versions(store.root).latest(name)
    if latest is None:
        return Earlier(None, "", None, "there is no version yet")
    try:
        step = latest.manifest["steps"][0]
        snapshot, key = store.snapshot(step["snapshot"]), str(step["key"])
        whole = store.is_whole(snapshot)
    except (CurateError, LookupError, TypeError):
        return Earlier(None, "", latest, f"the source of {latest} is no longer in the store")
    if not whole:
        return Earlier(None, "", latest, f"the source of {latest} is no longer whole in the store")
    if snapshot.grain != fresh.grain:
        return Earlier(None, "", latest, f"{latest} was made from {snapshot.grain}, the source now has {fresh.grain}")
    before, now = set(snapshot.extra.get("mappings", ())), set(fresh.extra["mappings"])
    # a part added to the source, or taken from it, leaves the others mapped as they were
    if not before:
        return Earlier(None, "", latest, f"{latest} does not tell how its rows were mapped")
    if not (before <= now or now <= before):
        return Earlier(None, "", latest, f"the rows of {latest} were mapped in another way")
    return Earlier(snapshot, key, latest, "")


def expired(store: Store, earlier: Earlier, days: float, now: float) -> int:
    """How many of the earlier source's increments came with versions older than so many days at `now` (seconds, epoch)."""
    assert earlier.snapshot is not None and earlier.version is not None
    history = []
    for version in Versions(store.root).all(earlier.version.name):
        started = version.run.get("started")
        history.append(
            (version.manifest["steps"][0]["snapshot"], datetime.fromisoformat(started).timestamp() if started else now)
        )
    sources = [source for source, _ in history]
    old = 0
    for batch in _batches(earlier.snapshot):
        if history[_born(batch, sources)][1] >= now - days * DAY:
            break
        old += 1
    return old


def _born(batch: Mapping[str, Any], sources: Sequence[str]) -> int:
    """The first version that holds an increment, by position; the oldest there is if that one was removed."""
    if batch.get("first") in sources:
        return sources.index(batch["first"])
    if batch.get("after") in sources:  # it was added to the source of that version: the next one has it
        return min(len(sources) - sources[::-1].index(batch["after"]), len(sources) - 1)
    return 0


# -- what rows say


class Signs(NamedTuple):
    """What the rows of a shard say, as hashes: (N,) each."""

    prompts: np.ndarray
    """prompt_id, 16 bytes."""
    rows: np.ndarray
    """Hash of prompt and content, 16 bytes."""
    ordinals: np.ndarray
    """`row`, int64."""

    def only(self, rows: np.ndarray) -> "Signs":
        """Those of some rows."""
        return Signs(self.prompts[rows], self.rows[rows], self.ordinals[rows])


def _together(parts: Sequence[Signs]) -> Signs:
    parts = [Signs(np.empty(0, ID), np.empty(0, ID), np.empty(0, np.int64)), *parts]
    return Signs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def signs(store: Store, shard: Shard, grain: Grain) -> Signs:
    """What a shard's rows say; remembered by the shard's content."""
    if not shard.rows:
        return _together([])
    key = digest({"signs": 1, "grain": grain, "shard": shard.to_json()})
    remembered = store.remembered(key)
    if remembered is None:
        made = pa.table({"row": pa.array(_contents(store, shard, grain), STORED)})
        remembered = {"objects": [store.put_table(made)]}
        store.remember(key, remembered)
    place = store.read_shard(shard, grain, ["prompt_id", "row"])
    keys = partition.keys_of(place["prompt_id"])
    halves = np.stack([keys.high, keys.low], axis=1).astype(">u8")
    content = arrow.read(store.object_path(remembered["objects"][0]))["row"]
    return Signs(np.frombuffer(halves.tobytes(), ID), _ids(content), place["row"].to_numpy())


def _contents(store: Store, shard: Shard, grain: Grain) -> list[bytes]:
    """A hash of each row's content. Its texts are not read: its ids are hashes of them."""
    names = [name for name in sorted(shard.columns) if name not in (*TOLD_BY_IDS, *POSITION)]
    table = store.read_shard(shard, grain, ["prompt_id", *names])
    hashes: list[bytes] = []
    for batch in table.to_batches(arrow.BATCH_ROWS):
        for prompt, *values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            said = [[name, value] for name, value in zip(names, values, strict=True) if value is not None and value != []]
            hashes.append(hashlib.sha256(json.dumps([prompt, said], sort_keys=True).encode()).digest()[:16])
    return hashes


def _ids(column: pa.ChunkedArray) -> np.ndarray:
    return np.frombuffer(b"".join(column.to_pylist()), ID)


def among(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which values are in `known`, which is sorted: (N,) bool."""
    if not len(known):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    found: np.ndarray = known[at] == values
    return found


def _nth(values: np.ndarray) -> np.ndarray:
    """How many equal values stand before each value, (N,)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(values) else np.empty(0, np.int64)
    nth = np.empty(len(values), np.int64)
    nth[order] = np.arange(len(values)) - np.repeat(starts, np.diff([*starts, len(values)]))
    return nth


def _unseen(seen: Signs, come: Sequence[Signs], grain: Grain) -> list[np.ndarray]:
    """Which rows of each shard are new: rows of unknown prompts; and, but where a row is a prompt, rows that say something
    new. A row that the source has n times and that was seen m times is new n - m times.
    """
    if grain == "prompts":
        known = np.unique(seen.prompts)
        return [~among(one.prompts, known) for one in come]
    values, counts = np.unique(seen.rows, return_counts=True)
    return [_nth(one.rows) >= _counts_of(one.rows, values, counts) for one in come]


def _counts_of(rows: np.ndarray, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    if not len(values):
        return np.zeros(len(rows), np.int64)
    at = np.minimum(np.searchsorted(values, rows), len(values) - 1)
    found: np.ndarray = np.where(values[at] == rows, counts[at], 0)
    return found


# -- the union


class Merged(NamedTuple):
    """A source after its refresh."""

    snapshot: Snapshot
    """The earlier one itself if nothing is new and nothing left the window."""
    new: int
    """Prompts never seen before."""
    grown: int
    """Known prompts with new rows."""
    known: int
    """Prompts of the earlier source."""
    left_out: int
    """Prompts that are outside the window and were not before."""

    def settled(self) -> "Merged":
        """What follows if the same source comes again."""
        return Merged(self.snapshot, 0, 0, self.known + self.new - self.left_out, 0)

    def counts(self) -> dict[str, int]:
        """The numbers, by name."""
        return {"new": self.new, "grown": self.grown, "known": self.known, "left_out": self.left_out}


def merged(
    store: Store, earlier: Snapshot | None, fresh: Snapshot, refresh: Refresh, shard_bytes: int, old_increments: int = 0
) -> Merged:
    """The earlier source and what is new in `fresh`; equal arguments give an equal snapshot.

    earlier None: all of `fresh` is new. shard_bytes: bounds new shards, as in `partition`. old_increments: how many of the
    earlier increments are too old for a window of days. Memory: a few shards, and about 100 bytes a row.
    """
    if refresh.policy == "replace":
        return Merged(fresh, 0, 0, 0, 0)
    come = [signs(store, shard, fresh.grain) for shard in fresh.shards]
    if earlier is None:
        held = Held(store, fresh.grain, fresh.shards, come, ({"shards": len(fresh.shards)},))
        cut = held.window(refresh, 0)
        new = len(np.unique(_together(come).prompts))
        return _whole(fresh, fresh, held, cut, _together([]), come, (new, 0, 0))
    held = Held.of(store, earlier)
    gone = _left_out(store, earlier) if refresh.policy == "window" else _together([])
    taken, grown, unknown = _taken(held, gone, come)
    after = held.plus(earlier.id, fresh, come, taken, grown, shard_bytes) if len(grown) + len(unknown) else held
    cut = after.window(refresh, old_increments)
    gone = gone.only(~among(gone.prompts, cut.prompts))  # one that comes back and leaves again is remembered as it was, too
    return _whole(earlier, fresh, held, cut, gone, come, (len(unknown), len(grown), len(held.prompts)), after)


def _taken(held: "Held", gone: Signs, come: Sequence[Signs]) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Which rows of each shard are taken, and the prompts that bring new rows: those held, and the others; sorted."""
    taken = _unseen(_together([*held.signs, gone]), come, held.grain)
    bring = np.unique(np.concatenate([np.empty(0, ID), *(one.prompts[new] for one, new in zip(come, taken, strict=True))]))
    is_held = among(bring, held.prompts)
    unknown = bring[~is_held]
    # a prompt that had left the window comes back with all the rows that the source has of it
    taken = [new | among(one.prompts, unknown) for one, new in zip(come, taken, strict=True)]
    return taken, bring[is_held], unknown


def _whole(
    before: Snapshot,
    fresh: Snapshot,
    held: "Held",
    cut: "Held",
    gone: Signs,
    come: Sequence[Signs],
    numbers: tuple[int, int, int],
    after: "Held | None" = None,
) -> Merged:
    """The snapshot of what is held now, with the rejects of the fresh read and a memory of what left the window."""
    uncut = after or held
    if cut.shards == before.shards:
        return Merged(before, 0, 0, numbers[2] or numbers[0], 0)
    extra = {name: value for name, value in fresh.extra.items() if name != "left_out"}
    extra["mappings"] = sorted({*before.extra["mappings"], *fresh.extra["mappings"]})
    extra["batches"] = [dict(batch) for batch in cut.batches if batch["shards"]]
    out = _together([one.only(~among(one.prompts, cut.prompts)) for one in uncut.signs])
    past = _together([gone, out])
    past = past.only(among(past.prompts, np.unique(_together(come).prompts)))  # what the source has no more cannot come again
    if len(past.rows):
        order = np.lexsort((past.rows, past.prompts))
        columns = {"prompt": past.prompts[order], "row": past.rows[order]}
        extra["left_out"] = [store_ids(held.store, columns)]
    return Merged(Snapshot(held.grain, cut.shards, None, extra), *numbers, len(np.unique(out.prompts)))


def store_ids(store: Store, columns: Mapping[str, np.ndarray]) -> str:
    """Store columns of 16-byte ids and return the name of their file."""
    return store.put_table(
        pa.table(
            {
                # numpy strips trailing zero bytes from an item: it is cut from the buffer instead
                name: pa.FixedSizeBinaryArray.from_buffers(STORED, len(ids), [None, pa.py_buffer(ids.tobytes())])
                for name, ids in columns.items()
            }
        )
    )


def _left_out(store: Store, snapshot: Snapshot) -> Signs:
    """Rows that left the window and are still in the source: known, though not held."""
    parts = [arrow.read(store.object_path(name)) for name in snapshot.extra.get("left_out", [])]
    return _together([Signs(_ids(t["prompt"]), _ids(t["row"]), np.full(t.num_rows, -1)) for t in parts])


def _batches(snapshot: Snapshot) -> tuple[dict[str, Any], ...]:
    """The increments of a source, oldest first: how many shards each has, and the source it was added to."""
    told = snapshot.extra.get("batches", [{"shards": len(snapshot.shards)}])
    first = {} if {"first", "after"} & set(told[0]) else {"first": snapshot.id}
    return ({**told[0], **first}, *told[1:])


@dataclass(frozen=True)
class Held:
    """Shards, what their rows say, and the increments they came with."""

    store: Store
    grain: Grain
    shards: tuple[Shard, ...]
    signs: Sequence[Signs]
    batches: tuple[dict[str, Any], ...]

    @staticmethod
    def of(store: Store, snapshot: Snapshot) -> "Held":
        """What a snapshot holds."""
        found = [signs(store, shard, snapshot.grain) for shard in snapshot.shards]
        return Held(store, snapshot.grain, snapshot.shards, found, _batches(snapshot))

    @property
    def prompts(self) -> np.ndarray:
        """Distinct prompts, sorted."""
        return np.unique(_together(self.signs).prompts)

    def only(self, stays: Sequence[np.ndarray]) -> "Held":
        """Those rows alone. A shard that stays whole is left as it is, one that loses all rows is left out."""
        shards = [self._only(shard, rows) for shard, rows in zip(self.shards, stays, strict=True)]
        ends = np.cumsum([0, *(batch["shards"] for batch in self.batches)])
        sizes = [sum(shard is not None for shard in shards[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]
        found = [one.only(rows) for one, rows, shard in zip(self.signs, stays, shards, strict=True) if shard is not None]
        batches = tuple({**batch, "shards": size} for batch, size in zip(self.batches, sizes, strict=True))
        return Held(self.store, self.grain, tuple(shard for shard in shards if shard is not None), found, batches)

    def _only(self, shard: Shard, rows: np.ndarray) -> Shard | None:
        if rows.all():
            return shard
        return self.store.put_shard(self._rows(shard, rows)) if rows.any() else None

    def _rows(self, shard: Shard, rows: np.ndarray) -> pa.Table:
        return self.store.read_shard(shard, self.grain).filter(pa.array(rows))

    def plus(
        self,
        after: str,
        fresh: Snapshot,
        come: Sequence[Signs],
        taken: Sequence[np.ndarray],
        grown: np.ndarray,
        shard_bytes: int,
    ) -> "Held":
        """With the taken rows of `fresh` in new shards, together with all rows of the prompts they belong to."""
        moves = [among(one.prompts, grown) for one in self.signs]
        moved = (self._rows(shard, rows) for shard, rows in zip(self.shards, moves, strict=True) if rows.any())
        rows = chain(self._renumbered(fresh, come, taken), moved)
        cut = partition.partition(rows, self.store.scratch, shard_bytes)
        added = tuple(self.store.put_shard(table) for table in cut)
        rest = self.only([~rows for rows in moves])
        found = [*rest.signs, *(signs(self.store, shard, self.grain) for shard in added)]
        batches = (*rest.batches, {"shards": len(added), "after": after})
        return Held(self.store, self.grain, (*rest.shards, *added), found, batches)

    def _renumbered(self, fresh: Snapshot, come: Sequence[Signs], taken: Sequence[np.ndarray]) -> Iterator[pa.Table]:
        """The taken rows, numbered after the largest ordinal in the order of the source."""
        new = np.sort(np.concatenate([one.ordinals[rows] for one, rows in zip(come, taken, strict=True)]))
        start = int(_together(self.signs).ordinals.max(initial=-1)) + 1
        for shard, one, rows in zip(fresh.shards, come, taken, strict=True):
            if rows.any():
                ordinals = start + np.searchsorted(new, one.ordinals[rows])
                table = self._rows(shard, rows)
                yield table.set_column(table.schema.get_field_index("row"), "row", pa.array(ordinals, pa.int64()))

    def window(self, refresh: Refresh, old_increments: int) -> "Held":
        """What a window keeps; everything under the other policies."""
        if refresh.prompts is not None:
            newest = self._newest(refresh.prompts)
            return self.only([among(one.prompts, newest) for one in self.signs])
        alive = [place for place, batch in enumerate(self.batches) if batch["shards"]]
        keep = refresh.versions if refresh.versions is not None else sum(place >= old_increments for place in alive)
        if refresh.policy != "window" or not alive:
            return self
        first = alive[-min(max(keep, 1), len(alive))]
        out = sum(batch["shards"] for batch in self.batches[:first])
        return self.only([np.full(len(one.prompts), place >= out) for place, one in enumerate(self.signs)])

    def _newest(self, count: int) -> np.ndarray:
        """The prompts whose last row is among the latest, sorted."""
        whole = _together(self.signs)
        latest_first = np.argsort(-whole.ordinals, kind="stable")
        prompts, at = np.unique(whole.prompts[latest_first], return_index=True)
        return np.sort(prompts[np.argsort(at, kind="stable")[:count]])


# -- for a run


class Taken(NamedTuple):
    """The source of a run after its refresh."""

    key: str | None
    """Of the step that made it; None if it is the source as it was read."""
    snapshot: Snapshot
    counts: dict[str, Any]
    said: str
    """What happened, in a sentence."""


def refreshed(
    store: Store,
    name: str,
    refresh: Refresh,
    fresh: Snapshot,
    shard_bytes: int,
    now: float,
    counts_of: Callable[[Snapshot], dict[str, Any]],
) -> Taken:
    """The source that a run of dataset `name` works on, given the source as it is read now. now: seconds, epoch."""
    earlier, asked, done = _asked(store, name, refresh, fresh, now)
    if done is None:
        made = merged(store, earlier.snapshot, fresh, refresh, shard_bytes, asked["old_increments"])
        counts = counts_of(made.snapshot)
        done = made.snapshot, counts | {"refresh": made.counts()}
        if refresh.days is None:  # the same source once more brings nothing new
            again = asked | {"earlier": made.snapshot.id}
            store.finish_step(digest(again), again, made.snapshot, counts | {"refresh": made.settled().counts()})
        store.finish_step(digest(asked), asked, *done)
    return _taken_as(refresh, fresh, earlier, asked, *done)


def found_refreshed(store: Store, name: str, refresh: Refresh, fresh: Snapshot, now: float) -> Taken | None:
    """What `refreshed` would return, if it was worked out before."""
    earlier, asked, done = _asked(store, name, refresh, fresh, now)
    return None if done is None else _taken_as(refresh, fresh, earlier, asked, *done)


def _asked(
    store: Store, name: str, refresh: Refresh, fresh: Snapshot, now: float
) -> tuple[Earlier, dict[str, Any], tuple[Snapshot, dict[str, Any]] | None]:
    earlier = earlier_source(store, name, fresh)
    old = expired(store, earlier, refresh.days, now) if earlier.snapshot is not None and refresh.days is not None else 0
    asked = {
        "operator": "refresh",
        "version": 1,
        "fresh": fresh.id,
        "earlier": earlier.snapshot.id if earlier.snapshot is not None else None,
        # times stay out of what is asked: only what follows from them decides the rows
        "refresh": str(refresh) if refresh.days is None else "window:days",
        "old_increments": old,
    }
    return earlier, asked, store.finished_step(digest(asked))


def _taken_as(
    refresh: Refresh, fresh: Snapshot, earlier: Earlier, asked: Mapping[str, Any], snapshot: Snapshot, counts: dict[str, Any]
) -> Taken:
    said = _said(refresh, earlier, counts["refresh"])
    if earlier.snapshot is not None and snapshot.id == earlier.snapshot.id:
        return Taken(earlier.key, snapshot, counts, said)
    return Taken(None if snapshot.id == fresh.id else digest(asked), snapshot, counts, said)


def _said(refresh: Refresh, earlier: Earlier, numbers: Mapping[str, int]) -> str:
    left = f"; {_prompts(numbers['left_out'])} left the window" if numbers["left_out"] else ""
    if earlier.snapshot is None:
        return f"the whole source is taken, because {earlier.reason}{left}: {refresh}"
    new = [_prompts(numbers["new"], "new ")] if numbers["new"] else []
    grown = [_prompts(numbers["grown"], "known ") + " with new rows"] if numbers["grown"] else []
    return f"{', '.join([*new, *grown]) or 'nothing new'}, {numbers['known']:,} known{left}: {refresh}"


def _prompts(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}prompt{'' if count == 1 else 's'}"
