"""Ray: forbidden in simulation tests."""

import pytest
import ray


def test_a_simulation_that_starts_ray_fails() -> None:
    with pytest.raises(AssertionError, match="without Ray"):
        ray.init()
