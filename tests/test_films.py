"""Films: they show the states of the recorded policy, are drawn where something can draw, and stand in the report."""

from __future__ import annotations

import argparse
import dataclasses
import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import suites.locomotion.rendering as rendering
from harness import cli, composition, filming
from harness.film_files import MOST_BYTES, PANEL, animation, strip
from harness.filming import HEIGHT, WIDTH, Film, Take, _act, film
from harness.recorded import info_of
from harness.rollout import simulate
from harness.runner import run
from harness.spec import PlannedRun
from harness.study_source import find_study
from harness.worker import build
from reports.films import KEY, facts_of, films_of
from reports.films import block as films_block
from reports.papers.published import nothing_published
from reports.study_info import StudyInfo
from suites import SUITES
from tests.harness_fixtures import directory, load, write_study
from tests.reference.synthetic_runs import study_info, synthetic_records
from tests.reference.synthetic_verdicts import report

STUDY = """\
study: running
title: A body for a moment
paper: none
setting: track
suite: locomotion
settings: {environment: half_cheetah_fwd_back, horizon: 12}
hyperparameters:
  actor_hidden_sizes: [8]
  hidden_activation: tanh
  actor_output_activation: linear
  initial_log_std: 0.0
  initialisation: xavier_uniform
  discount: 0.99
  gae_lambda: 1.0
  standardise_advantages: true
  baseline_ridge: 1.0e-5
  inner_lr: 0.5
  outer_lr: 0.001
  adaptation_steps: 1
methods:
  moved: {algorithm: lvc_vpg, protocols: [adapted]}
  still: {algorithm: dice_vpg, protocols: [unmoved]}
  told: {algorithm: maml_vpg, protocols: [alone]}
  random: {algorithm: maml_vpg, budget: {meta_iterations: 0}, protocols: [adapted]}
seeds: 0
budget: {meta_iterations: 1, meta_batch_size: 2, episodes_per_task: 2}
evaluation:
  seed: 1
  meta_test_tasks: 4
  episodes_per_task: 3
  shared_noise: false
  protocols:
    adapted: {rule: inner, updates: 1}
    unmoved: {rule: inner_scaled, updates: 2, settings: {factors: [0.0, 0.0]}}
    alone: {rule: inner, updates: 0}
checkpoint_every: 1
scales: {paper: {}}
"""
NEEDS = r"apt-get install .*libegl1.*libosmesa6"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose runs are done, but for one, in ``results`` beside it."""
    path = write_study(tmp_path_factory.mktemp("running"), STUDY, "running.yaml")
    for one in load(path).plan():
        if one.method != "told":
            suite, algorithm = build(one.spec, composition.REGISTRIES)
            rules, folder = dict(composition.REGISTRIES.rules), directory(path.parent / "results", one).folder
            assert run(one.spec, suite, algorithm, rules, folder, {}, 1) == "done"
    return path


def of_method(study: Path, method: str) -> PlannedRun:
    return next(one for one in load(study).plan() if one.method == method)


def shown(study: Path, method: str) -> Film:
    one = of_method(study, method)
    return film(one, directory(study.parent / "results", one), composition.REGISTRIES)


def films(study: Path | str, results: Path, *options: str) -> int:
    return cli.main(["films", str(study), "--results", str(results), *options])


def stripes(scenes: list[rendering.Scene], view: Any, width: int, height: int) -> np.ndarray:
    """Pictures without a renderer: as bright as the moment is late."""
    moments = len(scenes[0].positions)
    bright = np.linspace(0, 255, moments).astype(np.uint8)[None, :, None, None, None]
    return np.tile(bright, (len(scenes), 1, height, width, 3))


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "drawn", stripes)
    monkeypatch.setattr(rendering, "lacking", lambda: "")


def taken(ended: bool = False, moments: int = 5, **more: Any) -> Take:
    given = {"task": "run", "when": "before", "episode_return": -1.25, "came": "2.0 m", "length": 4}
    pictures = torch.full((moments, HEIGHT, WIDTH, 3), 200, dtype=torch.uint8)
    pictures[..., 0] = torch.arange(moments, dtype=torch.uint8).view(-1, 1, 1)
    return Take(**given | {"ended": ended, "pictures": pictures} | more)


# -- what is shown


def test_who_watches_sees_the_states_of_the_rollout_and_changes_no_bit(study: Path) -> None:
    suite, algorithm = build(of_method(study, "moved").spec, composition.REGISTRIES)
    rng = torch.Generator().manual_seed(0)
    tasks, params = suite.meta_test_tasks(2, rng), algorithm.init(rng).params
    noise = algorithm.policy.draw_noise(rng, 2, 3, suite.horizon)

    def acted(**watching: Any) -> Any:
        environment_rng = torch.Generator().manual_seed(1)
        return simulate(suite, algorithm.policy, params, tasks, 3, environment_rng, noise, **watching)[0]

    states: list[Any] = []
    alone, watched = acted(), acted(watch=states.append)
    assert all(torch.equal(one, other) for one, other in zip(alone, watched, strict=True))
    seen = torch.stack([suite.observe(state).float() for state in states], dim=2)
    assert torch.equal(seen, torch.cat([watched.observations, watched.final_observation.unsqueeze(2)], dim=2))


def test_the_policy_of_the_film_is_the_one_whose_returns_are_recorded(
    study: Path, painted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the film adapts is, task by task, what the recorded meta-test had."""
    met: list[Any] = []
    original = filming.adaptation

    def watched(*arguments: Any) -> Any:
        for params, trajectories in original(*arguments):
            met.append(trajectories.episode_returns().double().mean(1).tolist())
            yield params, trajectories

    monkeypatch.setattr(filming, "adaptation", watched)
    one = of_method(study, "moved")
    shown(study, "moved")
    rows = pyarrow.parquet.read_table(directory(study.parent / "results", one).returns).to_pylist()
    recorded = {(row["step"], row["task"]): row["mean_return"] for row in rows}
    assert {(step, task): value for step, of_tasks in enumerate(met) for task, value in enumerate(of_tasks)} == recorded


