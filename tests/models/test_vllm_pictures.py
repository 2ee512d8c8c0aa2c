"""A model in vLLM's own process sees the pictures of a message as transformers shows them to it."""

import base64
from pathlib import Path

import pytest

from curate.models.asking import Reply, Request, Sampling
from curate.models.session import Session
from tests.models.pictures import SEEN, pixels, png, seeing_model
from tests.models.vllms import need_vllm, spec, written

pytestmark = pytest.mark.slow
RED, BLUE = (255, 0, 0), (0, 0, 255)


def ask(*urls: str) -> Request:
    parts = [{"type": "text", "text": "What is this? "}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    return Request(({"role": "user", "content": parts},), Sampling(max_tokens=8, temperature=0.0))


def in_line(colour: tuple[int, int, int]) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(*colour)).decode()}"


def theirs(folder: Path, colour: tuple[int, int, int] | None) -> tuple[str, int]:
    """What transformers answers, and how many tokens it was given."""
    import torch
    from transformers import AutoTokenizer, Idefics3ForConditionalGeneration

    words = AutoTokenizer.from_pretrained(folder)
    model = Idefics3ForConditionalGeneration.from_pretrained(folder).eval()
    prompt = f"<|im_start|>user\nWhat is this? {SEEN if colour else ''}<|im_end|>\n<|im_start|>assistant\n"
    given = words(prompt, return_tensors="pt")
    if colour:
        given["pixel_values"] = pixels(*colour)
    with torch.inference_mode():
        made = model.generate(**given, max_new_tokens=8, do_sample=False)[0]
    size = given["input_ids"].shape[1]
    return written(words.decode(made[size:], skip_special_tokens=True)), size


def test_pictures_are_seen_as_by_transformers(tmp_path: Path) -> None:
    need_vllm()
    folder = seeing_model(tmp_path / "model")
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "blue.png").write_bytes(png(*BLUE))
    (tmp_path / "secret.png").write_bytes(png(*BLUE))
    asked = [ask(in_line(RED)), ask("file://blue.png"), ask(), ask("https://example.org/a.png"), ask("file://../secret.png")]
    with Session({"m": spec(folder, media=str(tmp_path / "media"))}, tmp_path / "store") as session:
        red, blue, none, fetched, outside = session.chat("m").reply(asked)
    told: list[tuple[Reply, tuple[int, int, int] | None]] = [(red, RED), (blue, BLUE), (none, None)]
    for reply, colour in told:
        assert (written(reply.text), reply.prompt_tokens) == theirs(folder, colour), reply.detail
    assert len({reply.text for reply, _ in told}) == 3
    assert fetched.error == outside.error == "request" and "address" in (fetched.detail or "")
