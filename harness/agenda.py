"""What is left to do, what it costs, and in which order it is done: the cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.plan import duration

UNKNOWN = "not known yet"


class Item(NamedTuple):
    """A study, a tuning or an audit.

    ``left``: what it has still to do -> its expected CPU seconds, None where nobody measured them.
    ``shared``: how much of what it asks for an item before it does.
    ``workers``: of how many it makes use at once; None where a cluster decides.
    ``page``: what it leaves behind beside its results, and is written again if it is missing.
    """

    name: str
    unit: str
    left: dict[str, float | None]
    start: Callable[[], int]
    workers: int | None
    page: Path | None = None
    shared: int = 0

    @property
    def cpu_s(self) -> float | None:
        """Expected CPU seconds of what is left; None if they are not known of all of it."""
        known = [seconds for seconds in self.left.values() if seconds is not None]
        return sum(known) if len(known) == len(self.left) else None

    @property
    def wall_s(self) -> float | None:
        """Expected wall-clock of what is left, on its workers."""
        if self.cpu_s is None or self.workers is None:
            return None
        return self.cpu_s / max(1, min(self.workers, len(self.left)))

    @property
    def is_done(self) -> bool:
        """Nothing to do, and nothing to show that is not there."""
        return not self.left and not self.shared and self.page is not None and self.page.exists()


def cheapest_first(items: Iterable[Item]) -> list[Item]:
    """The items in the order in which they are done; what several ask for counts with the first of them.

    What costs nobody knows how much comes last.
    """
    waiting, ordered = list(items), []
    claimed: set[str] = set()
    while waiting:
        waiting = [_without(item, claimed) for item in waiting]
        first = min(waiting, key=lambda item: (item.cpu_s is None, item.cpu_s or 0.0))
        waiting.remove(first)
        ordered.append(first)
        claimed |= first.left.keys()
    return ordered


def _without(item: Item, claimed: set[str]) -> Item:
    left = {name: seconds for name, seconds in item.left.items() if name not in claimed}
    return item._replace(left=left, shared=item.shared + len(item.left) - len(left))


def table(items: Sequence[Item]) -> str:
    """What is left of every item, with CPU time and wall-clock, and both for all of them together."""
    rows = [("", "left", "CPU time", "wall-clock")]
    rows += [(item.name, _left(item), _time(item.cpu_s), _time(item.wall_s)) for item in items]
    rows.append(("together", "", _sum([item.cpu_s for item in items]), _sum([item.wall_s for item in items])))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {left:>{widths[1]}}  {cpu_time:>{widths[2]}}  {here:>{widths[3]}}"
        for name, left, cpu_time, here in rows
    ]
    unknown = [item.name for item in items if item.cpu_s is None]
    return "\n".join([*lines, *([f"and, {UNKNOWN}, what {', '.join(unknown)} will take"] if unknown else [])])


def _sum(times: list[float | None]) -> str:
    """Of those that are known."""
    known = [seconds for seconds in times if seconds is not None]
    return _time(sum(known) if known or not times else None)


def _left(item: Item) -> str:
    count = f"{len(item.left)} {item.unit}"
    return f"{count}, {item.shared} with others" if item.shared else count if item.left else "nothing"


def _time(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else duration(seconds)