def test_before_and_after_differ_by_the_adaptation_alone(study: Path, painted: None) -> None:
    """An inner step of nothing changes nothing: same start, same noise, same bits."""
    moved, still = (shown(study, method).takes for method in ("moved", "still"))
    names = [(take.task, take.when) for take in moved]
    assert names == [(task, when) for task in ("run backward", "run forward") for when in ("before", "after 1 update")]
    assert [take.when for take in still[:2]] == ["before", "after 2 updates"]
    assert [take.episode_return for take in still[::2]] == [take.episode_return for take in still[1::2]]
    assert not {take.episode_return for take in moved[::2]} & {take.episode_return for take in moved[1::2]}


def test_the_first_tasks_of_a_protocol_without_updates_are_shown_as_trained(
    study: Path, painted: None, tmp_path: Path
) -> None:
    one = of_method(study, "told")
    suite, algorithm = build(one.spec, composition.REGISTRIES)
    folder = directory(tmp_path, one)
    run(one.spec, suite, algorithm, dict(composition.REGISTRIES.rules), folder.folder, {}, 1)
    takes = film(one, folder, composition.REGISTRIES).takes
    assert [(take.task, take.when) for take in takes] == [("run backward", "as trained"), ("run forward", "as trained")]


def test_a_film_begins_with_the_start_and_ends_with_the_longest_episode(study: Path, painted: None) -> None:
    one = of_method(study, "moved")
    made = film(one, directory(study.parent / "results", one), composition.REGISTRIES)
    assert made.steps == tuple(range(13))
    assert made.control_step == pytest.approx(0.05)
    assert all(take.pictures.shape == (13, HEIGHT, WIDTH, 3) and not take.ended for take in made.takes)
    suite, algorithm = build(one.spec, composition.REGISTRIES)
    tasks = suite.meta_test_tasks(2, torch.Generator())
    acted = _act(suite, algorithm, algorithm.init(torch.Generator()).params, tasks, one, "before")
    moved = [(acted.states[-1] - acted.states[0])[task, 0, suite.physics.slices["qpos"]][0] for task in range(2)]
    words = suite.captions(tasks, acted.states[0], acted.states[-1])
    for metres, (_, came) in zip(moved, words, strict=True):
        way = "forward" if metres > 0 else "backward"
        assert came == (f"{abs(metres):.1f} m {way}" if abs(metres) >= 0.05 else "0.0 m")


