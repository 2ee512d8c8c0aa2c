"""Run a recipe: the one loop behind `curate run` and every flow.

Read the source, apply the steps in order, publish. Whatever was done before (by this run, a killed one or another
recipe that shares its first steps) is found by its key and not done again.
"""

import contextlib
import os
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from curate import tables
from curate.engine.local import LocalEngine
from curate.engine.shard import (
    ApplyTask,
    FeatureTask,
    Outcome,
    Task,
    named,
    read_objects,
    reasons,
    run_apply,
    run_chain,
    run_features,
)
from curate.errors import DataError, StepError, UsageError
from curate.export.recipes import write_exports
from curate.ids import canonical_json, digest
from curate.models.operator import ModelOperator
from curate.models.session import Session, identity_of
from curate.operator import DatasetOperator, Operator, RunsOn, ShardOperator
from curate.publish.version import Publication, Stage, publish
from curate.recipe import Recipe, Step
from curate.source import Rejects, fingerprint, grain_of, partition, read
from curate.source.rejects import Tally
from curate.store import arrow, disk
from curate.store.store import Shard, Snapshot, Store
from curate.store.versions import Version

SHARD_MB = 64.0


def shard_bytes() -> int:
    """Bytes of text a shard may hold; CURATE_SHARD_MB overrides the default of 64 MB."""
    text = os.environ.get("CURATE_SHARD_MB", str(SHARD_MB))
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if size <= 0:
        raise DataError(f"CURATE_SHARD_MB must be a positive number of megabytes, got {text!r}")
    return int(size * 1e6)


class Watch(Protocol):
    """Who is told how a run goes: a terminal, a log, nobody."""

    def started(self, step: str, rows: int | None) -> None:
        """A step begins; rows: how many it will see, None if unknown."""

    def advanced(self, rows: int) -> None:
        """The running step is done with that many more rows."""

    def finished(self, stage: Stage, seconds: float, reused: bool) -> None:
        """A step is done, or was found done."""

    def calling(self, session: Session) -> None:
        """The models of the run: their statistics tell calls, tokens, errors and cost at any moment."""

    def said(self, text: str) -> None:
        """Something a person should know."""


class Silence:
    """A Watch that says nothing."""

    def started(self, step: str, rows: int | None) -> None:
        """Ignore."""

    def advanced(self, rows: int) -> None:
        """Ignore."""

    def finished(self, stage: Stage, seconds: float, reused: bool) -> None:
        """Ignore."""

    def calling(self, session: Session) -> None:
        """Ignore."""

    def said(self, text: str) -> None:
        """Ignore."""


@dataclass(frozen=True)
class Done:
    """How a run ended."""

    run: str
    version: Version
    published: bool
    """False if the latest version already held exactly this content."""
    stages: tuple[Stage, ...]
    exports: tuple[Path, ...] = ()
    """Folders of the exports that the recipe asks for."""


