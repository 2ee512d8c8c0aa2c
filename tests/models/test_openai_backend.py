"""What the openai back end sends, and what it makes of everything a server can do to it."""

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from pathlib import Path
from typing import Any

import openai
import pytest

from curate.errors import UsageError
from curate.models.asking import Attempt, Reply, Request, Sampling
from curate.models.completion import BadReply, decode, error_kind, read_reply, retry_after
from curate.models.openai_backend import OpenAIBackend, answer_options
from curate.models.spec import ModelSpec, Price
from tests.models.server import ModelServer

KEY = "planted-api-key-0123456789"
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
SCHEMA = {
    "name": "verdict",
    "schema": {"type": "object", "properties": {"better": {"enum": ["A", "B"]}, "why": {"type": "string"}}},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked(text: str = "Why is the sky blue?", **settings: Any) -> Request:
    return Request(({"role": "user", "content": text},), **settings)


CASES: dict[str, Request] = {
    "plain": asked(),
    "system message": Request(({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})),
    "several turns": Request(
        ({"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "and 2+2?"})
    ),
    "sampling": asked(
        sampling=Sampling(temperature=0.0, top_p=0.9, presence_penalty=0.1, frequency_penalty=-0.1, stop=("\n\n", "END"))
    ),
    "settings of vLLM": asked(sampling=Sampling(top_k=40, min_p=0.05, repetition_penalty=1.1)),
    "cut off": asked(sampling=Sampling(max_tokens=3)),
    "seed": asked(seed=7),
    "log-probabilities": asked(sampling=Sampling(logprobs=5, max_tokens=4)),
    "log-probabilities without alternatives": asked(sampling=Sampling(logprobs=0)),
    "tools": asked(tools=(TOOL,)),
    "tool results": Request(
        (
            {"role": "user", "content": "Weather in Rome?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ),
        tools=(TOOL,),
        seed=1,
    ),
    "JSON schema": asked(response_format=SCHEMA),
    "image by address": Request(
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}},
                ],
            },
        )
    ),
    "other scripts": asked('naïve 漢字 🙂 \u2028 \x00 " \\ </script> é e\u0301'),
    "long": asked("word " * 200_000),
}

Use = Callable[..., Coroutine[Any, Any, Any]]


def model(server: ModelServer, price: Price | None = None, base_url: str | None = None, **options: Any) -> ModelSpec:
    return ModelSpec(
        backend="openai",
        name="m",
        base_url=base_url or server.base_url,
        api_key=KEY,  # type: ignore[arg-type]
        usd_per_mtok=price,
        options={name.replace("__", "."): value for name, value in options.items()},
    )


def ask(spec: ModelSpec, *requests: Request) -> list[Attempt]:
    async def main() -> list[Attempt]:
        backend = OpenAIBackend(spec)
        try:
            return [await backend.send(request) for request in requests]
        finally:
            await backend.close()

    return asyncio.run(main())


def reply_to(server: ModelServer, request: Request | None = None, **options: Any) -> Reply:
    return ask(model(server, **options), request or asked())[0].reply


# -- equal to the SDK


def through_sdk(server: ModelServer, body: dict[str, Any]) -> Any:
    """As the SDK's documentation has it."""
    body = dict(body)
    others = {name: body.pop(name) for name in ("top_k", "min_p", "repetition_penalty", "chat_template_kwargs") if name in body}

    async def main() -> Any:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=server.base_url, max_retries=0) as client:
            return await client.chat.completions.create(**body, extra_body=others or None)

    return asyncio.run(main())


