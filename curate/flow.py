"""The Prefect flow of a run: one task a step, over the loop that `curate run` goes through without Prefect, too.

Prefect shows, schedules and retries; it remembers nothing. What was done is found in the store, so its result cache stays
off, and a task that is retried asks only what has no answer yet. Runs of one recipe write the same bytes with and without it.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.assets import Asset, AssetProperties, materialize
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.runtime import deployment as this_deployment
from prefect.runtime import flow_run as this_flow_run
from prefect.states import Completed, Crashed, Failed

from curate.errors import Busy, CurateError, GateClosed, NoAnswers
from curate.logs import Layout, Lines, LogFormat, sentence, stage_line
from curate.models.session import Session
from curate.packaged import find_recipe
from curate.publish.gates import gate_rows
from curate.publish.version import Stage
from curate.publish.wording import one_line
from curate.recipe import Recipe, read_recipe
from curate.refresh import Refresh
from curate.run import Done, Run, Watch
from curate.source.spec import Source
from curate.store.runs import past_runs
from curate.store.store import Store

RETRY_SECONDS = (30.0, 300.0)
"""Pauses before a step whose models did not answer is tried again. Single calls are retried by the caller long before that."""
PROGRESS_SECONDS = 1.0
T = TypeVar("T")
SETTLED = 50  # of the newest runs, those that crashed are looked up


@flow(name="curate", persist_result=False, log_prints=False)
def curation(
    recipe: str,
    store: str,
    overrides: Sequence[str] = (),
    refresh: str | None = None,
    limit: int | None = None,
    max_cost: float | None = None,
    max_calls: int | None = None,
    publish_anyway: bool = False,
    busy: Literal["wait", "step_aside", "refuse"] = "wait",
) -> State[Any]:
    """Curate a dataset: run a recipe against a store and publish a version if its gates pass.

    Args:
        recipe: Absolute path of a recipe, or the name of one that comes with curate.
        store: Absolute path of the store's folder.
        overrides: Values of the recipe that are replaced, as "pair.min_gap=0.5".
        refresh: replace, append or window:…; as the recipe says if not given.
        limit: Rows of a preview; a whole run if not given.
        max_cost: US dollars that model calls may cost.
        max_calls: Model calls that may be made.
        publish_anyway: Publish even if a gate is closed; the manifest says so.
        busy: What to do while another run makes the same dataset.
    """
    keep_log_brief()
    settle_crashed(Path(store))
    schedule = this_deployment.name
    try:
        run = Run(
            read_recipe(find_recipe(recipe), overrides=list(overrides)),
            Store(store),
            limit=limit,
            refresh=Refresh.parse(refresh) if refresh else None,
            max_cost=max_cost,
            max_calls=max_calls,
            publish_anyway=publish_anyway,
            busy=busy,
            notify=os.environ.get("CURATE_NOTIFY"),
            command=("prefect", "deployment", "run", schedule or "curate"),
            schedule=schedule,
        )
    except CurateError as error:
        return Failed(message=str(error))
    layout = Layout(run.id, run.recipe.name)
    watch = Lines(layout.emitter(log_format()))
    run.watch = watch
    try:
        state = conduct(run)
    finally:
        watch.close()
    watch.ended(str(state.message or state.name), state.is_failed())
    return state


def log_format() -> LogFormat:
    """Format of a worker's log: CURATE_LOG_FORMAT, text unless it says json."""
    return "json" if os.environ.get("CURATE_LOG_FORMAT") == "json" else "text"


def run_in_flow(run: Run) -> Done:
    """Run here, told to the Prefect server as a flow run; every error is raised as `Run` raises it."""
    keep_log_brief()
    ended: list[Done | CurateError] = []

    @flow(name="curate", flow_run_name=run.id, persist_result=False, log_prints=False)
    def curate(recipe: str, store: str, limit: int | None, refresh: str | None) -> State[Any]:
        return conduct(run, ended.append)

    shown = str(run.recipe.path or run.recipe.name)
    curate(shown, str(run.store.root.absolute()), run.limit, str(run.refresh) if run.refresh else None, return_state=True)
    if not ended:
        raise CurateError("the flow ended before the run began; the Prefect server's log tells why")
    if isinstance(ended[0], CurateError):
        raise ended[0]
    return ended[0]


def conduct(run: Run, tell: Callable[[Done | CurateError], None] = lambda _: None) -> State[Any]:
    """A run within the current flow run, its steps as tasks, and how it ended as a state."""
    told = Told(run)
    run.watch, run.around, run.via = Several((run.watch, told)), told.as_task, "prefect"
    run.flow_run_id = this_flow_run.get_id()
    name_flow_run(run)
    try:
        done = run()
    except Busy as error:
        tell(error)
        return Completed(name="Skipped", message=str(error))
    except GateClosed as error:
        tell(error)
        told.gates([result.to_json() for result in error.results])
        return Failed(name="GateClosed", message=str(error))
    except CurateError as error:
        tell(error)
        return Failed(message=str(error))
    finally:
        told.funnel()
    tell(done)
    told.gates(done.version.manifest.get("gates", []))
    told.version(done)
    if not done.published:
        return Completed(name="Unchanged", message=f"{done.version} already holds exactly this content")
    return Completed(message=f"published {done.version}")


