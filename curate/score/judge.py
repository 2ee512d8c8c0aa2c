"""Have models mark responses: one by one, several side by side, with feedback, or against a reference."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import pyarrow as pa
from pydantic import Field, model_validator

from curate.ids import canonical_json, short_id
from curate.maths import verdicts
from curate.maths.verdicts import Wanted
from curate.score.judging import NO_REFERENCE, NO_TEXT, Judging, Opinion, Question, Turn, answer, block, conversation
from curate.score.marks import Mark, appended
from curate.score.rubric import TOP, Rubric, RubricName, load
from curate.tables import Grain

ScaleEnd = Annotated[int, Field(ge=0, le=TOP, strict=True)]
SIDES: dict[Grain, dict[str, str]] = {
    "prompts": {"": "scores"},
    "responses": {"response": "scores"},
    "pairs": {"chosen": "chosen_scores", "rejected": "rejected_scores"},
}
TURNS = {"response": "turns", "chosen": "chosen_turns", "rejected": "rejected_turns"}


class Item(NamedTuple):
    """One text to be marked."""

    side: str
    """Its column: response, chosen or rejected; empty where the prompt itself is marked."""
    column: str
    """Where its scores go."""
    row: int
    text: str | None
    turns: Sequence[Turn] | None
    id: str
    """Decides, with the prompt, where it stands among others."""


class Cell(NamedTuple):
    """One score to come."""

    item: Item
    aspect: str
    round: int
    question: int | None
    """Number of the question that settles it; None where it cannot be asked, and `error` says why."""
    place: int
    """Which of the question's answers it is."""
    position: int | None
    """Where it stood among the texts shown, from 0; None where it was shown alone."""
    error: str | None = None


