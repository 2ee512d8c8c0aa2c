"""Run a recipe: the one loop behind `curate run` and every flow.

Read the source, apply the steps in order, publish. Whatever was done before (by this run, a killed one or another
recipe that shares its first steps) is found by its key and not done again.
"""

import os
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import pyarrow as pa

from curate import tables
from curate.engine.earlier import check_versions, versions_of
from curate.engine.local import LocalEngine
from curate.engine.search import decided, searched_how
from curate.engine.shard import (
    ApplyTask,
    FeatureTask,
    Outcome,
    Task,
    named,
    reasons,
    run_apply,
    run_chain,
    run_features,
)
from curate.errors import Busy, DataError, GateClosed, NoAnswers, StepError
from curate.export.recipes import write_exports
from curate.filter.contamination import Contamination
from curate.ids import digest
from curate.models.interpreter import system_memory
from curate.models.operator import CallsModels
from curate.models.session import Session, identity_of
from curate.notify import event_of, notify
from curate.operator import DatasetOperator, Operator, RunsOn, ShardOperator
from curate.publish.models_used import said_of
from curate.publish.version import Publication, Stage, publish
from curate.recipe import Recipe, Step
from curate.refresh import REPLACE, Refresh, found_refreshed, mappings_of, refreshed
from curate.source import Rejects, fingerprint, grain_of, partition, read
from curate.source.rejects import Tally
from curate.store import arrow, disk
from curate.store.runs import Ended, RunRecord, claim
from curate.store.store import Shard, Snapshot, Store
from curate.store.versions import Version

SHARD_MB = 64.0
T = TypeVar("T")
Ready = TypeVar("Ready", bound=Operator)


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


class Around(Protocol):
    """Does a step, or has it done in some frame of its own."""

    def __call__(self, name: str, call: Callable[[], T], /) -> T:
        """What `call` gives; it may be called again after an error that passes."""