class Told:
    """Tells Prefect how a run goes. That Prefect does not answer never stops the run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.logger = get_run_logger()
        self.rows: list[dict[str, Any]] = []
        self._progress: UUID | None = None
        self._done, self._total, self._spoke = 0, 0, 0.0

    # -- as a Watch

    def started(self, step: str, rows: int | None) -> None:
        """A step begins: a progress bar on its task's page."""
        self._done, self._total = 0, rows or 0
        self.logger.info("%s: begins", step)
        if TaskRunContext.get() is not None and rows:
            self._progress = self._try(lambda: create_progress_artifact(0.0, key=None, description=f"{step}: {rows:,} rows"))

    def advanced(self, rows: int) -> None:
        """Rows are done: move the bar, once a second at most."""
        self._done += rows
        if self._progress and self._total and time.monotonic() - self._spoke >= PROGRESS_SECONDS:
            self._spoke = time.monotonic()
            self._move(100.0 * min(1.0, self._done / self._total))

    def finished(self, stage: Stage, seconds: float, reused: bool) -> None:
        """A step is done: its row of the funnel."""
        counts = stage.counts
        dropped = "; ".join(f"{reason} {count:,}" for reason, count in counts["dropped"].items())
        made = "" if counts["made"] is None else f"{counts['made']:,}"
        row = {"step": stage.name, "in": f"{counts['rows_in']:,}", "kept": f"{counts['kept']:,}", "made": made}
        self.rows.append(row | {"dropped": dropped, "took": "done before" if reused else f"{seconds:.1f} s"})
        self.logger.info("%s: %s", stage.name, one_line(sentence(stage_line(stage, seconds, reused)), 2_000))
        if self._progress:
            self._move(100.0)
            self._progress = None

    def calling(self, session: Session) -> None:
        """Models are asked from here on; the run's log tells how that goes."""

    def said(self, text: str) -> None:
        """Something worth knowing."""
        self.logger.info("%s", text)

    # -- as a flow

    def as_task(self, name: str, call: Callable[[], T]) -> T:
        """A step as one task, which is tried again later if models did not answer."""
        tries = retry_seconds()

        def step() -> T:
            return call()

        as_task = task(
            name=name,
            task_run_name=name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=len(tries),
            retry_delay_seconds=list(tries),
            retry_condition_fn=passes,
        )
        return as_task(step)()

    def funnel(self) -> None:
        """The steps that were done, as a table."""
        if self.rows:
            what = f"Rows of {self.run.recipe.name} through its steps"
            self._try(lambda: create_table_artifact(self.rows, key=slug("funnel", self.run.recipe.name), description=what))

    def gates(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Each gate with its value, as a table."""
        if results:
            what = f"Gates of {self.run.recipe.name}"
            rows = gate_rows({"gates": results})
            self._try(lambda: create_table_artifact(rows, key=slug("gates", self.run.recipe.name), description=what))

    def version(self, done: Done) -> None:
        """The version as an asset that was made from the recipe's sources, with its report to look at."""
        self._try(lambda: self._summary(done))
        if done.published and self.run.limit is None:
            self._try(lambda: self._asset(done))

    def _summary(self, done: Done) -> None:
        from curate.publish.report import report

        page = self.run.store.root / "reports" / f"{done.version}.html".replace("@", "-")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(report(done.version), encoding="utf-8")
        name = self.run.recipe.name
        create_link_artifact(page.absolute().as_uri(), f"{done.version}: report", key=slug("report", name), description=str(page))
        manifest = done.version.manifest
        rows = ", ".join(f"{split} {count:,}" for split, count in manifest["splits"].items())
        lines = [f"## {done.version}", "", f"{'Published' if done.published else 'Unchanged'}: {rows} {manifest['grain']}.", ""]
        lines += ["```", f"curate show {done.version}", f"curate report {done.version}", "```", "", f"Report: `{page}`"]
        create_markdown_artifact("\n".join(lines), key=slug("version", name), description=f"{done.version}")

    def _asset(self, done: Done) -> None:
        made = asset(self.run.recipe.name, done)
        manifest = done.version.manifest
        about = {"version": str(done.version), "content": manifest["content"], "rows": sum(manifest["splits"].values())}

        @materialize(made, by="curate", name="version", asset_deps=upstream(self.run.recipe), cache_policy=NO_CACHE)
        def version() -> str:
            made.add_metadata(about | {"splits": manifest["splits"], "run": done.run})
            return str(done.version)

        version()

    def _move(self, percent: float) -> None:
        if self._progress is not None:
            artifact = self._progress
            self._try(lambda: update_progress_artifact(artifact, percent))

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            self.logger.warning("not shown in Prefect: %s: %s", type(error).__name__, error)
            return None


class Several:
    """A Watch that tells several others."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self.watches = watches

    def started(self, step: str, rows: int | None) -> None:
        """A step begins."""
        for watch in self.watches:
            watch.started(step, rows)

    def advanced(self, rows: int) -> None:
        """Rows are done."""
        for watch in self.watches:
            watch.advanced(rows)

    def finished(self, stage: Stage, seconds: float, reused: bool) -> None:
        """A step is done."""
        for watch in self.watches:
            watch.finished(stage, seconds, reused)

    def calling(self, session: Session) -> None:
        """Models are asked from here on."""
        for watch in self.watches:
            watch.calling(session)

    def said(self, text: str) -> None:
        """Something worth knowing."""
        for watch in self.watches:
            watch.said(text)


def retry_seconds() -> tuple[float, ...]:
    """Pauses before a step is tried again: CURATE_RETRY_SECONDS, as "30,300", or the default; "" for none."""
    text = os.environ.get("CURATE_RETRY_SECONDS")
    if text is None:
        return RETRY_SECONDS
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise CurateError(f"CURATE_RETRY_SECONDS must be seconds such as 30,300, got {text!r}") from None


def passes(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a step's error may pass with time: models that did not answer. Anything else stays as it is."""
    try:
        state.result(raise_on_failure=True)
    except NoAnswers as error:
        return error.passes
    except Exception:
        return False
    return False


def slug(*words: str) -> str:
    """An artifact's key: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def asset(name: str, done: Done) -> Asset:
    """The dataset that a run published a version of."""
    about = f"Preference dataset {name}; newest version {done.version}"
    return Asset(key=f"curate://{asset_path(name)}", properties=AssetProperties(name=name, description=about))


def upstream(recipe: Recipe) -> list[Asset | str]:
    """What a dataset is made from: files, hub datasets and datasets of this store."""
    return [Asset(key=source_key(source, recipe)) for source in recipe.source]


def source_key(source: Source, recipe: Recipe) -> str:
    """A source as a URI that Prefect takes."""
    if source.version is not None:
        return f"curate://{asset_path(source.version.split('@')[0])}"
    if source.hf is not None:
        return f"hf://datasets/{asset_path(source.hf)}"
    text = str(source.path)
    path = text if text.startswith("samples:") else str((recipe.base / text).absolute())
    return f"file://{asset_path(path)}"


def asset_path(text: str) -> str:
    """Text as a part of an asset's key: what Prefect does not take there becomes an underscore."""
    return re.sub(r"[\s#?&%\"'<>\[\]{}|\\^`]", "_", text)[:480]


def name_flow_run(run: Run) -> None:
    """Give the flow run the name that the run has in the store, so that one is found from the other."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, name=run.id, tags={*context.flow_run.tags, run.recipe.name})
    except Exception as error:
        get_run_logger().warning("not named in Prefect: %s", error)


def settle_crashed(root: Path) -> int:
    """Tell Prefect of runs whose process is gone, which it would show as running for ever. How many there were."""
    crashed = {
        record["flow_run_id"]: record
        for record in past_runs(root)[:SETTLED]
        if record["state"] == "crashed" and record.get("flow_run_id")
    }
    settled = 0
    with get_client(sync_client=True) as client:
        for flow_run_id, record in crashed.items():
            settled += settle(client, flow_run_id, record)
    return settled


def settle(client: Any, flow_run_id: str, record: Mapping[str, Any]) -> bool:
    """Set one flow run to crashed if Prefect still takes it for running."""
    try:
        state = client.read_flow_run(UUID(flow_run_id)).state
        if state is None or state.is_final():
            return False
        message = f"the process of run {record['id']} ended without a word; what it had done is kept"
        client.set_flow_run_state(UUID(flow_run_id), Crashed(message=message), force=True)
    except Exception as error:  # another server's run, or the server is gone: nothing depends on it
        logging.getLogger("prefect.flow_runs").debug("run %s was not settled: %s", record["id"], error)
        return False
    return True


class Brief(logging.Filter):
    """Leaves out the trace of an error whose sentence says all there is to say, and that a task ended well."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep the record."""
        if record.exc_info and isinstance(record.exc_info[1], CurateError):
            record.exc_info = record.exc_text = None
        return not (record.name == "prefect.task_runs" and record.levelno <= logging.INFO)


def keep_log_brief() -> None:
    """One line for what happens in a run, in its log and on its page."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(found, Brief) for found in logger.filters):
            logger.addFilter(Brief())
