"""The export formats: add one here and nowhere else."""

from curate.export.format import Format
from curate.export.plain import Jsonl, Parquet
from curate.export.trl_dpo import TrlDpo
from curate.export.trl_kto import TrlKto
from curate.export.trl_reward import TrlReward
from curate.export.trl_sft import TrlSft

FORMATS: dict[str, Format] = {one.name: one for one in (TrlDpo(), TrlKto(), TrlReward(), TrlSft(), Parquet(), Jsonl())}
