"""The matrix products of a piece of work by themselves: how many operations, and how long they alone would take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.device import wait_for_device

aten = torch.ops.aten
FACTORS = {
    aten.mm.default: (0, 1),
    aten.bmm.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.baddbmm.default: (1, 2),
    aten.baddbmm_.default: (1, 2),
}
"""Products, and which of their arguments are the two factors."""

Layout = tuple[tuple[int, ...], tuple[int, ...]]
Product = tuple[Layout, Layout]


class Recorder(TorchDispatchMode):
    """Counts products by the shapes and strides of their factors, derivatives included."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (places := FACTORS.get(func)) is not None:
            left, right = (args[place] for place in places)
            self.products[((tuple(left.shape), left.stride()), (tuple(right.shape), right.stride()))] += 1
        return func(*args, **(kwargs or {}))


def products_of(work: Callable[[], Any]) -> Counter[Product]:
    """The products that a piece of work makes."""
    with Recorder() as recorder:
        work()
    return recorder.products


def floating_point_operations(products: Counter[Product]) -> int:
    """2 b m k n for every product [b, m, k] [b, k, n]."""
    total = 0
    for ((left, _), (right, _)), count in products.items():
        batch = left[0] if len(left) == 3 else 1
        total += 2 * batch * left[-2] * left[-1] * right[-1] * count
    return total


def seconds(products: Counter[Product], budget_s: float = 0.2) -> float:
    """Time of all products on tensors of the same layout; each is repeated for ``budget_s``, and the median counts."""
    total = 0.0
    for (left, right), count in products.items():
        first, second = _tensor(*left), _tensor(*right)
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < 3 or (time.perf_counter() - begin < budget_s and len(times) < 200):
            start = time.perf_counter()
            torch.matmul(first, second)
            wait_for_device()
            times.append(time.perf_counter() - start)
        total += sorted(times)[len(times) // 2] * count
    return total


def _tensor(shape: tuple[int, ...], strides: tuple[int, ...]) -> torch.Tensor:
    size = 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    return torch.randn(size).as_strided(shape, strides)
