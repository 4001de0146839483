"""The functional optimisers do what PyTorch's do."""

import pytest
import torch

from algorithms.optimisers import Adam, gradient_step
from algorithms.settings import AdamSettings

SETTINGS = {"actor_lr": 0.03, "critic_lr": 0.2, "betas": [0.8, 0.95], "epsilon": 1e-6}


def parameters(*leading):
    rng = torch.Generator().manual_seed(0)
    shapes = {"actor/0/weight": (3, 2), "actor/log_std": (2,), "critic/0/bias": (4,)}
    return {name: torch.randn(*leading, *shape, generator=rng).double() for name, shape in shapes.items()}


def gradients_of(params, update):
    """Gradients that change from update to update; the last entry of the critic's is zero throughout."""
    drawn = {name: (update + 1.0) * tensor.sin() + 0.1 * update for name, tensor in params.items()}
    drawn["critic/0/bias"][..., -1] = 0.0
    return drawn


def torch_trajectory(params, updates, period=None):
    """Parameters after torch.optim.Adam with two groups, annealed by CosineAnnealingLR if there is a period."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    groups = [
        {"params": [leaf for name, leaf in leaves.items() if name.startswith(prefix)], "lr": SETTINGS[f"{prefix}_lr"]}
        for prefix in ("actor", "critic")
    ]
    optimiser = torch.optim.Adam(groups, betas=tuple(SETTINGS["betas"]), eps=SETTINGS["epsilon"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=period) if period else None
    for update in range(updates):
        current = {name: leaf.detach() for name, leaf in leaves.items()}
        for name, gradient in gradients_of(current, update).items():
            leaves[name].grad = gradient
        optimiser.step()
        if scheduler:
            scheduler.step()
    return {name: leaf.detach() for name, leaf in leaves.items()}


def our_trajectory(params, updates, period=None):
    schedule = {"schedule": "cosine", "schedule_period": period} if period else {}
    adam = Adam(AdamSettings.model_validate(SETTINGS | schedule))
    memory = adam.init(params)
    for update in range(updates):
        params, memory = adam.step(params, gradients_of(params, update), memory)
    return params


@pytest.mark.parametrize("period", [None, 11, 4])
def test_ten_updates_equal_torchs_adam_with_a_rate_per_group_and_cosine_annealing(period):
    start = parameters()
    ours, theirs = our_trajectory(start, 10, period), torch_trajectory(start, 10, period)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-11, atol=1e-12)
        assert name == "critic/0/bias" or not torch.isclose(tensor, start[name]).any()
    assert float(ours["critic/0/bias"][-1]) == float(start["critic/0/bias"][-1])


def test_parameters_with_a_tasks_axis_have_moments_of_their_own():
    start = parameters(3)
    together = our_trajectory(start, 6, 4)
    for task in range(3):
        alone = torch_trajectory({name: tensor[task] for name, tensor in start.items()}, 6, 4)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name][task], tensor, rtol=1e-11, atol=1e-12)


def test_cosine_annealing_by_hand_over_a_period_of_four():
    adam = Adam(AdamSettings(actor_lr=1.0, critic_lr=1.0, schedule="cosine", schedule_period=4))
    root = 0.5**0.5
    expected = [1.0, (1 + root) / 2, 0.5, (1 - root) / 2, 0.0]
    assert [adam.annealing(update) for update in range(5)] == pytest.approx(expected, abs=1e-15)
    assert Adam(AdamSettings(actor_lr=1.0, critic_lr=1.0)).annealing(7) == 1.0


def test_the_first_adam_step_moves_by_the_rate_against_the_sign_of_the_gradient():
    adam = Adam(AdamSettings(actor_lr=0.5, critic_lr=0.25))
    params = {"actor/w": torch.tensor([1.0, 1.0]), "critic/w": torch.tensor([1.0, 1.0])}
    gradients = {"actor/w": torch.tensor([1e-3, -100.0]), "critic/w": torch.tensor([2.0, 0.0])}
    moved, memory = adam.step(params, gradients, adam.init(params))
    torch.testing.assert_close(moved["actor/w"], torch.tensor([0.5, 1.5]), rtol=0, atol=1e-5)
    torch.testing.assert_close(moved["critic/w"], torch.tensor([0.75, 1.0]), rtol=0, atol=1e-6)
    assert int(memory["count"]) == 1


def test_a_step_changes_none_of_its_arguments():
    adam = Adam(AdamSettings(actor_lr=0.5, critic_lr=0.25))
    params, gradients = parameters(), gradients_of(parameters(), 0)
    memory = adam.init(params)
    arguments = [*params.values(), *gradients.values(), *memory.values()]
    kept = [tensor.clone() for tensor in arguments]
    adam.step(params, gradients, memory)
    assert all(torch.equal(now, before) for now, before in zip(arguments, kept, strict=True))


def test_a_gradient_step_by_hand_uses_the_rate_of_actor_or_critic():
    params = {"actor/w": torch.tensor([1.0, 2.0]), "critic/w": torch.tensor([3.0])}
    gradients = {"actor/w": torch.tensor([10.0, -20.0]), "critic/w": torch.tensor([5.0])}
    moved = gradient_step(params, gradients, actor_lr=0.1, critic_lr=0.2)
    assert {name: tensor.tolist() for name, tensor in moved.items()} == {"actor/w": [0.0, 4.0], "critic/w": [2.0]}
    assert {name: tensor.tolist() for name, tensor in params.items()} == {"actor/w": [1.0, 2.0], "critic/w": [3.0]}
