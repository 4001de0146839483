"""The audit: every meta-gradient estimator against the exact meta-gradient, on the learners that train.

One MDP stands in for every task of a batch, so that the tasks axis holds independent estimates: [batches, episodes,
horizon]. All estimators have the same first derivative, so the pre-update episodes, the adapted parameters and the
post-update episodes of a cell are common to all: differences between estimators are paired, batch by batch. Cells of
different inner steps and baselines draw from the same streams.

Losses are means over time steps, so everything is in units of reward per step, J̄ = J / horizon, and ascends.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor

from harness.api import Algorithm, MetaBatch, Params, Policy, State, Tasks
from harness.audit_file import Audit, Cell
from harness.audit_statistics import statistics_of
from harness.audit_truth import ExactSuite, Layout, Truth, Truths
from harness.rollout import rollout
from harness.streams import stream

STEPS_PER_CHUNK = 2**20
"""Time steps that are simulated together: memory stays flat in the number of batches. Part of how numbers are drawn."""

Row = dict[str, Any]
Estimates = dict[tuple[str, str], Tensor]
"""(quantity, estimator) -> [batches, D]"""


class AuditedPolicy(Policy, Protocol):
    """A policy whose probabilities can be looked at."""

    def distribution(self, params: Params, observations: Tensor) -> tuple[Tensor, ...]:
        """(log π [tasks, rows of the observation table, actions],); differentiable in params [tasks, ...]."""


class AuditedLearner(Algorithm, Protocol):
    """A learner that shows the meta-gradient of every task by itself."""

    policy: AuditedPolicy

    def meta_gradients(self, state: State, data: MetaBatch, through_adaptation: bool = True) -> Params:
        """Gradients of the tasks' losses, [tasks, ...]."""

    def pull_back(self, params: Params, rounds: tuple[Any, ...], vectors: Params) -> Params:
        """(I - α ∇²L(θ)) v of every task's inner loss L, [tasks, ...]; params θ, vectors v [...]."""


