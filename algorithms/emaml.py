"""E-MAML: formulation II, which credits the pre-update policy with the post-update return.

inner surrogate: score function · adaptation: gradient steps on fresh data · outer objective: post-update return, and a
credit to the pre-update policies · outer optimiser: Adam, or TRPO.

``emaml_*`` has the credit of the paper (Rothfuss et al. 2019, eq. 3), ``emaml_released_*`` that of its released code;
they are different objectives. See :class:`algorithms.pre_update.PreUpdateCredit`.
"""

from __future__ import annotations

from typing import Literal

from algorithms.policy_search import TRPOSettings, VPGSettings, method


class EMAMLVPGSettings(VPGSettings):
    """The composition's choices, fixed."""

    inner_surrogate: Literal["score_function"] = "score_function"
    credit: Literal["paper"] = "paper"


class EMAMLReleasedVPGSettings(VPGSettings):
    """The composition's choices, fixed."""

    inner_surrogate: Literal["score_function"] = "score_function"
    credit: Literal["released"] = "released"


class EMAMLTRPOSettings(TRPOSettings):
    """The composition's choices, fixed."""

    inner_surrogate: Literal["score_function"] = "score_function"
    credit: Literal["paper"] = "paper"


class EMAMLReleasedTRPOSettings(TRPOSettings):
    """The composition's choices, fixed."""

    inner_surrogate: Literal["score_function"] = "score_function"
    credit: Literal["released"] = "released"


EMAML_VPG = method("emaml_vpg", EMAMLVPGSettings, "vpg")
EMAML_RELEASED_VPG = method("emaml_released_vpg", EMAMLReleasedVPGSettings, "vpg")
EMAML_TRPO = method("emaml_trpo", EMAMLTRPOSettings, "trpo")
EMAML_RELEASED_TRPO = method("emaml_released_trpo", EMAMLReleasedTRPOSettings, "trpo")
