"""Films of a finished run: its policy on the first tasks of the meta-test, before and after it has adapted to them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from harness.api import Algorithm, Params, Registries, Suite, Tasks
from harness.checkpoint import misfit_of_training, newest_checkpoint
from harness.errors import UserError
from harness.evaluation import adaptation, meta_test_tasks
from harness.pictures import Pictures
from harness.results import RunDirectory
from harness.rollout import simulate
from harness.runner import Training
from harness.spec import ModelChoice, PlannedRun
from harness.streams import Streams, stream
from harness.worker import build

TASKS = 2
MOMENTS = 50
"""A film has so many pictures after the first, or one per step of a shorter episode."""
WIDTH, HEIGHT = 192, 144


class Take(NamedTuple):
    """One episode. ``length``: steps until it ended or the horizon cut it; ``ended``: which of the two.

    Shapes:
        pictures: [moments, height, width, 3] in uint8; after its end the last
    """

    task: str
    when: str
    episode_return: float
    came: str
    length: int
    ended: bool
    pictures: Tensor


class Film(NamedTuple):
    """The takes, task by task, and the steps after which there is a picture."""

    takes: tuple[Take, ...]
    steps: tuple[int, ...]
    control_step: float


class _Acted(NamedTuple):
    """One episode of every task. ``states``: [horizon + 1] of what the suite gave; returns, lengths, ended: [tasks]."""

    when: str
    states: list[object]
    returns: list[float]
    lengths: list[int]
    ended: list[bool]


def undrawable(run: PlannedRun, registries: Registries) -> str:
    """Why this machine cannot draw the run, in one line; empty where it can."""
    return cast(Pictures, build(run.spec, registries, run.files)[0]).undrawable()


def film(run: PlannedRun, directory: RunDirectory, registries: Registries) -> Film:
    """Repeat the run's meta-test, and let its policy act once more with the parameters before it and after it.

    The episodes before and after begin alike and have the same action noise, from streams of their own. Of several
    protocols it is the first by name.

    Errors: UserError where the checkpoint is gone, or the policy is one that learns by remembering.
    """
    spec, evaluation = run.spec, run.spec.evaluation
    torch.set_num_threads(spec.budget.threads)
    suite, algorithm = build(spec, registries, run.files)
    if algorithm.policy.sequential:
        raise UserError(f"{run.title}: a policy that learns by remembering has no parameters before and after")
    name = min(evaluation.protocols)
    protocol, tasks = evaluation.protocols[name], meta_test_tasks(suite, evaluation)
    params = _models(run, algorithm, directory)[protocol.model]
    steps = adaptation(suite, algorithm, params, tasks, evaluation, name, dict(registries.rules))
    adapted = [_first(of_update) for of_update, _ in steps]
    updates = f"after {protocol.updates} update{'s' * (protocol.updates > 1)}"
    moments = {"before": adapted[0], updates: adapted[-1]} if protocol.updates else {"as trained": adapted[0]}
    acted = [_act(suite, algorithm, one, _first(tasks), run, when) for when, one in moments.items()]
    return _drawn(suite, _first(tasks), acted)


def _first(tensors: Params | Tasks) -> Params:
    """Those of the first tasks."""
    return {name: tensor[:TASKS] for name, tensor in tensors.items()}


def _models(run: PlannedRun, algorithm: Algorithm, directory: RunDirectory) -> dict[ModelChoice, Params]:
    """The models that the training ended with."""
    streams, last = Streams(run.spec.seed), run.spec.budget.meta_iterations
    training = Training(algorithm.init(streams["init"]), streams)
    misfit = partial(misfit_of_training, training.groups(), last)
    if (found := newest_checkpoint(directory.checkpoints, lambda text: None, misfit)) is not None:
        training.restore(*found)
    if training.iteration < last:
        raise UserError(f"{run.title}: {directory.checkpoints} has no whole checkpoint of the end of its training")
    return training.models()


def _act(suite: Suite, algorithm: Algorithm, params: Params, tasks: Tasks, run: PlannedRun, when: str) -> _Acted:
    evaluation = run.spec.evaluation
    count, states = len(next(iter(tasks.values()))), list[object]()
    noise_rng, environment_rng = (stream(evaluation.seed, f"film_{of}") for of in ("policy", "environment"))
    noise = algorithm.policy.draw_noise(noise_rng, 1 if evaluation.shared_noise else count, 1, suite.horizon)
    acted, _ = simulate(suite, algorithm.policy, params, tasks, 1, environment_rng, noise, watch=states.append)
    lengths = acted.lengths()[:, 0].tolist()
    # An episode may end itself in the very last step; then nobody sees a difference.
    ended = [length < suite.horizon for length in lengths]
    return _Acted(when, states, acted.episode_returns()[:, 0].tolist(), lengths, ended)


def _drawn(suite: Suite, tasks: Tasks, acted: list[_Acted]) -> Film:
    artist, longest = cast(Pictures, suite), max(length for one in acted for length in one.lengths)
    count = min(longest, MOMENTS)
    steps = [round(number * longest / count) for number in range(count + 1)]
    takes: list[list[Take]] = []
    for one in acted:
        pictures = artist.pictures(tasks, [one.states[step] for step in steps], WIDTH, HEIGHT)
        words = artist.captions(tasks, one.states[0], one.states[-1])
        rows = zip(words, one.returns, one.lengths, one.ended, pictures, strict=True)
        takes.append([Take(task, one.when, total, came, *rest) for (task, came), total, *rest in rows])
    by_task = tuple(take for of_task in zip(*takes, strict=True) for take in of_task)
    return Film(by_task, tuple(steps), artist.control_step)
