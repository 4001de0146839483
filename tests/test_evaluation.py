"""The meta-test: what is shared, what is restored, and that it equals a plain loop over tasks."""

import pytest
import torch

from algorithms import RULES
from harness.evaluation import Measurement, evaluate
from harness.rollout import rollout
from harness.spec import Evaluation
from harness.streams import Streams, stream
from tests.reference.plain_actor_critic import gae, loss, network

ULM = {
    "rule": "adam",
    "updates": 3,
    "settings": {"actor_lr": 0.05, "critic_lr": 0.02, "schedule": "cosine", "schedule_period": 4},
}
INNER = {"rule": "inner", "updates": 3, "settings": {}}
HORIZON, TASKS, EPISODES, SEED = 20, 2, 4, 11
TOLERANCE = 0.15


def measure(suite, learner, params, protocols, shared_noise=False) -> dict[str, Measurement]:
    evaluation = Evaluation.model_validate(
        {"seed": SEED, "meta_test_tasks": TASKS, "episodes_per_task": EPISODES, "shared_noise": shared_noise}
        | {"protocols": protocols}
    )
    return {found.protocol: found for found in evaluate(suite, learner, {"last": params}, evaluation, RULES)}


def same(one, other):
    return torch.equal(one.returns, other.returns) and torch.equal(one.lengths, other.lengths)


@pytest.fixture
def suite(make_suite):
    return make_suite(horizon=HORIZON)


@pytest.fixture
def setting(suite, make_learner):
    """A learner and its initial parameters."""

    def of(**settings):
        learner = make_learner("maml", suite, **settings)
        return learner, learner.init(stream(0, "init")).params

    return of


def test_returns_are_the_sums_of_the_rewards_after_no_one_two_and_three_updates(suite, setting):
    learner, params = setting()
    found = measure(suite, learner, params, {"inner": INNER, "none": {**INNER, "updates": 0}})
    assert found["inner"].returns.shape == found["inner"].lengths.shape == (4, TASKS, EPISODES)
    assert found["none"].returns.shape == (1, TASKS, EPISODES)
    # Every step costs at most the way to a goal that is sqrt(0.5) away, plus the 0.1 sqrt(2) walked per step.
    assert (found["inner"].returns < 0).all()
    assert (found["inner"].returns > -HORIZON * (0.5**0.5 + HORIZON * 0.1 * 2**0.5)).all()
    assert ((found["inner"].lengths >= 1) & (found["inner"].lengths <= HORIZON)).all()


def test_without_an_inner_rate_every_measurement_is_the_initial_policy_on_the_next_noise(suite, setting):
    learner, params = setting(actor_inner_lr=0.0, critic_inner_lr=0.0)
    found = measure(suite, learner, params, {"inner": INNER})["inner"]
    tasks = suite.meta_test_tasks(TASKS, stream(SEED, "meta_test_tasks"))
    noise_rng = stream(SEED, "meta_test_policy")
    # One policy per task, as the meta-test has it: a shared one would multiply in another order.
    repeated = {name: tensor.expand(TASKS, *tensor.shape) for name, tensor in params.items()}
    for update in range(4):
        noise = learner.policy.draw_noise(noise_rng, TASKS, EPISODES, HORIZON)
        expected = rollout(suite, learner.policy, repeated, tasks, EPISODES, torch.Generator(), noise)
        assert torch.equal(found.returns[update], expected.episode_returns())
        assert torch.equal(found.lengths[update], expected.lengths())
    assert not torch.equal(found.returns[0], found.returns[1])


def test_shared_noise_makes_equal_tasks_equal_and_own_noise_makes_them_differ(suite, setting):
    learner, params = setting()
    goal = torch.tensor([[0.3, -0.2]]).expand(TASKS, 2)
    suite.meta_test_tasks = lambda count, rng: {"goal": goal}
    shared = measure(suite, learner, params, {"inner": INNER}, shared_noise=True)["inner"].returns
    own = measure(suite, learner, params, {"inner": INNER}, shared_noise=False)["inner"].returns
    assert torch.equal(shared[:, 0], shared[:, 1])
    assert not torch.isclose(own[:, 0], own[:, 1]).any()


def plain_ulm(suite, learner, params, shared_noise):
    """The same protocol, task by task in ordinary operations: returns [updates + 1, tasks, episodes]."""
    goals = suite.meta_test_tasks(TASKS, stream(SEED, "meta_test_tasks"))["goal"]
    noise_rng = stream(SEED, "meta_test_policy")
    noise = [torch.randn(HORIZON, 1 if shared_noise else TASKS, EPISODES, 2, generator=noise_rng) for _ in range(4)]
    returns = torch.zeros(4, TASKS, EPISODES)
    for task in range(TASKS):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        groups = [
            {"params": [leaves[name] for name in leaves if name.startswith(f"{part}/")], "lr": rate}
            for part, rate in (("actor", 0.05), ("critic", 0.02))
        ]
        optimiser = torch.optim.Adam(groups)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=4)
        for update in range(4):
            own = noise[update].expand(-1, TASKS, -1, -1)[:, task]
            rows = [plain_episode(leaves, goals[task], own[:, episode]) for episode in range(EPISODES)]
            returns[update, task] = torch.tensor([sum(row[2]) for row in rows])
            optimiser.zero_grad()
            plain_loss(leaves, rows).backward()
            optimiser.step()
            scheduler.step()
    return returns


