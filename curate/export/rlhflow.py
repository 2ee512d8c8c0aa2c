"""Lists of responses with their rewards under a conversation, as RLHFlow reads them."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.export import listing, schemas
from curate.export.format import Run
from curate.export.list_format import ListFormat


class RlhFlow(ListFormat):
    """One row a prompt: `prompt` (messages), `responses` (texts) by falling reward, `rewards`.

    What RLHFlow's scripts write for the best and the worst of n; a response of several messages cannot be said.
    """

    name: ClassVar[str] = "rlhflow"
    description: ClassVar[str] = "prompt messages, responses and rewards, the best first"
    trainer: ClassVar[str] = "RLHFlow's scripts for the best of n"
    tested: ClassVar[str] = "the released code, read not run"

    def listed(self, found: listing.Ranked, run: Run) -> pa.Table:
        """One row a prompt whose responses are one message each."""
        several = np.logical_or.reduceat(listing.has_turns(found.table), found.starts)
        run.leave_out("not_plain", several, found.prompts()["prompt_id"])
        found = found.only(~several)
        prompts = found.prompts()
        columns = {"prompt": prompts["prompt"], "responses": found.lists(found.table["response"]), "rewards": found.rewards()}
        return pa.table(columns | {name: prompts[name] for name in ("tools", "prompt_id") if name in prompts.column_names})

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.RLHFLOW, ["prompt", "responses", "rewards", "prompt_id"])
