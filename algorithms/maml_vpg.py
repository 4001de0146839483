"""The original MAML estimator with vanilla policy gradient outside, a linear baseline, and no critic.

inner surrogate: score function · adaptation: gradient steps on fresh data · outer objective: post-update return ·
outer optimiser: Adam. With TRPO outside it is maml_trpo.py, with a meta-learned critic maml.py.
"""

from __future__ import annotations

from typing import Literal

from algorithms.policy_search import VPGSettings, method


class MAMLVPGSettings(VPGSettings):
    """The composition's choices, fixed."""

    inner_surrogate: Literal["score_function"] = "score_function"
    credit: Literal["none"] = "none"


MAML_VPG = method("maml_vpg", MAMLVPGSettings, "vpg")
