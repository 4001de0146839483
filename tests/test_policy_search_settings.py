"""Settings of the policy-search family: what a named method fixes, and what belongs to which optimiser."""

import pytest
import yaml
from pydantic import ValidationError

from algorithms import ALGORITHMS
from harness.errors import UserError
from tests.harness_fixtures import TINY, load, write_study


def test_settings_with_plain_descent_survive_json():
    schema = ALGORITHMS["lvc_vpg"].settings
    settings = schema(inner_lr=0.1, outer_lr=0.1, outer_optimiser="sgd")
    assert schema.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("key", "value"), [("outer_betas", [0.5, 0.9]), ("outer_epsilon", 1e-5), ("outer_schedule", "cosine")]
)
def test_plain_descent_has_no_settings_of_adam(key, value):
    period = {"outer_schedule_period": 9} if key == "outer_schedule" else {}
    given = {"inner_lr": 0.1, "outer_lr": 0.1, key: value} | period
    ALGORITHMS["lvc_vpg"].settings.model_validate(given)
    with pytest.raises(ValidationError, match=f"{key} belongs to Adam"):
        ALGORITHMS["lvc_vpg"].settings.model_validate(given | {"outer_optimiser": "sgd"})


NAMED = {
    "maml_vpg": ("score_function", "none"),
    "lvc_vpg": ("likelihood_ratio", "none"),
    "lvc_trpo": ("likelihood_ratio", "none"),
    "dice_vpg": ("dice", "none"),
    "dice_trpo": ("dice", "none"),
    "emaml_vpg": ("score_function", "paper"),
    "emaml_trpo": ("score_function", "paper"),
    "emaml_released_vpg": ("score_function", "released"),
    "emaml_released_trpo": ("score_function", "released"),
    "promp": ("likelihood_ratio", None),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_method_is_a_composition_whose_choices_are_not_for_sale(name):
    inner, credit = NAMED[name]
    outer = {"trpo": "trpo", "vpg": "vpg"}.get(name.rpartition("_")[2], "proximal")
    assert ALGORITHMS[name].build == ALGORITHMS[f"policy_search_{outer}"].build
    schema = ALGORITHMS[name].settings
    given = {"inner_lr": 0.1} | ({} if outer == "trpo" else {"outer_lr": 0.1})
    settings = schema.model_validate(given)
    assert settings.inner_surrogate == inner
    assert getattr(settings, "credit", None) == credit
    for key, own in (("inner_surrogate", inner), ("credit", credit)):
        if own is not None:
            other = {"score_function": "lvc", "paper": "derived"}.get(own, "score_function")
            with pytest.raises(ValidationError, match=key):
                schema.model_validate(given | {key: other})


@pytest.mark.parametrize(
    ("algorithm", "keys", "said"),
    [
        ("lvc_vpg", {"outer_optimiser": "sgd", "outer_betas": [0.5, 0.9]}, "outer_betas belongs to Adam"),
        ("promp", {"inner_surrogate": "dice"}, "inner_surrogate"),
        ("emaml_vpg", {"credit": "derived"}, "credit"),
        ("policy_search_vpg", {"credit": "none"}, "missing key 'inner_surrogate'"),
        ("policy_search_vpg", {"inner_surrogate": "lcv", "credit": "none"}, "'lvc'"),
    ],
)
def test_a_study_that_asks_for_something_else_is_refused_in_one_line(algorithm, keys, said, tmp_path):
    study = yaml.safe_load(TINY) | {"hyperparameters": {"inner_lr": 0.1, "outer_lr": 0.1} | keys}
    path = write_study(tmp_path, yaml.safe_dump(study | {"methods": {"one": {"algorithm": algorithm}}}))
    with pytest.raises(UserError) as refusal:
        load(path).plan()
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
