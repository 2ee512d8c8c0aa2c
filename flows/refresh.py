"""Entry point of an incremental run, for `prefect deploy`: only prompts that are new are paid for."""

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from curate.flow import curation


@flow(name="curate-refresh", persist_result=False, log_prints=False)
def refresh(
    recipe: str,
    store: str,
    overrides: Sequence[str] = (),
    policy: str = "append",
    max_cost: float | None = None,
    max_calls: int | None = None,
) -> State[Any]:
    """Add what is new in a recipe's sources to the latest version; unchanged sources publish nothing.

    A run that is due while another makes the same dataset steps aside.

    Args:
        recipe: Absolute path of a recipe, or the name of one that comes with curate.
        store: Absolute path of the store's folder.
        overrides: Values of the recipe that are replaced, as "pair.min_gap=0.5".
        policy: replace, append or window:…
        max_cost: US dollars that model calls may cost.
        max_calls: Model calls that may be made.
    """
    # within this flow run: as a flow of its own it would be shown twice
    return curation.fn(
        recipe,
        store,
        overrides,
        refresh=policy,
        max_cost=max_cost,
        max_calls=max_calls,
        busy="step_aside",
    )
