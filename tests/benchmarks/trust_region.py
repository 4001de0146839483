"""The MAML-TRPO part of ``make bench``: bandits, tabular MDPs and 2D navigation, beside what peers took."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

NAVIGATION = "tests/benchmarks/navigation_trpo.yaml"
Measure = Callable[..., dict[str, float]]
Row = dict[str, float]


class Work(NamedTuple):
    """One configuration, and the seconds per meta-iteration that tristandeleu/pytorch-maml-rl @ 21d4ba1 took.

    The peer's figures: 2 cores, two sampling workers, torch 2.13, no other load, median; None where not measured.
    """

    name: str
    study: str
    setting: str = ""
    episodes: int = 0
    peer_s: float | None = None


WORKS = (
    Work("bandit, K=5, N=100", "bandits", "n100_k5", peer_s=0.46),
    Work("tabular MDP, N=10", "tabular_mdp", "n10"),
    Work("tabular MDP, N=20", "tabular_mdp", "n10", episodes=20, peer_s=0.66),
    Work("tabular MDP, N=100", "tabular_mdp", "n100"),
    Work("2D navigation, 20 episodes x 100 steps, 100-100", NAVIGATION, peer_s=5.92),
)


def measure_all(child: Measure, threads: list[int]) -> dict[tuple[Work, int], Row]:
    """Every configuration on every number of threads, 20 tasks each."""
    return {
        (work, count): child(
            study=work.study, setting=work.setting, episodes=work.episodes, threads=count, limit=True, iterations=20
        )
        for work in WORKS
        for count in threads
    }


def phases(measured: dict[tuple[Work, int], Row]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: milliseconds per meta-iteration, split, beside the products alone and the peer."""
    header = ["MAML-TRPO, 20 tasks", "threads", "sampling ms", "update ms", "total ms", "thousand steps/s"]
    header += ["peak MiB", "GFLOP", "products alone ms", "peer ms", "times faster"]
    rows = []
    for (work, threads), row in measured.items():
        update = row["adaptation"] + row["outer"]
        cells = [f"{1e3 * value:.1f}" for value in (row["sampling"], update, row["total"])]
        cells += [f"{1e-3 * row['steps'] / row['total']:.0f}", f"{row['peak_mib']:.0f}"]
        cells += [f"{row['gflop']:.2f}", f"{1e3 * row['limit']:.1f}"]
        faster = (
            ["–", "–"] if work.peer_s is None else [f"{1e3 * work.peer_s:.0f}", f"{work.peer_s / row['total']:.0f}"]
        )
        rows.append([work.name, str(threads), *cells, *faster])
    return header, rows


def growth(child: Measure, threads: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows: how time and memory grow with pulls, arms, episodes and tasks."""
    series: list[tuple[str, list[tuple[str, dict[str, object]]]]] = [
        ("bandit K=5, pulls N", [(str(n), {"study": "bandits", "setting": f"n{n}_k5"}) for n in (10, 100, 500)]),
        ("bandit N=100, arms K", [(str(k), {"study": "bandits", "setting": f"n100_k{k}"}) for k in (5, 10, 50)]),
        ("tabular MDP, episodes N", [(str(n), {"study": "tabular_mdp", "setting": f"n{n}"}) for n in (10, 50, 100)]),
    ]
    for name, study, setting, counts in (
        ("bandit K=5, N=100, tasks", "bandits", "n100_k5", (20, 80, 320)),
        ("tabular MDP N=10, tasks", "tabular_mdp", "n10", (20, 80, 320)),
        ("2D navigation, tasks", NAVIGATION, "", (20, 40)),
    ):
        sizes = [(str(n), {"study": study, "setting": setting, "tasks": n}) for n in counts]
        series.append((name, sizes))
    rows = []
    for name, steps in series:
        for size, options in steps:
            row = child(threads=threads, iterations=5 if "navigation" in name else 20, **options)
            rows.append([name, size, f"{1e3 * row['total']:.1f}", f"{row['peak_mib']:.0f}"])
    return ["growing", "size", "ms per meta-iteration", "peak MiB"], rows
