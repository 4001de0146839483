"""The methods. The registries name them; nothing here imports torch."""

from algorithms.epsilon_greedy import EPSILON_GREEDY
from algorithms.fomaml import FOMAML
from algorithms.fomaml_trpo import FOMAML_TRPO
from algorithms.gittins import GITTINS
from algorithms.maml import MAML
from algorithms.maml_elementwise import MAML_ELEMENTWISE
from algorithms.maml_trpo import MAML_TRPO
from algorithms.pretrained import PRETRAINED
from algorithms.pretrained_trpo import PRETRAINED_TRPO
from algorithms.psrl import PSRL
from algorithms.reptile import REPTILE
from algorithms.settings import AdamSettings, InnerRuleSettings
from algorithms.thompson import THOMPSON
from algorithms.ucb1 import UCB1
from harness.api import Declaration, Settings

ALGORITHMS: dict[str, Declaration] = {
    declaration.name: declaration
    for declaration in (
        MAML, FOMAML, MAML_ELEMENTWISE, PRETRAINED, MAML_TRPO, FOMAML_TRPO, REPTILE, PRETRAINED_TRPO,
        GITTINS, UCB1, THOMPSON, EPSILON_GREEDY, PSRL,
    )
}  # fmt: skip

RULES: dict[str, type[Settings]] = {"adam": AdamSettings, "inner": InnerRuleSettings}
"""Adaptation rules that a meta-test protocol may use."""
