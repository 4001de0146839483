"""How workers come into being."""

from types import SimpleNamespace

from harness.execution import Execution
from harness.ray_workers import _join


def test_without_an_address_no_cluster_is_joined_that_somebody_began_on_this_machine():
    calls = []
    _join(SimpleNamespace(init=lambda **options: calls.append(options)), Execution(workers=3))
    (options,) = calls
    assert (options["address"], options["num_cpus"]) == ("local", 3)
