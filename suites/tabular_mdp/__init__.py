"""Tabular MDPs with random tables (Duan et al. 2016; Deleu et al. 2018, section 4.2)."""

from typing import Annotated

from pydantic import Field

from harness.api import Declaration, Settings


class TabularMDPSettings(Settings):
    """Settings of the suite."""

    states: Annotated[int, Field(ge=1, le=1000)] = 10
    actions: Annotated[int, Field(ge=1, le=1000)] = 5
    horizon: Annotated[int, Field(ge=1)] = 10


SUITE = Declaration(
    name="tabular_mdp",
    version=1,
    settings=TabularMDPSettings,
    build="suites.tabular_mdp.simulation:TabularMDP",
    provides=frozenset({"a finite set of actions", "tables to plan on"}),
)
