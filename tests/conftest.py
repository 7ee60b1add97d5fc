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
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


_SECOND = 10**9
_START = 1_790_000_000 * _SECOND


@pytest.fixture(scope="session")
def record() -> Callable[..., None]:
    """Write a small episode: `record(folder, number)`, with a `fault` and a `split` of its own if need be.

    A gateway stands in front of two services, one of which refuses its calls, or does not answer them, or is well, by turns.
    """
    return _record


def _record(folder: Path, number: int, fault: str | None = None, split: Any = "train") -> None:
    from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader, Window, write_episode
    from chaosgym.telemetry.store import TelemetryBuffer
    from chaosgym.truth import TrueCause, Truth

    fault = ("process.crash", "process.hang", "")[number % 3] if fault is None else fault
    buffer, names = TelemetryBuffer(), (f"front-{number}", f"billing-{number}", f"cart-{number}")
    culprit = names[1 + number % 2]
    error = {"process.crash": "ConnectionRefusedError", "process.hang": "TimeoutError"}.get(fault)
    for i in range(60):
        at, peer = _START + i * _SECOND // 30, names[1 + i % 2]
        bad = error is not None and peer == culprit and i >= 30
        row = (f"t{i}", f"c{i}", None, "GET", "client", "error" if bad else "unset", error if bad else None, f"{peer}.internal")
        buffer.spans.append((at, at + (900 if bad else 4) * 10**6, names[0], *row, 503 if bad else 200, error if bad else None, "{}"))
    middle = _START + _SECOND
    header = EpisodeHeader(
        id=f"e{number}", entry=names[0], baseline=Window(_START, middle), incident=Window(middle, middle + _SECOND),
        components=tuple(ComponentInfo(name=n, kind="service", host=f"{n}.internal") for n in names),
        edges=tuple(EdgeInfo(source=names[0], target=n) for n in names[1:]),
    )
    causes = (TrueCause(component=culprit, fault=fault),) if fault else ()
    truth = Truth(scenario=fault or "calm", app="a", verdict="fault" if fault else "healthy", causes=causes, split=split)
    write_episode(folder, header, buffer.tables(), truth)
