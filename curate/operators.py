"""Every operator a recipe may name, in the order data flows."""

from curate.filter.consistency import Consistency
from curate.filter.exact_duplicate import ExactDuplicate
from curate.filter.margin import Margin
from curate.filter.threshold import Threshold
from curate.generate.generate import Generate
from curate.generate.perturb import Perturb
from curate.generate.rewrite import Rewrite
from curate.operator import Operator
from curate.pair.pair import Pair
from curate.publish.split import Split
from curate.relabel.goal import Goal
from curate.score.aggregate import Aggregate
from curate.score.attach import Attach
from curate.score.features import Features
from curate.score.judge import Judge
from curate.score.likelihood import Likelihood
from curate.score.prefer import Prefer
from curate.score.reward import Reward
from curate.score.verify import Verify
from curate.score.vote import Vote

OPERATORS: dict[str, type[Operator]] = {
    "attach": Attach,
    "rewrite": Rewrite,
    "generate": Generate,
    "perturb": Perturb,
    "exact_duplicate": ExactDuplicate,
    "features": Features,
    "verify": Verify,
    "reward": Reward,
    "judge": Judge,
    "likelihood": Likelihood,
    "threshold": Threshold,
    "aggregate": Aggregate,
    "pair": Pair,
    "vote": Vote,
    "prefer": Prefer,
    "margin": Margin,
    "consistency": Consistency,
    "goal": Goal,
    "split": Split,
}
