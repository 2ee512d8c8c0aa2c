"""What the test server answers: a pure function of the request's body, so that the same question has the same answer."""

import base64
import hashlib
import json
import random
import re
import struct
from collections.abc import Mapping
from typing import Any

WORDS = [
    "the",
    "a",
    "of",
    "to",
    "and",
    "in",
    "is",
    "it",
    "for",
    "on",
    "with",
    "as",
    "that",
    "this",
    "are",
    "be",
    "from",
    "at",
    "by",
    "an",
    "or",
    "not",
    "can",
    "one",
    "all",
    "time",
    "when",
    "more",
    "which",
    "out",
    "about",
    "other",
    "into",
    "than",
    "then",
    "some",
    "could",
    "them",
    "these",
    "two",
    "may",
    "first",
    "any",
    "like",
    "now",
    "only",
    "new",
    "most",
    "over",
    "such",
    "made",
    "after",
    "also",
    "light",
    "water",
    "sound",
    "field",
    "stone",
    "river",
    "paper",
    "window",
    "garden",
    "engine",
    "market",
    "signal",
    "letter",
    "number",
    "answer",
    "reason",
    "question",
]
DIMENSIONS = 8
Json = dict[str, Any]


class BadRequest(Exception):
    """The server refuses the request with 400."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


def digest(body: Mapping[str, Any], *salt: Any) -> bytes:
    """sha256 of what is asked, whatever limit is put on the answer's length."""
    asked = {key: value for key, value in body.items() if key not in ("max_tokens", "max_completion_tokens", "n")}
    return hashlib.sha256(json.dumps([asked, *salt], sort_keys=True, ensure_ascii=True).encode()).digest()


def tokens_of(text: str) -> list[str]:
    """Words and spaces, each a token."""
    return re.findall(r"\s?\w+|\s?[^\w\s]|\s", text)


def count(messages: Any) -> int:
    """Tokens of a prompt."""
    return len(json.dumps(messages).split())


def fitting(schema: Mapping[str, Any], draw: random.Random) -> Any:
    """A value that fits a JSON schema (the plain parts of the language)."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw.choice(schema["enum"])
    if "anyOf" in schema:
        return fitting(draw.choice(schema["anyOf"]), draw)
    kind = schema.get("type", "string")
    if isinstance(kind, list):
        kind = draw.choice(kind)
    if kind == "object":
        return {name: fitting(part, draw) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        low = schema.get("minItems", 1)
        return [fitting(schema.get("items", {}), draw) for _ in range(draw.randint(low, schema.get("maxItems", low + 2)))]
    if kind == "integer":
        return draw.randint(int(schema.get("minimum", 0)), int(schema.get("maximum", 10)))
    if kind == "number":
        return round(draw.uniform(schema.get("minimum", 0.0), schema.get("maximum", 1.0)), 3)
    if kind == "boolean":
        return draw.random() < 0.5
    return None if kind == "null" else " ".join(draw.choices(WORDS, k=5))


def logprobs_of(text: str, top: int, draw: random.Random) -> Json:
    """Log-probabilities as the API lists them: the token itself first among its alternatives."""
    rows = []
    for token in tokens_of(text):
        logprob = -draw.random()
        others = [
            {"token": word, "logprob": logprob - 1 - place, "bytes": None} for place, word in enumerate(WORDS[: max(top - 1, 0)])
        ]
        own = {"token": token, "logprob": logprob, "bytes": list(token.encode())}
        rows.append({**own, "top_logprobs": [own, *others][:top]})
    return {"content": rows, "refusal": None}


def chat_choice(body: Json, index: int, plan: Json) -> Json:
    """One choice."""
    draw = random.Random(digest(body, index))
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    message: Json = {"role": "assistant", "content": None, "refusal": None}
    finish = "stop"
    if body.get("tools") and body.get("tool_choice") != "none" and draw.random() < plan.get("tool_share", 1.0):
        tool = draw.choice(body["tools"])["function"]
        arguments = json.dumps(fitting(tool.get("parameters", {"type": "object"}), draw))
        call = {
            "id": f"call_{draw.getrandbits(40):010x}",
            "type": "function",
            "function": {"name": tool["name"], "arguments": arguments},
        }
        return {"index": index, "message": {**message, "tool_calls": [call]}, "logprobs": None, "finish_reason": "tool_calls"}
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        text = json.dumps(fitting(wanted["json_schema"]["schema"], draw))
    else:
        text = " ".join(draw.choices(WORDS, k=draw.randint(*plan.get("words", (20, 60)))))
    tokens = tokens_of(text)
    if limit is not None and len(tokens) > limit:
        text, finish = "".join(tokens[:limit]), "length"
    if field := plan.get("reasoning"):
        thought = " ".join(draw.choices(WORDS, k=12))
        if field == "think":
            text = f"<think>{thought}</think>\n\n{text}"
        else:
            message[field] = thought
    message["content"] = text
    logprobs = logprobs_of(text, body.get("top_logprobs") or 0, draw) if body.get("logprobs") else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def chat(body: Json, plan: Json) -> Json:
    """/v1/chat/completions."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a non-empty list")
    if body.get("stream"):
        raise BadRequest("streaming is not supported", "unsupported_parameter")
    if body.get("n", 1) > plan.get("max_n", 128):
        raise BadRequest("n is larger than this server allows", "unsupported_parameter")
    asked = count(messages)
    if plan.get("context") and asked > plan["context"]:
        raise BadRequest(f"This model's maximum context length is {plan['context']} tokens.", "context_length_exceeded")
    choices = [chat_choice(body, index, plan) for index in range(body.get("n") or 1)]
    answered = sum(len(tokens_of(choice["message"]["content"] or "")) for choice in choices)
    return {
        "id": "chatcmpl-" + digest(body).hex()[:24],
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model"),
        "choices": choices,
        "usage": {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered},
        "system_fingerprint": "fp_test",
    }


