"""Providers' batch endpoints: many requests in one file, answered within a day for less money, and never submitted twice.

What is on its way is written down under `<store>/batches/` before it is sent, so that a killed run finds it again: by the
id in that file, or, if it died before the id was known, by the name that every batch carries in its metadata at the
provider. A batch is over when its replies are in the ledger; `settle` says so. Until then every run that asks any of its
requests waits for it instead of asking again.
"""

import asyncio
import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.errors import CurateError
from curate.models.asking import ErrorKind, Reply, Request
from curate.models.completion import BadQuestion, BadReply, at, decode
from curate.models.openai_backend import OpenAIBackend, limits_of
from curate.models.transport import Answer, FastTransport, TransportError, encoded
from curate.store import disk, locks

ENDPOINT = "/v1/chat/completions"
WINDOW = "24h"
"""The only completion window that providers offer."""
PART_REQUESTS = 10_000
PART_BYTES = 90 * 10**6
"""Of a batch; providers allow 50,000 requests and 200 MB, but its results must fit into memory."""
MAX_RESULTS = 2**30
"""Bytes of a file of results."""
KEPT_SECONDS = 30 * 86400
"""How long providers keep results: older batches are not looked for."""
PAGE = 100
RUNNING = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
FRUITLESS = frozenset({"failed", "cancelled"})
Told = Callable[["Progress"], None]


class BatchError(CurateError):
    """A batch could not be submitted, looked up or fetched; `kind` is that of a call."""

    def __init__(self, kind: ErrorKind, detail: str) -> None:
        super().__init__(f"batch endpoint: {detail}")
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True)
class Progress:
    """How far a batch is."""

    id: str
    status: str
    total: int
    completed: int
    failed: int

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in RUNNING


