"""What judges have in common: how a question is put to a model and how its answer is read."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, PrivateAttr, StringConstraints, model_validator

from curate.ids import digest
from curate.maths import verdicts
from curate.maths.verdicts import Wanted
from curate.models.asking import Reply, Request, Sampling
from curate.models.operator import ModelOperator
from curate.score.rubric import Rubric, RubricNames, instruction, load

NO_TEXT, NO_REFERENCE = "no text", "no reference"
ALTERNATIVES = 20  # log-probabilities at a token: as many as servers give
UNPARSABLE = "unparsable: "  # before what is wrong with an answer
NO_VERDICT = f"{UNPARSABLE}not one verdict in the form asked for"
KEPT = 20_000  # characters of a rationale or an unparsable reply; the ledger has all of it
CODE = 12  # hex digits that open and close a block
Form = Literal["json", "text"]
FORMS: tuple[Form, ...] = ("json", "text")
ModelKey = Annotated[str, StringConstraints(min_length=1)]
NOT_PLAIN = re.compile(r"[^\w -]")
Turn = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """One thing to ask a judge, once."""

    how: str
    """Name of the instruction."""
    rubrics: tuple[Rubric, ...]
    wanted: tuple[Wanted, ...]
    blocks: str
    """What it is to look at."""
    round: int

    @property
    def same(self) -> Hashable:
        """Equal for questions that one answer serves."""
        return self.how, self.rubrics, tuple(one.head for one in self.wanted), self.blocks, self.round


class Opinion(NamedTuple):
    """What came of a question."""

    values: tuple[float, ...] | None
    """What each answer is worth, in the order of what was wanted; None where there is an error."""
    rationale: str | None = None
    """The reasons given; the raw reply where it could not be read."""
    error: str | None = None

    def value(self, place: int) -> float | None:
        """What one answer is worth; None where there is an error."""
        return None if self.values is None else self.values[place]


class Judging(ModelOperator, ABC):
    """Parameters and conduct of every judge. The rater of what it writes is the model's key in the recipe."""

    model: ModelKey | tuple[ModelKey, ...] = Field(
        description="The judge, or a panel: every one of them is asked, each is a rater."
    )
    rubric: RubricNames = Field(
        default="overall", description="What to judge by: names of curate's rubrics or .md files; each is an aspect."
    )
    repeats: int = Field(default=1, ge=1, le=127, description="How often each question is asked; the round tells them apart.")
    weighted: bool = Field(
        default=False,
        description="Average over the answers the judge could have given, by their log-probabilities at the verdict's tokens.",
    )
    structured: Literal["auto", "json", "text"] = Field(
        default="auto",
        description="json: an object held to a schema by the server; text: a verdict on the last line; auto: json, and text "
        "where the server refuses it.",
    )
    rationale: bool = Field(default=True, description="Ask for reasons before the verdict, and keep them.")
    temperature: float | None = Field(default=0.0, ge=0, description="Of sampling; null for the model's own.")
    max_tokens: int | None = Field(default=2048, ge=1, description="Longest reply, reasoning included; null for no limit.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the order in which responses are shown, and of sampling.")

    _text_only: set[str] = PrivateAttr(default_factory=set)
    _takes_json: set[str] = PrivateAttr(default_factory=set)

    @property
    def panel(self) -> tuple[str, ...]:
        """The judges' keys."""
        return (self.model,) if isinstance(self.model, str) else self.model

    @property
    def named(self) -> tuple[str | Path, ...]:
        """The rubrics as the recipe names them."""
        return self.rubric if isinstance(self.rubric, tuple) else (self.rubric,)

    @property
    def aspects(self) -> tuple[str, ...]:
        """The rubrics' names without folder and ending."""
        return tuple(Path(named).stem for named in self.named)

    @property
    def reasons(self) -> bool:
        """Whether reasons are asked for."""
        return self.rationale

    @model_validator(mode="after")
    def _all_different(self) -> Self:
        for field, names in (("model", self.panel), ("rubric", self.aspects)):
            if not names or len(set(names)) < len(names):
                raise ValueError(f"`{field}` takes one or several different ones, got {', '.join(names) or 'none'}")
        return self

    def models(self) -> set[str]:
        """The judges."""
        return set(self.panel)

    def files(self) -> set[str]:
        """Rubrics that do not come with curate."""
        return {str(named) for named in self.named if isinstance(named, Path)}

    def parameters(self) -> dict[str, Any]:
        """As the recipe has them, but rubrics and instructions by what they say, wherever they lie."""
        rubrics = [load(named) for named in self.named]
        said = [system(question, form, self.reasons) for question in self.samples(rubrics) for form in FORMS]
        return super().parameters() | {"rubric": [rubric.identity for rubric in rubrics], "instructions": digest(said)}

    @abstractmethod
    def samples(self, rubrics: Sequence[Rubric]) -> list[Question]:
        """A question of each kind the step asks: what judges are told is part of its key."""

    # -- asking

    def opinions(self, questions: Sequence[Question]) -> dict[str, list[Opinion]]:
        """Each judge's opinion on each question, in order. Equal questions are put once."""
        places: dict[Hashable, int] = {}
        distinct: list[Question] = []
        for question in questions:
            if question.same not in places:
                places[question.same] = len(distinct)
                distinct.append(question)
        with ThreadPoolExecutor(len(self.panel)) as pool:
            answered = dict(zip(self.panel, pool.map(lambda key: self._ask(key, distinct), self.panel), strict=True))
        return {key: [opinions[places[question.same]] for question in questions] for key, opinions in answered.items()}

    def _ask(self, key: str, questions: Sequence[Question]) -> list[Opinion]:
        if self.structured != "auto":
            return self._put(key, questions, self.structured)
        if key in self._text_only:
            return self._put(key, questions, "text")
        # one question tells whether the server takes a schema, before a whole shard is refused
        tried = 0 if key in self._takes_json else 1
        opinions = self._put_or_text(key, questions[:tried])
        if key in self._text_only:
            return opinions + self._put(key, questions[tried:], "text")
        return opinions + self._put_or_text(key, questions[tried:])

    def _put_or_text(self, key: str, questions: Sequence[Question]) -> list[Opinion]:
        """With a schema; again without where the server refuses the request."""
        opinions = self._put(key, questions, "json")
        refused = [place for place, opinion in enumerate(opinions) if (opinion.error or "").startswith("request:")]
        for place, again in zip(refused, self._put(key, [questions[place] for place in refused], "text"), strict=True):
            opinions[place] = again
            if len(refused) == len(questions) and (again.error is None or again.error.startswith(UNPARSABLE)):
                self._text_only.add(key)
        if len(refused) < len(questions) and any(opinion.error is None for opinion in opinions):
            self._takes_json.add(key)
        return opinions

    def _put(self, key: str, questions: Sequence[Question], form: Form) -> list[Opinion]:
        if not questions:
            return []
        chat = self.called.chat(key)
        requests = [self._request(question, form) for question in questions]
        replies = chat.reply(requests)
        opinions = [self._opinion(reply, question.wanted, form) for reply, question in zip(replies, questions, strict=True)]
        chat.disown([request for request, opinion in zip(requests, opinions, strict=True) if opinion.error == NO_VERDICT])
        return opinions

    def _request(self, question: Question, form: Form) -> Request:
        sampling = Sampling(
            temperature=self.temperature, max_tokens=self.max_tokens, logprobs=ALTERNATIVES if self.weighted else None
        )
        messages = (
            {"role": "system", "content": system(question, form, self.reasons)},
            {"role": "user", "content": question.blocks},
        )
        wanted = {"name": "verdict", "schema": verdicts.schema(question.wanted, self.reasons)} if form == "json" else None
        return Request(messages, sampling, self.seed + question.round, question.round, response_format=wanted)

    def _opinion(self, reply: Reply, wanted: Sequence[Wanted], form: Form) -> Opinion:
        if reply.error is not None:
            return Opinion(None, None, storable(f"{reply.error}: {reply.detail or 'no answer'}"))
        text = reply.text or ""
        if reply.finish_reason == "length":  # `Mark: 1` may have been about to become 10
            return Opinion(None, storable(text) or None, f"{UNPARSABLE}cut off at max_tokens")
        reading = verdicts.read_lines(text, wanted) if form == "text" else verdicts.read_object(text, wanted, self.reasons)
        if reading is None:
            return Opinion(None, storable(text) or None, NO_VERDICT)
        rationale = storable(reading.rationale or "") or None if self.reasons else None
        if not self.weighted:
            return Opinion(tuple(one.worth[found.choice] for found, one in zip(reading.found, wanted, strict=True)), rationale)
        values = verdicts.expected(reading, wanted, text, reply.logprobs)
        if values is None:
            return Opinion(None, storable(text) or None, f"{UNPARSABLE}no log-probabilities where the verdict stands")
        return Opinion(tuple(values), rationale)


