"""What all tests share: a quiet environment and a hypothesis profile for a busy machine.

The markers (`sandbox`, `training`, `slow`) are declared in pyproject.toml; an undeclared one is an error.
`make test` leaves `training` and `slow` out, `.ci/run` runs all of them.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Before any test imports a library that reads them.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TERM", "dumb")
os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "120"

# Deadlines measure the neighbours' load, not our code; the time limit of a test is pytest-timeout's.
settings.register_profile("chaosgym", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("chaosgym")
