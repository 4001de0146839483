"""What a suite has beside :class:`harness.api.Suite` if it declares that it provides :data:`PICTURES`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from harness.api import Tasks

if TYPE_CHECKING:
    from torch import Tensor

PICTURES = "pictures of its tasks"


class Pictures(Protocol):
    """Its states can be drawn. ``control_step``: seconds that a step stands for."""

    control_step: float

    def undrawable(self) -> str:
        """Why this machine cannot draw, in a line that says what to install; empty where it can."""

    def pictures(self, tasks: Tasks, states: Sequence[Any], width: int, height: int) -> Tensor:
        """States of one episode per task as they look, [tasks, states, height, width, 3] in uint8.

        ``states``: as ``step`` gives them, leading axes [tasks, 1]; the first is that of the start.
        """

    def captions(self, tasks: Tasks, start: Any, end: Any) -> list[tuple[str, str]]:
        """Of every task: what it asks for, and how far an episode with this start and this end has come."""