# -- what judges read


def system(question: Question, form: Form, reasons: bool) -> str:
    """The system message: the task, the criteria, how to tell the material apart, and the form of the answer."""
    rubrics = [criteria(rubric, marked=question.wanted[0].is_number) for rubric in question.rubrics]
    return "\n\n".join([instruction(question.how), *rubrics, instruction("blocks"), _form(question.wanted, form, reasons)])


def criteria(rubric: Rubric, marked: bool) -> str:
    """A rubric as a judge reads it; what the marks mean only where marks are given."""
    text = f"# {rubric.title} ({rubric.name})\n\n{rubric.criteria}"
    if not marked:
        return text
    scale = f"Marks for {rubric.name} are whole numbers from {rubric.low} (worst) to {rubric.high} (best)."
    return f"{text}\n\n{scale}" + (f"\n\n{rubric.marks}" if rubric.marks else "")


def _form(wanted: Sequence[Wanted], form: Form, reasons: bool) -> str:
    signs = [f"N{place + 1}" if len(wanted) > 1 else "N" if one.is_number else "X" for place, one in enumerate(wanted)]
    meanings = [f"{sign} {_allowed(one)}" for sign, one in zip(signs, wanted, strict=True)]
    meaning = f"Here {', '.join(meanings)}."
    if form == "json":
        values = [sign if one.is_number else f'"{sign}"' for sign, one in zip(signs, wanted, strict=True)]
        parts = [f'"{one.key}": {value}' for one, value in zip(wanted, values, strict=True)]
        shown = "{" + ", ".join(['"rationale": "your reasons, in a few sentences"'] * reasons + parts) + "}"
        return Template(instruction("form_json")).substitute(form=shown, meaning=meaning)
    lines = "this line" if len(wanted) == 1 else f"these {len(wanted)} lines"
    first = f"First give your reasons, in a few sentences. Then end with {lines}" if reasons else f"Reply with {lines} alone"
    shown = "\n".join(f"{one.head}: {sign}" for one, sign in zip(wanted, signs, strict=True))
    return Template(instruction("form_text")).substitute(first=f"{first}, written just so:", form=shown, meaning=meaning)


