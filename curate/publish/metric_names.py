"""The names of metrics: what each says, which of them a recipe's versions can have, and which can never be told of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from curate import tables
from curate.publish.figures import SIDES
from curate.tables import Grain

ALL: tuple[Grain, ...] = ("prompts", "responses", "pairs")
TEXTS: tuple[Grain, ...] = ("responses", "pairs")
PAIRS: tuple[Grain, ...] = ("pairs",)
SIDE_OF = {"scores": "", "chosen_scores": "chosen", "rejected_scores": "rejected"}
MEASURES = ("margin", "label_prob", "weight", "difficulty")
NOISES = tuple(f"noise_{when}{end}" for when in ("before", "after") for end in ("", "_low", "_high"))
NOISE_EVIDENCE = tuple(f"evidence.*.{measure}" for measure in ("flip_prob", "label_prob", "agreement"))
DRIFT = "drift."
COST = "cost_usd"
"""Known of the run, not of the version: a gate may name it, the manifest does not hold it."""
FAULTS = {"refusal": "refusal", "truncated": "truncated", "template": "template", "language": "off_language"}
FAULTS |= {"repetition": "repetitive"}
"""By measure of a `features` step: the fault it tells of."""


class About(NamedTuple):
    """What a metric says, and of which products."""

    grains: tuple[Grain, ...]
    meaning: str


STATIC: dict[str, About] = {
    "rows": About(ALL, "kept rows"),
    "rows_train": About(ALL, "kept rows of the split train"),
    "rows_validation": About(ALL, "kept rows of the split validation"),
    "rows_test": About(ALL, "kept rows of the split test"),
    "prompts": About(ALL, "distinct prompts among the kept rows"),
    "kept_share": About(ALL, "rows kept over rows read; where the kind of row changes, the shares of the steps multiplied"),
    "rejected_share": About(ALL, "rows of the source that could not be read, over those that were tried"),
    "duplicate_share": About(ALL, "rows that duplicate filters dropped, over those they saw"),
    "error_share": About(ALL, "rows that models left without an answer, over those they were asked about; 0 if none was asked"),
    "score_error_share": About(ALL, "scores of the kept rows that are an error, over all"),
    "vote_error_share": About(PAIRS, "votes that are an error, over all"),
    "order_flip_rate": About(PAIRS, "votes whose verdict changes with the order of the sides, over those that saw both orders"),
    "tie_rate": About(PAIRS, "verdicts that prefer neither side, over all verdicts; a vote in both orders is two"),
    "length_bias_d": About(PAIRS, "Cohen's d of the sides' characters, chosen minus rejected"),
    "observed_length_bias_d": About(PAIRS, "length_bias_d without the pairs whose sides were exchanged for a lower goal"),
    "longer_chosen_share": About(PAIRS, "pairs whose chosen side has more characters; ties count half"),
    "noise": About(PAIRS, "labels that are expected to be wrong: mean of 1 - label_prob, else of the evidence `noise`"),
    "noise_before": About(PAIRS, "labels estimated to be wrong before any was dropped or turned for it; see the card"),
    "noise_before_low": About(PAIRS, "lower end of the 95 % interval of noise_before"),
    "noise_before_high": About(PAIRS, "upper end of the 95 % interval of noise_before"),
    "noise_after": About(PAIRS, "labels of the kept pairs estimated to be wrong, after drops and flips"),
    "noise_after_low": About(PAIRS, "lower end of the 95 % interval of noise_after"),
    "noise_after_high": About(PAIRS, "upper end of the 95 % interval of noise_after"),
    "top_model_share": About(TEXTS, "chosen sides (or responses) by the one model that wrote most, over those that name a model"),
    "characters_mean": About(("responses",), "mean characters of a response"),
    "chosen_characters_mean": About(PAIRS, "mean characters of the chosen side"),
    "rejected_characters_mean": About(PAIRS, "mean characters of the rejected side"),
    "drift.rows": About(ALL, "change of the rows since the last version, relative to it: -0.1 is a tenth fewer"),
    "drift.prompts_kept": About(ALL, "prompts of the last version that are still there, over all it had"),
    "drift.source": About(ALL, "total variation distance of the rows' sources from the last version's, 0 to 1"),
    "drift.domain": About(ALL, "total variation distance of the domains, 0 to 1"),
    "drift.model": About(TEXTS, "total variation distance of the models that wrote the texts, 0 to 1"),
    "drift.length": About(TEXTS, "Jensen-Shannon divergence of the texts' characters, 0 to 1"),
    COST: About(ALL, "US dollars that the run's model calls cost; not kept in the manifest"),
}
STATIC |= {f"{fault}_share": About(TEXTS, f"texts that a features step found {fault}") for fault in FAULTS.values()}
STATIC |= {
    f"{side}_{fault}_share": About(PAIRS, f"{side} sides that a features step found {fault}")
    for side in SIDES["pairs"]
    for fault in FAULTS.values()
}
STATIC |= {f"{measure}_mean": About(PAIRS, f"mean {measure} of the pairs that have one") for measure in MEASURES}
STATIC |= {f"{measure}_median": About(PAIRS, f"median {measure} of the pairs that have one") for measure in MEASURES}
STATIC |= {f"drift.{measure}": About(PAIRS, f"Jensen-Shannon divergence of the {measure}, 0 to 1") for measure in MEASURES}

PER_STEP = {
    "kept_share": "rows that the step kept, over those it saw",
    "dropped": "rows that the step dropped; a reason may follow",
    "dropped_share": "rows that the step dropped, over those it saw",
    "made": "rows that the step made",
    "error_share": "rows that the step's models left without an answer, over those they were asked about",
}
PER_VOTER = ("order_flip_rate", "tie_rate", "vote_error_share")
PER_SERIES: dict[Grain, dict[str, str]] = {
    "prompts": {},
    "responses": {"score_mean": "mean score"},
    "pairs": {
        "chosen_mean": "mean score of the chosen sides",
        "rejected_mean": "mean score of the rejected sides",
        "score_gap": "mean of chosen minus rejected score, without pairs exchanged for a lower goal",
        "agreement": "pairs whose chosen side has the higher score, ties half, without pairs exchanged for a lower goal",
    },
}
"""Of each rater:aspect, or of a rater with one aspect."""


class StepNames(NamedTuple):
    """What decides which metrics a step has."""

    name: str
    operator: str
    makes: bool = True
    """Whether it makes rows."""
    asks: bool = True
    """Whether it asks models."""

    def kinds(self) -> list[str]:
        """Of PER_STEP."""
        left_out = {"made": not self.makes, "error_share": not self.asks}
        return [kind for kind in PER_STEP if not left_out.get(kind)]


NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    **dict.fromkeys(PER_VOTER, (("votes.*.*",), "no step votes")),
    **{f"{m}_{of}": ((m,), f"no step writes {m}") for m in MEASURES for of in ("mean", "median")},
    **{f"{DRIFT}{m}": ((m,), f"no step writes {m}") for m in MEASURES},
    "noise": (("label_prob", "evidence.*.noise"), "no step writes label_prob, nor evidence of noise"),
    **dict.fromkeys(NOISES, (NOISE_EVIDENCE, "no step looks for wrong labels (peer_review, label_em, consistency)")),
    "score_error_share": (tuple(f"{column}.*.*" for column in SIDE_OF), "no step scores"),
    **{
        f"{side}{fault}_share": (tuple(f"{column}.*.{m}" for column in SIDE_OF), f"no features step measures {m}")
        for side in ("", "chosen_", "rejected_")
        for m, fault in FAULTS.items()
    },
}
"""By metric: the fields of which one must be there, and what to say if none is."""


@dataclass(frozen=True)
class Names:
    """The metrics that a recipe's versions can have, as far as the recipe tells."""

    grain: Grain | None
    """Of the product; None if an earlier problem hides it."""
    steps: tuple[StepNames, ...] = ()
    fields: tuple[str, ...] = ()
    """Scores, votes and evidence there can be, as "scores.rater.aspect" with * for any."""
    unsure: bool = False
    """Whether there may be more fields than those."""

    def known(self, name: str) -> bool:
        """Whether a version can have the metric."""
        if name in STATIC:
            return self.grain is None or self.grain in STATIC[name].grains
        if name.startswith(f"{DRIFT}score."):
            return self._is_series(name.removeprefix(f"{DRIFT}score."))
        kind, _, of = name.partition(".")
        step, dot, reason = of.partition(".")
        if any(one.name == step and kind in one.kinds() for one in self.steps) and (not dot or (kind == "dropped" and reason)):
            return True
        if kind in PER_VOTER:
            return self.grain in (None, "pairs") and self._any(("votes",), of, "*")
        if kind == "evidence_mean":
            by, _, measure = of.rpartition(".")
            return self._any(("evidence",), by, measure)
        kinds = PER_SERIES[self.grain] if self.grain else [one for kinds in PER_SERIES.values() for one in kinds]
        return kind in kinds and self._is_series(of)

    def _is_series(self, of: str) -> bool:
        rater, aspect = tables.split_rater(of)
        whole = self._any(tuple(SIDE_OF), of, "*")  # a rater's name may hold a colon
        return whole or self._any(tuple(SIDE_OF), rater, aspect or "*")

    def _any(self, columns: tuple[str, ...], rater: str, aspect: str) -> bool:
        fields = [_field(name) for name in self.fields]
        found = [(r, a) for column, r, a in fields if column in columns and _alike(rater, r) and _alike(aspect, a)]
        return bool(rater) and (self.unsure or bool(found))

    def lack(self, name: str) -> str | None:
        """Why no version of the recipe can tell a metric that it may name, or None if one may."""
        if name == "duplicate_share" and not any(step.operator.endswith("duplicate") for step in self.steps):
            return "no step filters duplicates"
        if name not in NEEDS or self.unsure:
            return None
        wanted, why = NEEDS[name]
        there = any(_like(field, pattern) for field in self.fields for pattern in wanted)
        return None if there else why

    def listed(self) -> list[str]:
        """Names to choose from, those that hold for any rater left out."""
        names = [name for name, about in STATIC.items() if self.grain is None or self.grain in about.grains]
        names += [f"{kind}.{step.name}" for step in self.steps for kind in step.kinds()]
        for column, rater, aspect in map(_field, self.fields):
            if not rater or "*" in (rater, aspect):
                continue
            if column == "votes":
                names += [f"{kind}.{rater}" for kind in PER_VOTER]
            elif column == "evidence":
                names.append(f"evidence_mean.{rater}.{aspect}")
            elif self.grain is not None and column in SIDE_OF:
                names += [f"{kind}.{rater}:{aspect}" for kind in (*PER_SERIES[self.grain], f"{DRIFT}score")]
        return sorted(set(names))


