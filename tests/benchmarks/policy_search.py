"""The part of ``make bench`` on the ProMP paper's family: every method at 40 tasks x 20 episodes x 100 steps."""

from __future__ import annotations

from tests.benchmarks.trust_region import Measure, Row

STUDY = "tests/benchmarks/policy_search.yaml"
METHODS = (
    "maml_vpg", "lvc_vpg", "dice_vpg", "emaml_vpg", "maml_trpo", "lvc_trpo", "dice_trpo", "emaml_trpo", "promp",
)  # fmt: skip
STEPS = (1, 3)
GROWING, GROWING_STEPS = ("lvc_trpo", "promp"), (1, 2, 3, 5)


def measure_all(child: Measure, threads: int) -> dict[tuple[str, int], Row]:
    """Every method with one and with three adaptation steps, and two of them with more."""
    wanted = {(method, steps) for method in METHODS for steps in STEPS}
    wanted |= {(method, steps) for method in GROWING for steps in GROWING_STEPS}
    return {
        (method, steps): child(
            study=STUDY, setting=f"steps_{steps}", method=method, threads=threads, iterations=3, limit=steps in STEPS
        )
        for method, steps in sorted(wanted)
    }


def phases(measured: dict[tuple[str, int], Row]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: seconds per meta-iteration, split, beside the matrix products alone."""
    header = [
        "method",
        "adaptation steps",
        "sampling s",
        "update s",
        "total s",
        "peak MiB",
        "GFLOP",
        "products alone s",
    ]
    rows = []
    for method in METHODS:
        for steps in STEPS:
            row = measured[method, steps]
            seconds = (row["sampling"], row["adaptation"] + row["outer"], row["total"])
            cells = [*(f"{value:.2f}" for value in seconds), f"{row['peak_mib']:.0f}"]
            rows.append([method, str(steps), *cells, f"{row['gflop']:.0f}", f"{row['limit']:.2f}"])
    return header, rows


def growth(measured: dict[tuple[str, int], Row]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: time and memory over the number of adaptation steps."""
    rows = []
    for method in GROWING:
        for steps in GROWING_STEPS:
            row = measured[method, steps]
            rows.append([method, str(steps), f"{row['total']:.2f}", f"{row['peak_mib']:.0f}"])
    return ["method", "adaptation steps", "s per meta-iteration", "peak MiB"], rows
