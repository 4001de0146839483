"""The locomotion suite beside what else steps the same bodies, and what a meta-iteration costs there.

    python -m tests.benchmarks.locomotion --threads 2 --parts throughput,memory,methods

Control steps per second, all in one run and by turns: the suite with a policy in the loop, its physics alone,
``mujoco.rollout``, gymnasium's ``AsyncVectorEnv`` on as many processes as threads, one ``env.step`` after another, and
EnvPool if it is installed. All act with the same small noise, so that most bodies stay on their feet; only steps that
were simulated count. Prints Markdown and writes ``<results>/bench_locomotion.{md,json}``.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from mujoco import rollout as mujoco_rollout

from harness.api import Suite
from harness.files import write_atomic, write_json
from harness.provenance import provenance
from harness.rollout import rollout
from suites import SUITES
from tests.benchmarks.bench import child, table

TASKS, EPISODES, ROUNDS, STEPS = 40, 20, 3, 40
NOISE = 0.1
"""Standard deviation of the controls, as a share of their range."""
CASES = {
    "half_cheetah": ("half_cheetah_fwd_back", "HalfCheetah", {}),
    "ant": ("ant_fwd_back", "Ant", {}),
    "hopper": ("hopper_rand_params", "Hopper", {"frame_skip": 8}),
    "walker": ("walker_fwd_back", "Walker2d", {"frame_skip": 8, "xml_file": "walker2d.xml"}),
    "humanoid": ("humanoid_fwd_back", "Humanoid", {}),
}
"""Body -> (environment, gymnasium's name, arguments that give it the same control step)."""
CONTENDERS = ("policy", "physics", "rollout", "async", "single", "envpool")
Contender = Callable[[], int]
"""Steps for a while, and says how many control steps it made."""


def policy_of(suite: Suite) -> tuple[Any, dict[str, torch.Tensor]]:
    """A Gaussian policy with a 64-64 network of its own for every task, and no wish to move far."""
    from algorithms.policies import GaussianPolicy
    from algorithms.settings import ActorSettings

    settings = ActorSettings(
        actor_hidden_sizes=(64, 64), hidden_activation="tanh", actor_output_activation="linear",
        initial_log_std=float(np.log(NOISE * suite.action_bound)), initialisation="xavier_uniform",  # type: ignore[attr-defined]
    )  # fmt: skip
    policy = GaussianPolicy(settings, suite)
    params = policy.init(torch.Generator().manual_seed(0))
    small = {name: tensor * (0.01 if "weight" in name else 1.0) for name, tensor in params.items()}
    return policy, {name: tensor.expand(TASKS, *tensor.shape).clone() for name, tensor in small.items()}


def with_policy(suite: Any) -> Contender:
    """The harness's rollout of the whole batch; steps after the end of an episode do not count."""
    policy, params = policy_of(suite)
    rng = torch.Generator().manual_seed(1)
    tasks = suite.sample_tasks(TASKS, rng)
    suite.horizon = STEPS
    noise = policy.draw_noise(rng, TASKS, EPISODES, STEPS)
    return lambda: int(rollout(suite, policy, params, tasks, EPISODES, rng, noise).valid.sum())


def physics_alone(suite: Any, threads: int) -> Contender:
    """The native steps of the suite, without a policy, observations or rewards."""
    rng = torch.Generator().manual_seed(1)
    tasks = suite.sample_tasks(TASKS, rng)
    start, _ = suite.reset(tasks, EPISODES, rng)
    rows = start.view(TASKS * EPISODES, -1).numpy()
    models = suite._addresses(tasks, TASKS, EPISODES)
    controls = controls_of(suite, STEPS * TASKS * EPISODES).reshape(STEPS, TASKS * EPISODES, -1)

    def run() -> int:
        state = rows
        for one in controls:
            state = suite.physics.advance(models, state, one, threads)
        return STEPS * TASKS * EPISODES

    return run


def rollout_alone(suite: Any, threads: int) -> Contender:
    """``mujoco.rollout``, one call per control step, with the same models."""
    rng = torch.Generator().manual_seed(1)
    tasks = suite.sample_tasks(TASKS, rng)
    start, _ = suite.reset(tasks, EPISODES, rng)
    models = [model for model in suite.models(tasks) for _ in range(EPISODES)]
    base, skip = suite.physics.model, suite.environment.frame_skip
    size = mujoco.mj_stateSize(base, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    pool = mujoco_rollout.Rollout(nthread=threads if threads > 1 else 0)
    data = [mujoco.MjData(base) for _ in range(threads)]
    rows = np.ascontiguousarray(start.view(TASKS * EPISODES, -1).numpy()[:, :size])
    controls = controls_of(suite, STEPS * TASKS * EPISODES).reshape(STEPS, TASKS * EPISODES, 1, -1)

    controls = np.repeat(controls, skip, axis=2)
    states, sensors = np.empty((len(rows), skip, size)), np.empty((len(rows), skip, 0))

    def run() -> int:
        state = rows
        for one in controls:
            pool.rollout(models, data, state, one, nstep=skip, state=states, sensordata=sensors, skip_checks=True)
            state = states[:, -1].copy()
        return STEPS * TASKS * EPISODES

    return run


def controls_of(suite: Any, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Small random controls, [count, controls]."""
    noise = torch.randn(1, count, suite.action_dim, generator=torch.Generator().manual_seed(2))
    found: np.ndarray[Any, np.dtype[np.float64]] = suite.controls(NOISE * suite.action_bound * noise)[0].numpy()
    return found


def gymnasium_vector(name: str, arguments: dict[str, Any], suite: Any, processes: int) -> tuple[Contender, Any]:
    """gymnasium's own vector of processes, which resets what has ended."""
    envs = gymnasium.make_vec(f"{name}-v5", num_envs=processes, vectorization_mode="async", **arguments)
    envs.reset(seed=0)
    controls = controls_of(suite, 500 * processes).reshape(500, processes, -1)

    def run() -> int:
        for one in controls:
            envs.step(one)
        return 500 * processes

    return run, envs


def single_steps(name: str, arguments: dict[str, Any], suite: Any) -> tuple[Contender, Any]:
    """One environment of gymnasium's, reset where it has ended."""
    env = gymnasium.make(f"{name}-v5", **arguments)
    env.reset(seed=0)
    controls = controls_of(suite, 500)

    def run() -> int:
        for one in controls:
            _, _, terminated, truncated, _ = env.step(one)
            if terminated or truncated:
                env.reset()
        return 500

    return run, env


def envpool_steps(name: str, arguments: dict[str, Any], suite: Any, threads: int) -> Contender | None:
    """EnvPool's environments, as many as the suite has episodes; None where it is not installed."""
    if importlib.util.find_spec("envpool") is None:
        return None
    import envpool

    skip = {"frame_skip": arguments["frame_skip"]} if "frame_skip" in arguments else {}
    envs = envpool.make_gymnasium(f"{name}-v4", num_envs=TASKS * EPISODES, num_threads=threads, **skip)
    envs.reset()
    controls = controls_of(suite, STEPS * TASKS * EPISODES).reshape(STEPS, TASKS * EPISODES, -1)

    def run() -> int:
        for one in controls:
            envs.step(one)
        return STEPS * TASKS * EPISODES

    return run


def contenders(body: str, threads: int) -> tuple[dict[str, Contender], list[Any]]:
    """Everything that steps a body, and what has to be closed afterwards."""
    environment, name, arguments = CASES[body]
    declaration = SUITES["locomotion"]

    def suite() -> Any:
        return declaration.load()(declaration.settings.model_validate({"environment": environment}))

    vector, vector_envs = gymnasium_vector(name, arguments, suite(), threads)
    single, single_env = single_steps(name, arguments, suite())
    found = {
        "policy": with_policy(suite()),
        "physics": physics_alone(suite(), threads),
        "rollout": rollout_alone(suite(), threads),
        "async": vector,
        "single": single,
    }
    if (pool := envpool_steps(name, arguments, suite(), threads)) is not None:
        found["envpool"] = pool
    return found, [vector_envs, single_env]


def throughput(bodies: list[str], threads: int) -> dict[str, dict[str, float]]:
    """Median control steps per second over rounds in which all take turns."""
    torch.set_num_threads(threads)
    measured = {}
    for body in bodies:
        found, to_close = contenders(body, threads)
        rates: dict[str, list[float]] = {name: [] for name in found}
        for turn in range(ROUNDS + 1):
            for name, run in found.items():
                start = time.perf_counter()
                steps = run()
                rate = steps / (time.perf_counter() - start)
                if turn:  # the first warms up
                    rates[name].append(rate)
                print(f"  {body} {name}: {rate:.0f} steps/s", file=sys.stderr, flush=True)
        for one in to_close:
            one.close()
        measured[body] = {name: statistics.median(values) for name, values in rates.items()}
    return measured


def throughput_table(measured: dict[str, dict[str, float]]) -> str:
    """Thousand control steps per second, and the suite's with a policy as multiples of the others."""
    rows = []
    for body, rates in measured.items():
        cells = [f"{rates[name] / 1e3:.1f}" if name in rates else "–" for name in CONTENDERS]
        ratios = [
            f"{rates['policy'] / rates[name]:.2f}" if name in rates else "–" for name in ("rollout", "async", "envpool")
        ]
        rows.append([body, *cells, *ratios])
    header = [
        "body",
        "with a policy",
        "physics alone",
        "`mujoco.rollout`",
        "gymnasium async",
        "one `env.step`",
        "EnvPool",
    ]
    return table([*header, "of rollout", "× async", "× EnvPool"], rows)


def methods(threads: int) -> dict[str, dict[str, float]]:
    """Seconds per meta-iteration on the half-cheetah at the published size, each method in a process of its own."""
    names = ("promp", "maml_trpo", "emaml_trpo", "lvc_vpg", "dice_vpg", "maml_vpg", "emaml_vpg")
    shared = {"study": "locomotion", "setting": "half_cheetah_fwd_back", "threads": threads, "iterations": 2, "warm": 1}
    return {name: child(method=name, **shared) for name in names}


def methods_table(measured: dict[str, dict[str, float]]) -> str:
    """The split of Figure 8."""
    rows = []
    for name, row in measured.items():
        split = [f"{row[phase]:.2f}" for phase in ("sampling", "adaptation", "outer", "total")]
        rows.append([name, *split, f"{1e-3 * row['steps'] / row['total']:.0f}", f"{row['peak_mib']:.0f}"])
    return table(["method", "sampling s", "adaptation s", "outer s", "total s", "thousand steps/s", "peak MiB"], rows)


def memory(threads: int) -> dict[str, dict[str, float]]:
    """Peak memory of a meta-iteration of 40 tasks × 20 episodes; 40 different models where bodies are random."""
    settings = (
        "half_cheetah_fwd_back",
        "ant_fwd_back",
        "hopper_rand_params",
        "walker_rand_params",
        "humanoid_fwd_back",
    )
    return {
        setting: child(study="locomotion", setting=setting, method="lvc_vpg", threads=threads, iterations=1, warm=0)
        for setting in settings
    }


def memory_table(measured: dict[str, dict[str, float]]) -> str:
    """MiB per setting."""
    rows = [[name, f"{row['peak_mib']:.0f}", f"{row['total']:.1f}"] for name, row in measured.items()]
    return table(["setting, 40 × 20 × horizon", "peak MiB", "s per meta-iteration of LVC-VPG"], rows)


PARTS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], str]]] = {
    "throughput": (lambda options: throughput(options.bodies, options.threads), throughput_table),
    "memory": (lambda options: memory(options.threads), memory_table),
    "methods": (lambda options: methods(options.threads), methods_table),
}
"""Part -> (what measures it, what shows it)."""


def named(known: Any) -> Callable[[str], list[str]]:
    """A list of known names, for the command line."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown {unknown[0]!r}; known are {', '.join(known)}")
        return names

    return parse


def main() -> None:
    """Measure the parts that the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bodies", type=named(CASES), default=list(CASES))
    parser.add_argument("--parts", type=named(PARTS), default=list(PARTS))
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    measured = {part: PARTS[part][0](options) for part in options.parts}
    text = "\n\n".join(PARTS[part][1](figures) for part, figures in measured.items())
    print(text)
    made = {"provenance": provenance("tests.benchmarks.locomotion"), "threads": options.threads} | measured
    write_json(options.results / "bench_locomotion.json", made)
    write_atomic(options.results / "bench_locomotion.md", f"{text}\n".encode())
    print(f"\nwritten: {options.results / 'bench_locomotion.md'}, {options.results / 'bench_locomotion.json'}")


if __name__ == "__main__":
    main()
