"""Schedules of recipes: each is a Prefect deployment of the flow `curate.flow.curation`, one per dataset and store.

Runs of one schedule never overlap: one that is due while the last still runs is cancelled, since the next finds whatever is
new by then. So a machine that slept makes up for all it missed with a single run.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from curate.errors import CurateError, UnknownName, UsageError
from curate.ids import digest
from curate.packaged import find_recipe
from curate.recipe import Recipe, read_recipe
from curate.refresh import Refresh
from curate.services import POOL, api_url, client_settings
from curate.store.runs import past_runs

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

FLOW = "curate"
ENTRYPOINT = "curate.flow.curation"
"""A module's path: imported where the worker runs. With a colon before the last name Prefect would copy the current folder."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Intervals count from here, so that a schedule set again keeps its times: 2h is at every even hour of UTC."""
GRACE_SECONDS = 60
"""A run whose worker died gives its place in the schedule back after that long."""
MOST = 200  # deployments and runs asked for at once: Prefect's own limit


@dataclass(frozen=True)
class When:
    """When a schedule's runs are due: a cron expression in a time zone, or every so many seconds."""

    cron: str | None = None
    timezone: str = "UTC"
    seconds: int | None = None

    @staticmethod
    def parse(cron: str | None, interval: str | None, timezone: str | None = None) -> "When":
        """From what the command line says. UsageError names what is wrong. Without a time zone the machine's own is meant."""
        if (cron is None) == (interval is None):
            raise UsageError("say when: one of --cron '0 3 * * *', --interval 2h and --off")
        if interval is not None:
            if timezone is not None:
                raise UsageError("--timezone goes with --cron; an interval is the same everywhere")
            return When(seconds=_seconds(interval))
        when = When(cron=" ".join(str(cron).split()), timezone=_zone(timezone))
        when.next()
        return when

    def next(self, after: datetime | None = None) -> datetime:
        """The next time it is due, in UTC."""
        after = after or datetime.now(UTC)
        if self.seconds is not None:
            done = int((after - ANCHOR).total_seconds() // self.seconds)
            return ANCHOR + timedelta(seconds=(done + 1) * self.seconds)
        from prefect.server.schemas.schedules import CronSchedule

        hint = "a cron expression is minute, hour, day, month, weekday, such as '0 3 * * *' for every day at 3"
        try:
            (found,) = asyncio.run(CronSchedule(cron=str(self.cron), timezone=self.timezone).get_dates(1, after))
        except ValueError as error:  # croniter's errors are, too
            raise UsageError(f"--cron {self.cron!r} names no time: {hint}") from error
        return datetime.fromtimestamp(found.timestamp(), UTC)

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.cron} ({self.timezone})"
        unit = next(unit for unit in "dhms" if self.seconds % UNITS[unit] == 0)
        return f"every {self.seconds // UNITS[unit]}{unit}"

    def as_prefect(self) -> "CronSchedule | IntervalSchedule":
        """The same for Prefect."""
        from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

        if self.seconds is not None:
            return IntervalSchedule(interval=timedelta(seconds=self.seconds), anchor_date=ANCHOR, timezone="UTC")
        return CronSchedule(cron=str(self.cron), timezone=self.timezone)

    @staticmethod
    def of(schedule: Any) -> str:
        """A schedule that Prefect tells of, as text."""
        if (cron := getattr(schedule, "cron", None)) is not None:
            return str(When(cron=cron, timezone=schedule.timezone or "UTC"))
        if (interval := getattr(schedule, "interval", None)) is not None:
            return str(When(seconds=int(interval.total_seconds())))
        return str(getattr(schedule, "rrule", schedule))


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text.strip())
    if match is None:
        raise UsageError(f"--interval {text!r}: should be a whole number and a unit, such as 30s, 10m, 2h or 1d")
    return int(match[1]) * UNITS[match[2]]


def _zone(name: str | None) -> str:
    if name is None:
        return local_zone()
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"--timezone {name!r} is not known; name it as Europe/Berlin or UTC") from error


