"""Adaptation rules: how parameters move on one task, in the inner loop and at meta-test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from algorithms.networks import Params
from algorithms.optimisers import Adam
from algorithms.settings import AdamSettings


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
