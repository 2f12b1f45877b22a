"""Ray: forbidden in unit tests."""

import pytest
import ray


def test_a_unit_test_that_starts_ray_fails() -> None:
    with pytest.raises(AssertionError, match="without Ray"):
        ray.init()
