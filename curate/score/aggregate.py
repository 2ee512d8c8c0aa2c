"""Make one score of several raters' scores, on a common scale if wanted, or one vote of several judges' votes."""

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, model_validator

from curate import tables
from curate.maths import calibration, combining
from curate.maths.series import one_series
from curate.maths.votes import voices, votes_of
from curate.operator import DatasetOperator
from curate.score import one_vote
from curate.score.combining import Bound, Decorrelate, Preset, missing_texts
from curate.score.one_score import Rule
from curate.tables import Grain

ASPECT = "score"
CLOSEST = 3  # of HelpSteer2's annotators
VOTE_ASPECT = "vote"
SCORE_COLUMNS = ("scores", "chosen_scores", "rejected_scores")
MAX_RATERS = 60  # who is missing is told by one bit a rater
Weight = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, strict=True)]

FITTED = pa.schema(
    [
        ("rater", pa.string()),
        ("mean", pa.float64()),
        ("spread", pa.float64()),
        ("knots", pa.list_(pa.float64())),
        ("ranks", pa.list_(pa.float64())),
        ("penalty", pa.float64()),
    ]
)


class Aggregate(DatasetOperator):
    """One score (aspect `score`) from several raters' scores, on pairs one for either side; or one vote from several votes.

    A rater's last score of a row counts, of several rounds their mean; one that is null or not finite is missing. Where a rater
    has several aspects, `from` says which. With too few raters the score is null and its error says who is missing.
    Calibration is fitted over all rows, on pairs over both sides together.

    Of votes on pairs, one vote (aspect `vote`) is made, in no order: p_chosen is the probability that the chosen side is
    better. A rater with * in its name, as `*` or `*:help`, stands for all that match: a crowd whose names nobody lists. What
    each rater is worth is fitted to the votes over all rows, without any label:

    - mean: every vote counts the same.
    - majority: the side that most raters name, 1 or 0; 0.5 where as many name either.
    - weighted: mean by weights given in `from`.
    - agreement: mean by how often each rater names the majority's side (Wawa).
    - stability: a judge counts by how seldom its verdict changes with the order in which the sides are shown: one that is
      right with probability a in either order gives the same verdict in a^2 + (1-a)^2 of all pairs. Needs both orders.
    - dawid_skene: habits of every judge, a liking for the side shown first among them, and the better sides are found
      together; with chosen always shown first, also how often chosen is better. It takes judges to err independently: where
      most of them err alike, it trusts them all the more.
    - one_coin: the same with one number a rater, how often it is right, whichever side is called chosen: for crowds whose
      order nobody noted, and for raters with few votes.
    - glad: ability of every rater and difficulty of every pair: an error on a hard pair tells less against a rater.
    - bradley_terry: strength of every response and reliability of every rater: pairs that share a response inform each other.

    Sources: Nitzan and Paroush, "Optimal Decision Rules in Uncertain Dichotomous Choice Situations", 1982, for the weights;
    Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", 1979; Whitehill et al.,
    "Whose Vote Should Count More", 2009 (glad); Chen et al., "Pairwise Ranking Aggregation in a Crowdsourced Setting", 2013.
    """

    model_config = ConfigDict(populate_by_name=True)

    version: ClassVar[int] = 3

    takes: ClassVar[tuple[Grain, ...]] = ("responses", "pairs")
    aligned: ClassVar[bool] = False

    from_: tuple[str, ...] | dict[str, Weight] = Field(
        alias="from",
        description="Raters, each `rater` or `rater:aspect`, of votes also with * for all that match; for how: weighted a "
        "mapping from these to weights.",
    )
    of: Literal["scores", "votes"] = Field(default="scores", description="What is made one: scores, or votes on pairs.")
    how: Literal[
        "mean",
        "weighted",
        "sum",
        "direction",
        "gated",
        "closest",
        "min",
        "max",
        "median",
        "majority",
        "agreement",
        "stability",
        "dawid_skene",
        "one_coin",
        "glad",
        "bradley_terry",
    ] = Field(
        default="mean",
        description="How scores become one; weighted: sum of weight x score over the sum of the weights' sizes, so that a "
        "negative weight counts against; sum: sum of weight x score; direction: the same with weights of unit length (the sum "
        "of their squares is 1); gated: weighted by the weights of the row's domain; closest: mean of the `closest` scores that "
        "differ least (HelpSteer2's annotators); of votes: mean, majority, weighted, agreement, stability, dawid_skene, "
        "one_coin, glad or bradley_terry.",
    )
    calibrate: Literal["none", "z", "quantile"] = Field(
        default="none",
        description="Scale of each rater first; z: distance from the rater's mean in standard deviations (0 throughout for a "
        "rater whose scores are all equal); quantile: share of the rater's scores below, half of the equal ones added.",
    )
    require: Literal["all", "any"] | Count = Field(
        default="all", description="Raters that must have scored a row: all, any (at least one), or how many."
    )

    round: int | None = Field(default=None, ge=0, description="The round of repeated scores that counts; all if not given.")
    preset: Preset | None = Field(
        default=None,
        description="how: sum with published weights: `from` names a rater:aspect for each attribute, as `rm:helpfulness`.",
    )
    gates: dict[str, dict[str, Weight]] | None = Field(
        default=None, description='how: gated: for each domain the weights of raters that `from` names, "*" for all other rows.'
    )
    direction: str | None = Field(
        default=None,
        min_length=1,
        description="how: direction: field of `meta` that tells each row's components by the raters' aspects, as `generate` with "
        "`system: {direction: …}` leaves it under `direction`; `from` is then a list. No score where it tells too little (DPA).",
    )
    closest: int | None = Field(default=None, ge=1, description="how: closest: scores that count; 3 if not given.")
    decorrelate: Decorrelate | None = Field(
        default=None,
        description="Take away as many standard deviations of another score, fitted over all rows, as leave no rank correlation "
        "with it above a limit.",
    )
    bounds: tuple[Bound, ...] = Field(default=(), description="Floors and caps, applied last and in order.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = list(self.from_)
        weighs = (
            self.how == "weighted"
            or (self.how == "direction" and self.direction is None)
            or (self.how == "sum" and self.preset is None)
        )
        if isinstance(self.from_, dict) != weighs:
            raise ValueError(
                f"weights and `how: {self.how if weighs else 'weighted'}` go together, as in `from: {{rm: 0.7, judge: 0.3}}`"
            )
        self._check_combining()
        self._check_votes()
        if not 1 <= len(named) <= MAX_RATERS:
            raise ValueError(f"`from` takes 1 to {MAX_RATERS} raters, got {len(named)}")
        twice = sorted({rater for rater in named if named.count(rater) > 1})
        if twice:
            raise ValueError(f"`from` names {', '.join(twice)} twice")
        if isinstance(self.from_, dict) and (idle := [rater for rater, weight in self.from_.items() if weight == 0]):
            raise ValueError(f"weight of {', '.join(idle)} is 0; leave it out")
        if isinstance(self.require, int) and self.require > len(named) and not self._crowd:
            raise ValueError(f"`require: {self.require}` of {len(named)} raters can never be met")
        return self

    def _check_votes(self) -> None:
        if (self.of == "votes") != (self.how in one_vote.HOWS) and self.how not in ("mean", "weighted"):
            raise ValueError(f"how: {self.how} is not for {self.of}; votes take {', '.join(one_vote.HOWS)}")
        if self.of == "votes" and self.calibrate != "none":
            raise ValueError("calibrate is about scores: votes are on one scale")
        if self.of == "votes" and isinstance(self.from_, dict) and min(self.from_.values(), default=1) < 0:
            raise ValueError("weights of votes are above 0: a rater that errs on purpose is found by one_coin or dawid_skene")
        if self._crowd and (self.of != "votes" or isinstance(self.from_, dict)):
            raise ValueError("`from` takes * for votes that are not weighted by hand; name the raters")
        if self._crowd and self.require == "all":
            raise ValueError("`from` with * takes `require: any` or a number: nobody knows beforehand who all are")

    @property
    def _crowd(self) -> bool:
        return any("*" in by for by in self.from_)

    def _check_combining(self) -> None:
        if self.of == "votes" and (self.decorrelate or self.bounds):
            raise ValueError("decorrelate and bounds are about scores, not votes")
        if self.preset is not None:
            if self.how != "sum":
                raise ValueError(f"preset: {self.preset} goes with `how: sum`")
            known = combining.HELPSTEER2[self.preset]
            aspects = [tables.split_rater(by)[1] for by in self.from_]
            if sorted(map(str, aspects)) != sorted(known):
                raise ValueError(f"preset: {self.preset} weighs {', '.join(known)}: `from` names a rater:aspect for each of them")
        if self.direction is not None and self.how != "direction":
            raise ValueError(f"direction, a field of meta, goes with `how: direction`, got how: {self.how}")
        if self.closest is not None and self.how != "closest":
            raise ValueError(f"closest goes with `how: closest`, got how: {self.how}")
        if (self.gates is not None) != (self.how == "gated"):
            raise ValueError("`gates` and `how: gated` go together")
        for domain, weights in (self.gates or {}).items():
            if unknown := sorted(set(weights) - set(self.from_)):
                raise ValueError(f"gates, {domain}: `from` does not name {', '.join(unknown)}")
            if not any(weights.values()):
                raise ValueError(f"gates, {domain}: every weight is 0")

    def reads(self, grain: Grain) -> set[str]:
        """Each rater's scores, those of raters it is held against, and the column that tells each row's weights."""
        split = [tables.split_rater(by) for by in self.from_]
        if self.of == "votes":
            # pair_id makes clear that votes are on pairs
            sides = {"prompt_id", "prompt", "chosen_id", "rejected_id"} if self.how == "bradley_terry" else set()
            return {"pair_id"} | sides | {f"votes.{rater}.{aspect or '*'}" for rater, aspect in split}
        split += [tables.split_rater(by) for by in (*self._against, *(bound.by for bound in self.bounds))]
        scores = {f"{column}.{rater}.{aspect or '*'}" for column in _score_columns(grain) for rater, aspect in split}
        return scores | ({self._told_by} if self._told_by else set())

    @property
    def _told_by(self) -> str | None:
        """The column that tells the weights of each row, where they differ."""
        return "domain" if self.gates else "meta" if self.direction is not None else None

    @property
    def _against(self) -> tuple[str, ...]:
        return (self.decorrelate.against,) if self.decorrelate else ()

    def writes(self, grain: Grain) -> set[str]:
        """The one score, or the one vote."""
        if self.of == "votes":
            return {f"votes.{self.name}.{VOTE_ASPECT}"}
        return {f"{column}.{self.name}.{ASPECT}" for column in _score_columns(grain)}

    def parameters(self) -> dict[str, Any]:
        """As a recipe writes them: `from`, which Python reserves."""
        return self.model_dump(mode="json", by_alias=True)

    def feature_parameters(self) -> dict[str, Any]:
        """The raters alone: another scale or weight measures nothing anew."""
        if self.of == "votes":
            return {"of": self.of, "responses": self.how == "bradley_terry"}
        held = {"against": self._against, "domain": self.gates is not None and self.decorrelate is not None}
        held |= {"direction": True} if self.direction is not None else {}
        return {"from": list(self.from_), "of": self.of, "round": self.round} | (held if self._against else {})

    def features(self, table: pa.Table, /) -> pa.Table:
        """Each rater's scores, float32, null where missing: a column for each rater and side; or the votes."""
        if self.of == "votes":
            return one_vote.features(table, self.how)
        named = dict.fromkeys((*self.from_, *self._against))
        columns = {_feature(column, by): self._scores(table, by, column) for column in _present(table) for by in named}
        made = {name: pa.array(values, mask=np.isnan(values)) for name, values in columns.items()}
        return pa.table(made | ({self._told_by: tables.flat(table[self._told_by])} if self._told_by and self._against else {}))

    def decide(self, features: pa.Table, /) -> pa.Table:
        """What calibration or weighing needs to know of each rater, one row a rater."""
        if self.of == "votes":
            return one_vote.fit(features, self.how, self.from_, self.round)
        fitted = [self._fit(features, by) for by in self.from_]
        if self.decorrelate and self.decorrelate.each:
            fitted = [one | {"penalty": self._owed(features, [one], self.decorrelate.against)["penalty"]} for one in fitted]
        return pa.Table.from_pylist([*fitted, *(self._owed(features, fitted, by) for by in self._against)], schema=FITTED)

    def _owed(self, features: pa.Table, fitted: list[dict[str, Any]], against: str) -> dict[str, Any]:
        """What the score owes to another one: that one's mean and spread, and the penalty in the score's own unit.

        fitted: the raters that make up the score; if it is one of several, that rater's own scores.
        """
        assert self.decorrelate is not None
        scores, others = [np.zeros(0)], [np.zeros(0)]
        alone = len(fitted) < len(self.from_)
        weights = features[self._told_by] if self._told_by else None
        for column in (name for name in SCORE_COLUMNS if _feature(name, against) in features.column_names):
            values = {by: features[_feature(column, by)].to_numpy() for by in dict.fromkeys((*self.from_, against))}
            values_RN = np.stack([self._calibrated(values[one["rater"]], one) for one in fitted])
            scores.append(values_RN[0] if alone else self._rule.combined(values_RN, weights))
            others.append(values[against].astype(np.float64))
        score, other = np.concatenate(scores), np.concatenate(others)
        told = ~np.isnan(score) & ~np.isnan(other)
        mean, spread = calibration.moments(other[told])
        middle, width = calibration.moments(score[told])
        standard = calibration.standard_score
        taken = combining.penalty(
            standard(score[told], middle, width), standard(other[told], mean, spread), self.decorrelate.limit
        )
        return {"rater": against, "mean": mean, "spread": spread, "penalty": taken * width}

    def apply(self, table: pa.Table, state: pa.Table, /) -> pa.Table:
        """The score, appended to the scores of the row or of either side."""
        if self.of == "votes":
            return pa.table({"votes": self._vote(table, state)})
        fitted = state.to_pylist()
        return pa.table({column: self._score(table, column, fitted) for column in _present(table)})

    def _fit(self, features: pa.Table, by: str) -> dict[str, Any]:
        names = [_feature(column, by) for column in SCORE_COLUMNS]
        values = np.concatenate([features[name].drop_null().to_numpy() for name in names if name in features.column_names])
        if self.calibrate == "z":
            mean, spread = calibration.moments(values)
            return {"rater": by, "mean": mean, "spread": spread}
        if self.calibrate == "quantile":
            knots, ranks = calibration.distribution(values)
            return {"rater": by, "knots": knots, "ranks": ranks}
        return {"rater": by}

    def _score(self, table: pa.Table, column: str, fitted: list[dict[str, Any]]) -> pa.Array:
        raters_, owed = fitted[: len(self.from_)], fitted[len(self.from_) :]
        values_RN = np.stack([self._calibrated(self._scores(table, rater["rater"], column), rater) for rater in raters_])
        missing_RN = np.isnan(values_RN)
        lacking = (~missing_RN).sum(axis=0) < self._enough()
        against = [
            calibration.standard_score(self._scores(table, other["rater"], column), other["mean"], other["spread"])
            for other in owed
        ]
        if self.decorrelate and self.decorrelate.each:
            values_RN = values_RN - np.array([[rater["penalty"]] for rater in raters_]) * against[0]
        score = self._rule.combined(values_RN, table[self._told_by] if self._told_by else None)
        if self.decorrelate and not self.decorrelate.each:
            score = score - owed[0]["penalty"] * against[0]
        for bound in self.bounds:
            score = bound.hold(score, self._scores(table, bound.by, column))
        errors = missing_texts(missing_RN, lacking, list(self.from_))
        return tables.add_scores(table, score.astype(np.float32), self.name, ASPECT, column, error=errors)

    def _vote(self, table: pa.Table, state: pa.Table) -> pa.Array:
        """The one vote of each pair, appended; null where too few raters voted."""
        named = state["rater"].drop_null().to_pylist()
        votes, _ = votes_of(table["votes"], list(self.from_), self.round, named)
        better = one_vote.together(table, state, self.how, votes)
        lacking = voices(votes).by_pair() < self._enough()
        better[lacking] = np.nan
        errors = (
            pc.if_else(pa.array(lacking), f"fewer than {self._enough()} raters voted", pa.scalar(None, pa.string()))
            if self._crowd
            else missing_texts(one_vote.silent(votes), lacking, list(self.from_))
        )
        fields = {"rater": self.name, "aspect": VOTE_ASPECT, "p_chosen": better.astype(np.float32), "error": errors}
        return tables.append(table["votes"], tables.structs(tables.VOTE, table.num_rows, **fields))

    def _scores(self, table: pa.Table, by: str, column: str) -> np.ndarray:
        """A rater's score of each row, (N,) float32; NaN where there is none or it is not finite."""
        return one_series(table, by, column, round=self.round)

    def _enough(self) -> int:
        if isinstance(self.require, int):
            return self.require
        return len(self.from_) if self.require == "all" else 1

    @property
    def _rule(self) -> Rule:
        """How scores become one."""
        weights = self.from_ if isinstance(self.from_, dict) else None
        told = (self.how, weights, self.preset, self.gates, self.direction, self.closest or CLOSEST)
        return Rule(tuple(self.from_), *told, self._enough())

    def _calibrated(self, values: np.ndarray, rater: dict[str, Any]) -> np.ndarray:
        if self.calibrate == "z":
            return calibration.standard_score(values, rater["mean"], rater["spread"])
        if self.calibrate == "quantile":
            return calibration.quantile(values, np.array(rater["knots"]), np.array(rater["ranks"]))
        return values.astype(np.float64)


def _score_columns(grain: Grain) -> tuple[str, ...]:
    return SCORE_COLUMNS[1:] if grain == "pairs" else SCORE_COLUMNS[:1]


def _present(table: pa.Table) -> tuple[str, ...]:
    return _score_columns("pairs" if "chosen_scores" in table.column_names else "responses")


def _feature(column: str, by: str) -> str:
    return f"{column} {by}"