def _field(name: str) -> tuple[str, str, str]:
    """(column, rater, aspect) of "scores.rater.aspect": the rater may hold dots, the aspect may not."""
    column, _, rest = name.partition(".")
    rater, _, aspect = rest.rpartition(".")
    return column, rater, aspect


def _alike(name: str, pattern: str) -> bool:
    return name == "*" or fnmatchcase(name, pattern.replace("[", "[[]"))  # brackets stand for themselves


def _like(field: str, pattern: str) -> bool:
    """Whether a field may be one of the pattern; both may hold *."""
    if "." not in pattern:
        return field == pattern
    one, other = _field(field), _field(pattern)
    return one[0] == other[0] and all(_alike(a, b) or _alike(b, a) for a, b in zip(one[1:], other[1:], strict=True))


def find(told: Mapping[str, float | None], name: str) -> str | None:
    """The name under which a version holds the metric: a rater alone stands for its only aspect. None if there is none."""
    if name in told:
        return name
    of_rater = [known for known in told if known.startswith(f"{name}:")]
    return of_rater[0] if len(of_rater) == 1 else None


def meaning(name: str) -> str:
    """What a metric says, as far as its name alone tells."""
    kind = name.partition(".")[0]
    if name in STATIC:
        return STATIC[name].meaning
    if name.startswith(f"{DRIFT}score."):
        return "Jensen-Shannon divergence of the scores, 0 to 1"
    kinds = PER_STEP | PER_SERIES["responses"] | PER_SERIES["pairs"] | {"evidence_mean": "mean of the step's measure"}
    return f"{STATIC[kind].meaning}, of that rater" if kind in PER_VOTER else kinds.get(kind, "")
