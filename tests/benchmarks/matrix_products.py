"""The time of the matrix products alone: what a meta-iteration would take if everything else were free."""

from __future__ import annotations

import itertools
import time

import torch

Product = tuple[int, int, int, int]
"""(batch, rows, inner, columns)"""


def passes(sizes: tuple[int, ...], tasks: int, samples: int) -> dict[str, list[Product]]:
    """The products of each pass through a network, per task and with samples along the columns."""
    layers = list(itertools.pairwise(sizes))
    forward = [(tasks, n_out, n_in, samples) for n_in, n_out in layers]
    to_weights = [(tasks, n_in, samples, n_out) for n_in, n_out in layers]
    to_hidden = [(tasks, n_in, n_out, samples) for n_in, n_out in layers[1:]]
    return {
        "forward": forward,
        "backward": to_weights + to_hidden,
        "second": forward + forward[1:] + to_weights[1:] + to_hidden,
    }


def rollout_products(sizes: tuple[int, ...], tasks: int, episodes: int, horizon: int, shared: bool) -> list[Product]:
    """The products of a rollout: one small batch per time step."""
    rows = (1, tasks * episodes) if shared else (tasks, episodes)
    return [(rows[0], rows[1], n_in, n_out) for n_in, n_out in itertools.pairwise(sizes)] * horizon


def of_meta_iteration(
    method: str, actor: tuple[int, ...], critic: tuple[int, ...], tasks: int, episodes: int, horizon: int
) -> list[Product]:
    """Every matrix product of one meta-iteration of ``maml``, ``fomaml`` or ``pretrained``."""
    steps = 0 if method == "pretrained" else 1
    both = [passes(sizes, tasks, episodes * horizon) for sizes in (actor, critic)]
    gradient = [product for net in both for name in ("forward", "backward") for product in net[name]]
    products = rollout_products(actor, tasks, episodes, horizon, shared=True) if steps else []
    products += rollout_products(actor, tasks, episodes, horizon, shared=not steps)
    products += both[1]["forward"] * (1 + steps)  # values
    products += gradient * (1 + steps)  # adaptation, outer gradient
    if method == "maml":
        again = [product for net in both for name in ("second", "backward") for product in net[name]]
        products += gradient + again  # the adaptation once more, and the derivative through it
    return products


def floating_point_operations(products: list[Product]) -> int:
    """Two per multiply-add."""
    return sum(2 * batch * rows * inner * columns for batch, rows, inner, columns in products)


def seconds(products: list[Product], repeats: int = 5) -> float:
    """Median time of all products, each kind timed on its own, operands as large as in use, results into ready memory.

    Large products are timed task by task on buffers that fit the cache: the best that the machine does on them.
    """
    total = 0.0
    for batch, rows, inner, columns in sorted(set(products)):
        block = batch if batch * (rows * inner + inner * columns + rows * columns) < 2**19 else min(batch, 2)
        left, right = torch.randn(block, rows, inner), torch.randn(block, inner, columns)
        out = torch.empty(block, rows, columns)
        calls = -(-batch // block)
        times = []
        torch.bmm(left, right, out=out)
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in range(calls):
                torch.bmm(left, right, out=out)
            times.append(time.perf_counter() - start)
        total += sorted(times)[repeats // 2] * products.count((batch, rows, inner, columns))
    return total
