"""Best, second best and worst response of each prompt, for triple preference optimisation."""

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curate import tables
from curate.export import listing, schemas
from curate.export.format import Run
from curate.export.list_format import ListFormat


class Triple(ListFormat):
    """One row a prompt of three responses or more: `reference` (the best), `chosen` (the second), `rejected` (the worst).

    The best may score as high as the second, which must score above the worst. TRL's TPOTrainer (experimental) reads the rows.

    Source: Saeidi et al., "Triple Preference Optimization: Achieving Better Alignment using a Single Step Optimization", 2024,
    arXiv:2405.16681, and its released code.
    """

    name: ClassVar[str] = "triple"
    proof: ClassVar[str | None] = "trl-tpo"
    description: ClassVar[str] = "prompt, reference, chosen and rejected messages: the best, second and worst response"
    trainer: ClassVar[str] = "TPOTrainer"
    tested: ClassVar[str] = "trl>=1.16,<1.17"
    least: ClassVar[int] = 3
    load: ClassVar[str] = (
        "from datasets import load_dataset\n"
        "from trl.experimental.tpo import TPOTrainer\n"
        'TPOTrainer("MODEL", train_dataset=load_dataset({path!r}, split={split!r})).train()'
    )

    def listed(self, found: listing.Ranked, run: Run) -> pa.Table:
        """One row a prompt whose second response is better than its worst."""
        ends = found.starts + found.counts - 1
        tied = found.scores[found.starts + 1] == found.scores[ends]
        run.leave_out("tied", tied, found.prompts()["prompt_id"])
        found = found.only(~tied)
        prompts, said = found.prompts(), listing.said(found.table)
        places = {"reference": found.starts, "chosen": found.starts + 1, "rejected": found.starts + found.counts - 1}
        columns = {"prompt": tables.flat(prompts["prompt"])}
        columns |= {name: said.take(pa.array(rows.astype(np.int64))) for name, rows in places.items()}
        return pa.table(columns | {name: prompts[name] for name in ("tools", "prompt_id") if name in prompts.column_names})

    def schema(self) -> dict[str, Any]:
        """JSON schema of a row."""
        return schemas.row_schema(self, schemas.TRIPLE, ["prompt", "reference", "chosen", "rejected", "prompt_id"])
