"""LVC: the low-variance curvature estimator (Rothfuss et al. 2019, section 5), with VPG or TRPO outside.

inner surrogate: likelihood ratio, which is LVC where the policy is the one that sampled and stays valid in a line
search, as in the released code · adaptation: gradient steps on fresh data · outer objective: post-update return ·
outer optimiser: Adam, or TRPO.
"""

from __future__ import annotations

from typing import Literal

from algorithms.policy_search import TRPOSettings, VPGSettings, method


class LVCVPGSettings(VPGSettings):
    """The composition's choices, fixed."""

    inner_surrogate: Literal["likelihood_ratio"] = "likelihood_ratio"
    credit: Literal["none"] = "none"


class LVCTRPOSettings(TRPOSettings):
    """The composition's choices, fixed."""

    inner_surrogate: Literal["likelihood_ratio"] = "likelihood_ratio"
    credit: Literal["none"] = "none"


LVC_VPG = method("lvc_vpg", LVCVPGSettings, "vpg")
LVC_TRPO = method("lvc_trpo", LVCTRPOSettings, "trpo")
