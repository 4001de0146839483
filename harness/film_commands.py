"""``metarepro films``: what the trained policies of a study do, drawn."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.composition import REGISTRIES, study_of
from harness.errors import UserError
from harness.files import write_atomic
from harness.pictures import PICTURES
from harness.plan import Plan
from harness.recorded import say, stem_of
from harness.spec import PlannedRun
from harness.study import Study


def draw_films(options: argparse.Namespace, plan_of: Callable[[Study, argparse.Namespace], Plan]) -> int:
    """Draw the finished, trained runs of a study before and after they adapt; where nothing can draw, say so."""
    study = study_of(options)
    name = study.file.study
    if PICTURES not in study.provides():
        raise UserError(f"study {name}: suite {study.file.suite} has no {PICTURES}")
    if lacking := study.lacking():
        raise UserError(lacking)
    plan = plan_of(study, options)
    trained = [one for one in zip(plan.runs, plan.statuses, strict=True) if one[0].spec.budget.meta_iterations]
    done = [run for run, status in trained if status == "done"]
    if not done:
        raise UserError(
            f"study {name} ({study.scale}): of its {len(trained)} trained runs with seed {options.seeds} none is done "
            f"in {options.results}; `metarepro run {options.study} --scale {study.scale}` makes them"
        )
    from harness.filming import undrawable  # torch is imported only where something is drawn
    from reports.films import films_of

    if why := undrawable(done[0], REGISTRIES):
        print(f"no films: {why}")
        return 0
    if left := len(trained) - len(done):
        say(f"{left} of {len(trained)} trained runs are not done, and have no film")
    folder = films_of(Path(options.results), stem_of(study))
    refused = 0
    for number, run in enumerate(done, start=1):
        try:
            _draw(run, plan, folder, f"{number}/{len(done)} {run.title}")
        except UserError as error:
            refused += 1
            say(f"metarepro: error: left out: {error}")
    print(f"in the report: metarepro report {options.study} --scale {study.scale} --results {options.results}")
    return 2 if refused else 0


def _draw(run: PlannedRun, plan: Plan, folder: Path, progress: str) -> None:
    """The strip is written last, and says what it shows: where it is, the animation is as well."""
    from harness.film_files import DRAWING, animation, strip, words
    from harness.filming import film
    from reports.films import KEY, facts_of

    path = folder / f"{run.setting}_{run.method}_seed{run.spec.seed}.png"
    facts: dict[str, Any] = {"run_id": run.spec.run_id, "drawing": DRAWING}
    facts |= {"setting": run.setting, "method": run.method, "seed": run.spec.seed}
    if facts.items() <= facts_of(path).items() and path.with_suffix(".gif").is_file():
        say(f"{progress}: drawn already")
    else:
        say(f"{progress}: adapting and drawing ...")
        made, title = film(run, plan.directory(run), REGISTRIES), f"{run.setting}, {run.method}, seed {run.spec.seed}"
        texts = {KEY: json.dumps(facts | {"takes": words(made)}, sort_keys=True)}
        write_atomic(path.with_suffix(".gif"), animation(made, title))
        write_atomic(path, strip(made, title, texts))
    print(f"strip:     {path}\nanimation: {path.with_suffix('.gif')}", flush=True)
