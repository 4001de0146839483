"""Learners without a gradient: a policy that remembers, and one number to choose for it.

Meta-training tries one candidate per meta-iteration on fresh training tasks and keeps the best; the published
evaluations chose on the very tasks that they reported.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from harness.api import AdaptationRule, MetaBatch, Metrics, Params, Policy, Settings, State, Trajectories


class NothingToAdapt:
    """The rule of every meta-test protocol: the policy adapts by remembering, its parameters stay."""

    def init(self, params: Params) -> Params:
        """No memory."""
        return {}

    def update(self, params: Params, memory: Params, samples: Any) -> tuple[Params, Params]:
        """The same parameters."""
        return params, memory


class CandidateSearch:
    """Tries the candidates one by one; the one with the highest mean return wins, of equals the first.

    params: {"candidate": the position of the value in use, a float tensor without axes}.
    optimiser: the best so far, its mean return, and how many were tried.
    """

    adaptation_rounds = 0

    def __init__(self, policy: Policy, candidates: tuple[float, ...] = (0.0,)) -> None:
        self.policy = policy
        self._candidates = candidates

    def init(self, rng: Generator) -> State:
        """The first candidate."""
        start = {"best": 0.0, "best_return": -torch.inf, "tried": 0.0}
        return State({"candidate": torch.tensor(0.0)}, {name: torch.tensor(value) for name, value in start.items()})

    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Tensor, Params]:
        """Mean return of every task, [tasks]."""
        return trajectories.episode_returns().mean(-1), {}

    def rule(self, settings: Settings) -> AdaptationRule:
        """See :class:`NothingToAdapt`."""
        return NothingToAdapt()

    def adapt(self, params: Params, samples: Tensor) -> Params:
        """The same parameters, once per task."""
        return {name: tensor.expand(len(samples), *tensor.shape) for name, tensor in params.items()}

    def meta_update(self, state: State, data: MetaBatch, iteration: int) -> tuple[State, Metrics]:
        """Judge the candidate in use and take up the next, or the winner after the last."""
        current, score = state.params["candidate"], data.post_update.mean()
        memory = state.optimiser
        better = bool(score > memory["best_return"])
        best = current if better else memory["best"]
        tried = memory["tried"] + 1.0
        following = tried if tried < len(self._candidates) else best
        optimiser = {"best": best, "best_return": score if better else memory["best_return"], "tried": tried}
        return State({"candidate": following}, optimiser), {"candidate": self._candidates[int(current)]}


def candidate(params: Params, candidates: tuple[float, ...]) -> float:
    """The value in use; ``params`` with or without a tasks axis."""
    return candidates[int(params["candidate"].flatten()[0])]
