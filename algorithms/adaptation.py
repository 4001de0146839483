"""Adaptation rules: how parameters move on one task, in the inner loop and at meta-test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from algorithms.networks import Params
from algorithms.optimisers import Adam
from algorithms.settings import AdamSettings, ScaledInnerRuleSettings
from harness.api import AdaptationRule, Settings


class ScaledAdapt(Protocol):
    """A learner's adaptation round with its inner learning rates multiplied by a factor; see `Algorithm.adapt`."""

    def __call__(self, params: Params, samples: Any, factor: float = 1.0) -> Params:
        """Adapted parameters [tasks, ...]."""


def rule_of(settings: Settings, adapt: ScaledAdapt, gradients: Callable[[Params, Any], Params]) -> AdaptationRule:
    """The rule that the settings describe, for a learner that takes gradient steps.

    ``gradients``: of the inner loss of every task.
    """
    if isinstance(settings, AdamSettings):
        return AdamRule(settings, gradients)
    if isinstance(settings, ScaledInnerRuleSettings):
        return ScaledInnerRule(settings, adapt)
    return InnerRule(adapt)


class InnerRule:
    """The step that was meta-trained: θ' = θ - α ∇L(θ), no memory."""

    def __init__(self, adapt: Callable[[Params, Any], Params]) -> None:
        self._adapt = adapt

    def init(self, params: Params) -> Params:
        """Nothing to remember."""
        return {}

    def update(self, params: Params, memory: Params, samples: Any) -> tuple[Params, Params]:
        """One inner step on every task."""
        return self._adapt(params, samples), memory


class ScaledInnerRule:
    """The step that was meta-trained with a length of its own: θ' = θ - f_k α ∇L(θ) at update k = 0, 1, ..."""

    def __init__(self, settings: ScaledInnerRuleSettings, adapt: ScaledAdapt) -> None:
        self._factors = settings.factors
        self._adapt = adapt

    def init(self, params: Params) -> Params:
        """The number of updates so far."""
        return {"count": torch.zeros((), dtype=torch.int64)}

    def update(self, params: Params, memory: Params, samples: Any) -> tuple[Params, Params]:
        """One inner step on every task."""
        factor = self._factors[int(memory["count"])]
        return self._adapt(params, samples, factor), {"count": memory["count"] + 1}


class AdamRule:
    """Adam from fresh moments on every task, as the replication report's released code evaluates."""

    def __init__(self, settings: AdamSettings, gradients: Callable[[Params, Any], Params]) -> None:
        self._adam = Adam(settings)
        self._gradients = gradients

    def init(self, params: Params) -> Params:
        """Zero moments for every task."""
        return self._adam.init(params)

    @torch.no_grad()
    def update(self, params: Params, memory: Params, samples: Any) -> tuple[Params, Params]:
        """One Adam step on every task, from the gradient of the inner loss."""
        with torch.enable_grad():
            gradients = self._gradients(params, samples)
        return self._adam.step(params, gradients, memory)
