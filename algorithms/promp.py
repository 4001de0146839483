"""ProMP: proximal meta-policy search (Rothfuss et al. 2019, section 6, algorithm 1).

inner surrogate: likelihood ratio · adaptation: gradient steps on fresh data, recomputed on it at every outer step ·
outer objective: clipped post-update return, and a penalty on KL(π_old, π) of the pre-update policies · outer
optimiser: five Adam steps on the same data.
"""

from __future__ import annotations

from typing import Literal

from algorithms.policy_search import ProximalSettings, method


class ProMPSettings(ProximalSettings):
    """The composition's choice, fixed."""

    inner_surrogate: Literal["likelihood_ratio"] = "likelihood_ratio"


PROMP = method("promp", ProMPSettings, "proximal")
