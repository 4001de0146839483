"""DiCE: meta-gradients through the unbiased estimator (Foerster et al. 2018; Rothfuss et al. 2019, eq. 7).

inner surrogate: DiCE on advantages · adaptation: gradient steps on fresh data · outer objective: post-update return ·
outer optimiser: Adam, or TRPO.
"""

from __future__ import annotations

from typing import Literal

from algorithms.policy_search import TRPOSettings, VPGSettings, method


class DiCEVPGSettings(VPGSettings):
    """The composition's choices, fixed."""

    inner_surrogate: Literal["dice"] = "dice"
    credit: Literal["none"] = "none"


class DiCETRPOSettings(TRPOSettings):
    """The composition's choices, fixed."""

    inner_surrogate: Literal["dice"] = "dice"
    credit: Literal["none"] = "none"


DICE_VPG = method("dice_vpg", DiCEVPGSettings, "vpg")
DICE_TRPO = method("dice_trpo", DiCETRPOSettings, "trpo")
