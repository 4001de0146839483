"""Published claims as executable checks: one rule per kind, from a check to the comparisons that answer it.

A claim about a study of which no run is known is not testable, and its reason says so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from reports.beside_print import Printed, against, ours_text, rounding, uncertainty
from reports.decisions import OUTCOMES, Cell, Draft
from reports.estimates import from_components, of_mean
from reports.papers.checks import (
    AgainstPrinted,
    AtMost,
    Check,
    Claim,
    Equal,
    Headroom,
    Identity,
    Jump,
    NotWorse,
    Ordering,
    Ratio,
    Rising,
    Side,
    SingleSeeds,
)  # fmt: skip
from reports.papers.published import Published
from reports.reasons import LOG_RATIO, compact
from reports.sides import FROM_MEDIAN, NO_RUNS, Asked, Book, Place, between, deviations, logarithms, over, together
from reports.verdicts import Judgement, Outcome, Row, Verdict

NO_DIFFERENCE_FOUND = {
    "equal": {"–": "yes", "yes": "no", "no": "no"},
    "not_worse": {"–": "yes", "yes": "yes", "no": "no"},
}
"""What a study with one seed says of equality: it takes a difference that is not found for none, and any for one."""


def drafts(published: Published, book: Book, scale: str | None = None) -> list[Draft]:
    """Every claim of a published file. scale: ask this scale of every study, as a smoke test does."""
    return [_draft(claim, published, book, scale) for claim in published.claims]


def _draft(claim: Claim, published: Published, book: Book, scale: str | None) -> Draft:
    check = claim.check
    judgement = Judgement(
        id=claim.id,
        kind="claim",
        paper=published.paper(claim.paper).short,
        statement=claim.statement,
        where=claim.where,
        verdict=Verdict.NOT_TESTABLE,
        outcome=Outcome.UNTESTED,
        reason=claim.not_testable or "",
        notes=tuple(claim.notes),
    )
    if check is None:
        return Draft(judgement, "settled")
    if isinstance(check, Identity):
        reason = f"Exact: it holds identically, so that no run is asked; {check.test} states it."
        exact = replace(judgement, verdict=Verdict.EQUIVALENT, outcome=OUTCOMES[Verdict.EQUIVALENT], reason=reason)
        return Draft(exact, "settled")
    at = scale or check.scale
    family = claim.family or f"claims of the {judgement.paper} about {check.study}"
    judgement = replace(judgement, study=check.study, scale=at, family=family, methods=tuple(_methods(check)))
    judgement = replace(judgement, table=getattr(check, "table", ""), settings=_asked_settings(check))
    if (check.study, at) not in book:
        return Draft(replace(judgement, reason=f"No run of study {check.study} at scale {at} is recorded."), "settled")
    return _answer(Asked(claim, check, book, at, published), judgement)


def _asked_settings(check: Check) -> tuple[str, ...]:
    """The settings whose runs answer; empty: all."""
    sides = [getattr(check, name) for name in ("first", "second") if hasattr(check, name)]
    own = [side.setting for side in sides if side.setting]
    return tuple(dict.fromkeys([*check.settings, *own])) if check.settings else ()


def _methods(check: Check) -> list[str]:
    if isinstance(check, Rising | Jump):
        return [check.method]
    sides = [getattr(check, name) for name in ("first", "second") if hasattr(check, name)]
    return list(dict.fromkeys(side.method for side in sides))


def _answer(asked: Asked, judgement: Judgement) -> Draft:
    check, sign, limit = asked.check, 1, f"no number of our {asked.numbers.unit}s would decide it"
    if isinstance(check, SingleSeeds):
        return _single_seeds(asked, check, judgement)
    if isinstance(check, AgainstPrinted):
        cells = [_beside_printed(asked, check, place) for place in asked.places()]
        relation, limit = _direction(check), _limit(check)
    elif isinstance(check, Headroom):
        cells = [_headroom(asked, check, place) for place in asked.places()]
        relation = "better"
    elif isinstance(check, Ratio):
        cells = [_ratio(asked, check, place) for place in asked.places()]
        relation = "same"
    elif isinstance(check, Rising):
        cells = [cell for place in _once_per_setting(asked) for cell in _rising(asked, check, place)]
        relation = "better"
    elif isinstance(check, Jump):
        cells = [_jump(asked, check, place) for place in _once_per_setting(asked)]
        relation = "better"
    elif isinstance(check, AtMost):
        cells = [_size(asked, check, place) for place in asked.places()]
        relation = "below"
    elif isinstance(check, Ordering | NotWorse | Equal):
        cells = [_contrast(asked, check, place) for place in asked.places()]
        relation = "same" if isinstance(check, Equal) else "better"
    else:
        raise TypeError(f"no rule for {type(check).__name__}")
    judgement = replace(judgement, rows=tuple(cell.row for cell in cells), alone=together(cells))
    sign = check.sign if relation == "same" else 1
    return Draft(judgement, relation, tuple(cells), sign, limit, asked.numbers.unit)


def _direction(check: AgainstPrinted) -> str:
    """The relation of ours minus the printed number to 0."""
    if check.relation == "equal":
        return "same"
    return "below" if (check.relation == "worse") != (check.better == "lower") else "better"


def _limit(check: AgainstPrinted) -> str:
    """What stands in the way where more seeds of ours do not help."""
    tasks = [] if check.same_tasks else ["the luck of the test tasks stays"]
    theirs = {None: [], 1: ["the paper has one"]}.get(check.printed_seeds, [f"the paper has {check.printed_seeds}"])
    why = ", and ".join([*theirs, *tasks])
    return "no number of our seeds would decide it" + (f": {why}" if why else "")


def _once_per_setting(asked: Asked) -> list[Place]:
    found: dict[str, Place] = {}
    for place in asked.places():
        found.setdefault(place.setting, place)
    return list(found.values())


def _contrast(asked: Asked, check: Ordering | NotWorse | Equal, place: Place) -> Cell:
    first, second = asked.side(check.first, place), asked.side(check.second, place)
    margin, counted = asked.margin(place), asked.numbers.unit
    if isinstance(check, Ordering) and check.statistic == "spread":
        second = second.rename(index=lambda seed: -1 - seed)  # spreads are not paired by seed
        made = between(deviations(first), deviations(second), check.sign, None, place.where, 0.0, counted)
        ours = f"{FROM_MEDIAN}: {made.row.ours}" if made.row.estimate else made.row.ours
        return replace(made, row=replace(made.row, ours=ours, unit=FROM_MEDIAN))
    if isinstance(check, Ordering) and check.statistic == "ratio":
        made = between(logarithms(first), logarithms(second), check.sign, None, place.where, 0.0, counted)
        ours = f"{ours_text(first, counted)} against {ours_text(second, counted)}"
        return replace(made, row=replace(made.row, ours=ours, unit=LOG_RATIO))
    sign = 1 if isinstance(check, Equal) else check.sign
    bound = -(margin or 0.0) if isinstance(check, NotWorse) else 0.0
    made = between(first, second, sign, margin, place.where, bound, counted)
    words = NO_DIFFERENCE_FOUND.get(check.kind)
    if words is None:
        return made
    alone = {seed: words[said] for seed, said in made.row.alone.items()}
    return replace(made, row=replace(made.row, alone=alone))


def _size(asked: Asked, check: AtMost, place: Place) -> Cell:
    """The mean of one side by itself, beside what it has to stay below."""
    ours, margin, counted = asked.side(check.first, place), asked.margin(place), asked.numbers.unit
    assert margin is not None
    row = Row(place.where, "", ours_text(ours, counted), len(ours), None, margin)
    try:
        found = of_mean(ours["value"])
    except ValueError as error:
        return Cell(replace(row, note=str(error) if len(ours) else f"{NO_RUNS} of {check.first.method}"))
    return Cell(replace(row, estimate=over(found, counted)), found.se**2 * len(ours), bound=margin)


def _rising(asked: Asked, check: Rising, place: Place) -> list[Cell]:
    made = []
    for before, after in zip(check.steps, check.steps[1:], strict=False):
        later, earlier = (asked.side(Side(method=check.method, step=step), place) for step in (after, before))
        made.append(between(later, earlier, check.sign, None, f"update {before} to {after}", 0.0))
    return made


def _jump(asked: Asked, check: Jump, place: Place) -> Cell:
    """The number after the second step against the one that `share` of the whole gain would make."""
    sides = [asked.side(Side(method=check.method, step=step), place) for step in check.steps]
    first, second, last = sides[0], sides[1], sides[-1]
    enough = first["value"] + check.share * (last["value"] - first["value"])
    threshold = pd.DataFrame({"value": enough, "sd": float("nan"), "tasks": float("nan")}).dropna(subset=["value"])
    where = f"update {check.steps[1]}, {check.share:.0%} of the gain up to update {check.steps[-1]}"
    return between(second.assign(sd=float("nan")), threshold, check.sign, None, where.replace("%", " %"), 0.0)


def _beside_printed(asked: Asked, check: AgainstPrinted, place: Place) -> Cell:
    table = asked.published.results(asked.claim.paper, check.table)
    found = table.cell(check.printed, asked.coordinates(place, table))
    ours = asked.side(check.first, place)
    if found is None or found.mean is None:
        return Cell(Row(place.where, "–", ours_text(ours), 0, None, None, note=f"nothing is printed {place.where}"))
    tasks = check.printed_tasks or (int(ours["tasks"].min()) if ours["tasks"].notna().any() else None)
    printed = Printed(found, rounding(table, found), check.printed_seeds, tasks, other_tasks=not check.same_tasks)
    made = against(ours, printed, check.reading) if len(ours) else f"{NO_RUNS} of {check.first.method}"
    row = Row(place.where, printed.text(), ours_text(ours), len(ours), None, asked.margin(place), printed_sd=printed.sd)
    if isinstance(made, str):
        return Cell(replace(row, note=made))
    return replace(made, row=replace(row, estimate=made.row.estimate))


def _ratio(asked: Asked, check: Ratio, place: Place) -> Cell:
    """log(first / second / value), paired by seed; the margin is the narrower side of value ± margin, as a log."""
    first, second = asked.side(check.first, place)["value"], asked.side(check.second, place)["value"]
    common = first.index.intersection(second.index)
    logs = np.log(first.loc[common]) - np.log(second.loc[common])
    assert check.margin.value is not None
    margin = float(np.log((check.value + check.margin.value) / check.value))
    mean = float(np.exp(logs.mean())) if len(common) else float("nan")
    counted = asked.numbers.unit
    text = f"{compact(mean)} ({len(common)} pairs of {counted}s)" if len(common) else "–"
    row = Row(place.where, f"{check.value:g}", text, len(common), None, margin, unit=LOG_RATIO)
    try:
        found = of_mean(logs - np.log(check.value))
    except ValueError as error:
        return Cell(replace(row, note=str(error) if len(common) else NO_RUNS))
    return Cell(replace(row, estimate=over(found, counted)), found.se**2 * len(common))


def _single_seeds(asked: Asked, check: SingleSeeds, judgement: Judgement) -> Draft:
    """How many seeds, by themselves, show the effect in no cell."""
    places = asked.places()
    cells = [
        between(asked.side(check.first, p), asked.side(check.second, p), check.sign, None, p.where, 0.0) for p in places
    ]
    each = [cell.row.alone for cell in cells]
    seeds = sorted(set.intersection(*(set(alone) for alone in each))) if each else []
    judgement = replace(judgement, rows=tuple(cell.row for cell in cells))
    if not seeds:
        return Draft(replace(judgement, reason=f"{NO_RUNS} with both sides".capitalize() + "."), "settled")
    alone = {seed: "yes" if all(one[seed] != "yes" for one in each) else "no" for seed in seeds}
    count = sum(word == "yes" for word in alone.values())
    share = stats.binomtest(count, len(seeds)).proportion_ci()
    reason = (
        f"{count} of {len(seeds)} seeds show no advantage in any of the cells "
        f"(share {count / len(seeds):.2f}, 95 % interval [{share.low:.2f}, {share.high:.2f}])."
    )
    verdict = Verdict.DIRECTION_REPLICATED if count else Verdict.INCONCLUSIVE
    made = replace(judgement, verdict=verdict, outcome=OUTCOMES[verdict], reason=reason, alone=alone)
    return Draft(made, "settled", tuple(cells))


def _headroom(asked: Asked, check: Headroom, place: Place) -> Cell:
    """What is possible on average minus what is printed.

    b - m,   se² = (h / t_{.975, M-1})² + σ²/T' + d²/12:   the printed interval h over M seeds, the luck of T' test
    tasks that scatter by σ as ours do, and a last digit d wide. The bound b is exact.
    """
    table = asked.published.results(asked.claim.paper, check.table)
    found = table.cell(check.printed, asked.coordinates(place, table))
    best, ours = asked.side(check.first, place, check.bound)["value"], asked.side(check.first, place)
    row = Row(place.where, "–", "–", len(best), None, None)
    if found is None or found.mean is None or not len(best) or not len(ours):
        return Cell(replace(row, note="nothing exact is known about these runs, or nothing is printed"))
    printed = Printed(found, rounding(table, found), check.printed_seeds)
    row = replace(row, printed=printed.text(), ours=f"at most {compact(float(best.mean()))} is possible on average")
    try:
        parts = uncertainty(printed, "ci_over_seeds", float(ours["sd"].mean()), check.printed_tasks)
        estimate = from_components(float(best.mean()) - printed.mean, parts, "printed against exact")
    except ValueError as error:
        return Cell(replace(row, note=str(error)))
    return Cell(replace(row, estimate=estimate))