CAPTIONS = {
    "ant_rand_direc": ({"direction": [[0.0, 1.0]]}, "run towards 90°", "4.0 m that way"),
    "ant_rand_goal": ({"goal": [[3.0, 1.0]]}, "go to (3.0, 1.0) m", "ends 3.0 m from it"),
    "ant_fwd_back": ({"direction": [-1.0]}, "run backward", "3.0 m forward"),
    "walker_rand_vel": ({"velocity": [2.0]}, "run at 2.0 m/s", "3.0 m forward (1.5 m/s)"),
    "half_cheetah_fwd_back": ({"direction": [1.0]}, "run forward", "3.0 m forward"),
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_tasks_and_distances_in_words(name: str) -> None:
    """A body that is at (3, 4) after two seconds, or 3 m down its track, having started at the origin."""
    tasks, what, came = CAPTIONS[name]
    suite = SUITES["locomotion"].load()(SUITES["locomotion"].settings.model_validate({"environment": name}))
    start, end = torch.zeros(2, 1, 1, suite.physics.width, dtype=torch.float64)
    end[..., 0] = 2.0
    if suite.body.tracked:
        where = suite.physics.slices[suite.body.tracked[0]].start + 3 * suite.body.tracked[1]
        end[..., where], end[..., where + 1] = 3.0, 4.0
    else:
        end[..., suite.physics.slices["qpos"].start] = 3.0
    words = suite.captions({key: torch.tensor(value) for key, value in tasks.items()}, start, end)
    assert words == [(what, came)]


# -- files


def test_a_strip_has_a_row_per_take_and_six_moments() -> None:
    made = Film((taken(moments=13), taken(when="after 1 update", moments=13)), tuple(range(13)), 0.05)
    image = Image.open(io.BytesIO(strip(made, "title", {KEY: "{}"})))
    pixels = np.asarray(image.convert("RGB"))
    assert image.width > 6 * WIDTH
    assert 2 * HEIGHT < image.height < 3 * HEIGHT
    blue = (pixels[..., 1:] == 200).all(-1) & (pixels[..., 0] < 20)
    assert blue.sum() == 2 * 6 * WIDTH * HEIGHT
    assert len(np.unique(pixels[blue][:, 0])) == 6


def test_pictures_after_the_end_of_an_episode_are_pale() -> None:
    """Two steps long, on five moments; the other take goes on and is as it was."""
    short = Film((taken(ended=True, length=2), taken(when="after 1 update")), tuple(range(5)), 0.05)
    pixels = np.asarray(Image.open(io.BytesIO(strip(short, "title", {}))).convert("RGB"))
    assert ((pixels[..., 1:] == 200).all(-1) & (pixels[..., 0] < 20)).sum() == (3 + 5) * WIDTH * HEIGHT


def test_an_animation_shows_all_takes_and_stays_small_even_of_noise() -> None:
    rng = torch.Generator().manual_seed(0)
    noisy = torch.randint(256, (51, HEIGHT, WIDTH, 3), generator=rng).byte()
    takes = tuple(taken(task=task, when=when, pictures=noisy) for task in "ab" for when in ("before", "after 1 update"))
    content = animation(Film(takes, tuple(range(51)), 0.05), "title")
    assert len(content) < MOST_BYTES
    plain = Image.open(
        io.BytesIO(animation(Film((taken(), taken(when="after 1 update")), (0, 1, 2, 3, 4), 0.05), "title"))
    )
    assert (plain.n_frames, plain.info["duration"], plain.info["loop"]) == (5, 100, 0)
    assert 2 * PANEL[0] < plain.width < 3 * PANEL[0]
    assert PANEL[1] < plain.height < 2 * PANEL[1]


# -- the command


def test_films_lie_under_the_name_of_the_run_and_are_drawn_once(
    study: Path, painted: None, tmp_path: Path, capsys: Any
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "runs").symlink_to(study.parent / "results" / "runs")
    assert films(study, results) == 0
    said = capsys.readouterr()
    names = sorted(path.name for path in (results / "films" / "running").iterdir())
    assert names == [f"track_{method}_seed0.{ending}" for method in ("moved", "still") for ending in ("gif", "png")]
    assert all(str(results / "films" / "running" / name) in said.out for name in names)
    assert "1 of 3 trained runs are not done" in said.err
    assert "1/2 track moved seed 0: adapting and drawing" in said.err
    before = {name: (results / "films" / "running" / name).read_bytes() for name in names}
    facts = facts_of(results / "films" / "running" / names[1])
    assert (facts["run_id"], facts["method"], len(facts["takes"])) == (
        of_method(study, "moved").spec.run_id,
        "moved",
        4,
    )
    assert re.fullmatch(r"run backward, before: return −?\d+\.\d, \d\.\d m( \w+)?", facts["takes"][0])
    (results / "films" / "running" / names[3]).write_bytes(b"no picture")
    assert films(study, results) == 0
    assert capsys.readouterr().err.count("drawn already") == 1
    assert before == {name: (results / "films" / "running" / name).read_bytes() for name in names}


def test_without_a_renderer_a_line_says_what_to_install(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv(rendering.CHOICE, "disabled")
    assert films(study, study.parent / "results") == 0
    said = capsys.readouterr()
    assert re.fullmatch(f"no films: MuJoCo .*{NEEDS}.*\n", said.out)
    assert not (study.parent / "results" / "films").exists()
    with pytest.raises(RuntimeError, match=NEEDS):
        rendering.drawn([], rendering.VIEWS["ant"], 8, 8)


def test_what_cannot_be_filmed_is_refused_in_one_line(study: Path, tmp_path: Path, capsys: Any) -> None:
    for name, options, said in (
        ("navigation", (), "suite navigation has no pictures of its tasks"),
        ("locomotoin", (), "unknown study"),
        (study, (), "of its 3 trained runs with seed 0 none is done"),
        (study, ("--seeds", "7"), "with seed 7 none is done"),
    ):
        assert films(name, tmp_path, *options) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("metarepro: error: ")
        assert said in line
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_its_checkpoint_is_left_out_and_the_others_are_drawn(
    study: Path, painted: None, tmp_path: Path, capsys: Any
) -> None:
    shutil.copytree(study.parent / "results" / "runs", tmp_path / "runs")
    shutil.rmtree(directory(tmp_path, of_method(study, "moved")).checkpoints)
    assert films(study, tmp_path) == 2
    assert "left out: track moved seed 0: " in capsys.readouterr().err
    assert [path.name for path in sorted(tmp_path.glob("films/*/*.png"))] == ["track_still_seed0.png"]


# -- a real renderer


def test_a_moving_body_looks_different_from_moment_to_moment(study: Path) -> None:
    one = of_method(study, "moved")
    suite, algorithm = build(one.spec, composition.REGISTRIES)
    if why := suite.undrawable():
        pytest.skip(why)
    tasks = suite.meta_test_tasks(2, torch.Generator())
    acted = _act(suite, algorithm, algorithm.init(torch.Generator()).params, tasks, one, "before")
    pictures = suite.pictures(tasks, [*acted.states[::6], acted.states[0]], 64, 48)
    assert (tuple(pictures.shape), pictures.dtype) == ((2, 4, 48, 64, 3), torch.uint8)
    assert torch.equal(pictures[:, 0], pictures[:, 3])
    assert (pictures[:, :2] != pictures[:, 1:3]).flatten(2).any(-1).all()
    assert pictures.float().std() > 10  # neither black nor blank
    assert bool((pictures[0, 0] != pictures[1, 0]).any())  # the arrows point to either side


@pytest.mark.parametrize(
    "environment", ["ant_rand_goal", "humanoid_rand_direc", "hopper_rand_params", "walker_rand_vel"]
)
def test_drawing_leaves_the_models_that_are_simulated_alone(environment: str) -> None:
    suite = SUITES["locomotion"].load()(SUITES["locomotion"].settings.model_validate({"environment": environment}))
    if why := suite.undrawable():
        pytest.skip(why)
    rng = torch.Generator().manual_seed(0)
    tasks = suite.sample_tasks(1, rng)
    state, _ = suite.reset(tasks, 1, rng)
    action = torch.randn(1, 1, suite.action_dim, generator=rng)
    before = suite.step(tasks, state, action, rng).state
    pictures = suite.pictures(tasks, [state], 64, 48)
    assert pictures.float().std() > 10
    assert torch.equal(suite.step(tasks, state, action, rng).state, before)
    assert suite.physics.model.vis.quality.shadowsize != 1024


# -- the report


def described(command: bool = True) -> StudyInfo:
    commands = {"films": "metarepro films navigation"} if command else {}
    return dataclasses.replace(study_info(), commands=commands)


def leave(folder: Path, method: str, run_id: str) -> Path:
    """A strip and an animation of a run of the made-up study."""
    path = films_of(folder, "navigation") / f"ulm_{method}_seed0.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"run_id": run_id, "setting": "ulm", "method": method, "seed": 0, "takes": ['run <fast> & "far"']}
    path.write_bytes(strip(Film((taken(),), tuple(range(5)), 0.05), "title", {KEY: json.dumps(facts)}))
    path.with_suffix(".gif").write_bytes(b"GIF89a")
    return path


def test_the_report_shows_strips_and_links_what_lies_beside_it(tmp_path: Path) -> None:
    leave(tmp_path, "maml", "maml-0")
    leave(tmp_path, "random", "of another version")
    records = synthetic_records(("maml",), iterations=5)
    text = report(tmp_path / "reports", (records, described(), nothing_published())).read_text()
    links = re.findall(r'href="(\.\./films/[^"]+)"', text)
    assert {*links} == {f"../films/navigation/ulm_maml_seed0.{ending}" for ending in ("png", "gif")}
    assert all((tmp_path / "reports" / link).is_file() for link in links)
    (image,) = re.findall(r"<img [^>]*>", text)
    assert 'src="data:image/png;base64,' in image
    assert 'run <fast> & "far"' in html.unescape(image)
    assert "<fast>" not in text
    assert "metarepro films navigation" in text
    assert 'href="#navigation-films"' in text


def test_without_films_one_line_says_how_to_make_them(tmp_path: Path) -> None:
    records = synthetic_records(("maml",), iterations=5)
    text = report(tmp_path / "reports", (records, described(), nothing_published())).read_text()
    assert "No films of these runs yet: <code>metarepro films navigation</code>" in text
    assert "<img" not in text


def test_a_study_that_cannot_have_films_says_nothing_of_them(tmp_path: Path) -> None:
    assert films_block(tmp_path / "reports", described(command=False), {"maml-0"}) is None
    leave(tmp_path, "maml", "maml-0")
    assert films_block(tmp_path / "reports", described(command=False), {"maml-0"}) is not None
    assert films_block(tmp_path / "reports", described(command=False), {"another"}) is None


def test_what_is_no_strip_is_passed_over(tmp_path: Path) -> None:
    path = leave(tmp_path, "maml", "maml-0")
    bare = strip(Film((taken(),), tuple(range(5)), 0.05), "", {KEY: "[]"})
    for content in (b"", b"no picture", path.read_bytes()[:60], bare):
        path.write_bytes(content)
        assert facts_of(path) == {}
        block = films_block(tmp_path / "reports", described(), {"maml-0"})
        assert block is not None
        assert block["strips"] == []


def test_the_study_says_how_its_films_are_made_where_its_suite_draws() -> None:
    for name, command in (("locomotion", "metarepro films locomotion --scale smoke"), ("navigation", None)):
        options = argparse.Namespace(study=name, scale="smoke", seeds="0", results="results")
        study = composition.read(find_study(name, composition.SUITES_FOLDER), "smoke")
        assert info_of(study, options).commands.get("films") == command
