"""Run a model with vLLM in a process of its own: conversations come in over a socket, replies go out as each is finished.

Started by `vllm_engine` with the interpreter that vLLM is installed in; needs vLLM, pyarrow and the standard library alone.
Both directions are Arrow streams, whose first row holds the settings and what came of loading the model. Standard output and
error, to which vLLM writes, are the log. The process ends when the socket does, whatever it is doing.
"""

import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pyarrow as pa

ASKED = pa.schema({"id": pa.int64(), "kind": pa.string(), "body": pa.string()})
TOLD = pa.schema(
    {
        "id": pa.int64(),
        "body": pa.string(),
        "values": pa.list_(pa.float32()),
        "cut": pa.int32(),
        "error": pa.string(),
        "detail": pa.string(),
    }
)
READY = -1
"""Id of the row that is no request."""
PROMPTS_KEPT = 256
"""Rendered prompts remembered, since samples of one prompt come together."""
ADDED_AT_ONCE = 64
"""Requests rendered between two steps of the engine, which would stand still for longer."""
DEFAULTS = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
}
"""Where neither request nor model say: as vLLM's own server."""
END_SECONDS = 5.0
"""How long the engine may take to end in good order."""


def beside(package: Path) -> None:
    """Let modules of curate's be imported that need no more than the standard library, without its environment."""
    for name, folder in (("curate", package), ("curate.models", package / "models")):
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module


class Channel:
    """The socket to the process that asks."""

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)
        self._out = self._socket.makefile("wb")
        self._writer: Any = None
        self._reader: Any = None
        self.asked: queue.SimpleQueue[list[dict[str, Any]] | None] = queue.SimpleQueue()
        self.ended = False

    def settings(self) -> dict[str, Any]:
        """The first row."""
        self._reader = pa.ipc.open_stream(self._socket.makefile("rb"))
        found: dict[str, Any] = json.loads(self._reader.read_next_batch().column("body")[0].as_py())
        return found

    def listen(self) -> None:
        """Take in what is asked, until nobody asks any more; then this process has a moment left."""
        try:
            for batch in self._reader:
                self.asked.put(batch.to_pylist())
        except (OSError, pa.ArrowInvalid):
            pass
        self.ended = True
        self.asked.put(None)
        time.sleep(END_SECONDS)
        kill_all()

    def tell(self, rows: list[dict[str, Any]]) -> None:
        """Send rows at once."""
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._out, TOLD)
        try:
            self._writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=TOLD))
            self._out.flush()
        except OSError:  # nobody listens
            kill_all()


def kill_all() -> None:
    """End this process and the engine's own, which are its group."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """What vllm.LLM is given for a model's settings."""
    from vllm.platforms import current_platform

    from curate.models.vllm_cores import CORES, cores_shared

    given = dict(settings["engine"])
    if current_platform.is_cpu() and (shares := cores_shared(given, os.environ)):
        os.environ[CORES] = shares
    if settings["kind"] != "chat":
        given["runner"] = "pooling"
    else:
        given["structured_outputs_config"] = {"backend": "xgrammar", "disable_any_whitespace": True}
        if current_platform.is_cpu():  # a seeded request whose prompt is cut into steps ends vLLM 0.32's engine on a CPU
            given.setdefault("enable_chunked_prefill", False)
    if settings.get("lora"):
        given["enable_lora"] = True
    return given


