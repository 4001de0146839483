"""From comparisons to verdicts: one rule for printed numbers and equalities, one for orderings and bounds.

The rules, with α = 0.05, in a family of m published numbers or statements that are adjusted together:

    same:   p_tost = max_i p_tost,i       the same within the margin in every cell (intersection-union test)
            p = min(1, k · min_i p_i)     different in some of the k cells (Bonferroni), then Holm over the family
            p_tost < α, p_holm ≥ α -> EQUIVALENT;  both < α -> DIFFERENT_WITHIN_MARGIN;
            only p_holm < α -> DIFFERENT_BETTER or DIFFERENT_WORSE;  neither -> INCONCLUSIVE
            The published number fails where a cell is shown to be beyond the margin; else it stays undecided.
    better: p = min(1, 2 · min(max_i p_i⁺, k · min_i p_i⁻)), then Holm over the family
            p_holm < α -> DIRECTION_REPLICATED where it holds in every cell, REVERSED where the opposite holds in one;
            else INCONCLUSIVE
    below:  as better, of a difference that has to be below 0, or a size that has to be below its margin

p_i⁺ and p_i⁻ are one-sided, for and against the claim in cell i (Berger 1982 for the intersection-union test,
Schuirmann 1987 for equivalence). p_tost is not adjusted: it protects a single number against a false "equivalent",
at 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from reports.estimates import seeds_needed
from reports.reasons import reason_of
from reports.statistics import holm
from reports.verdicts import ALPHA, POWER, Judgement, Outcome, Row, Verdict

NAN = float("nan")
OUTCOMES = {
    Verdict.EQUIVALENT: Outcome.REPLICATES,
    Verdict.DIFFERENT_WITHIN_MARGIN: Outcome.REPLICATES,
    Verdict.DIFFERENT_BETTER: Outcome.FAILS,
    Verdict.DIFFERENT_WORSE: Outcome.FAILS,
    Verdict.DIRECTION_REPLICATED: Outcome.REPLICATES,
    Verdict.REVERSED: Outcome.FAILS,
    Verdict.INCONCLUSIVE: Outcome.UNDECIDED,
    Verdict.NOT_TESTABLE: Outcome.UNTESTED,
}


@dataclass(frozen=True)
class Cell:
    """A row, and what more seeds of ours would change in it.

    variance_per_seed: of the difference, divided by our number of seeds; fixed: (variance, degrees of freedom) of what
    more seeds leave as it is. bound: the value that `better` asks the difference to exceed, and `below` to be below.
    """

    row: Row
    variance_per_seed: float = NAN
    fixed: Sequence[tuple[float, float]] = ()
    bound: float = 0.0
    other_seeds: int | None = None


@dataclass(frozen=True)
class Draft:
    """A judgement before its family is known.

    relation: "same", "better", "below", or "settled" where `verdict` and `reason` are known already.
    sign:     1 where a positive difference is better for ours (for orderings it is, by construction).
    limit:    what stands in the way where no number of our seeds would decide. unit: what is counted as a seed.
    """

    judgement: Judgement
    relation: str
    cells: Sequence[Cell] = ()
    sign: int = 1
    limit: str = "no number of our seeds would decide it"
    unit: str = "seed"

    @property
    def bounds(self) -> list[float]:
        """What the relation is to, in each cell; of no use to `same`."""
        return [cell.bound for cell in self.cells]


def decide(drafts: Sequence[Draft]) -> list[Judgement]:
    """The judgements of all drafts, each adjusted within its family, in the order given."""
    raw = [_raw(draft) for draft in drafts]
    families: dict[str, list[int]] = {}
    for i, draft in enumerate(drafts):
        families.setdefault(draft.judgement.family, []).append(i)
    made: dict[int, Judgement] = {}
    for members in families.values():
        adjusted = holm([raw[i].p for i in members])
        tests = sum(not _missing(raw[i].p) for i in members)
        for i, p_holm in zip(members, adjusted, strict=True):
            made[i] = _judge(drafts[i], raw[i], p_holm, max(1, tests))
    return [made[i] for i in range(len(drafts))]


@dataclass(frozen=True)
class _Raw:
    p: float = NAN
    p_for: float = NAN
    p_against: float = NAN
    p_tost: float = NAN


def _missing(value: float) -> bool:
    return value != value


def _raw(draft: Draft) -> _Raw:
    """The p values of a draft; none where a cell has no estimate."""
    found = [cell.row.estimate for cell in draft.cells]
    estimates = [estimate for estimate in found if estimate is not None]
    if draft.relation == "settled" or not estimates or len(estimates) < len(found):
        return _Raw()
    margins = [cell.row.margin for cell in draft.cells]
    p_tost = NAN
    if all(margin is not None for margin in margins):
        p_tost = max(e.tost(m) for e, m in zip(estimates, margins, strict=True) if m is not None)
    if draft.relation == "same":
        return _Raw(p=min(1.0, len(estimates) * min(e.p for e in estimates)), p_tost=p_tost)
    above = [estimate.p_above(bound) for estimate, bound in zip(estimates, draft.bounds, strict=True)]
    below = [estimate.p_below(bound) for estimate, bound in zip(estimates, draft.bounds, strict=True)]
    in_favour, contrary = (below, above) if draft.relation == "below" else (above, below)
    p_for, p_against = max(in_favour), min(1.0, len(contrary) * min(contrary))
    return _Raw(min(1.0, 2 * min(p_for, p_against)), p_for, p_against, p_tost)


def _judge(draft: Draft, raw: _Raw, p_holm: float, tests: int) -> Judgement:
    if draft.relation == "settled":
        return draft.judgement
    given = draft.judgement
    if _missing(raw.p):
        notes = list(dict.fromkeys(cell.row.note for cell in draft.cells if cell.row.estimate is None))
        verdict = Verdict.NOT_TESTABLE if all(cell.row.seeds == 0 for cell in draft.cells) else Verdict.INCONCLUSIVE
        text = "; ".join(notes) or "no finished run of ours to ask"
        return _with(given, verdict, f"{text[0].upper()}{text[1:]}.")
    verdict = _same(draft, raw, p_holm) if draft.relation == "same" else _better(raw, p_holm)
    needed = _needed(draft, tests) if verdict is Verdict.INCONCLUSIVE else None
    more = f"about {needed} {draft.unit}s would decide it if this is the true difference" if needed else draft.limit
    reason = reason_of(verdict, draft.relation, [cell.row for cell in draft.cells], draft.bounds, more)
    values = {"p_tost": raw.p_tost, "p": raw.p, "p_holm": p_holm, "needed": needed}
    level = ALPHA / (tests * len(draft.cells))
    detectable = max(cell.row.estimate.detectable(POWER, level) for cell in draft.cells if cell.row.estimate)
    made = _with(given, verdict, reason, detectable=detectable, **values)
    different = verdict in (Verdict.DIFFERENT_BETTER, Verdict.DIFFERENT_WORSE)
    if different and not _beyond(draft):
        less = f"{reason[:-1]}; whether by more than the margin is open."
        return replace(made, outcome=Outcome.UNDECIDED, reason=less)
    return made


def _beyond(draft: Draft) -> bool:
    """Whether some cell is shown to differ by more than its margin (Bonferroni); true where there is none."""
    found = [(cell.row.estimate, cell.row.margin) for cell in draft.cells if cell.row.estimate]
    if any(margin is None for _, margin in found):
        return True
    outside = [min(e.p_above(m), e.p_below(-m)) for e, m in found if e is not None and m is not None]
    return 2 * len(outside) * min(outside) < ALPHA


def _with(given: Judgement, verdict: Verdict, reason: str, **values: Any) -> Judgement:
    return replace(given, verdict=verdict, outcome=OUTCOMES[verdict], reason=reason, **values)


def _same(draft: Draft, raw: _Raw, p_holm: float) -> Verdict:
    equal, different = raw.p_tost < ALPHA, p_holm < ALPHA
    if equal:
        return Verdict.DIFFERENT_WITHIN_MARGIN if different else Verdict.EQUIVALENT
    if not different:
        return Verdict.INCONCLUSIVE
    furthest = min((c.row.estimate for c in draft.cells if c.row.estimate), key=lambda estimate: estimate.p)
    return Verdict.DIFFERENT_BETTER if furthest.difference * draft.sign > 0 else Verdict.DIFFERENT_WORSE


def _better(raw: _Raw, p_holm: float) -> Verdict:
    if p_holm < ALPHA:
        return Verdict.DIRECTION_REPLICATED if raw.p_for <= raw.p_against else Verdict.REVERSED
    return Verdict.INCONCLUSIVE


def _needed(draft: Draft, tests: int) -> int | None:
    """The seeds that would decide every cell, at α over the size of the family; None where none are enough."""
    counts = []
    for cell in draft.cells:
        estimate = cell.row.estimate
        if estimate is None or _missing(cell.variance_per_seed):
            return None
        difference = estimate.difference - cell.bound
        margin = cell.row.margin if draft.relation == "same" else None
        count = partial(seeds_needed, margin=margin, power=POWER, alpha=ALPHA / tests)
        counts.append(count(difference, cell.variance_per_seed, fixed=cell.fixed, other_seeds=cell.other_seeds))
    known = [count for count in counts if count is not None]
    return max(known) if len(known) == len(counts) else None
