"""Exact optima of Bernoulli bandits with independent uniform means."""

from __future__ import annotations

from functools import cache

import numpy as np

EXACT_PULLS = 12
"""Most pulls for which the Bayes-optimal value is computed: the number of states grows by two thirds with each pull."""

Arm = tuple[int, int]


def expected_best_mean(arms: int) -> float:
    """E[max_k p_k] = K / (K + 1) for K independent uniform means: what a clairvoyant gets per pull."""
    return arms / (arms + 1)


def bayes_optimal_return(pulls: int, arms: int) -> float:
    """Expected total reward of the best learner there can be, over ``pulls`` pulls, with a uniform prior on every arm.

        V_0 = 0,   V_n(h) = max_k  m_k (1 + V_{n-1}(h + success of k)) + (1 - m_k) V_{n-1}(h + failure of k)
        m_k = (s_k + 1) / (s_k + f_k + 2)

    By dynamic programming over histories h = {(s_k, f_k)}; arms are exchangeable, so that a history is a multiset, and
    one fresh arm stands for all of them. Errors: ValueError outside 1 ... :data:`EXACT_PULLS` pulls or below one arm.
    """
    if not 1 <= pulls <= EXACT_PULLS or arms < 1:
        raise ValueError(f"exact for 1 to {EXACT_PULLS} pulls and at least 1 arm, found {pulls} and {arms}")

    @cache
    def value(history: tuple[Arm, ...], left: int) -> float:
        if left == 0:
            return 0.0
        fresh = [(0, 0)] if len(history) < arms else []
        return max(after_pull(history, arm, left) for arm in [*set(history), *fresh])

    def after_pull(history: tuple[Arm, ...], arm: Arm, left: int) -> float:
        others = list(history)
        if arm != (0, 0):
            others.remove(arm)
        successes, failures = arm
        mean = (successes + 1) / (successes + failures + 2)
        success = tuple(sorted([*others, (successes + 1, failures)]))
        failure = tuple(sorted([*others, (successes, failures + 1)]))
        return mean * (1.0 + value(success, left - 1)) + (1.0 - mean) * value(failure, left - 1)

    return value((), pulls)


def balanced_exploration_return(pulls: int, arms: int) -> float:
    """Expected mean of the arm that is best a posteriori after ``pulls`` pulls spread evenly over m arms; best m.

        s_k ~ uniform on {0, ..., n_k},   E[max_k (s_k + 1) / (n_k + 2)],   n_k = ⌊N/m⌋ or ⌈N/m⌉

    With a uniform prior every number of successes in n pulls is equally likely. A policy that is fixed before the first
    reward, as in one MAML adaptation, cannot do better afterwards, unless it spreads its pulls unevenly. An untouched
    arm has mean 1/2. Errors: ValueError below one pull or one arm.
    """
    if pulls < 1 or arms < 1:
        raise ValueError(f"at least 1 pull and 1 arm are needed, found {pulls} and {arms}")
    return max(_best_of_balanced(pulls, used, untouched=used < arms) for used in range(1, min(arms, pulls) + 1))


def _best_of_balanced(pulls: int, used: int, untouched: bool) -> float:
    n, longer = divmod(pulls, used)
    groups = [(n, used - longer), (n + 1, longer)]
    means = [(np.arange(size + 1) + 1.0) / (size + 2.0) for size, count in groups if count]
    levels = np.unique(np.concatenate([*means, [0.5]]) if untouched else np.concatenate(means))
    # P(best mean ≤ level) is the product of every arm's own; a small tolerance, because equal fractions may differ by
    # rounding.
    below = np.ones_like(levels)
    for size, count in groups:
        if count:
            successes = np.floor((levels + 1e-12) * (size + 2.0) - 1.0)
            below *= (np.clip(successes + 1.0, 0.0, None) / (size + 1.0)) ** count
    if untouched:
        below[levels < 0.5] = 0.0
    return float(levels @ np.diff(below, prepend=0.0))