def just_call(name: str, call: Callable[[], T], /) -> T:
    """No frame at all."""
    return call()


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
    publish_anyway: bool = False
    """Publish even if a gate of the recipe is closed; the manifest says so."""
    refresh: Refresh | None = None
    """What is taken of a source that changed since the last version; None for what the recipe says."""
    busy: Literal["wait", "step_aside", "refuse"] = "wait"
    """What to do while another run makes the same dataset."""
    notify: str | None = None
    """A command told how the run ended; see curate.notify."""
    via: Literal["inline", "prefect"] = "inline"
    flow_run_id: str | None = None
    """Id of the Prefect flow run that this is, if it is one."""
    schedule: str | None = None
    """Name of the schedule that started it, if one did."""
    around: Around = field(default=just_call, repr=False)
    """Called with each step's name and what does it: where a flow makes a task of it."""
    _record: RunRecord = field(init=False, repr=False)
    _session: Session | None = field(default=None, init=False, repr=False)
    _ahead: dict[int, tuple[list[Outcome], float]] = field(default_factory=dict, init=False, repr=False)
    """By position in the recipe: outcomes and seconds of steps that ran along with an earlier one and are not finished."""
    _begun: set[int] = field(default_factory=set, init=False, repr=False)
    """Positions of steps that began: one that begins again had an error that may have passed."""
    id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}")

    def __call__(self) -> Done:
        """Run to the end; the run's record in the store says how it ended, whatever happens."""
        self.store.writable()
        self._record = self._new_record().start()
        try:
            preview = self.limit is not None
            with claim(self.store.root, self.recipe.name, self.busy, self._waits, run=self.id, preview=preview):
                self._record.go_on()
                with system_memory():
                    done = self._made()
        except Exception as error:
            self._failed(error)
            raise
        except BaseException:
            self._ended("interrupted")
            raise
        self._ended("done" if done.published else "unchanged", version=str(done.version), published=done.published)
        return done

    def _new_record(self) -> RunRecord:
        return RunRecord(
            self.store.root,
            self.id,
            self.recipe.name,
            self.recipe.path,
            self.limit,
            via=self.via,
            flow_run_id=self.flow_run_id,
            schedule=self.schedule,
        )

    def _made(self) -> Done:
        started = time.time()
        with self.engine, self._models():
            stages = self._steps()
        self._record.at("publish", stages[-1].snapshot.kept)
        version, published = self.around("publish", partial(self._publish, stages, started))
        exports = write_exports(version, () if self.limit else self.recipe.exports, self.store.root)
        return Done(self.id, version, published, tuple(stages), tuple(exports))

    def _waits(self, why: str) -> None:
        self.watch.said(why)
        self._record.wait(why)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Busy) and error.stepped_aside:
            self._ended("skipped", error=str(error))
        elif isinstance(error, GateClosed):
            self._ended(
                "gate_closed", error=str(error), gates=[result.to_json() for result in error.results], metrics=error.metrics
            )
        else:
            self._ended("failed", error=str(error))

    def _ended(self, state: Ended, **more: Any) -> None:
        """Write how the run ended, and tell whoever wants to know."""
        self._record.end(state, **more)
        if self.notify and (event := event_of(self._record.fields)) is not None:
            notify(self.notify, event, self.watch.said)

    # -- steps

    def _steps(self) -> list[Stage]:
        check_versions(self.store, (step.operator for step in self.recipe.steps))
        self._record.at("source")
        stages = [self.around("source", self._source)]
        for position, step in enumerate(self.recipe.steps):
            before = stages[-1].snapshot
            self._record.at(step.operator.name, before.kept)
            stages.append(self.around(step.operator.name, partial(self._step, position, before)))
        return stages

    def _source(self) -> Stage:
        stage = self._read_source()
        return stage if self.limit is None else replace(stage, snapshot=self._preview(stage.snapshot, self.limit))

    def _step(self, position: int, before: Snapshot) -> Stage:
        """One step: its outcomes are there if it ran along with an earlier one, or it was done before, or it runs now."""
        step = self.recipe.steps[position]
        if (ahead := self._ahead.pop(position, None)) is not None:
            return self._finish(step, before, *ahead)
        if (found := self.found_step(step, before)) is not None:
            self.watch.finished(found, 0.0, True)
            return found
        if self._session and position in self._begun:
            self._session.try_again()
        self._begun.add(position)
        with self._rested():
            if isinstance(step.operator, DatasetOperator):
                return self._run_dataset(step, step.operator, before)
            return self._run_chain(position, before)

    def _asked(self, operator: Operator, parents: Sequence[str]) -> dict[str, Any]:
        """What a step is asked: whatever can change its rows, nothing else."""
        files = [arrow.sha256_of(Path(name)) for name in sorted(operator.files())]
        read = [version.manifest["content"] for version in versions_of(self.store, operator)]
        return self._identity(operator) | {"files": files, "parents": list(parents)} | ({"versions": read} if read else {})

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
        models = self._identity(step.operator).get("models", {})
        return Stage(step.operator.name, step.key, step.operator, before.grain, key, snapshot, counts, step.line, models)

    def _finish(
        self, step: Step, before: Snapshot, outcomes: Sequence[Outcome], seconds: float, extra: dict[str, Any] | None = None
    ) -> Stage:
        """Commit a step's snapshot."""
        lefts = [outcome.left for outcome in outcomes if outcome.left is not None]
        left = replace(before, shards=tuple(lefts)) if lefts else None
        grain = step.operator.makes or before.grain
        snapshot = Snapshot(grain, tuple(outcome.shard for outcome in outcomes), left.id if left else None, extra or {})
        counts = add_counts([outcome.counts for outcome in outcomes])
        asked = self._asked(step.operator, [before.id])
        if counts.get("errors"):
            self.store.put_snapshot(snapshot, left)  # not final: the next run asks again what has no answer
        else:
            self.store.finish_step(digest(asked), asked, snapshot, counts, left)
        stage = self._stage(step, before, digest(asked), snapshot, counts)
        self.watch.finished(stage, seconds, False)
        for told in said_of(self.store, stage):
            self.watch.said(told)
        self._tell_final_errors(step, counts)
        self._check_errors(step, counts)
        return stage

    def _tell_final_errors(self, step: Step, counts: dict[str, Any]) -> None:
        """Rows that have no usable answer, which the next run does not ask again."""
        if errors := counts.get("final_errors"):
            rows = max(counts["rows_in"], counts["made"] or 0)
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in errors.items())
            self.watch.said(
                f"{step.operator.name}: {sum(errors.values()):,} of {rows:,} rows have no usable answer ({kinds}), and asking "
                "the same again would bring none"
            )

    def _check_errors(self, step: Step, counts: dict[str, Any]) -> None:
        """Stop before later steps and publishing if too many rows have no answer."""
        errors = counts.get("errors", {})
        rows = max(counts["rows_in"], counts["made"] or 0)
        if sum(errors.values()) <= self.recipe.max_errors * rows:
            return
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in errors.items())
        how = "raise --max-cost or --max-calls" if set(errors) == {"budget"} else "see to the endpoint, or raise max_errors"
        raise NoAnswers(
            f"step {step.operator.name}: {sum(errors.values()):,} of {rows:,} rows have no answer ({kinds}), more than "
            f"max_errors: {self.recipe.max_errors:g} allows. Every answer that came is kept; {how}, and run again: only "
            f"the missing ones are asked.",
            passes="budget" not in errors,
        )

    def _ready(self, operator: Ready) -> Ready:
        """The operator with the versions it reads and the models it calls."""
        if isinstance(operator, Contamination):
            operator = operator.with_versions(versions_of(self.store, operator))
        if isinstance(operator, CallsModels):
            assert self._session is not None
            return operator.with_models(self._session.for_step(operator.name))
        return operator

    @contextmanager
    def _models(self) -> Iterator[None]:
        """The recipe's models, ready to be called while the steps run; nothing is opened if no step calls one."""
        if not any(isinstance(step.operator, CallsModels) for step in self.recipe.steps):
            yield
            return
        with Session(self.recipe.models, self.store.root, max_cost=self.max_cost, max_calls=self.max_calls) as session:
            self._session = session
            self.watch.calling(session)
            with session.interruptible():
                yield

    def _run_chain(self, position: int, before: Snapshot) -> Stage:
        """Run consecutive shard operators shard by shard. The first is finished; the others are when their turn comes."""
        chain = chain_of(self.recipe.steps[position:], self._held)
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
        seconds = (time.perf_counter() - started) / len(chain)
        for place in range(len(chain)):
            self._ahead[position + place] = ([outcomes[place] for outcomes in results], seconds)
        return self._finish(chain[0], before, *self._ahead.pop(position))

    def _held(self, operator: Operator) -> frozenset[str]:
        """The models that an operator needs on this machine, where two would be in each other's way."""
        return frozenset(key for key in operator.models() if self.recipe.models[key].backend == "vllm")

    @contextmanager
    def _rested(self) -> Iterator[None]:
        """Afterwards, no model holds memory of this machine any more."""
        try:
            yield
        finally:
            if self._session is not None:
                self._session.rest()

    def _run_dataset(self, step: Step, operator: DatasetOperator, before: Snapshot) -> Stage:
        """Measure every shard, decide once, apply to every shard."""
        started = time.perf_counter()
        self.watch.started(operator.name, 2 * before.kept)
        operator = self._ready(operator)
        measured = self._measure(operator, before)
        with named(operator):
            state, extra = decided(self.store, operator, before.grain, self._identity(operator), measured)
        if "search" in extra:
            self.watch.said(searched_how(operator.name, extra["search"]))
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
        return self._finish(step, before, outcomes, time.perf_counter() - started, extra)

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
        """The source, if exactly these contents were read before with this mapping, and refreshed, or None."""
        fresh = self._found_fresh(self._source_asked())
        if fresh is None or self._policy().policy == "replace":
            return fresh
        found = found_refreshed(self.store, self.recipe.name, self._policy(), fresh.snapshot, time.time())
        return None if found is None else replace(fresh, key=found.key or fresh.key, snapshot=found.snapshot, counts=found.counts)

    def _policy(self) -> Refresh:
        return self.refresh or self.recipe.refresh or REPLACE

    def _refreshed(self, fresh: Stage) -> Stage:
        """The source as it is now, or the one of the latest version and what is new."""
        policy = self._policy()
        if policy.policy == "replace":
            return fresh
        name, now = self.recipe.name, time.time()
        taken = refreshed(self.store, name, policy, fresh.snapshot, shard_bytes(), now, self._source_counts)
        self.watch.said(taken.said)
        return replace(fresh, key=taken.key or fresh.key, snapshot=taken.snapshot, counts=taken.counts)

    def _found_fresh(self, asked: dict[str, Any]) -> Stage | None:
        found = self.store.finished_step(digest(asked))
        return None if found is None else self._source_stage(digest(asked), *found)

    def _source_asked(self) -> dict[str, Any]:
        identity = fingerprint(self.recipe.source, self.recipe.base, self.store.root / "sources", self.store.root)
        return {"operator": "source", "version": 2, "source": identity, "shard_bytes": shard_bytes()}

    def _source_stage(self, key: str, snapshot: Snapshot, counts: dict[str, Any]) -> Stage:
        return Stage("source", "source", None, snapshot.grain, key, snapshot, counts, self.recipe.source_line)

    def _read_source(self) -> Stage:
        started = time.perf_counter()
        asked = self._source_asked()  # once: files that were not read before are hashed for it
        stage = self._found_fresh(asked)
        reused = stage is not None
        if stage is not None:
            self._check_rejects(stage.snapshot.extra["rejects"])
        else:
            self.watch.started("source", None)
            read = self._partition(mappings_of(asked["source"]))
            self.store.finish_step(digest(asked), asked, *read)
            stage = self._source_stage(digest(asked), *read)
        stage = self._refreshed(stage)
        self.watch.finished(stage, time.perf_counter() - started, reused)
        return stage

    def _check_rejects(self, summary: dict[str, Any]) -> None:
        """The limit is not part of what was read: an equal source is held against it again."""
        for source, tally in zip(self.recipe.source, summary["sources"], strict=True):
            Tally.from_json(tally).check(source.max_rejects)

    def _partition(self, mappings: list[str]) -> tuple[Snapshot, dict[str, Any]]:
        """Read the source into shards that never split a prompt. mappings: see `mappings_of`."""
        scratch = disk.make_folder(self.store.scratch / f"source-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        try:
            with disk.explain(scratch), Rejects(scratch / "rejects.jsonl") as rejects:
                batches = self._counted(read(self.recipe.source, self.recipe.base, rejects, scratch, self.store.root))
                shards = tuple(self.store.put_shard(t) for t in partition.partition(batches, scratch, shard_bytes()))
                objects = [self.store.put_table(rejects.table())] if rejects.count else []
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        grain = grain_of(self.recipe.source)
        extra = {"rejects": rejects.summary(), "objects": objects, "mappings": mappings}
        snapshot = Snapshot(grain, shards or (self.store.put_shard(tables.empty(grain)),), None, extra)
        return snapshot, self._source_counts(snapshot)

    def _source_counts(self, snapshot: Snapshot) -> dict[str, Any]:
        dropped = self._dropped_by_source(snapshot)
        return {"rows_in": snapshot.rows, "kept": snapshot.kept, "made": None, "dropped": dropped}

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
        preview, gates = self.limit is not None, self.recipe.gates
        publication = Publication(self.store, self.recipe, tuple(stages), about, preview, gates)
        version, published = publish(publication, self.publish_anyway)
        self.watch.said(f"publish: {time.perf_counter() - began:.1f} s")
        return version, published


def chain_of(steps: Sequence[Step], held: Callable[[Operator], frozenset[str]] = lambda operator: frozenset()) -> list[Step]:
    """The steps from the first on that can run shard by shard, one after the other, in one kind of worker.

    held: the models that an operator loads here; a chain loads those of one operator and no more.
    """
    chain: list[Step] = []
    loaded: frozenset[str] = frozenset()
    for step in steps:
        wanted = held(step.operator)
        if chain and loaded and not wanted <= loaded:
            break
        loaded = loaded | wanted
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
    return (
        _kinds("errors", counts)
        | _kinds("final_errors", counts)
        | {
            "rows_in": sum(count["rows_in"] for count in counts),
            "kept": sum(count["kept"] for count in counts),
            "made": sum(made) if made else None,
            "dropped": dict(sorted(dropped.items())),
        }
    )


def _kinds(name: str, counts: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Rows with errors, by kind, of all shards together; nothing where there are none."""
    found: Counter[str] = Counter()
    for count in counts:
        found.update(count.get(name, {}))
    return {name: dict(sorted(found.items()))} if found else {}


def run_recipe(recipe: Recipe, root: Path | str, **options: Any) -> Done:
    """Run a recipe against the store at `root`. options: limit, watch, engine, command."""
    return Run(recipe, Store(root), **options)()
