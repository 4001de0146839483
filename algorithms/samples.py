"""From trajectories to the samples that a loss sees."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from algorithms.advantages import generalised_advantages, standardise
from algorithms.networks import Params
from algorithms.policies import Critic
from algorithms.settings import GradientMethodSettings
from harness.api import Trajectories

TASKS_PER_BLOCK = 2
"""Tasks whose samples are worked on together: two fit the second-level cache, and keep two threads busy."""


class Samples(NamedTuple):
    """Time steps of all episodes of a task in one row of slots.

    Shapes, slots = episodes * horizon:
        observations [tasks, slots, observation_dim], actions [tasks, slots, action_dim]
        advantages, returns [tasks, slots], weights [tasks, slots]: 1 where a slot enters the means, else 0
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor

    def slice_tasks(self, tasks: slice) -> Samples:
        """The same samples for some of the tasks."""
        return Samples(*(tensor[tasks] for tensor in self))


def blocks(tasks: int) -> list[slice]:
    """Consecutive slices of at most :data:`TASKS_PER_BLOCK` tasks."""
    return [slice(start, min(start + TASKS_PER_BLOCK, tasks)) for start in range(0, tasks, TASKS_PER_BLOCK)]


def per_task(params: Params, tasks: int, template: dict[str, int]) -> Params:
    """View parameters [...] as [tasks, ...]; parameters that have the axis already pass unchanged.

    ``template``: number of dimensions of every parameter without the axis.
    """
    return {k: v.expand(tasks, *v.shape) if v.dim() == template[k] else v for k, v in params.items()}


@torch.no_grad()
def make_samples(
    settings: GradientMethodSettings,
    critic: Critic,
    params: Params,
    trajectories: Trajectories,
    slots: Params,
    shared_slots: bool,
) -> tuple[Samples, Params]:
    """Values, advantages and returns of trajectories, and what stands in the slots after an early end.

    ``params``: [tasks, ...]. ``slots``, ``shared_slots``: see :meth:`harness.api.Algorithm.prepare`.
    """
    tasks, episodes, horizon = trajectories.rewards.shape
    values = torch.cat(
        [
            critic.values({k: v[block] for k, v in params.items()}, trajectories.observations[block].flatten(1, 2))
            for block in blocks(tasks)
        ]
    ).view(tasks, episodes, horizon)
    last_value = torch.zeros(tasks, episodes, dtype=values.dtype)
    if settings.bootstrap_timeouts:
        last_value = critic.values(params, trajectories.final_observation) * trajectories.valid[..., -1]
    advantages, returns = generalised_advantages(
        trajectories.rewards, values, last_value, trajectories.valid, settings.discount, settings.gae_lambda
    )
    fresh = Samples(
        observations=trajectories.observations.flatten(1, 2),
        actions=trajectories.actions.flatten(1, 2),
        advantages=advantages.flatten(1, 2),
        returns=returns.flatten(1, 2),
        weights=trajectories.valid.flatten(1, 2).to(values.dtype),
    )
    return fill_unused_slots(fresh, slots, shared_slots, settings.unused_slots, settings.standardise_advantages)


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
    content = {name: tensor for name, tensor in fresh._asdict().items() if name != "weights"}
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
    return torch.where(mask, new, torch.zeros(()) if old is None else old)
