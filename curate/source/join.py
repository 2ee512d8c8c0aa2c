"""Join further files to a source's rows by key: fields of one row each, or scores of many.

The joined rows lie in a SQLite file in the scratch folder, so they may be larger than memory.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from curate.source import fields
from curate.source.fields import Raw, getter, plain, same_key
from curate.source.formats import Numbered
from curate.source.generic import score_entry
from curate.source.rejects import BadRow, Rejects
from curate.source.spec import Constant, Join

Entry = dict[str, Any]
WRITE = 5000  # joined rows written at once


class Joined:
    """One joined file, ready to be looked up."""

    def __init__(self, join: Join, batches: Iterable[tuple[str, Numbered]], scratch: Path, rejects: Rejects) -> None:
        self.join, self.rejects = join, rejects
        self._theirs = [getter(path) for path in join.on]
        self._ours = [getter(path) for path in join.on.values()]
        self._where = getter(join.where) if join.where else None
        self._columns = {name: getter(path) for name, path in (join.columns or {}).items()}
        self._scores = _score_reader(join) if join.scores else None
        self._used = bytearray()  # one byte a joined row: whether a row took its score
        self._offered: list[int] = []  # places of the scores that matched the last row
        self._db = sqlite3.connect(scratch, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE joined (id INTEGER PRIMARY KEY, key TEXT, file TEXT, line INTEGER, content TEXT)")
        self._fill(batches)

    def _fill(self, batches: Iterable[tuple[str, Numbered]]) -> None:
        waiting: list[tuple[Any, ...]] = []
        self._db.execute("BEGIN")
        for file, batch in batches:
            for line, row in batch:
                try:
                    if (entry := self._entry(row)) is not None:
                        waiting.append((entry[0], file, line, entry[1]))
                except BadRow as fault:
                    self.rejects.bad(file, line, fault, str(dict(row)))
            if len(waiting) >= WRITE:
                self._write(waiting)
                waiting = []
        self._write(waiting)
        self._db.execute("CREATE INDEX by_key ON joined (key)")
        self._db.execute("COMMIT")
        if self._scores:
            self._used = bytearray(int(self._db.execute("SELECT count(*) FROM joined").fetchone()[0]))
        else:
            self._refuse_repeats()

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        self._db.executemany("INSERT INTO joined (key, file, line, content) VALUES (?, ?, ?, ?)", rows)

    def _entry(self, row: Raw) -> tuple[str, str] | None:
        """The key and what is kept of a joined row; None for one that silently does not count."""
        if self._where and self._where(row) is not True:
            if not self._scores:
                return None
            raise BadRow(self.join.where, f"{self.join.where} is not true")
        key = _key(row, self._theirs, list(self.join.on))
        if self._scores:
            return key, json.dumps(self._scores(row))
        kept = row if self.join.columns is None else {name: get(row) for name, get in self._columns.items()}
        return key, json.dumps(plain(kept, self.join.place()))

    def _refuse_repeats(self) -> None:
        repeats = (
            "SELECT id, file, line, content FROM joined a "
            "WHERE EXISTS (SELECT 1 FROM joined b WHERE b.key = a.key AND b.id < a.id) ORDER BY id"
        )
        for _, file, line, content in self._db.execute(repeats):
            self.rejects.add(file, line, ", ".join(self.join.on), "key repeats in joined file", content)

    def attach(self, row: Raw) -> tuple[Raw, list[Entry]]:
        """The row with the joined fields, and the scores that match it. BadRow where its key is missing or finds no fields."""
        key = _key(row, self._ours, list(self.join.on.values()))
        if self._scores:
            return row, self._matching(key)
        found = self._db.execute("SELECT content FROM joined WHERE key = ? ORDER BY id LIMIT 1", (key,)).fetchone()
        if found is None:
            raise BadRow(", ".join(self.join.on.values()), f"no partner in {self.join.place()}", f"key {key:.80}")
        added = json.loads(found[0])
        if self.join.columns is None:
            return {**added, **row}, []  # a field the row has already is kept; `columns` gives the joined one a name of its own
        return {**row, **added}, []

    def _matching(self, key: str) -> list[Entry]:
        found = self._db.execute("SELECT id, content FROM joined WHERE key = ? ORDER BY id", (key,)).fetchall()
        self._offered = [place - 1 for place, _ in found]
        return [json.loads(content) for _, content in found]

    def taken(self) -> None:
        """The row that `attach` saw last is in the tables, and so are its scores."""
        for place in self._offered:
            self._used[place] = 1

    def finish(self) -> None:
        """Reject the joined scores that no row took."""
        if self._scores:
            for place, file, line, key in self._db.execute("SELECT id, file, line, key FROM joined ORDER BY id"):
                if not self._used[place - 1]:
                    self.rejects.add(file, line, ", ".join(self.join.on), "no row matches the joined score", f"key {key}")

    def close(self) -> None:
        """Let go of the scratch file."""
        self._db.close()


def _key(row: Raw, getters: list[fields.Getter], paths: list[str]) -> str:
    parts = [same_key(get(row)) for get in getters]
    for part, path in zip(parts, paths, strict=True):
        if part is None:
            raise BadRow(path, "join key is missing")
    return json.dumps(parts)


def _score_reader(join: Join) -> Any:
    scores = join.scores
    assert scores is not None
    constant = scores.rater.value if isinstance(scores.rater, Constant) else None
    get_rater = None if isinstance(scores.rater, Constant) else getter(scores.rater)
    get_value, get_reason = getter(scores.value), getter(scores.rationale) if scores.rationale else None

    def read(row: Raw) -> Entry:
        rater = get_rater(row) if get_rater else constant
        if rater is None:
            raise BadRow(str(scores.rater), "missing field")
        reason = get_reason(row) if get_reason else None
        return score_entry(fields.scalar_text(rater, "rater"), scores, get_value(row), scores.value, reason)

    return read


def used_fields(join: Join) -> set[str] | None:
    """Top-level fields of the joined file that are read; None for all."""
    if join.columns is None and join.scores is None:
        return None
    return {name for path in needs(join) for name in fields.roots(path)}


def needs(join: Join) -> list[str]:
    """Paths that a joined columnar file must have."""
    scores = join.scores
    paths = [*join.on, *(join.columns or {}).values(), *([join.where] if join.where else [])]
    if scores:
        rater = [] if isinstance(scores.rater, Constant) else [scores.rater]
        paths += [*rater, scores.value, *([scores.rationale] if scores.rationale else [])]
    return paths


def given_fields(join: Join) -> Iterator[str]:
    """Names that a join adds to the rows, where the recipe tells them."""
    yield from join.columns or ()
