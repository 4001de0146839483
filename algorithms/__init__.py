"""The methods. The registries name them; nothing here imports torch."""

from algorithms.actor_critic import ACTOR_CRITIC, ACTOR_CRITIC_TRPO
from algorithms.dice import DICE_TRPO, DICE_VPG
from algorithms.emaml import EMAML_RELEASED_TRPO, EMAML_RELEASED_VPG, EMAML_TRPO, EMAML_VPG
from algorithms.epsilon_greedy import EPSILON_GREEDY
from algorithms.fomaml import FOMAML
from algorithms.fomaml_trpo import FOMAML_TRPO
from algorithms.gittins import GITTINS
from algorithms.lvc import LVC_TRPO, LVC_VPG
from algorithms.maml import MAML
from algorithms.maml_elementwise import MAML_ELEMENTWISE
from algorithms.maml_trpo import MAML_TRPO
from algorithms.maml_vpg import MAML_VPG
from algorithms.meta_sgd import META_SGD
from algorithms.policy_search import POLICY_SEARCH_PROXIMAL, POLICY_SEARCH_TRPO, POLICY_SEARCH_VPG
from algorithms.pretrained import PRETRAINED
from algorithms.pretrained_trpo import PRETRAINED_TRPO
from algorithms.promp import PROMP
from algorithms.psrl import PSRL
from algorithms.reptile import REPTILE
from algorithms.settings import AdamSettings, InnerRuleSettings, ScaledInnerRuleSettings
from algorithms.thompson import THOMPSON
from algorithms.toy_formulations import TOY_FORMULATIONS
from algorithms.ucb1 import UCB1
from harness.api import Declaration, Settings

ALGORITHMS: dict[str, Declaration] = {
    declaration.name: declaration
    for declaration in (
        MAML, FOMAML, MAML_ELEMENTWISE, PRETRAINED, MAML_TRPO, FOMAML_TRPO, REPTILE, PRETRAINED_TRPO,
        MAML_VPG, LVC_VPG, LVC_TRPO, DICE_VPG, DICE_TRPO, PROMP,
        EMAML_VPG, EMAML_TRPO, EMAML_RELEASED_VPG, EMAML_RELEASED_TRPO,
        ACTOR_CRITIC, ACTOR_CRITIC_TRPO, META_SGD,
        POLICY_SEARCH_VPG, POLICY_SEARCH_TRPO, POLICY_SEARCH_PROXIMAL,
        GITTINS, UCB1, THOMPSON, EPSILON_GREEDY, PSRL, TOY_FORMULATIONS,
    )
}  # fmt: skip

RULES: dict[str, type[Settings]] = {
    "adam": AdamSettings,
    "inner": InnerRuleSettings,
    "inner_scaled": ScaledInnerRuleSettings,
}
"""Adaptation rules that a meta-test protocol may use."""