def spoken(request: Request) -> dict[str, Any]:
    """The SDK's arguments for a request, written out by hand."""
    sampling = request.sampling
    named = (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "max_tokens",
    )
    body = {
        "model": "m",
        "messages": list(request.messages),
        **{name: getattr(sampling, name) for name in named},
        "seed": request.seed,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    if request.tools:
        body["tools"] = list(request.tools)
    if request.response_format:
        body["response_format"] = {"type": "json_schema", "json_schema": {**request.response_format, "strict": True}}
    return {name: value for name, value in body.items() if value is not None}


@pytest.mark.parametrize("way", ["fast", "sdk"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_sent_and_understood_equals_the_sdk(server: ModelServer, case: str, way: str) -> None:
    request = CASES[case]
    server.plan(record=True)
    theirs = through_sdk(server, spoken(request))
    ours = reply_to(server, request, transport=way)
    first, second = server.log()["requests"]

    assert json.loads(second["body"]) == json.loads(first["body"])
    assert second["path"] == first["path"] == "/v1/chat/completions"
    for name in ("authorization", "content-type", "accept", "host"):
        assert second["headers"].get(name) == first["headers"].get(name), name

    choice = theirs.choices[0]
    assert ours.usable, ours.detail
    assert ours.text == choice.message.content
    assert ours.finish_reason == choice.finish_reason
    assert (ours.prompt_tokens, ours.response_tokens) == (theirs.usage.prompt_tokens, theirs.usage.completion_tokens)
    assert list(ours.tool_calls) == [call.model_dump(exclude_unset=True) for call in choice.message.tool_calls or ()]
    rows = choice.logprobs.content if choice.logprobs else None
    expected = rows and tuple(
        {"token": row.token, "logprob": row.logprob, "top": {one.token: one.logprob for one in row.top_logprobs}} for row in rows
    )
    assert ours.logprobs == expected
    assert ours.raw is not None
    assert ours.raw["message"] == choice.message.model_dump(exclude_unset=True)
    assert ours.raw["usage"] == theirs.usage.model_dump(exclude_unset=True)


def test_the_sdk_sends_the_same_bytes(server: ModelServer) -> None:
    """Where both write the fields in one order, not only the JSON but its spelling is the same."""
    through_sdk(server, spoken(CASES["other scripts"]))
    reply_to(server, CASES["other scripts"])
    first, second = server.log()["requests"]
    assert first["sha256"] == second["sha256"]


def test_organisation_and_project_are_sent_as_the_sdk_sends_them(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    server.plan(record=True)
    through_sdk(server, spoken(asked()))
    reply_to(server)
    first, second = (entry["headers"] for entry in server.log()["requests"])
    for name in ("openai-organization", "openai-project"):
        assert second[name] == first[name]


def test_the_key_of_openai_goes_to_openai_alone(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-only")
    server.plan(record=True)
    spec = ModelSpec(backend="openai", name="m", base_url=server.base_url)
    assert ask(spec, asked())[0].reply.usable
    assert "authorization" not in server.log()["requests"][0]["headers"]


# -- the settings


def test_options_add_fields_and_headers(server: ModelServer) -> None:
    server.plan(record=True)
    options: dict[str, Any] = {"header.X-Team": "red", "body.chat_template_kwargs.enable_thinking": False, "body.user": "u"}
    spec = ModelSpec(backend="openai", name="m", base_url=server.base_url, options=options)
    ask(spec, asked())
    entry = server.log()["requests"][0]
    body = json.loads(entry["body"])
    assert (body["chat_template_kwargs"], body["user"]) == ({"enable_thinking": False}, "u")
    assert entry["headers"]["x-team"] == "red"
    assert answer_options(spec) == {"body.chat_template_kwargs.enable_thinking": False, "body.user": "u"}


def test_the_limit_goes_into_the_field_that_the_server_knows(server: ModelServer) -> None:
    server.plan(record=True)
    request = asked(sampling=Sampling(max_tokens=5))
    reply_to(server, request)
    reply_to(server, request, limit_field="max_completion_tokens")
    first, second = (json.loads(entry["body"]) for entry in server.log()["requests"])
    assert (first["max_tokens"], second["max_completion_tokens"]) == (5, 5)
    assert "max_completion_tokens" not in first
    assert "max_tokens" not in second
    assert OpenAIBackend(ModelSpec(backend="openai", name="gpt-x")).limit_field == "max_completion_tokens"


@pytest.mark.parametrize(
    ("options", "base_url", "words"),
    [
        ({"timeout": 5}, None, "no option 'timeout'"),
        ({"transport": "carrier pigeon"}, None, "'fast' or 'sdk'"),
        ({}, "localhost:8000/v1", "not an http or https address"),
        ({}, "ftp://x/v1", "not an http or https address"),
        ({"header.X-Key": "line\nbreak"}, None, "header.X-Key|X-Key holds a character"),
        ({"header.X Key": "a"}, None, "no name that an HTTP header can have"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], base_url: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        OpenAIBackend(ModelSpec(backend="openai", name="m", base_url=base_url or "http://localhost:1/v1", options=options))


# -- what comes back


def test_cost_is_the_price_of_the_tokens(server: ModelServer) -> None:
    reply = reply_to(server, price=Price(into=1.0, out=10.0))
    assert reply.prompt_tokens and reply.response_tokens
    assert reply.cost_usd == pytest.approx((reply.prompt_tokens + 10 * reply.response_tokens) / 1e6)
    assert reply_to(server).cost_usd is None


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_kept_apart(server: ModelServer, field: str) -> None:
    server.plan(reasoning=field)
    reply = reply_to(server)
    assert reply.text
    assert reply.reasoning
    assert reply.reasoning not in reply.text


def test_reasoning_within_the_text_is_split_off_when_the_recipe_says_so(server: ModelServer) -> None:
    server.plan(reasoning="think")
    whole = reply_to(server, asked(sampling=Sampling(logprobs=0)))
    split = reply_to(server, asked(sampling=Sampling(logprobs=0)), think=True)
    assert whole.text and split.text and split.reasoning and split.logprobs
    assert whole.text == f"<think>{split.reasoning}</think>\n\n{split.text}"
    assert whole.reasoning is None
    assert "".join(row["token"] for row in split.logprobs).strip() == split.text


def choice(content: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}


@pytest.mark.parametrize(
    ("content", "finish", "reasoning", "text"),
    [
        ("<think>a</think>b", "stop", "a", "b"),
        ("a</think>b", "stop", "a", "b"),  # the template opened the tag
        ("<think>a", "length", "a", ""),  # cut off while it reasoned
        ("<think>a", "stop", None, "<think>a"),
        ("b", "stop", None, "b"),
        ("<think>a</think>b</think>c", "stop", "a", "b</think>c"),
    ],
)
def test_where_reasoning_ends(content: str, finish: str, reasoning: str | None, text: str) -> None:
    reply = read_reply(choice(content, finish), {}, think=True)
    assert (reply.reasoning, reply.text) == (reasoning, text)


def test_no_text_at_the_limit_is_an_answer_that_was_cut_off() -> None:
    reply = read_reply(choice(None, "length", reasoning_content="hm"), {})
    assert (reply.text, reply.reasoning, reply.finish_reason, reply.error) == ("", "hm", "length", None)


def test_content_in_parts_is_joined() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
    ]
    reply = read_reply(choice(parts), {})
    assert (reply.text, reply.reasoning) == ("ab", "hm")


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"message": None}, "choices[].message"),
        ({"message": {"content": 7}}, "content"),
        ({"message": {"content": "x", "tool_calls": [{"id": "c"}]}}, "tool_calls[0].function"),
        ({"logprobs": {"content": [{"token": "x"}]}}, "logprobs.content[0].logprob"),
        ({"logprobs": []}, "choices[].logprobs"),
    ],
)
def test_a_choice_of_the_wrong_shape_names_the_place_and_keeps_what_was_paid_for(changed: dict[str, Any], place: str) -> None:
    reply = read_reply(
        {**choice("x"), **changed}, {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, price=Price(into=1, out=1)
    )
    assert reply.error == "bad_reply"
    assert place in (reply.detail or "")
    assert (reply.text, reply.prompt_tokens, reply.cost_usd) == (None, 3, pytest.approx(7e-6))
    assert reply.raw is not None


def test_odd_usage_does_not_lose_an_answer() -> None:
    reply = read_reply(choice("x"), {"usage": {"prompt_tokens": "many", "completion_tokens": -1}}, price=Price(into=1, out=1))
    assert (reply.text, reply.error, reply.prompt_tokens, reply.response_tokens, reply.cost_usd) == ("x", None, None, None, None)


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[]", b"{} {}", b'{"a": \xff}', b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadReply):
        decode(body)


# -- n samples in one call


def test_several_samples_come_from_one_call(server: ModelServer) -> None:
    async def main() -> list[Attempt]:
        backend = OpenAIBackend(model(server, Price(into=1.0, out=1.0)))
        try:
            return await backend.send_many(asked(), 3)
        finally:
            await backend.close()

    replies = [attempt.reply for attempt in asyncio.run(main())]
    assert len({reply.text for reply in replies}) == 3
    assert server.counts()["count"] == 1
    usage = (replies[0].raw or {})["usage"]
    assert sum(reply.cost_usd or 0 for reply in replies) == pytest.approx(usage["total_tokens"] / 1e6)
    assert [reply.response_tokens for reply in replies] == [None] * 3  # the server counts them together


def test_choices_that_are_missing_are_errors_in_their_place(server: ModelServer) -> None:
    backend = OpenAIBackend(model(server))
    found = {"choices": [{**choice("second"), "index": 1}, {**choice("first"), "index": 0}]}
    replies = backend.read(found, 3, None)
    assert [(reply.text, reply.error) for reply in replies] == [("first", None), ("second", None), (None, "bad_reply")]


# -- faults

FAULTS = {
    "429": "rate_limit",
    "429_seconds": "rate_limit",
    "429_date": "rate_limit",
    "429_ms": "rate_limit",
    "500": "server",
    "502": "server",
    "503": "server",
    "503_seconds": "server",
    "hang": "timeout",
    "cut": "connection",
    "reset": "connection",
    "chunked_cut": "connection",
    "refuse_bytes": "bad_reply",
    "half_json": "bad_reply",
    "wrong_json": "bad_reply",
    "not_an_object": "bad_reply",
    "nan": "bad_reply",
    "surrogate": "bad_reply",
    "empty_choices": "bad_reply",
    "null_content": "bad_reply",
    "content_filter": "refused",
    "refusal": "refused",
    "context_length": "request",
    "401": "engine",
    "401_echo": "engine",
    "500_echo": "server",
    "redirect": "engine",
    "error_200": "server",
    "slow": None,
    "huge": None,
    "gzip": None,
    "chunked": None,
}
WAITS = {"429_seconds": 0.25, "429_ms": 0.25, "503_seconds": 0.25}


@pytest.mark.parametrize("way", ["fast", "sdk"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_told_apart_and_the_next_call_works(server: ModelServer, fault: str, way: str) -> None:
    server.plan(script=[fault], retry_after_s=0.25, slow_s=0.1)
    failed, good = ask(model(server, transport=way, timeout_s=1.0 if fault == "hang" else 10.0), asked(), asked())
    assert failed.reply.error == FAULTS[fault], failed.reply.detail
    assert failed.reply.usable == (failed.reply.text is not None)
    assert bool(failed.reply.detail) != failed.reply.usable
    if fault in WAITS:
        assert failed.retry_after == pytest.approx(WAITS[fault])
    elif fault == "429_date":
        assert failed.retry_after is not None and 0 <= failed.retry_after <= 1.5
    else:
        assert failed.retry_after is None
    assert good.reply.usable, good.reply.detail


def test_nobody_listens(server: ModelServer) -> None:
    reply = reply_to(server, base_url="http://127.0.0.1:9/v1")
    assert reply.error == "connection"
    assert "127.0.0.1:9" in (reply.detail or "")


def test_a_reply_above_the_limit_is_not_taken(server: ModelServer) -> None:
    server.plan(share={"huge": 1.0}, huge_bytes=3_000_000)
    assert len(reply_to(server, max_reply_mb=4).text or "") == 3_000_000
    small = reply_to(server, max_reply_mb=1)
    assert (small.error, small.detail) == ("bad_reply", f"{server.base_url}: the reply is larger than 1 MB")


@pytest.mark.parametrize("encoding", ["gzip", "chunked"])
def test_encodings_of_the_wire_change_nothing(server: ModelServer, encoding: str) -> None:
    plain = reply_to(server)
    server.plan(encoding=encoding)
    assert reply_to(server).text == plain.text


def test_a_request_that_json_cannot_hold_is_not_sent(server: ModelServer) -> None:
    reply = reply_to(server, asked("lone \ud800 surrogate"))
    assert reply.error == "request"
    assert server.counts()["count"] == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "?", "retry-after": "9"}, 9.0),
        ({"retry-after": formatdate(0, usegmt=True)}, 0.0),
        ({"retry-after": "Mon, 99 Foo 2020 00:00:00 GMT"}, None),
    ],
)
def test_how_long_the_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "context_length_exceeded", "", "request"),
        (400, "content_filter", "", "refused"),
        (403, "content_policy_violation", "", "refused"),
        (400, "INVALID_ARGUMENT", "API key not valid", "engine"),
        (404, "model_not_found", "", "engine"),
        (401, "", "", "engine"),
        (402, "", "", "engine"),
        (403, "", "", "engine"),
        (405, "", "", "engine"),
        (408, "", "", "timeout"),
        (409, "", "", "server"),
        (413, "", "", "request"),
        (422, "", "", "request"),
        (429, "insufficient_quota", "", "rate_limit"),
        (504, "", "", "timeout"),
        (529, "", "", "server"),
    ],
)
def test_what_a_status_means(status: int, code: str, message: str, kind: str) -> None:
    assert error_kind(status, code, message) == kind


