"""Run with Prefect where there is a server, without it elsewhere."""

import os
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curate.run import Done, Run

HEALTH_SECONDS = 3.0
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_WRAP_LINES": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the run's own lines are on the screen already
}


def perform(run: "Run", inline: bool) -> "Done":
    """Run it as a flow if a Prefect server is configured and answers, here and now if not."""
    from curate.services import api_url

    url = None if inline else api_url(run.store.root)
    if url is None:
        return run()
    if not answers(url):
        run.watch.said(f"the Prefect server at {url} does not answer: running without it")
        return run()
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ} | {"PREFECT_API_URL": url})
    from curate.flow import run_in_flow

    return run_in_flow(run)


def answers(url: str) -> bool:
    """Whether the server at that API address is healthy."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=HEALTH_SECONDS) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False
