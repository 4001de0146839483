"""What every suite and every algorithm of the registries must do, as harness/api.py says."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from algorithms import ALGORITHMS, RULES
from harness.api import MetaBatch, Settings, State, Trajectories
from harness.rollout import rollout
from suites import SUITES

DECLARATIONS = {f"suites/{name}": entry for name, entry in SUITES.items()}
DECLARATIONS |= {f"algorithms/{name}": entry for name, entry in ALGORITHMS.items()}
SCHEMAS = {key: entry.settings for key, entry in DECLARATIONS.items()}
SCHEMAS |= {f"rules/{name}": schema for name, schema in RULES.items()}
TASKS, EPISODES = 3, 4
SMALL = {
    "suites/bandits": {"arms": 3, "constant_input": 1.0},
    "suites/point_corners": {"horizon": 10, "reward": "dense"},
    "suites/locomotion": {"environment": "hopper_rand_params", "horizon": 10},
    "algorithms/gittins": {"candidates": [0.5, 0.9], "table_pulls": 20, "table_grid": 51},
    # So few tasks say little about most directions: undamped, a credit to the pre-update policy leads out of bounds.
    "algorithms/emaml_trpo": {"cg_damping": 0.1},
    "algorithms/emaml_released_trpo": {"cg_damping": 0.1},
    "rules/inner_scaled": {"factors": [1.0, 0.5]},
}
"""Settings with which a contract is quick to check, or has anything to say."""
PAIRS = [
    (suite, algorithm)
    for suite in sorted(SUITES)
    for algorithm in sorted(ALGORITHMS)
    if ALGORITHMS[algorithm].requires <= SUITES[suite].provides
]

every_suite = pytest.mark.parametrize("suite", sorted(SUITES), indirect=True)
every_pair = pytest.mark.parametrize(("suite", "algorithm"), PAIRS, indirect=True)


def minimal(schema: type[Settings]) -> dict[str, Any]:
    """Values for the required settings, and no others: the first of a few candidates that is not refused."""
    chosen: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        if not field.is_required():
            continue
        options = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        for candidate in (0.1, 1, True, "x", [1], *options):
            try:
                schema.model_validate({**chosen, name: candidate})
            except ValidationError as error:
                if any(fault["loc"][:1] == (name,) for fault in error.errors()):
                    continue
            chosen[name] = candidate
            break
    return chosen


def build(key: str, *arguments: Any, **chosen: Any) -> Any:
    declaration = DECLARATIONS[key]
    settings = minimal(declaration.settings) | SMALL.get(key, {}) | chosen
    return declaration.load()(declaration.settings.model_validate(settings), *arguments)


@pytest.fixture
def suite(request):
    return build(f"suites/{request.param}")


@pytest.fixture
def algorithm(request, suite, tmp_path, monkeypatch):
    monkeypatch.setenv("METAREPRO_CACHE", str(tmp_path))
    return build(f"algorithms/{request.param}", suite)


def seen_dim(suite) -> int:
    """Length of the last axis of an observation."""
    return suite.observation_dim if suite.observation_table is None else 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a nest of dictionaries, tuples and states."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, State):
        yield from tensors([value.params, value.optimiser, value.slots])
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from tensors(one)


def purely(function: Any, *arguments: Any, **named: Any) -> Any:
    """Call a function twice: it must give the same tensors both times and change no argument but the generators."""
    given = [arguments, *named.values()]
    before = [tensor.detach().clone() for tensor in tensors(given)]
    generators = [one for one in (*arguments, *named.values()) if isinstance(one, torch.Generator)]
    states = [one.get_state() for one in generators]
    first = copy.copy(function(*arguments, **named))
    kept = [tensor.detach().clone() for tensor in tensors(first)]
    for one, state in zip(generators, states, strict=True):
        one.set_state(state)
    again = list(tensors(function(*arguments, **named)))
    assert all(torch.equal(now, then) for now, then in zip(tensors(given), before, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(again, kept, strict=True))
    return first


def shapes(values: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in values.items()}


def sample(suite, algorithm, params, tasks, rng) -> Trajectories:
    noise = purely(algorithm.policy.draw_noise, rng, TASKS, EPISODES, suite.horizon)
    return purely(rollout, suite, algorithm.policy, params, tasks, EPISODES, rng, noise)


@pytest.mark.parametrize("key", sorted(SCHEMAS))
def test_settings_survive_json(key):
    schema = SCHEMAS[key]
    settings = schema.model_validate(minimal(schema))
    text = json.dumps(settings.model_dump(mode="json"), allow_nan=False)
    assert schema.model_validate(json.loads(text)) == settings


@pytest.mark.parametrize("key", sorted(SCHEMAS))
def test_settings_are_frozen_and_refuse_unknown_keys(key):
    schema = SCHEMAS[key]
    with pytest.raises(ValidationError, match="no_such_key"):
        schema.model_validate(minimal(schema) | {"no_such_key": 1})
    settings = schema.model_validate(minimal(schema))
    for name in schema.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, name, getattr(settings, name))


@pytest.mark.parametrize("key", sorted(DECLARATIONS))
def test_a_declaration_has_its_registry_name_a_version_and_a_factory_in_its_own_package(key):
    package, name = key.split("/")
    declaration = DECLARATIONS[key]
    assert declaration.name == name
    assert declaration.version >= 1
    assert declaration.build.startswith(f"{package}.")
    assert callable(declaration.load())


@every_suite
def test_tasks_have_a_leading_axis_and_come_from_the_generator_alone(suite):
    for draw in (suite.sample_tasks, suite.meta_test_tasks):
        tasks = purely(draw, TASKS, generator(1))
        assert {tensor.shape[0] for tensor in tasks.values()} == {TASKS}
    first, *others = (list(tensors(suite.sample_tasks(TASKS, generator(seed)))) for seed in range(10))
    assert not all(torch.equal(one, other) for drawn in others for one, other in zip(first, drawn, strict=True))


@every_suite
def test_references_are_per_task_exact_and_pure_and_have_the_optimum_if_anything(suite):
    tasks = suite.sample_tasks(TASKS, generator(1))
    known = purely(suite.references, tasks, EPISODES)
    assert not known or "optimal_return" in known
    assert {(values.shape, values.dtype) for values in known.values()} <= {((TASKS,), torch.float64)}
    assert all(values.isfinite().all() for values in known.values())


@every_suite
def test_reset_and_step_are_pure_and_have_the_axes_of_the_contract(suite):
    rng = generator()
    tasks = suite.sample_tasks(TASKS, rng)
    state, observation = purely(suite.reset, tasks, EPISODES, rng)
    action = torch.zeros(TASKS, EPISODES, suite.action_dim)
    if suite.num_actions is not None:
        assert suite.action_dim == 1
        action = action.long()
    transition = purely(suite.step, tasks, state, action, rng)
    for seen in (observation, transition.observation):
        assert seen.shape == (TASKS, EPISODES, seen_dim(suite))
        if suite.observation_table is None:
            assert seen.dtype == torch.float32
        else:
            assert seen.dtype == torch.int64
            assert suite.observation_table.shape[1] == suite.observation_dim
            assert ((seen >= 0) & (seen < suite.observation_table.shape[0])).all()
    assert (transition.reward.shape, transition.reward.dtype) == ((TASKS, EPISODES), torch.float32)
    assert (transition.terminated.shape, transition.terminated.dtype) == ((TASKS, EPISODES), torch.bool)
    assert all(tensor.shape[:2] == (TASKS, EPISODES) for tensor in tensors(transition.state))
    assert suite.horizon >= 1


@every_pair
def test_trajectories_have_the_axes_of_the_contract_for_shared_and_for_per_task_parameters(suite, algorithm):
    rng = generator()
    params = purely(algorithm.init, rng).params
    tasks = suite.sample_tasks(TASKS, rng)
    for repeated in (params, {name: tensor.expand(TASKS, *tensor.shape) for name, tensor in params.items()}):
        trajectories = sample(suite, algorithm, repeated, tasks, rng)
        batch = (TASKS, EPISODES, suite.horizon)
        assert trajectories.observations.shape == (*batch, seen_dim(suite))
        assert trajectories.actions.shape == (*batch, suite.action_dim)
        assert trajectories.actions.dtype == (torch.float32 if suite.num_actions is None else torch.int64)
        assert trajectories.rewards.shape == trajectories.valid.shape == batch
        assert trajectories.final_observation.shape == (TASKS, EPISODES, seen_dim(suite))
        assert trajectories.valid.dtype == torch.bool
        assert trajectories.valid[..., 0].all()
        assert not (trajectories.valid[..., 1:] & ~trajectories.valid[..., :-1]).any()
        assert not trajectories.rewards[~trajectories.valid].any()
        assert trajectories.lengths().shape == trajectories.episode_returns().shape == (TASKS, EPISODES)
        assert not any(tensor.requires_grad for tensor in trajectories)


@every_pair
def test_a_whole_meta_iteration_is_pure_finite_and_keeps_the_form_of_the_state(suite, algorithm):
    rng = generator()
    state = purely(algorithm.init, rng)
    assert all(tensor.dtype == torch.float32 for tensor in state.params.values())
    tasks = suite.sample_tasks(TASKS, rng)
    per_task = {name: ((TASKS, *tensor.shape), tensor.dtype) for name, tensor in state.params.items()}
    for iteration in range(2):
        params, pre_update = state.params, []
        adapted = {name: tensor.expand(TASKS, *tensor.shape) for name, tensor in params.items()}
        for _ in range(algorithm.adaptation_rounds):
            trajectories = sample(suite, algorithm, params, tasks, rng)
            samples, _ = purely(algorithm.prepare, params, trajectories, {}, shared_slots=False)
            params = adapted = purely(algorithm.adapt, params, samples)
            assert shapes(adapted) == per_task
            pre_update.append(samples)
        trajectories = sample(suite, algorithm, params, tasks, rng)
        samples, slots = purely(algorithm.prepare, params, trajectories, state.slots, shared_slots=True)
        given = State(state.params, state.optimiser, slots)
        new, metrics = purely(
            algorithm.meta_update, given, MetaBatch(tuple(pre_update), adapted, samples), iteration=iteration
        )
        assert not any(tensor.requires_grad for tensor in tensors([new, adapted, samples]))
        assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
        for field in ("params", "optimiser", "slots"):
            assert shapes(getattr(new, field)) == shapes(getattr(given, field))
        assert all(tensor.isfinite().all() for tensor in tensors(new))
        if not algorithm.policy.sequential:
            assert not all(torch.equal(new.params[name], state.params[name]) for name in state.params)
        state = new


@every_pair
@pytest.mark.parametrize("rule_name", sorted(RULES))
def test_every_rule_moves_the_parameters_of_every_task_that_teaches_and_changes_no_argument(
    suite, algorithm, rule_name
):
    rng = generator()
    schema = RULES[rule_name]
    rule = algorithm.rule(schema.model_validate(minimal(schema) | SMALL.get(f"rules/{rule_name}", {})))
    current = {name: tensor.expand(TASKS, *tensor.shape).clone() for name, tensor in algorithm.init(rng).params.items()}
    memory, slots, tasks = purely(rule.init, current), {}, suite.sample_tasks(TASKS, rng)
    for _ in range(2):
        trajectories = sample(suite, algorithm, current, tasks, rng)
        samples, slots = purely(algorithm.prepare, current, trajectories, slots, shared_slots=False)
        moved, new_memory = purely(rule.update, current, memory, samples)
        assert shapes(moved) == shapes(current)
        assert shapes(new_memory) == shapes(memory)
        assert not any(tensor.requires_grad for tensor in tensors([moved, new_memory]))
        for task in range(TASKS):
            kept = all(torch.equal(moved[name][task], current[name][task]) for name in current)
            if algorithm.policy.sequential:  # it learns by remembering
                assert kept
            elif samples.advantages[task].any():  # equal rewards teach nothing
                assert not kept
        current, memory = moved, new_memory