class Experiment:
    """The MDPs of an audit, its learners, and what is exactly known."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        file = audit.file
        self._suite: ExactSuite = audit.suite.load()(audit.suite_settings)
        self._tasks = self._suite.sample_tasks(file.mdps, stream(file.seed, "tasks"))
        build = audit.algorithm.load()
        self._learners: dict[tuple[float, str, str], AuditedLearner] = {
            key: build(settings, self._suite) for key, settings in audit.learners.items()
        }
        first = next(iter(self._learners.values()))
        initial = first.init(stream(file.seed, "init")).params
        self._layout = Layout(initial)
        exact = self._suite.exact(self._tasks, self.log_policy)
        start = self._layout.flat({name: tensor.unsqueeze(0) for name, tensor in initial.items()})
        self._truths = Truths(exact, self._suite.horizon, start, file.mdps)
        self._known: dict[tuple[str, float], Truth] = {}

    def log_policy(self, params: Tensor) -> Tensor:
        """log π(a|s) of flat parameters [mdps, D], [mdps, states, actions]; differentiable."""
        policy = next(iter(self._learners.values())).policy
        rows = torch.arange(self._suite.observation_dim).view(1, -1, 1).expand(len(params), -1, 1)
        return policy.distribution(self._layout.tree(params), rows)[0]

    def truth(self, stage: str, inner_lr: float) -> Truth:
        """The exact side of a stage, computed once."""
        if (stage, inner_lr) not in self._known:
            self._known[stage, inner_lr] = self._truths.at(self._audit.file.stages[stage], inner_lr)
        return self._known[stage, inner_lr]

    def measure(self, cell: Cell) -> list[Row]:
        """One row of statistics per quantity and estimator."""
        truth = self.truth(cell.stage, cell.inner_lr)
        rows = []
        for (quantity, estimator), estimates in self.estimates(cell).items():
            row: Row = {"stage": cell.stage, "mdp": cell.mdp, "alpha": cell.inner_lr, "episodes": cell.episodes}
            row |= {"quantity": quantity, "estimator": estimator, "baseline": cell.baseline, "batches": cell.batches}
            row |= statistics_of(estimates, truth.meta_gradient[cell.mdp])
            row["h12_share"] = float(truth.h12_share[cell.mdp])
            row["return_fraction"] = float(truth.return_fraction[cell.mdp])
            rows.append(row)
        return rows

    def estimates(self, cell: Cell) -> Estimates:
        """Independent estimates of ∇J̄(θ + α ∇J̄(θ)) by every estimator; float64.

        ``curvature``: (I + α Ĥ) v with the exact v = ∇J̄(θ'), so that only the Hessian is estimated.
        ``meta_gradient``: all from samples. θ' is then random, and Ĥ is estimated from the episodes that led to it, so
        that even an unbiased Ĥ leaves a bias of order 1 / episodes.
        """
        name = f"{cell.stage}/{cell.mdp}/{cell.episodes}"
        draws = {part: stream(self._audit.file.seed, f"{name}/{part}") for part in ("environment", "policy")}
        chunk = max(1, STEPS_PER_CHUNK // (cell.episodes * self._suite.horizon))
        parts: dict[tuple[str, str], list[Tensor]] = {}
        for start in range(0, cell.batches, chunk):
            count = min(chunk, cell.batches - start)
            for key, tensor in self._chunk(cell, count, draws).items():
                parts.setdefault(key, []).append(tensor.double())
        return {key: torch.cat(tensors) for key, tensors in parts.items()}

    def _chunk(self, cell: Cell, count: int, draws: dict[str, torch.Generator]) -> Estimates:
        truth = self.truth(cell.stage, cell.inner_lr)
        params = self._layout.tree(truth.params[cell.mdp].float())
        vector = truth.outer_gradient[cell.mdp].float()
        tasks = {name: tensor[cell.mdp].expand(count, *tensor.shape[1:]) for name, tensor in self._tasks.items()}
        data = self._data(cell, params, tasks, draws)
        found: Estimates = {}
        for name, entry in self._audit.file.estimators.items():
            learner, batch = self._learner(cell, name), data[entry.samples_of or name]
            if "curvature" in entry.quantities:
                found["curvature", name] = vector.expand(count, -1)
                if entry.through_adaptation:
                    pulled = learner.pull_back(params, batch.pre_update, self._layout.tree(vector))
                    found["curvature", name] = self._layout.flat(pulled)
            if "meta_gradient" in entry.quantities:
                memory = learner.init(stream(self._audit.file.seed, "init")).optimiser
                losses = learner.meta_gradients(State(params, memory), batch, entry.through_adaptation)
                found["meta_gradient", name] = -self._layout.flat(losses)
        return found

    def _data(
        self, cell: Cell, params: Params, tasks: Tasks, draws: dict[str, torch.Generator]
    ) -> dict[str, MetaBatch]:
        """The same episodes as every estimator's samples; those that share another's have none of their own."""
        owners = [name for name, entry in self._audit.file.estimators.items() if entry.samples_of is None]
        learners = {name: self._learner(cell, name) for name in owners}
        before = self._episodes(cell, learners[owners[0]], params, tasks, draws)
        pre_update = {name: learner.prepare(params, before, {}, False)[0] for name, learner in learners.items()}
        adapted = learners[owners[0]].adapt(params, pre_update[owners[0]])
        after = self._episodes(cell, learners[owners[0]], adapted, tasks, draws)
        return {
            name: MetaBatch((pre_update[name],), adapted, learner.prepare(adapted, after, {}, False)[0])
            for name, learner in learners.items()
        }

    def _episodes(
        self, cell: Cell, learner: AuditedLearner, params: Params, tasks: Tasks, draws: dict[str, torch.Generator]
    ) -> Any:
        count = next(iter(tasks.values())).shape[0]
        noise = learner.policy.draw_noise(draws["policy"], count, cell.episodes, self._suite.horizon)
        return rollout(self._suite, learner.policy, params, tasks, cell.episodes, draws["environment"], noise)

    def _learner(self, cell: Cell, estimator: str) -> AuditedLearner:
        return cast(AuditedLearner, self._learners[cell.inner_lr, cell.baseline, estimator])
