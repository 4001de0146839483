"""Shared fixtures: suites and learners from the registries, and the data of one meta-iteration."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from algorithms import ALGORITHMS
from algorithms.meta_learner import MetaLearner
from algorithms.samples import per_task
from harness.api import Declaration, MetaBatch, Params, State, Suite
from harness.rollout import rollout
from suites import SUITES

RATES = {"actor_inner_lr": 0.3, "critic_inner_lr": 0.2, "actor_outer_lr": 0.01, "critic_outer_lr": 0.02}
SMALL_NETWORKS = {"actor_hidden_sizes": [5, 4], "critic_hidden_sizes": [4]}


@pytest.fixture(autouse=True)
def _no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def _from(declaration: Declaration, settings: dict[str, Any], *arguments: Any) -> Any:
    return declaration.load()(declaration.settings.model_validate(settings), *arguments)


@pytest.fixture(scope="session")
def make_suite() -> Callable[..., Suite]:
    """``make_suite(**settings)``: the navigation suite."""
    return lambda **settings: _from(SUITES["navigation"], settings)


@pytest.fixture(scope="session")
def make_learner() -> Callable[..., MetaLearner]:
    """``make_learner(name, suite, **settings)``: a method with small networks."""
    return lambda name, suite, **settings: _from(ALGORITHMS[name], RATES | SMALL_NETWORKS | settings, suite)


def double(values: Any) -> Any:
    """A dictionary or a named tuple of tensors in float64; None stays None."""
    if isinstance(values, dict):
        return {name: tensor.double() for name, tensor in values.items()}
    return type(values)(*(None if tensor is None else tensor.double() for tensor in values))


@pytest.fixture(scope="session")
def collect() -> Callable[..., tuple[State, MetaBatch]]:
    """``collect(learner, suite, tasks=3, episodes=2, seed=0)``: initial state and first meta-batch, in float64."""

    def of(
        learner: MetaLearner, suite: Suite, tasks: int = 3, episodes: int = 2, seed: int = 0
    ) -> tuple[State, MetaBatch]:
        rng = torch.Generator().manual_seed(seed)
        initial = learner.init(rng)
        goals = suite.sample_tasks(tasks, rng)

        def sample(params: Params) -> Any:
            noise = learner.policy.draw_noise(rng, tasks, episodes, suite.horizon)
            single = {name: tensor.float() for name, tensor in params.items()}
            trajectories = rollout(suite, learner.policy, single, goals, episodes, rng, noise)
            samples = double(learner.prepare(single, trajectories, {}, shared_slots=False)[0])
            if samples.old_log_prob is None:
                return samples
            # In float64 as well: a ratio that should be 1 is then 1 to its last digits.
            dims = {name: tensor.dim() for name, tensor in initial.params.items()}
            return samples._replace(old_log_prob=learner.log_prob(per_task(params, tasks, dims), samples))

        params: dict[str, Tensor] = double(initial.params)
        counts = {name: tensor for name, tensor in initial.optimiser.items() if name == "count"}
        state = State(params, double(initial.optimiser) | counts)
        adapted = {name: tensor.expand(tasks, *tensor.shape) for name, tensor in params.items()}
        pre_update = []
        for _ in range(learner.adaptation_rounds):
            pre_update.append(sample(params))
            params = adapted = learner.adapt(params, pre_update[-1])
        return state, MetaBatch(tuple(pre_update), adapted, sample(params))

    return of


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How often each statistical method erred, where test_reports_coverage.py ran."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    found = [value for report in reports for name, value in report.user_properties if name == "error_rate"]
    if not found:
        return
    sizes = sorted({n for _, n, _, _ in found})
    rates = {(label, n): f"{rate:.3f}" for label, n, rate, _ in found}
    terminalreporter.section("simulated coverage and error rates, by number of training seeds")
    terminalreporter.write_line(f"{'method':<52}" + "".join(f"{f'n={n}':>8}" for n in sizes) + f"{'nominal':>9}")
    for label, nominal in {label: nominal for label, _, _, nominal in found}.items():
        cells = "".join(f"{rates.get((label, n), '–'):>8}" for n in sizes)
        terminalreporter.write_line(f"{label:<52}{cells}{nominal:>9.2f}")
