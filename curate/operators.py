"""Every operator a recipe may name, in the order data flows."""

from curate.filter.balance import Balance
from curate.filter.consistency import Consistency
from curate.filter.contamination import Contamination
from curate.filter.exact_duplicate import ExactDuplicate
from curate.filter.label_em import LabelEm
from curate.filter.lint import Lint
from curate.filter.margin import Margin
from curate.filter.near_duplicate import NearDuplicate
from curate.filter.peer_review import PeerReview
from curate.filter.select import Select
from curate.filter.semantic_duplicate import SemanticDuplicate
from curate.filter.threshold import Threshold
from curate.generate.generate import Generate
from curate.generate.perturb import Perturb
from curate.generate.rewrite import Rewrite
from curate.operator import Operator
from curate.pair.pair import Pair
from curate.publish.split import Split
from curate.relabel.flip import Flip
from curate.relabel.goal import Goal
from curate.relabel.inject_noise import InjectNoise
from curate.relabel.mask import Mask
from curate.relabel.order import Order
from curate.relabel.soft_label import SoftLabel
from curate.relabel.weight import Weight
from curate.relabel.weight_sets import WeightSets
from curate.score.aggregate import Aggregate
from curate.score.attach import Attach
from curate.score.features import Features
from curate.score.judge import Judge
from curate.score.judge_sentences import JudgeSentences
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
    "near_duplicate": NearDuplicate,
    "semantic_duplicate": SemanticDuplicate,
    "contamination": Contamination,
    "features": Features,
    "verify": Verify,
    "reward": Reward,
    "judge": Judge,
    "judge_sentences": JudgeSentences,
    "likelihood": Likelihood,
    "threshold": Threshold,
    "aggregate": Aggregate,
    "pair": Pair,
    "vote": Vote,
    "prefer": Prefer,
    "lint": Lint,
    "margin": Margin,
    "consistency": Consistency,
    "peer_review": PeerReview,
    "label_em": LabelEm,
    "inject_noise": InjectNoise,
    "flip": Flip,
    "weight": Weight,
    "weight_sets": WeightSets,
    "order": Order,
    "soft_label": SoftLabel,
    "mask": Mask,
    "balance": Balance,
    "select": Select,
    "goal": Goal,
    "split": Split,
}
