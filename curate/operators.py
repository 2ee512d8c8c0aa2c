"""Every operator a recipe may name, in the order data flows."""

from curate.filter.consistency import Consistency
from curate.filter.exact_duplicate import ExactDuplicate
from curate.filter.margin import Margin
from curate.operator import Operator
from curate.pair.pair import Pair
from curate.publish.split import Split
from curate.relabel.goal import Goal
from curate.score.aggregate import Aggregate
from curate.score.attach import Attach
from curate.score.features import Features
from curate.score.verify import Verify

OPERATORS: dict[str, type[Operator]] = {
    "attach": Attach,
    "exact_duplicate": ExactDuplicate,
    "features": Features,
    "verify": Verify,
    "aggregate": Aggregate,
    "pair": Pair,
    "margin": Margin,
    "consistency": Consistency,
    "goal": Goal,
    "split": Split,
}