def local_zone() -> str:
    """The machine's time zone by name; UTC where it has none."""
    told = os.environ.get("TZ", "").removeprefix(":") or os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    try:
        return ZoneInfo(told).key if told else "UTC"
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


@dataclass(frozen=True)
class Order:
    """What a schedule's runs are to do."""

    recipe: str
    """A file, or the name of a recipe of the gallery."""
    overrides: Sequence[str] = ()
    refresh: str | None = None
    """A policy of its own; None for the recipe's, or append if it has none."""
    publish_anyway: bool = False
    max_cost: float | None = None
    max_calls: int | None = None

    def read(self) -> Recipe:
        """The recipe, checked, so that what is wrong is said now and not at night."""
        ready = read_recipe(find_recipe(self.recipe), overrides=self.overrides)
        if self.refresh is not None:
            Refresh.parse(self.refresh)
        return ready

    def parameters(self, root: Path, recipe: Recipe) -> dict[str, Any]:
        """The flow's, as plain values. A recipe that says how it is refreshed is asked anew by each run."""
        named = find_recipe(self.recipe) == Path(self.recipe)
        return {
            "recipe": str(Path(self.recipe).absolute()) if named else self.recipe,
            "store": str(root.absolute()),
            "overrides": list(self.overrides),
            "refresh": str(Refresh.parse(self.refresh)) if self.refresh else None if recipe.refresh else "append",
            "publish_anyway": self.publish_anyway,
            "max_cost": self.max_cost,
            "max_calls": self.max_calls,
            "busy": "step_aside",
        }


@dataclass(frozen=True)
class Scheduled:
    """A schedule and how its last run went."""

    name: str
    """Of the dataset."""
    recipe: str
    when: str
    next: datetime | None
    """None if it is paused."""
    refresh: str
    last: datetime | None = None
    """When the last run started."""
    state: str | None = None
    """Of the last run, as Prefect tells it."""
    version: str | None = None
    """What the last run published or found unchanged."""
    deployment: str = ""
    """Its name in Prefect."""


def schedule(root: Path, order: Order, when: When, paused: bool = False) -> Scheduled:
    """Have a recipe run at those times; a schedule of the same dataset in this store is replaced."""
    ready = order.read()
    with connected(root) as client:
        _check_pool(client)
        identifier = _deploy(client, root, ready, order, when, paused)
        return _scheduled(client, client.read_deployment(identifier), {})


def unschedule(root: Path, recipe: str) -> str:
    """Remove a schedule, told by its recipe or dataset. A run under way goes on. The dataset's name."""
    with connected(root) as client:
        found = list(_deployments(client, root))
        wanted = {recipe, str(Path(recipe).absolute())}
        matching = [one for one in found if {one.parameters.get("recipe"), dataset_of(one)} & wanted]
        if not matching:
            known = ", ".join(sorted(map(dataset_of, found)))
            raise UnknownName(
                f"nothing is scheduled for {recipe!r}; " + (f"scheduled are {known}" if known else "nothing is at all")
            )
        if len(matching) > 1:
            raise UsageError(f"{recipe!r} is scheduled as {' and '.join(map(dataset_of, matching))}: name one of these")
        client.delete_deployment(matching[0].id)
        return dataset_of(matching[0])


def schedules(root: Path) -> list[Scheduled]:
    """Every schedule of the store, by dataset."""
    with connected(root) as client:
        records = {record["flow_run_id"]: record for record in past_runs(root) if record.get("flow_run_id")}
        return sorted((_scheduled(client, one, records) for one in _deployments(client, root)), key=lambda one: one.name)


@contextmanager
def connected(root: Path) -> Iterator["SyncPrefectClient"]:
    """A client of the store's Prefect server."""
    url = api_url(root)
    if url is None:
        raise UsageError("no Prefect server runs for this store; start one with `curate up`, or set PREFECT_API_URL")
    for name, value in client_settings(root).items():
        os.environ.setdefault(name, value)
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL, temporary_settings

    try:
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        raise CurateError(f"the Prefect server at {url} refused: {error.response.text[:500]}") from error
    except httpx.TransportError as error:
        raise CurateError(f"the Prefect server at {url} does not answer ({error}); `curate up` starts it again") from error