@dataclass(frozen=True)
class Record:
    """What is known of a batch on this disk."""

    name: str
    """sha256 of the server's address and the requests."""
    base: str
    ids: tuple[str, ...]
    """custom_id of every request; empty once settled."""
    id: str | None = None
    """The provider's; None while it may not have been submitted."""
    over: tuple[str, ...] = ()
    """The provider's ids of batches of the same requests that are settled or came to nothing."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"format": 1, **self.__dict__}


@dataclass(frozen=True)
class Delivered:
    """What batches brought."""

    replies: list[Reply]
    """One for each request."""
    names: tuple[str, ...]
    """To settle once the replies are in the ledger."""


@dataclass(frozen=True)
class Line:
    """A request as it stands in the file."""

    custom_id: str
    text: bytes


class Batches:
    """The batches of one model. Its files may be shared by several processes."""

    def __init__(self, backend: OpenAIBackend, root: Path) -> None:
        self.backend = backend
        self.folder = root / "batches"
        self.scratch = root / "tmp"
        limits = replace(limits_of(backend.spec), max_reply=MAX_RESULTS)
        ca_file = backend.spec.options.get("ca_file")
        self.wire = FastTransport(backend.address, limits, str(ca_file) if ca_file else None)

    async def close(self) -> None:
        """Free connections; what was submitted goes on."""
        await self.wire.close()

    # -- the whole way

    async def run(self, requests: Sequence[Request], poll_s: float = 30.0, told: Told | None = None) -> Delivered:
        """Replies to all requests, however long that takes."""
        lines = await self.lines(requests)
        wanted = {line.custom_id: line for line in lines if isinstance(line, Line)}
        found: dict[str, Reply] = {}
        names = []
        under_way = {record.name: record.id async for record in self.waiting(wanted) if record.id}
        covered = {one for name in under_way for one in self.load(name).ids}
        for part in parts([line for one, line in wanted.items() if one not in covered]):
            name = self.name(part)
            under_way[name] = await self.submit_lines(part)
        for name, batch in under_way.items():
            progress = await self.wait(str(batch), poll_s, told)
            replies = await self.results(progress.id)
            missing = Reply(
                error="timeout" if progress.status == "expired" else "server", detail=f"the batch ended as {progress.status}"
            )
            found |= {one: replies.get(one, missing) for one in self.load(name).ids if one in wanted}
            names.append(name)
        return Delivered([found[line.custom_id] if isinstance(line, Line) else line for line in lines], tuple(names))

    async def wait(self, batch: str, poll_s: float, told: Told | None = None) -> Progress:
        """Until a batch is finished. A provider that cannot be reached meanwhile is asked again."""
        while True:
            try:
                progress = await self.poll(batch)
                if told:
                    told(progress)
                if progress.finished:
                    return progress
            except BatchError as error:
                if error.kind not in ("rate_limit", "timeout", "connection", "server", "bad_reply"):
                    raise
            await asyncio.sleep(poll_s)

    def settle(self, names: Sequence[str]) -> None:
        """The replies of these batches are safe: they are not waited for again, and what failed in them may be asked anew."""
        for name in names:
            record = self.load(name)
            over = (*record.over, record.id) if record.id else record.over
            self.save(replace(record, ids=(), id=None, over=over))

    # -- step by step

    async def submit(self, requests: Sequence[Request]) -> str:
        """The provider's id of a batch of these requests: the one under way if there is one, else a new one."""
        lines = [line for line in await self.lines(requests) if isinstance(line, Line)]
        return await self.submit_lines(lines)

    async def poll(self, batch: str) -> Progress:
        """How far it is."""
        return progress_of(await self.get(f"/batches/{batch}"))

    async def results(self, batch: str) -> dict[str, Reply]:
        """Reply by custom_id; errors among them. A request that was lost is not in it."""
        state = await self.get(f"/batches/{batch}")
        if state.get("status") in RUNNING:
            raise BatchError("request", f"{batch} is not finished")
        replies: dict[str, Reply] = {}
        for field in ("error_file_id", "output_file_id"):  # an answer wins over an error
            if file := state.get(field):
                answer = await self.call("GET", f"/files/{file}/content")
                replies |= dict(self.read_line(line) for line in answer.body.splitlines() if line.strip())
        replies.pop("", None)
        return replies

    async def lines(self, requests: Sequence[Request]) -> list[Line | Reply]:
        """What stands in the file for each request, or the error of one that cannot be sent.

        The id is made of the body and the sample's number, so that another run gives the same request the same id.
        """
        seen: Counter[str] = Counter()
        lines: list[Line | Reply] = []
        for request in requests:
            try:
                body = await self.backend.body(request)
                digest = hashlib.sha256(encoded(body)).hexdigest()[:40]
            except (BadQuestion, TransportError) as error:
                lines.append(Reply(error="request", detail=str(error)))
                continue
            custom_id = f"{digest}-{request.sample}"
            seen[custom_id] += 1
            if seen[custom_id] > 1:
                custom_id += f".{seen[custom_id]}"
            line = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}
            lines.append(Line(custom_id, encoded(line)))
        return lines

    def read_line(self, line: bytes) -> tuple[str, Reply]:
        """(custom_id, reply) of a line of results; the id is empty where the line cannot be read."""
        try:
            row = decode(self.backend.address.secrets.hide_bytes(line))
            custom_id: str = at(row.get("custom_id"), str, "custom_id")
        except BadReply:
            return "", Reply(error="bad_reply")
        response = row.get("response")
        if not isinstance(response, dict):
            problem = row.get("error") if isinstance(row.get("error"), dict) else {}
            code = str((problem or {}).get("code") or "unknown")
            kind: ErrorKind = "timeout" if "expired" in code else "server"
            return custom_id, self.backend.failed(kind, f"{code}: {(problem or {}).get('message') or ''}", None).reply
        status, body = response.get("status_code"), response.get("body")
        if status == 200 and isinstance(body, dict):
            return custom_id, self.backend.read(body, 1, None)[0]
        if not isinstance(status, int) or status == 200:
            return custom_id, self.backend.failed("bad_reply", "a line of results without status or body", None).reply
        return custom_id, self.backend.understood(Answer(status, {}, json.dumps(body).encode()), None).reply

    # -- never twice

    def name(self, lines: Sequence[Line]) -> str:
        """The name of a batch: the same for the same requests at the same server, in whatever order."""
        asked = [self.backend.address.base, *sorted(line.custom_id for line in lines)]
        return hashlib.sha256("\n".join(asked).encode()).hexdigest()

    async def submit_lines(self, lines: Sequence[Line]) -> str:
        """Write the intent, look for the batch at the provider, submit it if it is not there, write its id."""
        name = self.name(lines)
        async with self.locked(name):
            known = self.load(name)
            record = replace(known, base=self.backend.address.base, ids=tuple(line.custom_id for line in lines))
            existing = await self.existing(known)
            if existing is None:
                self.save(record)
                disk.failpoint("batch intended")
                existing = await self.create(name, lines)
                disk.failpoint("batch created")
            self.save(replace(record, id=existing))
            return existing

    async def existing(self, record: Record) -> str | None:
        """The provider's id of a batch of this name that may still bear fruit."""
        if record.id:
            state = await self.get(f"/batches/{record.id}")
            if state.get("status") not in FRUITLESS:
                return record.id
            record = replace(record, over=(*record.over, record.id))
            self.save(replace(record, id=None))
        try:
            async for state in self.listed():
                mine = (state.get("metadata") or {}).get("curate") == record.name
                if mine and state.get("id") not in record.over and state.get("status") not in FRUITLESS:
                    return str(state["id"])
        except BatchError as error:
            if error.kind != "engine":
                raise
            if record.ids:  # an earlier run got as far as writing its intent; whether further, this server cannot tell
                file = self.folder / f"{record.name}.json"
                advice = f"An earlier run may have submitted this batch; if not, remove {file}"
                raise BatchError("engine", f"{error.detail}. {advice}") from None
        return None

    async def create(self, name: str, lines: Sequence[Line]) -> str:
        """Upload the file and start the batch."""
        content = b"".join(line.text + b"\n" for line in lines)
        boundary = uuid.uuid4().hex
        form = b"".join(
            (
                f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'.encode(),
                f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name[:16]}.jsonl"\r\n'.encode(),
                b"Content-Type: application/jsonl\r\n\r\n",
                content,
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        answer = await self.call("POST", "/files", form, f"multipart/form-data; boundary={boundary}")
        file = self.field(answer, "id")
        disk.failpoint("batch uploaded")
        asked = {"input_file_id": file, "endpoint": ENDPOINT, "completion_window": WINDOW, "metadata": {"curate": name}}
        return self.field(await self.call("POST", "/batches", encoded(asked), "application/json"), "id")

    async def waiting(self, wanted: Mapping[str, Line]) -> AsyncIterator[Record]:
        """Batches on their way, from this or an earlier run, that hold any of the requests."""
        for record in list(self.records()):
            if record.base != self.backend.address.base or wanted.keys().isdisjoint(record.ids):
                continue
            async with self.locked(record.name):
                now = self.load(record.name)
                batch = await self.existing(now)
                if batch is None:  # it never was submitted, or failed: its requests are free again
                    self.save(replace(self.load(record.name), ids=(), id=None))
                    continue
                now = replace(self.load(record.name), id=batch)
                self.save(now)
            yield now

    def records(self) -> Iterator[Record]:
        """All that is written down here."""
        for file in sorted(self.folder.glob("*.json")):
            yield self.load(file.stem)

    def load(self, name: str) -> Record:
        """What is known of a batch; an empty record if nothing is."""
        try:
            told = json.loads((self.folder / f"{name}.json").read_bytes())
        except FileNotFoundError:
            return Record(name, self.backend.address.base, ())
        return Record(told["name"], told["base"], tuple(told["ids"]), told["id"], tuple(told["over"]))

    def save(self, record: Record) -> None:
        """Write it down for good."""
        content = json.dumps(record.to_json()).encode()
        disk.write_file(self.folder / f"{record.name}.json", content, self.scratch)

    @asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[None]:
        """Alone with a batch, where the disk knows locks."""
        with open(disk.make_folder(self.folder) / f"{name}.lock", "wb") as file:
            while True:
                try:
                    if locks.try_lock(file):
                        break
                except locks.NoLocks:  # then only processes that start together can clash
                    break
                await asyncio.sleep(0.1)
            yield

    # -- the wire

    async def listed(self) -> AsyncIterator[dict[str, Any]]:
        """The provider's batches, newest first."""
        after, oldest = "", time.time() - KEPT_SECONDS
        while True:
            page = await self.get(f"/batches?limit={PAGE}{after}")
            rows = page.get("data")
            if not isinstance(rows, list):
                raise BatchError("bad_reply", "the list of batches has no data")
            for row in rows:
                if isinstance(row, dict):
                    yield row
            if not page.get("has_more") or not rows or (rows[-1].get("created_at") or oldest) < oldest:
                return
            after = f"&after={rows[-1].get('id')}"

    async def get(self, path: str) -> dict[str, Any]:
        """A page that is a JSON object."""
        try:
            return decode((await self.call("GET", path)).body)
        except BadReply as error:
            raise BatchError("bad_reply", str(error)) from None

    async def call(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> Answer:
        """One call; raises BatchError unless it went well."""
        try:
            answer = await self.wire.request(method, path, body, kind)
        except TransportError as error:
            raise BatchError(error.kind, error.detail) from None
        if answer.status != 200:
            reply = self.backend.understood(answer, None).reply
            raise BatchError(reply.error or "server", f"{method} {path.partition('?')[0]}: {reply.detail}")
        return answer

    def field(self, answer: Answer, name: str) -> str:
        """A text field of a reply."""
        try:
            return str(at(decode(answer.body).get(name), str, name))
        except BadReply as error:
            raise BatchError("bad_reply", str(error)) from None


def progress_of(state: Mapping[str, Any]) -> Progress:
    """A batch's state as the provider has it."""
    counts = state.get("request_counts")
    told = counts if isinstance(counts, dict) else {}
    return Progress(
        str(state.get("id")),
        str(state.get("status")),
        *(int(told.get(name) or 0) for name in ("total", "completed", "failed")),
    )


def parts(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines in files that are small enough."""
    part: list[Line] = []
    size = 0
    for line in lines:
        if part and (len(part) >= PART_REQUESTS or size + len(line.text) > PART_BYTES):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line.text) + 1
    if part:
        yield part