def _allowed(one: Wanted) -> str:
    choices = list(one.worth)
    if one.is_number:
        return f"is a whole number from {choices[0]} to {choices[-1]}"
    return f"is {', '.join(choices[:-1])} or {choices[-1]}"


def block(name: str, text: str, digits: int = CODE) -> str:
    """A text between two lines that it cannot contain: their code is drawn from the text itself."""
    code = hashlib.sha256(text.encode()).hexdigest()[:digits]
    while code in text:
        code = hashlib.sha256(f"{code} {text}".encode()).hexdigest()[:digits]
    plain = NOT_PLAIN.sub("", name)[:40]
    return f"<<<{plain} {code}>>>\n{text}\n<<<end {code}>>>"


def conversation(turns: Sequence[Turn]) -> str:
    """Messages, a block each, in order."""
    return "\n".join(block(str(turn["role"]), _content(turn)) for turn in turns)


def _content(turn: Turn) -> str:
    return "\n".join(text for text in (turn.get("content"), turn.get("tool_calls")) if text)


def answer(name: str, text: str, turns: Sequence[Turn] | None) -> str:
    """A response as a block; its messages are blocks within where there are several."""
    return block(name, conversation(turns) if turns else text)


def storable(text: str) -> str:
    """The text as a table may hold it: no NUL, no half characters, of bounded length."""
    return text[:KEPT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