class Model:
    """One model, loaded. settings: `kind` (chat, reward or embed), `engine` (arguments of vllm.LLM), and how it is used."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from vllm import LLM

        from curate.models.vllm_checks import need_head, need_template

        self.settings = settings
        self.llm = LLM(**arguments(settings))
        self.engine = self.llm.llm_engine
        self.tokenizer = self.llm.get_tokenizer()
        self.limit = int(self.llm.model_config.max_model_len)
        self.defaults = DEFAULTS | self.llm.model_config.get_diff_sampling_param()
        self.lora = self._lora()
        self.parser = self._parser()
        self._prompts: OrderedDict[str, Any] = OrderedDict()
        self._about: dict[int, dict[str, Any]] = {}
        self._rendering: Any = None
        if settings["kind"] == "reward":
            need_head(self.llm)
        elif settings["kind"] == "chat":
            need_template(lambda: self._prompt({"messages": [{"role": "user", "content": "a"}]}))

    def _lora(self) -> Any:
        if not self.settings.get("lora"):
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, self.settings["lora"])

    def _parser(self) -> Any:
        """What splits tool calls and reasoning off a text, by vLLM's parsers of these names; None if none is named."""
        tools, thoughts = self.settings.get("tool_parser"), self.settings.get("reasoning_parser")
        if not tools and not thoughts:
            return None
        from vllm.parser import ParserManager

        return ParserManager.get_parser(tool_parser_name=tools, reasoning_parser_name=thoughts, enable_auto_tools=bool(tools))

    # -- in

    def add(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Hand a request to the engine; what is wrong with it comes back at once."""
        from vllm.exceptions import VLLMClientError

        number, body = row["id"], json.loads(row["body"])
        try:
            prompt, params, about = getattr(self, f"_{row['kind']}")(body)
            self.engine.add_request(str(number), prompt, params, lora_request=self.lora)
        except (VLLMClientError, ValueError, TypeError, KeyError, OSError) as problem:
            return {"id": number, "error": "request", "detail": words(problem)}
        self._about[number] = about | {"began": time.perf_counter()}
        return None

    def _ask(self, body: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """An answer to write."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = self.defaults | body["sampling"]
        wanted = sampling.pop("logprobs", None)
        schema, choices = body.get("schema"), body.get("choices")
        params = SamplingParams(
            **sampling,
            logprobs=wanted,
            seed=body.get("seed"),
            structured_outputs=None
            if schema is None and not choices
            else StructuredOutputsParams(choice=choices)
            if choices
            else StructuredOutputsParams(json=schema),
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_special_tokens=not (self.parser and body.get("tools")),
        )
        return self._prompt(body), params, {"kind": "ask", "logprobs": wanted, "body": body}

    def _prompt(self, body: dict[str, Any]) -> Any:
        """A conversation as the engine takes it; the latest are kept."""
        asked = json.dumps([body["messages"], body.get("tools")])
        found = self._prompts.get(asked)
        if found is None:
            found = self.llm._preprocess_chat_one(
                body["messages"],
                tools=body.get("tools") or None,
                chat_template=self.settings.get("chat_template"),
                chat_template_kwargs=self.settings.get("template") or None,
            )
            if found["type"] == "token":  # pictures are neither small nor to be shared
                self._prompts[asked] = found
                if len(self._prompts) > PROMPTS_KEPT:
                    self._prompts.popitem(last=False)
        return dict(found) if found["type"] == "token" else found

    def _likelihood(self, body: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """An answer to measure."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from curate.models.boundary import measured

        found = measured(self.tokenizer, body["messages"], body["end"])
        if len(found.ids) >= self.limit:
            raise ValueError(f"{len(found.ids)} tokens, and the model takes {self.limit - 1} and one more")
        params = SamplingParams(
            max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        return {"prompt_token_ids": found.ids}, params, {"kind": "likelihood", "start": found.start, "ends": found.ends}

    def _reward(self, body: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """A conversation to score."""
        from vllm import PoolingParams

        found = self.rendering.render([body["messages"]])[0]
        if found.error:
            raise ValueError(found.error.removeprefix("request: "))
        prompt: dict[str, Any] = {"prompt_token_ids": found.ids}
        params = PoolingParams(task="classify", use_activation=False)
        if found.kinds and any(found.kinds):
            params.extra_kwargs = {"compressed_token_type_ids": found.kinds.index(1)}
        return prompt, params, {"kind": "values", "cut": found.cut}

    def _embed(self, body: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """A text to embed."""
        from vllm import PoolingParams

        ids = list(self.tokenizer(body["text"])["input_ids"])
        over = max(len(ids) - self.limit, 0)
        ids = ids[: self.limit - 1] + ids[-1:] if over else ids
        params = PoolingParams(task="embed", dimensions=body.get("dimensions"))
        return {"prompt_token_ids": ids}, params, {"kind": "values", "cut": over}

    @property
    def rendering(self) -> Any:
        """How conversations become tokens: the same as for rewards in curate's own process."""
        if self._rendering is None:
            from curate.models.rendering import Rendering

            told = self.settings["rendering"]
            self._rendering = Rendering(
                self.tokenizer, min(told["limit"] or self.limit, self.limit), told["truncate"], told["template"], told["eos"]
            )
        return self._rendering

    # -- out

    def step(self) -> list[dict[str, Any]]:
        """One step of the engine, and what it finished."""
        return [self._finished(output) for output in self.engine.step() if output.finished]

    def _finished(self, output: Any) -> dict[str, Any]:
        number = int(output.request_id)
        about = self._about.pop(number)
        seconds = time.perf_counter() - about["began"]
        if about["kind"] == "values":
            body = {"seconds": seconds, "prompt_tokens": len(output.prompt_token_ids)}
            values = output.outputs.data.float().reshape(-1).tolist()
            return {"id": number, "values": values, "cut": about["cut"], "body": json.dumps(body)}
        if about["kind"] == "likelihood":
            ids, told = output.prompt_token_ids, output.prompt_logprobs
            values = [told[place][ids[place]].logprob for place in range(about["start"], len(ids))]
            body = {"seconds": seconds, "prompt_tokens": about["start"], "ends": about["ends"]}
            return {"id": number, "values": values, "body": json.dumps(body)}
        answer = output.outputs[0]
        if answer.finish_reason in ("error", "abort", None):
            return {"id": number, "error": "server", "detail": f"vLLM gave the request up ({answer.finish_reason})"}
        body = {
            "choice": self._choice(answer, output, about),
            "usage": {"prompt_tokens": len(output.prompt_token_ids), "completion_tokens": len(answer.token_ids)},
            "seconds": seconds,
        }
        return {"id": number, "body": json.dumps(body, ensure_ascii=False).encode("utf-8", "replace").decode()}

    def _choice(self, answer: Any, output: Any, about: dict[str, Any]) -> dict[str, Any]:
        """The answer as vLLM's server writes it."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text}
        finish = answer.finish_reason
        if self.parser is not None:
            message = self._parsed(answer, output, about["body"])
            finish = "tool_calls" if message.get("tool_calls") and finish == "stop" else finish
        choice = {"index": 0, "message": message, "finish_reason": finish}
        if about["logprobs"] is not None:
            rows = zip(answer.token_ids, answer.logprobs or (), strict=True)
            choice["logprobs"] = {"content": [self._row(token, places, about["logprobs"]) for token, places in rows]}
        return choice

    def _parsed(self, answer: Any, output: Any, body: dict[str, Any]) -> dict[str, Any]:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        asked = {"model": "", "messages": body["messages"], "tools": body.get("tools") or None}
        request = ChatCompletionRequest(**{name: value for name, value in asked.items() if value is not None})
        parser = self.parser(self.tokenizer, request.tools, chat_template_kwargs=self.settings.get("template") or {})
        parser.set_prompt_token_ids(output.prompt_token_ids)
        auto = bool(self.settings.get("tool_parser"))
        thought, text, calls = parser.parse(
            answer.text, request, enable_auto_tools=auto, model_output_token_ids=list(answer.token_ids)
        )
        made = [
            {
                "id": call.id or f"call_{number}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for number, call in enumerate(calls or ())
        ]
        message = {"role": "assistant", "content": text, "reasoning": thought}
        return message | ({"tool_calls": made} if made else {})

    def _row(self, token: int, places: dict[int, Any], wanted: int) -> dict[str, Any]:
        """One token's log-probability and the likeliest in its place; vLLM lists the token itself first."""
        top: dict[str, float] = {}
        for one in list(places.values())[:wanted]:
            top.setdefault(one.decoded_token or "", max(one.logprob, -9999.0))  # parts of characters look alike
        return {
            "token": places[token].decoded_token or "",
            "logprob": max(places[token].logprob, -9999.0),
            "top_logprobs": [{"token": text, "logprob": value} for text, value in top.items()],
        }


def words(problem: BaseException) -> str:
    """The first of what an exception says."""
    return " ".join(str(problem).split())[:300] or type(problem).__name__


def serve(channel: Channel, model: Model) -> None:
    """Take requests in and step the engine, until nobody asks any more."""
    waiting: list[dict[str, Any]] = []
    while not channel.ended:
        while not channel.asked.empty() or not (waiting or model.engine.has_unfinished_requests()):
            rows = channel.asked.get()
            if rows is None:
                return
            waiting += rows
        now, waiting = waiting[:ADDED_AT_ONCE], waiting[ADDED_AT_ONCE:]
        told = [refused for row in now if (refused := model.add(row)) is not None]
        if model.engine.has_unfinished_requests():
            told += model.step()
        if told:
            channel.tell(told)


def main() -> None:
    """Load the model, say so, and serve."""
    channel = Channel(int(sys.argv[1]))
    settings = channel.settings()
    threading.Thread(target=channel.listen, daemon=True).start()
    beside(Path(settings["package"]))
    from curate.models.heads import Unfit

    try:
        model = Model(settings)
    except Unfit as problem:
        channel.tell([{"id": READY, "error": "request", "detail": str(problem)}])
        kill_all()
    except Exception as problem:
        import traceback

        traceback.print_exc()
        channel.tell([{"id": READY, "error": "engine", "detail": words(problem)}])
        os._exit(1)
    channel.tell([{"id": READY, "body": json.dumps({"limit": model.limit})}])
    serve(channel, model)
    model.engine.engine_core.shutdown()
    sys.stdout.flush()
    kill_all()


if __name__ == "__main__":
    main()
