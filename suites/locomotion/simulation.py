"""Locomotion of all tasks and episodes at once, on real MuJoCo."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from torch import Generator, Tensor

from harness.api import Tasks, Trajectories, Transition
from suites.locomotion import LocomotionSettings, rendering
from suites.locomotion.bodies import BODIES, FORCES
from suites.locomotion.captions import caption
from suites.locomotion.environments import DIRECTION, PARAMETERS, POSITION, VELOCITY, Healthy
from suites.locomotion.physics import BEGIN, TIME, Array, Physics
from suites.locomotion.tasks import ScaledModels, balanced, draw, refuse, told, wanted

OVER = -1
"""Where a state's row has whether its episode is over."""


class Locomotion:
    """A body, and what it is paid for; everything particular is in :mod:`suites.locomotion.environments`.

    An episode that ended costs no time any more: its state stays as it is. Where MuJoCo gives a simulation up (its
    numbers leave all bounds, as bodies with random parameters can bring about), or where an action is not a number, the
    episode ends there without a reward for that step, in the state before it.

    Shapes:
        tasks: see :func:`suites.locomotion.tasks.draw`
        state: [tasks, episodes, row], float64; see :class:`suites.locomotion.physics.Physics`
    """

    num_actions = None
    observation_table = None

    def __init__(self, settings: LocomotionSettings) -> None:
        described = settings.described
        self.settings = settings
        self.environment = described
        self.body = BODIES[described.body]
        model = self.body.load()
        tracked = () if self.body.tracked is None else ((self.body.tracked[0], 0),)
        self.physics = Physics(model, described.frame_skip, (*tracked, *self.body.kept))
        self.horizon = settings.horizon or described.horizon
        self.action_bound = settings.policy_range or described.policy_range
        self.action_dim = model.nu
        self.control_step = model.opt.timestep * described.frame_skip
        """Seconds of a control step."""
        self._low, self._high = (torch.as_tensor(model.actuator_ctrlrange[:, side].copy()) for side in (0, 1))
        self._models = ScaledModels(model)
        self._skipped = 0 if described.sees_position else self.body.coordinates
        probe = torch.zeros(1, 1, self.physics.width, dtype=torch.float64)
        seen = self.observe(probe).shape[-1]
        self.observation_dim = seen + (
            self._told(self.sample_tasks(1, Generator())).shape[-1] if settings.observe_task else 0
        )

    def sample_tasks(self, count: int, rng: Generator) -> Tasks:
        """Draw tasks; see :func:`suites.locomotion.tasks.draw`."""
        return draw(self.environment.goals, count, rng, self.physics.model, self.settings.log_scale_limit)

    def meta_test_tasks(self, count: int, rng: Generator) -> Tasks:
        """The same, but that of two directions each is there as often as the other.

        Differs from the papers, which draw them.
        """
        known = balanced(self.environment.goals, count)
        return self.sample_tasks(count, rng) if known is None else known

    def reset(self, tasks: Tasks, episodes: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """Start near the model's own pose, as gymnasium does. Errors: ValueError for a task that makes no sense."""
        refuse(self.environment.goals, tasks)
        count, model, noise = len(next(iter(tasks.values()))), self.physics.model, self.body.noise
        own = self.environment.normal_start
        spread = own or (noise, noise)
        places = _drawn((count, episodes, model.nq), spread[0], own is not None, rng)
        speeds = _drawn((count, episodes, model.nv), spread[1], own is not None or self.body.normal_velocities, rng)
        positions, velocities = (part.cpu().numpy().reshape(count * episodes, -1) for part in (places, speeds))
        rows = self.physics.start(
            self._addresses(tasks, count, episodes), positions + model.qpos0, velocities, torch.get_num_threads()
        )
        state = torch.as_tensor(rows).view(count, episodes, -1)
        return state, self._observation(tasks, state)

    def step(self, tasks: Tasks, state: Tensor, action: Tensor, rng: Generator) -> Transition:
        """``frame_skip`` steps of MuJoCo under the same controls."""
        count, episodes = action.shape[:2]
        controls = self.controls(action)
        rows = self.physics.advance(
            self._addresses(tasks, count, episodes),
            _flat(state),
            _flat(controls),
            torch.get_num_threads(),
        )
        after = torch.as_tensor(rows).view(count, episodes, -1)
        lost = _lost(after, controls)
        if bool(lost.any()):
            after = torch.where(lost.unsqueeze(-1), state, after)
        reward = self.reward(tasks, state, controls, after).masked_fill(lost, 0.0)
        terminated = lost | ~self._healthy(after) | (state[..., OVER] != 0)
        after[..., OVER] = terminated.to(after.dtype)
        return Transition(after, self._observation(tasks, after), reward.float(), terminated)

    def controls(self, action: Tensor) -> Tensor:
        """Controls of actions: low + (high - low) (action / range + 1) / 2, clipped to [low, high]; float64."""
        share = (action.double() / self.action_bound + 1.0) / 2.0
        return torch.lerp(self._low, self._high, share.clamp_(0.0, 1.0))

    def observe(self, state: Tensor) -> Tensor:
        """What gymnasium's environment of the body observes, [tasks, episodes, features], float64."""
        return torch.cat(self._seen(state), dim=-1)

    def reward(self, tasks: Tasks, before: Tensor, controls: Tensor, after: Tensor) -> Tensor:
        """See :class:`suites.locomotion.environments.Reward`; of a step, [tasks, episodes] in float64."""
        rule, kind, slices = self.environment.reward, self.environment.goals.kind, self.physics.slices
        position = self._position(after)
        velocity = (position - self._position(before)) / self.control_step
        if kind == POSITION:
            paid = rule.offset - torch.linalg.vector_norm(position - _of(tasks["goal"]), ord=rule.norm, dim=-1)
        elif kind == VELOCITY:
            paid = rule.offset - (velocity[..., 0] - _of(tasks["velocity"])).abs()
        elif kind == PARAMETERS:
            paid = rule.progress * velocity[..., 0]
        elif kind == DIRECTION:
            paid = rule.progress * velocity[..., 0] * _of(tasks["direction"])
        else:
            paid = rule.progress * (velocity * _of(tasks["direction"])).sum(-1)
        paid = paid + rule.alive - rule.control_cost * controls.square().sum(-1)
        if rule.contact_cost:
            forces = _clipped(after[..., slices[FORCES]], self.body.clip_kept)
            paid = paid - (rule.contact_cost * forces.square().sum(-1)).clamp(max=rule.contact_most)
        return paid

    def references(self, tasks: Tasks, episodes: int) -> dict[str, Tensor]:
        """Nobody knows the best gait."""
        return {}

    def measures(self, tasks: Tasks, trajectories: Trajectories) -> dict[str, Tensor]:
        """``episode_length``: mean number of steps until the end, [tasks]."""
        return {"episode_length": trajectories.lengths().double().mean(1)}

    def paths(self, trajectories: Trajectories) -> Tensor | None:
        """Where the torso was, of a body that moves in a plane and whose policy sees where it is."""
        if not self.environment.sees_position or self.body.coordinates < 2:
            return None
        return torch.cat([trajectories.observations, trajectories.final_observation.unsqueeze(2)], dim=2)[..., :2]

    def models(self, tasks: Tasks) -> list[mujoco.MjModel]:
        """The compiled model of every task."""
        if self.environment.goals.kind == PARAMETERS:
            return self._models.of(tasks)
        return [self.physics.model] * len(next(iter(tasks.values())))

    def undrawable(self) -> str:
        """See :class:`harness.pictures.Pictures`."""
        return rendering.lacking()

    def pictures(self, tasks: Tasks, states: Sequence[Tensor], width: int, height: int) -> Tensor:
        """States of one episode per task, [tasks, states, height, width, 3]; see :mod:`suites.locomotion.rendering`."""
        rows = torch.cat(list(states), dim=1)
        positions, places = rows[..., self.physics.slices["qpos"]].cpu().numpy(), self._places(rows)
        scenes = [
            rendering.Scene(model, positions[task], places[task], *wanted(self.environment.goals, tasks, task))
            for task, model in enumerate(self.models(tasks))
        ]
        return torch.as_tensor(rendering.drawn(scenes, rendering.VIEWS[self.environment.body], width, height))

    def captions(self, tasks: Tasks, start: Tensor, end: Tensor) -> list[tuple[str, str]]:
        """Of every task: what it asks for, and how far an episode with this start and this end has come."""
        durations = (end - start)[:, 0, TIME].tolist()
        first, last = self._places(start)[:, 0], self._places(end)[:, 0]
        return [
            caption(self.environment.goals, tasks, task, last[task] - first[task], last[task], durations[task])
            for task in range(len(first))
        ]

    def _places(self, states: Tensor) -> Array:
        """Where the body is in the plane, [..., 2]."""
        places: Array = self._position(states).cpu().numpy()
        return np.concatenate([places, np.zeros_like(places)], axis=-1)[..., :2]

    def _addresses(self, tasks: Tasks, count: int, episodes: int) -> np.ndarray[tuple[int], np.dtype[np.uintp]]:
        if self.environment.goals.kind == PARAMETERS:
            return np.repeat(self._models.addresses(tasks), episodes)
        return np.full(count * episodes, self.physics.model._address, dtype=np.uintp)

    def _position(self, state: Tensor) -> Tensor:
        """Of the torso or the centre of mass, [..., 1 or 2]."""
        if self.body.tracked is None:
            return state[..., self.physics.slices["qpos"]][..., :1]
        name, row = self.body.tracked
        return state[..., self.physics.slices[name]][..., 3 * row : 3 * row + 2]

    def _healthy(self, state: Tensor) -> Tensor:
        limits: Healthy | None = self.environment.healthy
        if limits is None:
            return torch.ones(state.shape[:-1], dtype=torch.bool)
        position = state[..., self.physics.slices["qpos"]]
        height = position[..., self.body.coordinates]
        low, high = limits.height
        upright = (height >= low) & (height <= high) if limits.closed else (height > low) & (height < high)
        if not math.isinf(limits.angle):
            upright = upright & (position[..., self.body.coordinates + 1].abs() < limits.angle)
        if not math.isinf(limits.rest):
            others = state[
                ..., self.physics.slices["qpos"].start + self.body.coordinates + 1 : self.physics.slices["qvel"].stop
            ]
            upright = upright & (others.abs() < limits.rest).all(-1)
        return upright

    def _seen(self, state: Tensor) -> list[Tensor]:
        """The parts of an observation, [tasks, episodes, ...] each, float64."""
        body, slices = self.body, self.physics.slices
        return [
            state[..., slices["qpos"]][..., self._skipped :],
            _clipped(state[..., slices["qvel"]], body.clip_velocities),
            *(_clipped(state[..., slices[name]], body.clip_kept) for name, _ in body.kept),
        ]

    def _told(self, tasks: Tasks) -> Tensor:
        return told(self.environment.goals, tasks)

    def _observation(self, tasks: Tasks, state: Tensor) -> Tensor:
        seen = torch.cat([part.float() for part in self._seen(state)], dim=-1)
        if not self.settings.observe_task:
            return seen
        goal = self._told(tasks).unsqueeze(1)
        return torch.cat([seen, goal.expand(*seen.shape[:2], -1)], dim=-1)


def _drawn(shape: tuple[int, ...], spread: float, normal: bool, rng: Generator) -> Tensor:
    """Normal numbers with this standard deviation, or uniform ones up to it on either side; float64."""
    if normal:
        return spread * torch.randn(shape, generator=rng, dtype=torch.float64)
    return (2.0 * torch.rand(shape, generator=rng, dtype=torch.float64) - 1.0) * spread


def _lost(after: Tensor, controls: Tensor) -> Tensor:
    """Where MuJoCo gave a simulation up in the step that led to these states, or could not act, [tasks, episodes]."""
    early = after[..., TIME] < BEGIN
    # What adds up to a finite number is finite throughout, and a sum is found sooner.
    if bool((after.sum(-1) + controls.sum(-1)).isfinite().all()):
        return early
    return early | ~after.isfinite().all(-1) | ~controls.isfinite().all(-1)


def _clipped(values: Tensor, bound: float) -> Tensor:
    """Values in [-bound, bound], where there is a bound."""
    return values if math.isinf(bound) else values.clamp(-bound, bound)


def _of(goal: Tensor) -> Tensor:
    """A task's goal beside its episodes, float64."""
    return goal.double().unsqueeze(1)


def _flat(tensor: Tensor) -> Array:
    flat: Array = np.ascontiguousarray(tensor.cpu().numpy().reshape(-1, tensor.shape[-1]))
    return flat
