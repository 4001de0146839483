"""TRPO for the actor and Adam for the critic: each with the update that its loss is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.meta_gradients import MetaGradient
from algorithms.networks import Params
from algorithms.outer_updates import AdamUpdate, TrustRegionUpdate
from algorithms.settings import AdamSettings, TrustRegionSettings
from harness.api import MetaBatch, Metrics, State

if TYPE_CHECKING:
    from algorithms.meta_learner import MetaLearner, Part


class ActorTrustRegion:
    """A trust-region step of the actor beside one Adam step of the critic, on the same data.

        actor    as TRPO alone, with the advantages of the critic that sampled; see :class:`TrustRegionUpdate`
        critic   one Adam step on the gradient of its squared error after adaptation

    Both parts are seen through :meth:`MetaLearner.only`, so that a Fisher product costs what the actor costs.
    """

    def __init__(self, region: TrustRegionSettings, adam: AdamSettings, meta_gradient: MetaGradient, through: bool):
        self.actor = TrustRegionUpdate(region, through_adaptation=through)
        self.critic = AdamUpdate(adam, meta_gradient)

    def init(self, params: Params) -> Params:
        """Zero moments for the critic."""
        return self.critic.init(_of("critic", params))

    def step(self, learner: MetaLearner, state: State, data: MetaBatch) -> tuple[Params, Params, Metrics]:
        """See :class:`algorithms.meta_learner.OuterUpdate`."""
        actor, _, moved = self.actor.step(learner.only("actor"), *_share("actor", state, data))
        critic, memory, metrics = self.critic.step(learner.only("critic"), *_share("critic", state, data))
        new = actor | critic
        return {name: new[name] for name in state.params}, memory, moved | metrics


def _share(part: Part, state: State, data: MetaBatch) -> tuple[State, MetaBatch]:
    """What concerns one part. The optimiser's memory is the critic's alone."""
    memory = state.optimiser if part == "critic" else {}
    return State(_of(part, state.params), memory), data._replace(adapted=_of(part, data.adapted))


def _of(part: Part, params: Params) -> Params:
    return {name: tensor for name, tensor in params.items() if name.startswith(f"{part}/")}
