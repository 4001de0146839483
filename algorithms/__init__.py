"""The methods. The registries name them; nothing here imports torch."""

from algorithms.fomaml import FOMAML
from algorithms.maml import MAML
from algorithms.maml_elementwise import MAML_ELEMENTWISE
from algorithms.pretrained import PRETRAINED
from algorithms.settings import AdamSettings, InnerRuleSettings
from harness.api import Declaration, Settings

ALGORITHMS: dict[str, Declaration] = {
    declaration.name: declaration for declaration in (MAML, FOMAML, MAML_ELEMENTWISE, PRETRAINED)
}

RULES: dict[str, type[Settings]] = {"adam": AdamSettings, "inner": InnerRuleSettings}
"""Adaptation rules that a meta-test protocol may use."""
