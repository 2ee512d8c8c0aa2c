"""How much a pair counts in training, by its margin, its hardness, its likelihood or its level."""

import numpy as np

from curate.maths.noise_rate import logistic


def margin_weight(delta_N: np.ndarray, w: float = 0.5, k: float = 0.5, least: float = 1e-3) -> np.ndarray:
    """1 + w (1 - exp(-k delta)), at least `least`, (N,); NaN stays.

    delta: reward of chosen minus that of rejected. Source: Zhang et al., "MM-RLHF: The Next Step Forward in Multimodal LLM
    Alignment", 2025, arXiv:2502.10391, dynamic reward scaling: there the factor of DPO's beta of each pair.
    """
    # beyond this even the least weight is long reached; the exponential would only overflow
    exponent = np.minimum(-k * delta_N, 700.0)
    return np.asarray(np.maximum(1 + w * -np.expm1(exponent), least))


def hardness_weight(delta_N: np.ndarray, mean: float) -> np.ndarray:
    """alpha_D = s(delta) / s(mean of delta), s the logistic function, (N,); NaN stays.

    delta: how hard a pair is, larger is harder. Source: Cheng et al., "Inverse Reinforcement Learning with Dynamic Reward
    Scaling for LLM Alignment" (DR-IRL), 2025, arXiv:2503.18991, data hardness; there one minus the similarity of the
    demonstration and what the model wrote.
    """
    return np.asarray(logistic(delta_N) / logistic(np.asarray(mean)))


def responsiveness(gaps_N: np.ndarray, outliers: float) -> float:
    """alpha_M = s(mean of the gaps that are no outliers) / s(mean of all gaps); 1 where there are none.

    gaps: a model's reward for the demonstration minus that for what it wrote; NaN is left out. An outlier lies more than
    `outliers` standard deviations from the mean. Source: as for `hardness_weight`, where a limit on the variance is not told.
    """
    told = gaps_N[~np.isnan(gaps_N)].astype(np.float64)
    if not len(told):
        return 1.0
    mean, spread = float(told.mean()), float(told.std())
    near = told[np.abs(told - mean) <= outliers * spread] if spread else told
    return float(logistic(np.asarray(near.mean() if len(near) else mean)) / logistic(np.asarray(mean)))


def likelihood_weight(reference_NM: np.ndarray, policy_N: np.ndarray) -> np.ndarray:
    """s(mean over models of the reference - policy), (N,): what the gradient of -log s(policy - reference) is multiplied by.

    reference: mean log-probability a token of the answer under M aligned models; policy: that of the model to be trained. NaN
    where one of them is missing. Source: Fan et al., "Preference-Oriented Supervised Fine-Tuning" (PoFT),
    2024, arXiv:2412.12865.
    """
    return logistic(reference_NM.mean(axis=1) - policy_N)


def level_weight(level_N: np.ndarray, top: float, factor: float = 2.5) -> np.ndarray:
    """`factor` where the better side is on the top level, 1 below it, (N,); NaN stays.

    level: that of the better side, larger is better. Source: "Trust Region Preference Approximation" (TRPA), 2025,
    arXiv:2504.04524, and its released code.
    """
    return np.where(np.isnan(level_N), np.nan, np.where(level_N >= top, factor, 1.0))
