"""Gittins index: pull the arm whose index is highest (Gittins 1979); optimal for discounted reward over all time.

policy: index of the arm's own history · chosen on training tasks: the discount, as in the RL² evaluation, which chose
on its test tasks. On a finite number of undiscounted pulls the index is a good rule, not the optimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, ValidationInfo, model_validator

from algorithms.settings import CandidateSettings
from harness.api import Declaration, Suite

if TYPE_CHECKING:
    from algorithms.candidates import CandidateSearch


class GittinsSettings(CandidateSettings):
    """``candidates`` are discounts."""

    candidates: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(strict=False, min_length=1, max_length=100)
    ] = (0.9, 0.99, 0.999, 0.9999)
    table_pulls: Annotated[int, Field(ge=1, le=5000)] = 1000
    """Size of the table of indices: an arm can be pulled this often; learning counts as over from here."""
    table_grid: Annotated[int, Field(ge=2, le=20_001)] = 1001
    """Values of the known arm between which an index is interpolated."""

    @model_validator(mode="after")
    def _table_is_large_enough(self, info: ValidationInfo) -> Self:
        episodes = (info.context or {}).get("episodes", 1)
        if episodes > self.table_pulls:
            raise ValueError(f"table_pulls is {self.table_pulls}, but a task has up to {episodes} pulls; raise it")
        return self


def build(settings: GittinsSettings, suite: Suite) -> CandidateSearch:
    """The Gittins rule on a suite with independent Bernoulli arms."""
    from functools import partial

    from algorithms.bandit_policies import GittinsPolicy
    from algorithms.candidates import CandidateSearch

    table_of = partial(suite.gittins_table, pulls=settings.table_pulls, grid=settings.table_grid)  # type: ignore[attr-defined]
    return CandidateSearch(GittinsPolicy(suite, settings.candidates, table_of), settings.candidates)


GITTINS = Declaration(
    name="gittins",
    version=1,
    settings=GittinsSettings,
    build="algorithms.gittins:build",
    requires=frozenset({"independent arms"}),
)
