"""The export formats: add one here and nowhere else."""

from curate.export.attributes import Attributes
from curate.export.format import Format
from curate.export.masked_dpo import MaskedDpo
from curate.export.ms_swift import MsSwift
from curate.export.plain import Jsonl, Parquet
from curate.export.ranked_list import RankedList
from curate.export.regression import Regression
from curate.export.rlhflow import RlhFlow
from curate.export.scored_list import ScoredList
from curate.export.soft_dpo import SoftDpo
from curate.export.sppo import Sppo
from curate.export.stages import Stages
from curate.export.triple import Triple
from curate.export.trl_dpo import TrlDpo
from curate.export.trl_kto import TrlKto
from curate.export.trl_reward import TrlReward
from curate.export.trl_sft import TrlSft

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        *(TrlDpo(), TrlKto(), TrlReward(), TrlSft()),
        *(MsSwift(), SoftDpo(), MaskedDpo(), Stages(), Sppo(), Regression()),
        *(RankedList(), ScoredList(), RlhFlow(), Triple(), Attributes()),
        *(Parquet(), Jsonl()),
    )
}
