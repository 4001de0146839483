"""How a plan is executed: on what, and how much of it at once. Nothing here decides a number."""

from __future__ import annotations

from typing import NamedTuple


class Execution(NamedTuple):
    """Where runs are executed.

    workers: runs side by side; None, on a cluster only, for all that it has room for.
    address: of a Ray cluster, such as ``auto`` or ``10.0.0.1:6379``; None for this machine.
    checkpoints: URL of the store through which runs hand their checkpoints to the machine that goes on with them; None
    where the results folder is enough.
    """

    workers: int | None = None
    address: str | None = None
    checkpoints: str | None = None

    def side_by_side(self, runs: int) -> int | None:
        """Runs at once out of so many; None where the cluster decides."""
        return None if self.workers is None else max(1, min(self.workers, runs))

    def described(self, workers: int | None) -> str:
        """``2 workers``, or the cluster that decides how many."""
        return f"{workers} worker{'s' * (workers > 1)}" if workers else f"the cluster at {self.address}"

    @property
    def inline(self) -> bool:
        """Whether the runs are executed in this very process."""
        return self.address is None and self.workers == 1