def vector(text: Any, width: int) -> list[float]:
    """A vector that is the text's own; every number is exact in float32."""
    draw = random.Random(digest({"text": text}))
    return [draw.randint(-1024, 1024) / 1024 for _ in range(width)]


def usage(items: Any) -> Json:
    """Tokens of inputs that have no answer in tokens."""
    asked = count(items)
    return {"prompt_tokens": asked, "total_tokens": asked, "completion_tokens": 0}


def listed(values: list[Json], body: Json, plan: Json) -> Json:
    """Items in the order that the plan wants them back: `index` says which is which."""
    if plan.get("disorder"):
        random.Random(digest(body)).shuffle(values)
    return {"id": "list-1", "object": "list", "created": 1_700_000_000, "model": body.get("model"), "data": values}


def inputs(body: Json) -> list[Any]:
    """What is to be pooled: `input` as text or list, or one conversation."""
    if "messages" in body:
        return [body["messages"]]
    given = body.get("input")
    if given is None or given == []:
        raise BadRequest("'input' or 'messages' is needed")
    return given if isinstance(given, list) else [given]


def embeddings(body: Json, plan: Json) -> Json:
    """/v1/embeddings."""
    rows = []
    for index, text in enumerate(inputs(body)):
        numbers: Any = vector(text, body.get("dimensions") or DIMENSIONS)
        if body.get("encoding_format") == "base64":
            numbers = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": numbers})
    return {**listed(rows, body, plan), "usage": usage(body.get("input"))}


def raw_reward(item: Any) -> float:
    """The reward of a conversation or text before any activation."""
    return vector(item, 1)[0] * 8


def activated(value: float, body: Json) -> float:
    """A one-label model gets a sigmoid unless the request declines it."""
    return value if body.get("use_activation") is False else 1 / (1 + 2.718281828459045**-value)


def classify(body: Json, plan: Json) -> Json:
    """/classify of a one-label model."""
    rows: list[Json] = [
        {"index": index, "label": "LABEL_0", "probs": [activated(raw_reward(item), body)], "num_classes": 1}
        for index, item in enumerate(inputs(body))
    ]
    return {**listed(rows, body, plan), "usage": usage(inputs(body))}


def pooling(body: Json, plan: Json) -> Json:
    """/pooling of a one-label model."""
    rows: list[Json] = [
        {"index": index, "object": "pooling", "data": [activated(raw_reward(item), body)]}
        for index, item in enumerate(inputs(body))
    ]
    return {**listed(rows, body, plan), "usage": usage(inputs(body))}


def score(body: Json, plan: Json) -> Json:
    """/score of one query against one or more documents."""
    left = body.get("queries", body.get("text_1", body.get("data_1")))
    right = body.get("documents", body.get("text_2", body.get("data_2")))
    if left is None or right is None:
        raise BadRequest("'queries' and 'documents' are needed")
    lefts, rights = (value if isinstance(value, list) else [value] for value in (left, right))
    lefts = lefts * len(rights) if len(lefts) == 1 else lefts
    pairs = list(zip(lefts, rights, strict=True))
    rows: list[Json] = [
        {"index": at, "object": "score", "score": activated(raw_reward(pair), body)} for at, pair in enumerate(pairs)
    ]
    return {**listed(rows, body, plan), "usage": usage(pairs)}


ANSWERS = {
    "/v1/chat/completions": chat,
    "/v1/embeddings": embeddings,
    "/classify": classify,
    "/pooling": pooling,
    "/score": score,
}
