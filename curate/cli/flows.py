"""Run with Prefect where there is a server, without it elsewhere."""

import os
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from curate.run import Done, Run

HEALTH_SECONDS = 3.0
CONSOLE = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"


def perform(run: "Run", inline: bool) -> "Done":
    """Run it as a flow if a Prefect server is configured and answers, here and now if not."""
    from curate.services import api_url, client_settings

    url = None if inline else api_url(run.store.root)
    if url is None:
        return run()
    if not answers(url):
        run.watch.said(f"the Prefect server at {url} does not answer: running without it")
        return run()
    for name, value in (client_settings(run.store.root) | {CONSOLE: "CRITICAL"}).items():
        os.environ.setdefault(name, value)  # the run's own lines are on the screen already
    os.environ["PREFECT_API_URL"] = url
    from curate.flow import run_in_flow

    return run_in_flow(run)


def answers(url: str) -> bool:
    """Whether the server at that API address is healthy. It is asked directly if it is on this machine."""
    here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if here else []))
    try:
        with opener.open(f"{url.rstrip('/')}/health", timeout=HEALTH_SECONDS) as reply:
            return bool(reply.status == 200)
    except (OSError, ValueError):
        return False
