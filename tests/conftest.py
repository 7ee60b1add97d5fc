"""What all tests share: a quiet environment and a hypothesis profile for a busy machine.

The markers (`sandbox`, `docker`, `kubernetes`, `training`, `slow`) are declared in pyproject.toml; an undeclared one is an
error. `make test` runs `sandbox` alone of them, `.ci/run` all. Without its engine a test of one is skipped, or fails where
CHAOSGYM_REQUIRE_ENGINES=1 says that there must be one. CHAOSGYM_TEST_CONTEXT names the cluster for tests.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest
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


def pytest_runtest_setup(item: pytest.Item) -> None:
    for engine in ("docker", "kubernetes"):
        if item.get_closest_marker(engine) is not None and (reason := missing_engine(engine)):
            (pytest.fail if os.environ.get("CHAOSGYM_REQUIRE_ENGINES") == "1" else pytest.skip)(reason)


@functools.cache
def missing_engine(name: str) -> str:
    """Why there is none; empty where it answers. Asked in a process of its own, as SDKs leave sockets open that nobody answers."""
    context = os.environ.get("CHAOSGYM_TEST_CONTEXT", "test")
    ask = {
        "docker": "from chaosgym.sandbox.docker import connect; connect()",
        "kubernetes": f"from chaosgym.sandbox.kubernetes_api import connect; connect({context!r})",
    }
    done = subprocess.run([sys.executable, "-c", ask[name]], capture_output=True, text=True, timeout=60, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


@pytest.fixture(scope="session")
def cluster_context() -> str:
    """The context of the cluster for tests."""
    return os.environ.get("CHAOSGYM_TEST_CONTEXT", "test")
