"""The ledger: every reply that was paid for, whatever happened since, so that none is asked for twice.

A folder of segments, each appended to by one process and read by all (see ledger_segment). Two ledgers are merged by copying
the files of one into the other, and no file is ever rewritten.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from curate.errors import StoreError
from curate.models import ledger_record as record
from curate.models.asking import Reply, Request
from curate.models.ledger_reading import Reading
from curate.models.ledger_segment import ANSWERED
from curate.models.ledger_spent import Spent, spent
from curate.models.ledger_writing import SEGMENT_BYTES, Writing

REFRESH_SECONDS = 1.0
"""How old the knowledge of what other processes wrote may be."""


class Ledger:
    """The replies in a folder. Safe to use from several threads, and the folder from several processes and hosts.

    host: name of this machine in the names of its files. refresh_seconds: how often a request that is not found makes it look
    at what other processes wrote since.
    """

    def __init__(
        self,
        root: Path,
        *,
        host: str | None = None,
        refresh_seconds: float = REFRESH_SECONDS,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.root = root
        self.refresh_seconds = refresh_seconds
        self._reading = Reading(root)
        self._writing = Writing(root, self._reading.own, self._reading.wrote, self._reading.disown, host, segment_bytes)
        self._damaged: set[str] = set()
        self._refreshed = 0.0
        self._choosing = threading.Lock()
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        """Answers that can be found."""
        return len(self._reading.places)

    @staticmethod
    def key(identity: Mapping[str, Any], request: Request) -> str:
        """Name of a sample, 64 hex digits. ValueError for a request that cannot be asked of any server."""
        return record.key(identity, request)

    def record(self, key: str, identity: Mapping[str, Any], request: Request, reply: Reply, step: str | None = None) -> None:
        """Keep a reply, failed ones too. StoreError if the disk does not take it: the reply is the caller's all the same."""
        payload = record.pack(identity, request, reply, step, time.time())
        self._writing.append(bytes.fromhex(key), payload, ANSWERED if reply.usable else 0)

    def disown(self, key: str, identity: Mapping[str, Any], request: Request, step: str | None = None) -> None:
        """Never serve what came for this request so far: it was of no use. It stays in the ledger for people to read."""
        payload = record.pack(identity, request, Reply(error="bad_reply", detail=record.USELESS), step, time.time())
        self._writing.append(bytes.fromhex(key), payload, ANSWERED)

    def find(self, keys: Sequence[str], max_tokens: Sequence[int | None]) -> list[Reply | None]:
        """The newest answer to each request that fits its max_tokens; None where there is none, as for what failed."""
        if len(keys) != len(max_tokens):
            raise ValueError(f"{len(keys)} keys and {len(max_tokens)} limits")
        if not keys:
            return []
        wanted = [bytes.fromhex(key) for key in keys]
        found = self._find(wanted, max_tokens)
        missing = [place for place, reply in enumerate(found) if reply is None]
        if missing and self._due():
            self.refresh()
            later = self._find([wanted[place] for place in missing], [max_tokens[place] for place in missing])
            for place, reply in zip(missing, later, strict=True):
                found[place] = reply
        return found

    def _find(self, keys: Sequence[bytes], limits: Sequence[int | None]) -> list[Reply | None]:
        try:
            payloads = self._reading.payloads(keys)
        except OSError as error:
            raise StoreError(f"cannot read the ledger {self.root}: {error.strerror}; nothing was asked again") from error
        return [newest(many, limit) if many else None for many, limit in zip(payloads, limits, strict=True)]

    def _due(self) -> bool:
        with self._choosing:
            now = time.monotonic()
            if now - self._refreshed < self.refresh_seconds:
                return False
            self._refreshed = now
            return True

    def refresh(self) -> None:
        """Take in what other processes wrote."""
        self._refreshed = time.monotonic()
        self._reading.refresh()

    def sync(self) -> None:
        """Wait until all that was recorded is on the disk."""
        try:
            self._writing.sync()
        except OSError as error:
            raise StoreError(f"the ledger {self.root} may not be on the disk: {error.strerror}") from error

    def close(self) -> None:
        """Bring everything onto the disk and free files. Recording or finding opens it again."""
        self._writing.close()
        self._reading.close()

    def spent(self) -> list[Spent]:
        """What was spent, by model, step and day; failures included."""
        return spent(self.root)


def newest(payloads: Sequence[bytes], limit: int | None) -> Reply | None:
    """The newest answer that fits a limit."""
    if len(payloads) == 1:
        return only(payloads[0], limit)
    best: record.Answer | None = None
    disowned = 0.0
    for payload in payloads:
        try:
            found = record.answer(payload)
        except (ValueError, KeyError, TypeError):  # its crc is right, so this is not what was written here
            continue
        if found.disowns:
            disowned = max(disowned, found.at)
        if found.serves(limit) and (best is None or found.at >= best.at):
            best = found
    return None if best is None or best.at <= disowned else best.reply()


def only(payload: bytes, limit: int | None) -> Reply | None:
    """The same where there is one."""
    try:
        found = record.answer(payload)
    except (ValueError, KeyError, TypeError):
        return None
    return found.reply() if found.serves(limit) else None
