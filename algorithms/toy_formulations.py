"""The two formulations of the meta-gradient on the 1D toy task (Rothfuss et al. 2019, section 7.4 and appendix A).

policy: Gaussian around θ₀ s² + θ₁ with standard deviation 1 · inner surrogate: score function of whole trajectories ·
adaptation: one gradient step · outer objective: the post-update return, with credit for the data that led to it after
formulation I or II · outer optimiser: plain gradient ascent. Every derivative is in closed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from algorithms.settings import PositiveRate, Rate
from harness.api import Declaration, Settings, Suite

if TYPE_CHECKING:
    from algorithms.parabola_learner import ParabolaLearner


class ToyFormulationSettings(Settings):
    """Defaults: the initial parameters and the clip of the released code, the gradients of the paper's appendix A."""

    formulation: Literal["one", "two"]
    """``one``: credit by the inner product of inner and outer gradient, as of DiCE; ``two``: by the post-update return,
    as of E-MAML."""
    inner_lr: Rate = 0.1
    outer_lr: PositiveRate
    scale_post: bool = False
    """Multiply the post-update term by ``inner_lr``: in the released code, not in the paper."""
    scale_credit: bool = False
    """Multiply the credit of formulation two by ``inner_lr``: in the released code and in equations 3 and 37, not in
    the derivation that leads there (equation 35). The credit of formulation one has this factor by derivation."""
    baseline: bool = False
    """Subtract a leave-one-out mean from every return: see :class:`algorithms.parabola_learner.ParabolaLearner`."""
    clip_actions: bool = True
    """The policy itself clips its actions to the line, so that their scores are those of the clipped actions, as in the
    released code; off: only the suite clips, and the scores are those of the actions that were drawn."""
    initial_theta: Annotated[tuple[float, float], Field(strict=False)] = (0.09, 0.05)

    @model_validator(mode="after")
    def _credit_of_two(self) -> Self:
        if self.scale_credit and self.formulation == "one":
            raise ValueError("scale_credit is a choice of formulation two; formulation one has the factor anyway")
        return self


def build(settings: ToyFormulationSettings, suite: Suite) -> ParabolaLearner:
    """One of the two formulations on a suite whose state and action are one number each."""
    from algorithms.parabola_learner import ParabolaLearner

    return ParabolaLearner(settings, suite)


TOY_FORMULATIONS = Declaration(
    name="toy_formulations",
    version=1,
    settings=ToyFormulationSettings,
    build="algorithms.toy_formulations:build",
    requires=frozenset({"a line to act on"}),
)
