"""The task families. The registry names them; nothing here imports torch."""

from harness.api import Declaration
from suites import bandits, locomotion, navigation, point_1d, point_corners, tabular_mdp

SUITES: dict[str, Declaration] = {
    suite.SUITE.name: suite.SUITE for suite in (navigation, bandits, tabular_mdp, point_1d, point_corners, locomotion)
}
