"""One seed, many independent named generators."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

TRAINING_STREAMS = ("init", "tasks", "environment", "policy")


def stream(seed: int, name: str) -> torch.Generator:
    """The generator called ``name`` of ``seed``.

    NumPy's SeedSequence mixes the seed with a hash of the name; streams of different names or different seeds are
    independent, and a new name never moves an old one. Methods that draw equally often from a stream of the same seed
    get the same numbers: initial weights and tasks are paired by seed.
    """
    digest = hashlib.sha256(name.encode()).digest()
    entropy = [seed, *np.frombuffer(digest, dtype=np.uint32)[:4].tolist()]
    # PyTorch's CPU generator takes 32 bits of a seed.
    return torch.Generator().manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


class Streams:
    """The named generators of one run, with their states as tensors for checkpoints."""

    def __init__(self, seed: int, names: tuple[str, ...] = TRAINING_STREAMS) -> None:
        self._generators = {name: stream(seed, name) for name in names}

    def __getitem__(self, name: str) -> torch.Generator:
        return self._generators[name]

    def state(self) -> dict[str, torch.Tensor]:
        """State of every generator, byte tensors."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Set every generator back to a recorded state."""
        for name, generator in self._generators.items():
            generator.set_state(state[name])