def deployment_name(dataset: str, root: Path) -> str:
    """One name for each dataset and store, also where several stores share a server."""
    return f"{dataset}-{digest(str(root.absolute()))[:8]}"


def dataset_of(deployment: "DeploymentResponse") -> str:
    """The dataset that a deployment makes."""
    return next((tag.removeprefix("dataset:") for tag in deployment.tags if tag.startswith("dataset:")), deployment.name)


def _check_pool(client: "SyncPrefectClient") -> None:
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(POOL)
    except ObjectNotFound as error:
        raise UsageError(
            f"that Prefect server has no work pool {POOL!r}, so nothing would run: use `curate up`, "
            f"or `prefect worker start --type process --pool {POOL}` where this store and recipe can be read"
        ) from error


def _deploy(client: "SyncPrefectClient", root: Path, ready: Recipe, order: Order, when: When, paused: bool) -> Any:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
    from prefect.utilities.callables import parameter_schema

    from curate.flow import curation

    return client.create_deployment(
        flow_id=client.create_flow_from_name(FLOW),
        name=deployment_name(ready.name, root),
        description=f"{ready.name}, {when}, into {root.absolute()}",
        tags=["curate", f"dataset:{ready.name}"],
        schedules=[DeploymentScheduleCreate(schedule=when.as_prefect(), active=True)],
        paused=paused,
        parameters=order.parameters(root, ready),
        parameter_openapi_schema=parameter_schema(curation.fn).model_dump_for_openapi(),
        enforce_parameter_schema=True,
        work_pool_name=POOL,
        entrypoint=ENTRYPOINT,
        pull_steps=[],
        # the run tells its steps itself, so that the worker's log has them once
        job_variables={"env": {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"}},
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(
            collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW, grace_period_seconds=GRACE_SECONDS
        ),
    )


def _deployments(client: "SyncPrefectClient", root: Path) -> Iterator["DeploymentResponse"]:
    """Deployments of the flow that write to this store."""
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    offset = 0
    while page := client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])), limit=MOST, offset=offset):
        yield from (one for one in page if one.parameters.get("store") == str(root.absolute()))
        offset += len(page)


def _scheduled(client: "SyncPrefectClient", one: "DeploymentResponse", records: Mapping[str, Mapping[str, Any]]) -> Scheduled:
    active = [entry.schedule for entry in one.schedules if entry.active and not one.paused]
    last = _last_run(client, one)
    record = records.get(str(last.id), {}) if last else {}
    state = None if last is None or last.state is None else last.state.name
    return Scheduled(
        name=dataset_of(one),
        recipe=str(one.parameters.get("recipe")),
        when=", ".join(When.of(entry.schedule) for entry in one.schedules),
        next=min((_next(schedule) for schedule in active), default=None),
        refresh=str(one.parameters.get("refresh") or "as in the recipe"),
        last=last.start_time if last else None,
        state=state,
        version=record.get("version"),
        deployment=f"{FLOW}/{one.name}",
    )


def _next(schedule: Any) -> datetime:
    """When Prefect's own rules say it is due next."""
    from prefect.server.schemas import schedules as rules

    kinds: dict[str, Any] = {"cron": rules.CronSchedule, "interval": rules.IntervalSchedule, "rrule": rules.RRuleSchedule}
    rule = next(kind for name, kind in kinds.items() if hasattr(schedule, name))
    (found,) = asyncio.run(rule.model_validate(schedule.model_dump()).get_dates(1))
    return datetime.fromtimestamp(found.timestamp(), UTC)


def _last_run(client: "SyncPrefectClient", one: "DeploymentResponse") -> "FlowRun | None":
    """The last run that began; those cancelled because another was running did not."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter, FlowRunFilterStartTime
    from prefect.client.schemas.sorting import FlowRunSort

    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[one.id])),
        flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False)),
        sort=FlowRunSort.START_TIME_DESC,
        limit=MOST,
    )
    return next((run for run in found if run.run_count), None)
