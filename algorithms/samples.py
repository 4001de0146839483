"""From trajectories to the samples that a loss sees."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from algorithms.advantages import standardise
from algorithms.networks import Params
from harness.api import Trajectories

SLOTS_PER_BLOCK = 4096
"""Samples that are worked on together: they fit the second-level cache with their hidden layers."""


class Samples(NamedTuple):
    """Time steps of all episodes of a task in one row of slots.

    Shapes, slots = episodes * horizon:
        observations [tasks, slots, observation_dim or 1], actions [tasks, slots, action_dim]
        advantages, returns [tasks, slots], weights [tasks, slots]: how often a slot enters the means; 1 or 0, or a
        count after :func:`condense`
        rewards [tasks, slots]: None unless a learner keeps them
        old_log_prob [tasks, slots]: under the policy that sampled; None unless a loss asks for it
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor
    rewards: Tensor | None = None
    old_log_prob: Tensor | None = None

    def slice_tasks(self, tasks: slice) -> Samples:
        """The same samples for some of the tasks."""
        return self._replace(**{name: tensor[tasks] for name, tensor in self._asdict().items() if tensor is not None})


def flat_samples(trajectories: Trajectories, advantages: Tensor, returns: Tensor) -> Samples:
    """Trajectories with their advantages and returns [tasks, episodes, horizon] as one row of slots per task."""
    return Samples(
        observations=trajectories.observations.flatten(1, 2),
        actions=trajectories.actions.flatten(1, 2),
        advantages=advantages.flatten(1, 2),
        returns=returns.flatten(1, 2),
        weights=trajectories.valid.flatten(1, 2).to(advantages.dtype),
    )


def condense(samples: Samples, num_observations: int, num_actions: int) -> Samples:
    """One slot per pair of observation and action, weighted with how often it occurs.

        mean_t f(s_t, a_t) x_t = Σ_sa n_sa f(s, a) x̄_sa / Σ_sa n_sa

    Losses that weigh each step on its own, by its advantage or its return, see no difference, nor do their gradients
    (a squared error moves by a constant); what a network costs no longer depends on the number of episodes.

    Shapes: in [tasks, slots, ...], out [tasks, num_observations * num_actions, ...].
    """
    cells = num_observations * num_actions
    key = samples.observations.squeeze(-1) * num_actions + samples.actions.squeeze(-1)

    def summed(values: Tensor) -> Tensor:
        return sum_by_key(values, key, cells)

    weights = summed(samples.weights)
    often = weights.clamp(min=1.0)
    cell = torch.arange(cells).expand(key.shape[0], cells).unsqueeze(-1)
    return Samples(
        observations=cell // num_actions,
        actions=cell % num_actions,
        advantages=summed(samples.advantages * samples.weights) / often,
        returns=summed(samples.returns * samples.weights) / often,
        weights=weights,
        rewards=None if samples.rewards is None else summed(samples.rewards * samples.weights) / often,
    )


def sum_by_key(values: Tensor, key: Tensor, cells: int) -> Tensor:
    """Sums of values [tasks, slots] that share a key 0 ... cells - 1, [tasks, cells]."""
    return values.new_zeros(values.shape[0], cells).scatter_add_(1, key, values)


def blocks(tasks: int, slots: int) -> list[slice]:
    """Consecutive slices of tasks of about :data:`SLOTS_PER_BLOCK` samples; at least two tasks, to keep two threads
    busy.
    """
    size = max(2, SLOTS_PER_BLOCK // slots)
    return [slice(start, min(start + size, tasks)) for start in range(0, tasks, size)]


def per_task(params: Params, tasks: int, template: dict[str, int]) -> Params:
    """View parameters [...] as [tasks, ...]; parameters that have the axis already pass unchanged.

    ``template``: number of dimensions of every parameter without the axis.
    """
    return {k: v.expand(tasks, *v.shape) if v.dim() == template[k] else v for k, v in params.items()}


def fill_unused_slots(
    fresh: Samples, slots: Params, shared_slots: bool, unused_slots: str, standardised: bool
) -> tuple[Samples, Params]:
    """Apply the ``unused_slots`` rule, then standardise the advantages over the slots that count.

    With ``stale`` a slot that this episode did not reach keeps what was written there last: the observation, action and
    return of an earlier episode, and its advantage, which is standardised again each time. With ``shared_slots`` the
    tasks write to one buffer in turn, so task 3 falls back on task 2; without, every task has its own.

    Returns (samples, slots to fall back on next time: {} unless stale; [slots, ...] if shared, [tasks, slots, ...] if
    not).
    """
    normalise = standardise if standardised else (lambda advantages, weights: advantages)
    if unused_slots == "excluded":
        return fresh._replace(advantages=normalise(fresh.advantages, fresh.weights)), {}
    used = fresh.weights.bool()
    everything = torch.ones_like(fresh.weights)
    content = {name: tensor for name, tensor in fresh._asdict().items() if name != "weights" and tensor is not None}
    if unused_slots == "zeros" or not shared_slots:
        # One buffer per task: empty at first.
        filled = {name: _overwrite(slots.get(name), tensor, used) for name, tensor in content.items()}
        filled["advantages"] = normalise(filled["advantages"], everything)
        return Samples(**filled, weights=everything), filled if unused_slots == "stale" else {}
    buffer: Params = dict(slots)
    rows: list[Params] = []
    for task in range(used.shape[0]):
        buffer = {name: _overwrite(buffer.get(name), tensor[task], used[task]) for name, tensor in content.items()}
        buffer["advantages"] = normalise(buffer["advantages"], everything[task])
        rows.append(buffer)
    return Samples(**{name: torch.stack([row[name] for row in rows]) for name in content}, weights=everything), buffer


def _overwrite(old: Tensor | None, new: Tensor, used: Tensor) -> Tensor:
    """``new`` where a slot was used, ``old`` (zero if there is none) elsewhere."""
    mask = used.unsqueeze(-1) if new.dim() > used.dim() else used
    return torch.where(mask, new, torch.zeros((), dtype=new.dtype) if old is None else old)
