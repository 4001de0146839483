"""Learners without a gradient: a policy that remembers, and one number to choose for it.

Meta-training tries every candidate on the same training tasks and keeps the best. The published evaluations chose on
the very tasks that they reported.
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
    """One meta-iteration: each adaptation round takes up the next candidate on the same tasks; then the best one stays.

    The best has the highest mean return over the tasks; of equals the first.
    params: {"candidate": the position of the value in use, a float tensor without axes}.
    """

    def __init__(self, policy: Policy, candidates: tuple[float, ...] = (0.0,)) -> None:
        self.policy = policy
        self.adaptation_rounds = len(candidates) - 1
        self._candidates = candidates

    def init(self, rng: Generator) -> State:
        """The first candidate."""
        return State({"candidate": torch.tensor(0.0)})

    def prepare(
        self, params: Params, trajectories: Trajectories, slots: Params, shared_slots: bool
    ) -> tuple[Tensor, Params]:
        """Mean return of every task, [tasks]."""
        return trajectories.episode_returns().mean(-1), {}

    def rule(self, settings: Settings) -> AdaptationRule:
        """See :class:`NothingToAdapt`."""
        return NothingToAdapt()

    def adapt(self, params: Params, samples: Tensor) -> Params:
        """The next candidate, after the last the first again, for every task."""
        return {"candidate": ((params["candidate"] + 1.0) % len(self._candidates)).expand(len(samples))}

    def meta_update(self, state: State, data: MetaBatch, iteration: int) -> tuple[State, Metrics]:
        """The winner."""
        returns = torch.stack([*data.pre_update, data.post_update]).mean(-1)
        winner = int(returns.argmax())
        best = (int(state.params["candidate"]) + winner) % len(self._candidates)
        metrics = {"candidate": self._candidates[best], "candidate_return": float(returns[winner])}
        return State({"candidate": torch.tensor(float(best))}), metrics


def candidate(params: Params, candidates: tuple[float, ...]) -> float:
    """The value in use; ``params`` with or without a tasks axis."""
    return candidates[int(params["candidate"].flatten()[0])]