# -- images


def picture(url: str, **marks: Any) -> Request:
    return Request(({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}, **marks}]},))


def sent_picture(server: ModelServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.log()["requests"][0]["body"])["messages"][0]["content"][0]
    return found


def test_an_image_is_sent_whole_only_if_the_message_says_so(server: ModelServer, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PIXEL)
    server.plan(record=True)
    assert reply_to(server, picture("a.png", inline=True), media=str(tmp_path)).usable
    url = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    assert sent_picture(server) == {"type": "image_url", "image_url": {"url": url}}
    server.reset()
    server.plan(record=True)
    assert reply_to(server, picture("file:///a.png", inline=False), media=str(tmp_path)).usable
    assert sent_picture(server) == {"type": "image_url", "image_url": {"url": "file:///a.png"}}


@pytest.mark.parametrize("url", ["../secret.png", "/etc/passwd", "file:///etc/passwd", "link.png", "text.png", "absent.png"])
def test_a_dataset_cannot_read_this_disk(server: ModelServer, tmp_path: Path, url: str) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (tmp_path / "secret.png").write_bytes(PIXEL)
    (media / "link.png").symlink_to(tmp_path / "secret.png")
    (media / "text.png").write_text("no picture")
    assert reply_to(server, picture(url, inline=True), media=str(media)).error == "request"
    assert reply_to(server, picture(url, inline=True)).error == "request"
    assert server.counts()["count"] == 0