@torch.no_grad()
def plain_episode(leaves, goal, noise):
    """(observations with the last one, actions, rewards) until the goal or the horizon."""
    position, seen, actions, rewards = torch.zeros(2), [], [], []
    for step_noise in noise:
        seen.append(position)
        mean = torch.tanh(network(leaves, "actor", position, "relu"))
        actions.append(mean + leaves["actor/log_std"].exp() * step_noise)
        position = position + (0.1 * actions[-1]).clamp(-0.1, 0.1)
        rewards.append(-float((position - goal).norm()))
        if ((position - goal).abs() < TOLERANCE).all():
            break
    return [*seen, position], actions, rewards


def plain_loss(leaves, rows):
    """The inner loss over all valid steps of one task, a time-out bootstrapped, advantages standardised."""
    observations, actions, advantages, returns = [], [], [], []
    for seen, acted, rewards in rows:
        with torch.no_grad():
            values = network(leaves, "critic", torch.stack(seen), "relu").squeeze(-1).tolist()
        last_value = values[-1] if len(rewards) == HORIZON else 0.0
        of_episode = gae(rewards, values[:-1], last_value, 0.99, 0.97)
        observations, actions = observations + seen[:-1], actions + acted
        advantages, returns = advantages + of_episode[0], returns + of_episode[1]
    standardised = torch.tensor(advantages)
    standardised = (standardised - standardised.mean()) / standardised.std(correction=0)
    return loss(leaves, torch.stack(observations), torch.stack(actions), standardised, torch.tensor(returns), "relu")


@pytest.mark.parametrize("shared_noise", [True, False])
def test_the_ulm_protocol_equals_a_plain_loop_over_tasks_with_torchs_adam(make_suite, make_learner, shared_noise):
    suite = make_suite(horizon=HORIZON, goal_tolerance=TOLERANCE)
    learner = make_learner("maml", suite)
    params = learner.init(stream(0, "init")).params
    not_annealed = {**ULM, "settings": {"actor_lr": 0.05, "critic_lr": 0.02}}
    found = measure(suite, learner, params, {"ulm": ULM, "other": not_annealed}, shared_noise)
    assert shared_noise or (found["ulm"].lengths < HORIZON).any()
    plain = plain_ulm(suite, learner, params, shared_noise)
    torch.testing.assert_close(found["ulm"].returns, plain, rtol=1e-4, atol=1e-4)
    # The tolerance tells an annealed rate from a constant one.
    assert not torch.isclose(found["other"].returns[2:], plain[2:], rtol=1e-3, atol=1e-3).all(-1).any()


def test_the_meta_test_does_not_depend_on_the_training_seed_nor_on_global_generators(suite, setting):
    learner, params = setting()
    before = measure(suite, learner, params, {"inner": INNER, "ulm": ULM})
    streams = Streams(123)
    suite.sample_tasks(5, streams["tasks"])
    learner.policy.draw_noise(streams["policy"], 2, 2, 2)
    torch.manual_seed(99)
    torch.randn(7)
    after = measure(suite, learner, params, {"inner": INNER, "ulm": ULM})
    assert same(before["inner"], after["inner"])
    assert same(before["ulm"], after["ulm"])


def test_protocols_start_from_the_same_parameters_and_leave_no_trace(suite, setting):
    learner, params = setting()
    kept = {name: tensor.clone() for name, tensor in params.items()}
    together = measure(suite, learner, params, {"inner": INNER, "ulm": ULM, "again": INNER})
    assert all(torch.equal(params[name], kept[name]) for name in params)
    assert same(together["inner"], together["again"])
    assert torch.equal(together["inner"].returns[0], together["ulm"].returns[0])
    assert not torch.equal(together["inner"].returns[1], together["ulm"].returns[1])
    for name, protocol in {"inner": INNER, "ulm": ULM}.items():
        assert same(measure(suite, learner, params, {name: protocol})[name], together[name])


def test_a_protocol_with_fewer_updates_is_the_beginning_of_one_with_more(suite, setting):
    learner, params = setting()
    found = measure(suite, learner, params, {"short": {**ULM, "updates": 1}, "long": ULM})
    assert torch.equal(found["short"].returns, found["long"].returns[:2])


def test_stale_slots_of_the_meta_test_belong_to_their_task(make_suite, make_learner):
    """Changing one task leaves the others' measurements as they are."""
    suite = make_suite(horizon=HORIZON, goal_tolerance=0.2)
    learner = make_learner("maml", suite, unused_slots="stale")
    params = learner.init(stream(0, "init")).params
    goals = torch.tensor([[0.1, 0.2], [-0.2, 0.1]])
    suite.meta_test_tasks = lambda count, rng: {"goal": goals}
    before = measure(suite, learner, params, {"ulm": ULM})["ulm"]
    assert (before.lengths < HORIZON).any()
    goals = torch.tensor([[-0.3, 0.4], [-0.2, 0.1]])
    after = measure(suite, learner, params, {"ulm": ULM})["ulm"]
    assert torch.equal(before.returns[:, 1], after.returns[:, 1])
    assert not torch.equal(before.returns[:, 0], after.returns[:, 0])
