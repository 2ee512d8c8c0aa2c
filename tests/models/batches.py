"""The test server's files and batches.

A plan's `batch` has: seconds (until done), fail_share (lines that end with an error), expire_share (lines that were not
reached in time), status ("completed", "expired", "failed", "cancelled"), lose_share (lines in neither file).
Results come out of order.
"""

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

Json = dict[str, Any]
Found = tuple[int, bytes]


def page(value: Any, status: int = 200) -> Found:
    """A JSON answer."""
    return status, json.dumps(value).encode()


def uploaded(headers: Mapping[str, str], body: bytes) -> bytes:
    """The file in a multipart form."""
    boundary = re.search(r'boundary="?([^";]+)', headers["content-type"])
    assert boundary, "an upload needs a boundary"
    for part in body.split(b"--" + boundary[1].encode()):
        head, _, content = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return content.removesuffix(b"\r\n")
    raise ValueError("the form has no file")


class Batches:
    """Files and batches of one server."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Json] = {}

    def answer(
        self,
        method: str,
        service: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        plan: Json,
        model: Callable[..., Any],
    ) -> Found | None:
        """A page, or None if there is no such page."""
        parts = service.strip("/").split("/")[1:]
        if method == "POST" and parts == ["files"]:
            return page(self.add_file(uploaded(headers, body)))
        if method == "GET" and parts[:1] == ["files"] and parts[2:] == ["content"] and parts[1] in self.files:
            return 200, self.files[parts[1]]
        if method == "POST" and parts == ["batches"]:
            return page(self.submit(json.loads(body), plan.get("batch", {})))
        if method == "GET" and parts == ["batches"]:
            return page(self.listing(parse_qs(query), plan, model))
        if method == "GET" and parts[:1] == ["batches"] and parts[1:2] and parts[1] in self.batches:
            return page(self.state(parts[1], plan, model))
        return None

    def add_file(self, content: bytes) -> Json:
        """Keep a file."""
        name = f"file-{len(self.files):04d}"
        self.files[name] = content
        return {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "purpose": "batch",
            "filename": "batch.jsonl",
            "created_at": 1,
        }

    def submit(self, asked: Json, told: Json) -> Json:
        """Take a batch in."""
        name = f"batch_{len(self.batches):04d}"
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "status": "in_progress",
            "metadata": asked.get("metadata"),
            "output_file_id": None,
            "error_file_id": None,
            "completion_window": asked["completion_window"],
            "created_at": int(time.time()),
            "errors": None,
            "request_counts": {"total": len(self.files[asked["input_file_id"]].splitlines()), "completed": 0, "failed": 0},
            "_due": time.monotonic() + told.get("seconds", 0.0),
        }
        return self.shown(name)

    def shown(self, name: str) -> Json:
        """Without what is the server's own."""
        return {key: value for key, value in self.batches[name].items() if not key.startswith("_")}

    def listing(self, query: dict[str, list[str]], plan: Json, model: Callable[..., Any]) -> Json:
        """Newest first, in pages."""
        names = sorted(self.batches, reverse=True)
        if after := query.get("after"):
            names = names[names.index(after[0]) + 1 :]
        size = int(query.get("limit", ["20"])[0])
        rows = [self.state(name, plan, model) for name in names[:size]]
        return {"object": "list", "data": rows, "has_more": len(names) > size, "last_id": rows[-1]["id"] if rows else None}

    def state(self, name: str, plan: Json, model: Callable[..., Any]) -> Json:
        """A batch; done when its time has come."""
        batch = self.batches[name]
        if batch["status"] == "in_progress" and time.monotonic() >= batch["_due"]:
            self.finish(batch, plan.get("batch", {}), plan, model)
        return self.shown(name)

    def finish(self, batch: Json, told: Json, plan: Json, model: Callable[..., Any]) -> None:
        """Answer the lines, some of them wrongly."""
        batch["status"] = told.get("status", "completed")
        if batch["status"] == "failed":
            batch["errors"] = {
                "object": "list",
                "data": [{"code": "invalid_json_line", "message": "This line is not valid", "line": 1}],
            }
            return
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            asked = json.loads(line)
            draw = int.from_bytes(hashlib.sha256(line).digest()[:8]) / 2**64
            if (draw := draw - told.get("lose_share", 0.0)) < 0:
                continue
            if (draw := draw - told.get("expire_share", 0.0)) < 0:
                problem = {
                    "code": "batch_expired",
                    "message": "This request could not be executed before the completion window expired.",
                }
                bad.append({"id": "r", "custom_id": asked["custom_id"], "response": None, "error": problem})
                continue
            if draw < told.get("fail_share", 0.0):
                status, body = 500, {"error": {"message": "The server had an error", "type": "server_error", "code": None}}
            else:
                reply = model(asked["url"], json.dumps(asked["body"]).encode(), plan)
                status, body = reply.status, json.loads(reply.body)
            row = {
                "id": "r",
                "custom_id": asked["custom_id"],
                "response": {"status_code": status, "request_id": "q", "body": body},
                "error": None,
            }
            (good if status == 200 else bad).append(row)
        for rows, field in ((good, "output_file_id"), (bad, "error_file_id")):
            random.Random(0).shuffle(rows)
            if rows:
                batch[field] = self.add_file("".join(json.dumps(row) + "\n" for row in rows).encode())["id"]
        batch["request_counts"] |= {"completed": len(good), "failed": len(bad)}