@dataclass
class Run:
    """One execution of a recipe against a store."""

    recipe: Recipe
    store: Store
    limit: int | None = None
    watch: Watch = field(default_factory=Silence)
    engine: LocalEngine = field(default_factory=LocalEngine)
    command: Sequence[str] = ()
    max_cost: float | None = None
    """US dollars this run may spend on model calls; None for no limit."""
    max_calls: int | None = None
    """Model calls this run may make; None for no limit."""
    _session: Session | None = field(default=None, init=False, repr=False)
    id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}")

    def __call__(self) -> Done:
        """Run to the end; the run's record in the store says how it ended, whatever happens."""
        if self.recipe.gates:
            # a gate that is not checked is worse than none: somebody relies on it
            raise UsageError(f"gates cannot be checked yet ({', '.join(self.recipe.gates)}); take them out of the recipe")
        self.store.writable()
        started = time.time()
        try:
            self._record("running", started)
            with self.engine, self._models():
                stages = self._steps()
            version, published = self._publish(stages, started)
            exports = write_exports(version, () if self.limit else self.recipe.exports, self.store.root)
        except KeyboardInterrupt:
            self._record("interrupted", started)
            raise
        except BaseException as error:
            with contextlib.suppress(Exception):  # a full disk must not hide the reason
                self._record("failed", started, error=str(error))
            raise
        self._record("done", started, version=str(version), published=published)
        return Done(self.id, version, published, tuple(stages), tuple(exports))

    # -- steps

    def _steps(self) -> list[Stage]:
        stages = [self._read_source()]
        if self.limit is not None:
            stages[0] = replace(stages[0], snapshot=self._preview(stages[0].snapshot, self.limit))
        steps = list(self.recipe.steps)
        while len(stages) <= len(steps):
            step = steps[len(stages) - 1]
            if (found := self.found_step(step, stages[-1].snapshot)) is not None:
                self.watch.finished(found, 0.0, True)
                stages.append(found)
            elif isinstance(step.operator, DatasetOperator):
                stages.append(self._run_dataset(step, step.operator, stages[-1].snapshot))
            else:
                stages += self._run_chain(chain_of(steps[len(stages) - 1 :]), stages[-1].snapshot)
        return stages

    def _asked(self, operator: Operator, parents: Sequence[str]) -> dict[str, Any]:
        """What a step is asked: whatever can change its rows, nothing else."""
        files = [arrow.sha256_of(Path(name)) for name in sorted(operator.files())]
        return self._identity(operator) | {"files": files, "parents": list(parents)}

    def _identity(self, operator: Operator) -> dict[str, Any]:
        models = {key: identity_of(self.recipe.models[key]) for key in sorted(operator.models())}
        identity = {"operator": type(operator).__name__, "version": operator.version, "parameters": operator.parameters()}
        return identity | ({"models": models} if models else {})

    def _shard_asked(self, operator: Operator) -> str:
        return digest(self._asked(operator, ()))

    def found_step(self, step: Step, before: Snapshot) -> Stage | None:
        """A step that was done before on the same input, or None."""
        asked = self._asked(step.operator, [before.id])
        found = self.store.finished_step(digest(asked))
        return None if found is None else self._stage(step, before, digest(asked), *found)

    def _stage(self, step: Step, before: Snapshot, key: str, snapshot: Snapshot, counts: dict[str, Any]) -> Stage:
        return Stage(step.operator.name, step.key, step.operator, before.grain, key, snapshot, counts, step.line)

    def _finish(self, step: Step, before: Snapshot, outcomes: Sequence[Outcome], seconds: float) -> Stage:
        """Commit a step's snapshot."""
        lefts = [outcome.left for outcome in outcomes if outcome.left is not None]
        left = None
        if lefts:
            left = self.store.put_snapshot(replace(before, shards=tuple(lefts)))
        grain = step.operator.makes or before.grain
        snapshot = Snapshot(grain, tuple(outcome.shard for outcome in outcomes), left)
        counts = add_counts([outcome.counts for outcome in outcomes])
        asked = self._asked(step.operator, [before.id])
        if counts.get("errors"):
            self.store.put_snapshot(snapshot)  # not final: the next run asks again what has no answer
        else:
            self.store.finish_step(digest(asked), asked, snapshot, counts)
        stage = self._stage(step, before, digest(asked), snapshot, counts)
        self.watch.finished(stage, seconds, False)
        self._check_errors(step, counts)
        return stage

    def _check_errors(self, step: Step, counts: dict[str, Any]) -> None:
        """Stop before later steps and publishing if too many rows have no answer."""
        errors = counts.get("errors", {})
        rows = max(counts["rows_in"], counts["made"] or 0)
        if sum(errors.values()) <= self.recipe.max_errors * rows:
            return
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in errors.items())
        how = "raise --max-cost or --max-calls" if set(errors) == {"budget"} else "see to the endpoint, or raise max_errors"
        raise StepError(
            f"step {step.operator.name}: {sum(errors.values()):,} of {rows:,} rows have no answer ({kinds}), more than "
            f"max_errors: {self.recipe.max_errors:g} allows. Every answer that came is kept; {how}, and run again: only "
            f"the missing ones are asked."
        )

    def _ready(self, operator: ShardOperator) -> ShardOperator:
        """The operator with the models it calls."""
        if isinstance(operator, ModelOperator):
            assert self._session is not None
            return operator.with_models(self._session.for_step(operator.name))
        return operator

    @contextmanager
    def _models(self) -> Iterator[None]:
        """The recipe's models, ready to be called while the steps run; nothing is opened if no step calls one."""
        if not any(isinstance(step.operator, ModelOperator) for step in self.recipe.steps):
            yield
            return
        with Session(self.recipe.models, self.store.root, max_cost=self.max_cost, max_calls=self.max_calls) as session:
            self._session = session
            self.watch.calling(session)
            with session.interruptible():
                yield

    def _run_chain(self, chain: Sequence[Step], before: Snapshot) -> list[Stage]:
        """Run consecutive shard operators shard by shard; each still commits its own snapshot."""
        operators = tuple(self._ready(step.operator) for step in chain if isinstance(step.operator, ShardOperator))
        asked = tuple(self._shard_asked(operator) for operator in operators)
        tasks = [Task(self.store.root, operators, asked, before.grain, i, shard) for i, shard in enumerate(before.shards)]
        runs_on: RunsOn = "process" if any(operator.runs_on == "process" for operator in operators) else operators[0].runs_on
        started = time.perf_counter()
        self.watch.started(" → ".join(operator.name for operator in operators), before.kept)
        results = []
        for shard, outcomes in zip(before.shards, self.engine.map(run_chain, tasks, runs_on), strict=True):
            results.append(outcomes)
            self.watch.advanced(shard.kept)
        stages: list[Stage] = []
        seconds = (time.perf_counter() - started) / len(chain)
        for position, step in enumerate(chain):
            stages.append(self._finish(step, before, [outcomes[position] for outcomes in results], seconds))
            before = stages[-1].snapshot
        return stages

    def _run_dataset(self, step: Step, operator: DatasetOperator, before: Snapshot) -> Stage:
        """Measure every shard, decide once, apply to every shard."""
        started = time.perf_counter()
        self.watch.started(operator.name, 2 * before.kept)
        measured = self._measure(operator, before)
        with named(operator):
            state = operator.decide(read_objects(self.store, [name for name, _ in measured]))
        states = self._states(operator, state, [rows for _, rows in measured])
        asked = self._shard_asked(operator)
        tasks = [
            ApplyTask(self.store.root, operator, asked, before.grain, i, shard, states[i])
            for i, shard in enumerate(before.shards)
        ]
        outcomes = []
        for shard, outcome in zip(before.shards, self.engine.map(run_apply, tasks, operator.runs_on), strict=True):
            outcomes.append(outcome)
            self.watch.advanced(shard.kept)
        return self._finish(step, before, outcomes, time.perf_counter() - started)

    def _measure(self, operator: DatasetOperator, before: Snapshot) -> list[tuple[str, int]]:
        """Per shard: the object holding its features, and how many rows it measured."""
        asked = digest(self._identity(operator) | {"parameters": operator.feature_parameters()})
        tasks = [FeatureTask(self.store.root, operator, asked, before.grain, i, shard) for i, shard in enumerate(before.shards)]
        measured = []
        for shard, result in zip(before.shards, self.engine.map(run_features, tasks, operator.runs_on), strict=True):
            measured.append(result)
            self.watch.advanced(shard.kept)
        return measured

    def _states(self, operator: DatasetOperator, state: pa.Table, rows: Sequence[int]) -> list[str]:
        """The state each shard is given: its own rows of it, or all of it."""
        if not operator.aligned:
            return [self.store.put_table(state)] * len(rows)
        if state.num_rows != sum(rows):
            raise StepError(f"step {operator.name} decided on {state.num_rows} rows, was given {sum(rows)}")
        starts = [sum(rows[:i]) for i in range(len(rows))]
        return [self.store.put_table(state.slice(start, count)) for start, count in zip(starts, rows, strict=True)]

    # -- source

    def found_source(self) -> Stage | None:
        """The source, if exactly these contents were read before with this mapping, or None."""
        asked = self._source_asked()
        found = self.store.finished_step(digest(asked))
        return None if found is None else self._source_stage(digest(asked), *found)

    def _source_asked(self) -> dict[str, Any]:
        identity = fingerprint(self.recipe.source, self.recipe.base, self.store.root / "sources", self.store.root)
        return {"operator": "source", "version": 1, "source": identity, "shard_bytes": shard_bytes()}

    def _source_stage(self, key: str, snapshot: Snapshot, counts: dict[str, Any]) -> Stage:
        return Stage("source", "source", None, snapshot.grain, key, snapshot, counts, self.recipe.source_line)

    def _read_source(self) -> Stage:
        started = time.perf_counter()
        stage = self.found_source()
        reused = stage is not None
        if stage is not None:
            self._check_rejects(stage.snapshot.extra["rejects"])
        else:
            self.watch.started("source", None)
            asked = self._source_asked()
            read = self._partition()
            self.store.finish_step(digest(asked), asked, *read)
            stage = self._source_stage(digest(asked), *read)
        self.watch.finished(stage, time.perf_counter() - started, reused)
        return stage

    def _check_rejects(self, summary: dict[str, Any]) -> None:
        """The limit is not part of what was read: an equal source is held against it again."""
        for source, tally in zip(self.recipe.source, summary["sources"], strict=True):
            Tally.from_json(tally).check(source.max_rejects)

    def _partition(self) -> tuple[Snapshot, dict[str, Any]]:
        """Read the source into shards that never split a prompt."""
        scratch = disk.make_folder(self.store.scratch / f"source-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        try:
            with disk.explain(scratch), Rejects(scratch / "rejects.jsonl") as rejects:
                batches = self._counted(read(self.recipe.source, self.recipe.base, rejects, scratch, self.store.root))
                shards = tuple(self.store.put_shard(t) for t in partition.partition(batches, scratch, shard_bytes()))
                objects = [self.store.put_table(rejects.table())] if rejects.count else []
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        grain = grain_of(self.recipe.source)
        extra = {"rejects": rejects.summary(), "objects": objects}
        snapshot = Snapshot(grain, shards or (self.store.put_shard(tables.empty(grain)),), None, extra)
        return snapshot, {
            "rows_in": snapshot.rows,
            "kept": snapshot.kept,
            "made": None,
            "dropped": self._dropped_by_source(snapshot),
        }

    def _dropped_by_source(self, snapshot: Snapshot) -> dict[str, int]:
        """Rows that came with a flag, such as pairs whose votes tie, by reason."""
        dropped: Counter[str] = Counter()
        for shard in snapshot.shards:
            if shard.kept < shard.rows:
                dropped.update(reasons(self.store.read_shard(shard, snapshot.grain, ["flags"])["flags"], "source"))
        return dict(sorted(dropped.items()))

    def _counted(self, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for batch in batches:
            self.watch.advanced(batch.num_rows)
            yield batch

    def _preview(self, snapshot: Snapshot, limit: int) -> Snapshot:
        """The first rows of a snapshot: whole prompts, a random sample since shards are ordered by hash."""
        shards: list[Shard] = []
        taken = 0
        for shard in snapshot.shards:
            if taken >= limit:
                break
            table = self.store.read_shard(shard, snapshot.grain)
            prompts = table["prompt_id"].to_pylist()
            end = min(limit - taken, len(prompts))
            while 0 < end < len(prompts) and prompts[end] == prompts[end - 1]:
                end += 1
            shards.append(self.store.put_shard(table.slice(0, end)))
            taken += end
        return replace(snapshot, shards=tuple(shards) or snapshot.shards[:1])

    # -- publishing and the record of the run

    def _publish(self, stages: Sequence[Stage], started: float) -> tuple[Version, bool]:
        self.watch.started("publish", None)
        began = time.perf_counter()
        about = {
            "run": self.id,
            "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - started, 3),
            "host": socket.gethostname(),
            "command": list(self.command),
            "recipe_path": str(self.recipe.path) if self.recipe.path else None,
            "cost_usd": self._session.statistics()[""].cost_usd if self._session else None,
        }
        version, published = publish(Publication(self.store, self.recipe, tuple(stages), about, self.limit is not None))
        self.watch.said(f"publish: {time.perf_counter() - began:.1f} s")
        return version, published

    def _record(self, state: str, started: float, **more: Any) -> None:
        record = {
            "id": self.id,
            "recipe": str(self.recipe.path) if self.recipe.path else None,
            "name": self.recipe.name,
            "state": state,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": started,
            "ended": None if state == "running" else time.time(),
            "limit": self.limit,
        }
        path = self.store.root / "runs" / self.id / "run.json"
        disk.write_file(path, canonical_json(record | more).encode(), self.store.scratch)


def chain_of(steps: Sequence[Step]) -> list[Step]:
    """The steps from the first on that can run shard by shard, one after the other, in one kind of worker."""
    chain: list[Step] = []
    for step in steps:
        waits = step.operator.runs_on == "wait"
        if not isinstance(step.operator, ShardOperator) or (chain and waits != (chain[0].operator.runs_on == "wait")):
            break
        chain.append(step)
    return chain


def add_counts(counts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of all shards together."""
    dropped: Counter[str] = Counter()
    for count in counts:
        dropped.update(count["dropped"])
    made = [count["made"] for count in counts if count["made"] is not None]
    errors: Counter[str] = Counter()
    for count in counts:
        errors.update(count.get("errors", {}))
    return ({"errors": dict(sorted(errors.items()))} if errors else {}) | {
        "rows_in": sum(count["rows_in"] for count in counts),
        "kept": sum(count["kept"] for count in counts),
        "made": sum(made) if made else None,
        "dropped": dict(sorted(dropped.items())),
    }


def run_recipe(recipe: Recipe, root: Path | str, **options: Any) -> Done:
    """Run a recipe against the store at `root`. options: limit, watch, engine, command."""
    return Run(recipe, Store(root), **options)()
