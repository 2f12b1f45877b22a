"""What every test of the platform shares: how hard Hypothesis tries, and that pure tests stay without Ray."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

PURE = ("tests/unit", "tests/simulation")
"""Folders whose tests run without a cluster."""

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("deep", settings.get_profile("default"), max_examples=2_000)
settings.register_profile(
    "mutants",
    settings.get_profile("default"),
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # a survivor is what matters, not the smallest example that kills
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _no_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `ray.init` raise in unit and simulation tests: what needs a cluster is tested in tests/cluster."""
    if request.node.nodeid.startswith(PURE):
        import ray

        def refuse(*arguments: object, **options: object) -> None:
            raise AssertionError("unit and simulation tests run without Ray")

        monkeypatch.setattr(ray, "init", refuse)