# -- secrets


@pytest.mark.parametrize("way", ["fast", "sdk"])
@pytest.mark.parametrize("fault", [*FAULTS, "nobody"])
def test_no_secret_is_told(
    server: ModelServer, caplog: pytest.LogCaptureFixture, capfd: Any, monkeypatch: pytest.MonkeyPatch, fault: str, way: str
) -> None:
    """Whatever goes wrong: keys, headers, names and passwords stand in no reply, no error, no log and no repr."""
    # handlers that other tests left write to streams which are closed by now: logging would tell of that with the arguments
    monkeypatch.setattr(logging, "raiseExceptions", False)
    caplog.set_level(logging.DEBUG)
    secrets = [KEY, "planted-password", "planted-user-name", "planted-header-value", "planted-query-value"]
    place = "127.0.0.1:9" if fault == "nobody" else f"127.0.0.1:{server.port}"
    base = f"http://planted-user-name:planted-password@{place}/v1?code=planted-query-value"
    options: dict[str, Any] = {"header.X-Secret": "planted-header-value", "transport": way, "timeout_s": 0.5}
    spec = ModelSpec(backend="openai", name="m", base_url=base, api_key=KEY, options=options)  # type: ignore[arg-type]
    backend = OpenAIBackend(spec)
    server.plan(script=[] if fault == "nobody" else [fault], slow_s=0.05, huge_bytes=1000)

    async def main() -> Attempt:
        try:
            return await backend.send(asked())
        finally:
            await backend.close()

    attempt = asyncio.run(main())
    written = capfd.readouterr()
    told = [repr(attempt), repr(backend), repr(backend.transport), repr(backend.address), repr(backend.address.secrets)]
    assert "userinfo-secret" not in "".join(told)  # the test server's own, in the address it redirects to
    told += [written.out, written.err, *(record.getMessage() for record in caplog.records)]
    basic = base64.b64encode(b"planted-user-name:planted-password").decode()
    for secret in [*secrets, basic]:
        assert not [text for text in told if secret in text], secret


def test_a_secret_that_a_reply_repeats_is_blanked(server: ModelServer) -> None:
    """The test server answers a hash of what it is asked, so the secret is planted in what it is asked to choose from."""
    schema = {"name": "s", "schema": {"type": "object", "properties": {"x": {"const": f"your key is {KEY}"}}}}
    reply = reply_to(server, asked(response_format=schema))
    assert reply.text == '{"x": "your key is ***"}'
    assert KEY not in repr(reply)


def test_credentials_in_the_address_are_sent_as_the_sdk_sends_them(server: ModelServer) -> None:
    server.plan(record=True)
    base = f"http://user:pass%40word@127.0.0.1:{server.port}/v1"
    for way in ("fast", "sdk"):
        assert reply_to(server, base_url=base, transport=way).usable

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=base, max_retries=0) as client:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Why is the sky blue?"}])

    asyncio.run(main())
    sent = [entry["headers"]["authorization"] for entry in server.log()["requests"]]
    assert sent == ["Basic " + base64.b64encode(b"user:pass@word").decode()] * 3