class Judge(Judging):
    """Scores by a model, or by each of a panel: the rater is the model's key in the recipe, the aspect the rubric's name.

    On responses each is marked, on pairs both sides, on prompts the prompt itself. A score is null, with the error, where
    there is no text or no reference, the call failed, or the reply is not in the form asked for; the raw reply is then the
    rationale. Several rounds are several scores.
    """

    takes: ClassVar[tuple[Grain, ...]] = ("prompts", "responses", "pairs")

    how: Literal["pointwise", "listwise", "critique", "reference"] = Field(
        default="pointwise",
        description="pointwise: one response a call; listwise: the responses of a prompt (the sides of a pair) together, in an "
        "order drawn by lot and kept as position; critique: feedback to the author, then the mark; reference: with the "
        "row's reference as the right answer.",
    )
    per_call: int = Field(default=4, ge=2, le=26, description="listwise: most responses in a call; more are dealt out evenly.")
    together: bool = Field(default=False, description="All aspects in one call, instead of a call for each.")
    scale: tuple[ScaleEnd, ScaleEnd] | None = Field(
        default=None, description="Lowest and highest mark, instead of those of the rubric."
    )
    by_domain: dict[str, RubricName] = Field(
        default={}, description="Rubrics for rows of certain domains, instead of `rubric`, which still names the aspect."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.together and self.how == "listwise":
            raise ValueError("`together` puts all aspects of one response in a call; listwise puts one aspect of several")
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError(f"`scale` runs from a smaller to a larger mark, got {self.scale[0]} to {self.scale[1]}")
        if self.by_domain and len(self.aspects) > 1:
            raise ValueError("`by_domain` stands in for one rubric, but `rubric` names several")
        return self

    @property
    def reasons(self) -> bool:
        """A critique is nothing but reasons."""
        return self.rationale or self.how == "critique"

    def reads(self, grain: Grain) -> set[str]:
        """Conversation and texts; the reference and the domain where they are used."""
        read = {"prompt", "prompt_id"}
        for side in TURNS.keys() & SIDES[grain]:
            read |= {side, TURNS[side], f"{side}_id"}
        return read | ({"reference"} if self.how == "reference" else set()) | ({"domain"} if self.by_domain else set())

    def writes(self, grain: Grain) -> set[str]:
        """A score for each judge and aspect."""
        columns = SIDES[grain].values()
        return {f"{column}.{rater}.{aspect}" for column in columns for rater in self.panel for aspect in self.aspects}

    def refuses(self, grain: Grain) -> str | None:
        """A prompt is marked by itself, and its reference is no answer to hold it against."""
        if grain == "prompts" and self.how in ("listwise", "reference"):
            return f"how: {self.how} is for responses; prompts are marked with how: pointwise or critique"
        return None

    def files(self) -> set[str]:
        """Rubrics that do not come with curate."""
        return super().files() | {str(named) for named in self.by_domain.values() if not isinstance(named, str)}

    def calls(self, rows: int) -> int:
        """Calls for so many texts to be marked alone, or parts to be marked together (how: listwise)."""
        return rows * (1 if self.together else len(self.aspects)) * self.repeats * len(self.panel)

    def parameters(self) -> dict[str, Any]:
        """Rubrics by what they say."""
        domains = {domain: rubric.identity["sha256"] for domain, rubric in self.domain_rubrics().items()}
        return super().parameters() | {"by_domain": domains}

    def samples(self, rubrics: Sequence[Rubric]) -> list[Question]:
        """One for each rubric."""
        hows = ("prompt", self.how) if self.how == "pointwise" else (self.how,)
        listed = [*map(self.scaled, rubrics), *self.domain_rubrics().values()]
        return [Question(how, (rubric,), (mark(rubric),), "", 0) for how in hows for rubric in listed]

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """The scores, appended to the scores of the row or of either side."""
        grain = grain_of(table)
        if (refusal := self.refuses(grain)) is not None:
            raise ValueError(refusal)
        sheet = Sheet(self, table, grain)
        opinions = self.opinions(sheet.questions)
        columns = SIDES[grain].values()
        return pa.table({column: appended(table[column], self._marks(column, sheet.cells, opinions)) for column in columns})

    def _marks(self, column: str, cells: Sequence[Cell], opinions: dict[str, list[Opinion]]) -> Iterator[Mark]:
        """Every judge's score for each cell of a column."""
        for rater in self.panel:
            for cell in cells:
                if cell.item.column == column:
                    opinion = Opinion(None, None, cell.error) if cell.question is None else opinions[rater][cell.question]
                    told = (opinion.value(cell.place), opinion.rationale, cell.round, opinion.error, cell.position)
                    yield Mark(cell.item.row, rater, cell.aspect, *told)

    def domain_rubrics(self) -> dict[str, Rubric]:
        """The rubrics of `by_domain`."""
        return {domain: self.scaled(load(named)) for domain, named in sorted(self.by_domain.items())}

    def scaled(self, rubric: Rubric) -> Rubric:
        """The rubric on the step's scale, if it has one of its own."""
        if self.scale is None or self.scale == (rubric.low, rubric.high):
            return rubric
        note = (
            f"Marks are described for {rubric.low} to {rubric.high}; spread them evenly over {self.scale[0]} to {self.scale[1]}."
        )
        return replace(rubric, low=self.scale[0], high=self.scale[1], marks=f"{note}\n\n{rubric.marks}" if rubric.marks else "")


def grain_of(table: pa.Table) -> Grain:
    """The grain of a table with the columns that this step reads."""
    if "chosen" in table.column_names:
        return "pairs"
    return "responses" if "response" in table.column_names else "prompts"


def mark(rubric: Rubric, label: str = "") -> Wanted:
    """The mark a rubric asks for."""
    return verdicts.mark(rubric.low, rubric.high, label)


class Sheet:
    """The scores to come for a table, and the questions that settle them."""

    def __init__(self, judge: Judge, table: pa.Table, grain: Grain) -> None:
        self.judge = judge
        self.rubrics = [judge.scaled(load(named)) for named in judge.named]
        self.by_domain = judge.domain_rubrics()
        self.questions: list[Question] = []
        self.cells: list[Cell] = []
        self.conversations = [conversation(turns or []) for turns in table["prompt"].to_pylist()]
        self.prompt_ids = table["prompt_id"].to_pylist()
        self.references = table["reference"].to_pylist() if judge.how == "reference" else None
        self.domains = table["domain"].to_pylist() if judge.by_domain else None
        for sides in items_of(table, grain):
            self._fill(sides)

    def _fill(self, items: Sequence[Item]) -> None:
        """One prompt's responses, one pair's sides, or one row: whatever may be shown together."""
        for round_ in range(self.judge.repeats):
            if self.judge.how == "listwise":
                for rubric, aspect in self._aspects(items[0].row):
                    self._listwise(items, rubric, aspect, round_)
            else:
                for item in items:
                    aspects = self._aspects(item.row)
                    for asked in [aspects] if self.judge.together else [[one] for one in aspects]:
                        self._alone(item, asked, round_)

    def _aspects(self, row: int) -> list[tuple[Rubric, str]]:
        """The rubrics of a row and the aspects they are marked under."""
        if self.domains is not None and (rubric := self.by_domain.get(self.domains[row])) is not None:
            return [(rubric, self.judge.aspects[0])]
        return list(zip(self.rubrics, self.judge.aspects, strict=True))

    def _alone(self, item: Item, aspects: Sequence[tuple[Rubric, str]], round_: int) -> None:
        reference = self.references[item.row] if self.references is not None else None
        lacking = NO_TEXT if item.text is None else NO_REFERENCE if self.references is not None and reference is None else None
        question = None
        if lacking is None:
            blocks = [self.conversations[item.row]]
            blocks += [block("reference", reference)] if reference is not None else []
            blocks += [answer("response", str(item.text), item.turns)] if item.side else []
            how = self.judge.how if item.side or self.judge.how == "critique" else "prompt"
            several = len(aspects) > 1
            wanted = tuple(mark(rubric, aspect if several else "") for rubric, aspect in aspects)
            question = self._asked(how, tuple(rubric for rubric, _ in aspects), wanted, blocks, round_)
        for place, (_, aspect) in enumerate(aspects):
            self.cells.append(Cell(item, aspect, round_, question, place, None, lacking))

    def _listwise(self, items: Sequence[Item], rubric: Rubric, aspect: str, round_: int) -> None:
        """Texts in an order drawn from their ids, dealt out to calls of nearly equal size."""
        self.cells += [Cell(item, aspect, round_, None, 0, None, NO_TEXT) for item in items if item.text is None]
        shown = [item for item in items if item.text is not None]
        drawn = [self.judge.seed, self.prompt_ids[items[0].row], aspect, round_]
        shown.sort(key=lambda item: short_id(canonical_json([*drawn, item.id])))
        for part in dealt(shown, self.judge.per_call):
            labels = ascii_uppercase[: len(part)]
            blocks = [self.conversations[part[0].row]]
            blocks += [answer(f"response {label}", str(item.text), item.turns) for label, item in zip(labels, part, strict=True)]
            wanted = tuple(mark(rubric, label) for label in labels)
            question = self._asked("listwise", (rubric,), wanted, blocks, round_)
            self.cells += [Cell(item, aspect, round_, question, place, place) for place, item in enumerate(part)]

    def _asked(self, how: str, rubrics: tuple[Rubric, ...], wanted: tuple[Wanted, ...], blocks: list[str], round_: int) -> int:
        self.questions.append(Question(how, rubrics, wanted, "\n\n".join(blocks), round_))
        return len(self.questions) - 1


def dealt(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    """The items in order, in as few parts as `most` allows, whose sizes differ by one at most."""
    parts = -(-len(items) // most)
    for part in range(parts):
        yield items[part * len(items) // parts : (part + 1) * len(items) // parts]


def items_of(table: pa.Table, grain: Grain) -> list[list[Item]]:
    """The texts to be marked: those of a prompt together, those of a pair, or each prompt by itself."""
    rows = range(table.num_rows)
    if grain == "prompts":
        return [[Item("", "scores", row, "", None, "")] for row in rows]
    columns = {}
    for side, column in SIDES[grain].items():
        listed = zip(rows, table[side].to_pylist(), table[TURNS[side]].to_pylist(), table[f"{side}_id"].to_pylist(), strict=True)
        columns[side] = [Item(side, column, row, text, turns, id_ or "") for row, text, turns, id_ in listed]
    if grain == "pairs":
        return [list(sides) for sides in zip(*columns.values(), strict=True)]
    together: dict[str, list[Item]] = defaultdict(list)
    for prompt, item in zip(table["prompt_id"].to_pylist(), columns["response"], strict=True):
        together[prompt].append(item)
    return list(together.values())
