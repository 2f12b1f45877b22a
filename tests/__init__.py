"""Tests. Ray reads these two when it is imported: it stays on the loopback address, and tells nobody."""

import os

os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")
