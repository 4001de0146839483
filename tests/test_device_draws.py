"""Draws for another device are those for the CPU, number for number, whatever function makes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from harness.device import DrawsOnTheCpu
from tests.pretend_device import ELSEWHERE, elsewhere

DRAWS: dict[str, Callable[[Generator], Tensor]] = {
    "rand": lambda rng: torch.rand(3, 7, generator=rng),
    "rand in float64": lambda rng: torch.rand((2,), generator=rng, dtype=torch.float64),
    "randn": lambda rng: torch.randn(40, generator=rng),
    "randint": lambda rng: torch.randint(2**62, (5, 1), generator=rng),
    "randperm": lambda rng: torch.randperm(9, generator=rng),
    "normal of sizes": lambda rng: torch.normal(1.0, 2.0, (20,), generator=rng),
    "normal of tensors": lambda rng: torch.normal(torch.arange(20.0), torch.ones(20), generator=rng),
    "bernoulli": lambda rng: torch.bernoulli(torch.full((9,), 0.3), generator=rng),
    "multinomial": lambda rng: torch.multinomial(torch.tensor([[0.1, 0.9], [0.5, 0.5]]), 8, True, generator=rng),
    "poisson, its generator by position": lambda rng: torch.poisson(torch.full((9,), 3.0), rng),
    "exponential_": lambda rng: torch.empty(4, 5).exponential_(generator=rng),
    "normal_": lambda rng: torch.empty(40).normal_(1.0, 2.0, generator=rng),
    "uniform_": lambda rng: torch.empty(40).uniform_(-1.0, 1.0, generator=rng),
    "random_": lambda rng: torch.zeros(7, dtype=torch.int64).random_(100, generator=rng),
    "bernoulli_ of a tensor": lambda rng: torch.empty(7).bernoulli_(torch.linspace(0.0, 1.0, 7), generator=rng),
    "geometric_": lambda rng: torch.empty(7).geometric_(0.3, generator=rng),
    "a column": lambda rng: _column(torch.zeros(40, 3), rng),
    "a transpose": lambda rng: torch.empty(5, 8).T.normal_(generator=rng),
    "an initialiser": lambda rng: torch.nn.init.xavier_uniform_(torch.empty(6, 4), generator=rng),
    "out": lambda rng: torch.randn(30, generator=rng, out=torch.empty(30, dtype=torch.float64)),
}


def _column(matrix: Tensor, rng: Generator) -> Tensor:
    matrix[:, 1].normal_(generator=rng)
    return matrix


def _generator() -> Generator:
    return Generator().manual_seed(4)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_draw_is_the_same_number_for_number_and_so_is_what_follows_it(draw: Callable[[Generator], Tensor]) -> None:
    plain, forced, away = _generator(), _generator(), _generator()
    expected = draw(plain)
    with DrawsOnTheCpu(torch.device("cpu")):
        found = draw(forced)
    with elsewhere():
        there = draw(away)
        assert there.device == ELSEWHERE
        back = there.cpu()
    for one in (found, back):
        assert torch.equal(one, expected)
        assert (one.dtype, one.stride()) == (expected.dtype, expected.stride())
    assert torch.equal(plain.get_state(), forced.get_state())
    assert torch.equal(plain.get_state(), away.get_state())


def test_a_tensor_that_is_given_for_a_draw_takes_its_size() -> None:
    expected, out = torch.rand(6, generator=_generator()), torch.empty(0)
    with DrawsOnTheCpu(torch.device("cpu")):
        assert torch.rand(6, generator=_generator(), out=out) is out
    assert torch.equal(out, expected)


def test_a_drawn_leaf_stays_a_leaf_and_an_explicit_device_is_respected() -> None:
    with elsewhere():
        leaf = torch.rand(2, generator=_generator(), requires_grad=True)
        assert leaf.device == ELSEWHERE
        assert leaf.is_leaf
        assert leaf.requires_grad
        assert torch.rand(2, generator=_generator(), device="cpu").device.type == "cpu"
