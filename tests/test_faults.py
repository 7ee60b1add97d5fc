"""The fault classes without an application: declarations, parameters, what they ask of a sandbox, and that heal undoes it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.errors import FaultError, InputError
from chaosgym.faults import FAULTS, fault_class, make_fault, refusal
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.conformance import problems
from chaosgym.faults.docs import render
from chaosgym.faults.double import RecordingSandbox, small_plan
from chaosgym.faults.readback import in_force
from chaosgym.faults.resource import nth_free
from chaosgym.sandbox.base import ProcessView, Sandbox, Toxic
from chaosgym.sandbox.proc import read_process
from chaosgym.taxonomy import FAULT_TYPES

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES: dict[str, dict[str, Any]] = {label: {"table": "orders"} for label, f in FAULTS.items() if "table" in f.Parameters.model_fields}
TELLTALE = re.compile(r"chaos|fault|inject|toxic|test|broken|buggy|wrong|defect", re.IGNORECASE)


def test_there_is_a_fault_for_every_label_of_the_taxonomy() -> None:
    assert sorted(FAULTS) == sorted(FAULT_TYPES)
    assert len(FAULTS) >= 70


@pytest.mark.parametrize("label", FAULTS)
async def test_every_fault_conforms(label: str) -> None:
    assert await problems(FAULTS[label], EXAMPLES.get(label)) == []


def test_the_page_about_faults_is_fresh() -> None:
    assert (ROOT / "docs" / "faults.md").read_text() == render(), "run: python -m chaosgym.faults.docs"


def test_listing_faults_imports_no_client_library() -> None:
    code = "import sys, chaosgym.faults; print({'asyncpg', 'redis', 'aiohttp', 'pyarrow', 'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- conformance finds what is wrong ---------------------------------------------------------------------------


class _Nothing(FaultParameters):
    """None."""


class _Leaky(Fault):
    """Slows a link and forgets about it."""

    label = "network.latency"
    kinds = frozenset({"service"})
    needs = frozenset({"link"})
    symptoms = (Symptom("callers", "latency"),)
    Parameters: ClassVar[type[FaultParameters]] = _Nothing

    async def inject(self, sandbox: Sandbox) -> None:
        await sandbox.toxic(self.target, Toxic(latency=0.1))

    async def verify(self, sandbox: Sandbox) -> None:
        assert await sandbox.link_toxic(self.target)

    async def heal(self, sandbox: Sandbox) -> None:
        return


class _Touchy(_Leaky):
    """Heals once, and only what it broke."""

    async def heal(self, sandbox: Sandbox) -> None:
        if await sandbox.link_toxic(self.target) is None:
            raise FaultError("nothing to heal")
        await sandbox.toxic(self.target, None)


class _Greedy(_Leaky):
    """Uses what it does not declare, under a version that gives it away."""

    needs = frozenset({"signal"})

    async def inject(self, sandbox: Sandbox) -> None:
        await sandbox.restart(self.target, version="2.7.1-buggy", settings={"retries": 9})

    async def heal(self, sandbox: Sandbox) -> None:
        await sandbox.restart(self.target)


class _DelayWithoutWords(FaultParameters):
    delay: float


class _Undocumented(_Leaky):
    label = "network.slowness"
    symptoms = (Symptom("callers", "log"), Symptom("callers", "log", pattern=".*"))
    Parameters = _DelayWithoutWords


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (_Leaky, "heal on 'orders' leaves {('toxic', 'orders')"),
        (_Touchy, "heal before inject on 'orders' raises FaultError"),
        (_Greedy, "inject uses restart, which `needs` does not declare"),
        (_Greedy, "the version '2.7.1-buggy' of 'orders', which everybody sees, gives it away"),
        (_Undocumented, "label 'network.slowness' is not in chaosgym.taxonomy"),
        (_Undocumented, "no docstring"),
        (_Undocumented, "parameter 'delay' has no docstring"),
        (_Undocumented, "pattern '.*' matches every line"),
        (_Undocumented, "a pattern belongs to the signals 'log' and 'event'"),
        (_Undocumented, "pass an example of what it cannot do without"),
    ],
)
async def test_conformance_names_the_flaw(fault: type[Fault], expected: str) -> None:
    assert any(expected in problem for problem in await problems(fault)), await problems(fault)


# ---- parameters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "given_", "field", "expected"),
    [
        ("network.latency", {"delay": "80ms", "jitter": "20ms"}, "delay", 0.08),
        ("network.latency", {"delay": 0.08, "jitter": 0}, "delay", 0.08),
        ("network.latency", {"delay": 1}, "delay", 1.0),
        ("resource.memory_leak", {"rate": "64MiB"}, "rate", 64 * 2**20),
        ("resource.memory_leak", {"rate": 6.5e7}, "rate", 65_000_000),
        ("resource.cpu", {"duty": 0.9}, "duty", 0.9),
        ("application.retry_storm", {"delay": "200ms", "retries": 4}, "delay", 0.2),
    ],
)
def test_quantities_are_text_or_numbers(label: str, given_: dict[str, Any], field: str, expected: float) -> None:
    assert getattr(make_fault(label, "orders", given_).parameters, field) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("label", "given_", "message"),
    [
        ("network.latency", {"delay": "10ms", "jitter": "20ms"}, "jitter 0.02 s is more than delay 0.01 s"),
        ("network.latency", {"delay": "1 week"}, "'1 week' is not a duration"),
        ("network.latency", {"delay": True}, "delay"),
        ("network.latency", {"dealy": "1s"}, "Its parameters: delay, jitter"),
        ("resource.cpu", {"duty": 1.5}, "less than or equal to 1"),
        ("resource.cpu", {"duty": float("nan")}, "duty"),
        ("resource.memory_leak", {"rate": float("inf")}, "rate"),
        ("process.crash", {"really": 1}, "Its parameters: none"),
        ("dependency.lock", {}, "table: Field required"),
    ],
)
def test_parameters_that_do_not_fit_are_named(label: str, given_: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make_fault(label, "orders", given_)


_NAMES = st.sampled_from(["delay", "jitter", "rate", "duty", "share", "retries", "x"])
_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.lists(st.integers(), max_size=2)


@given(st.sampled_from(list(FAULTS)), st.dictionaries(_NAMES, _VALUES))
def test_any_parameters_give_a_fault_or_an_input_error(label: str, parameters: dict[str, Any]) -> None:
    try:
        told = make_fault(label, "orders", parameters).label
    except InputError as error:
        told = str(error)
    assert label in told


def test_an_unknown_fault_gets_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"no fault 'network\.latancy' - did you mean 'network\.latency'\?.*chaosgym faults list"):
        fault_class("network.latancy")


def test_a_sandbox_or_a_kind_that_does_not_fit_is_refused_by_name() -> None:
    assert refusal(FAULTS["dependency.lock"], "redis", {"sql"}) == "dependency.lock cannot hit a redis; it fits postgres"
    assert refusal(FAULTS["process.crash"], "service", {"signal"}) == "process.crash needs what this sandbox cannot do: hold"
    assert refusal(FAULTS["process.crash"], "service", {"signal", "hold"}) is None


# ---- what they ask of a sandbox --------------------------------------------------------------------------------


async def test_a_crash_is_held_down_before_the_kill() -> None:
    sandbox = RecordingSandbox()
    fault = make_fault("process.crash", "orders")
    await fault.inject(sandbox)
    assert sandbox.calls == [("hold", "orders", True), ("signal", "orders", signal.SIGKILL)]
    await fault.heal(sandbox)
    assert sandbox.residue == {}


@pytest.mark.parametrize("label", ["configuration.credential", "application.bad_deploy", "application.retry_storm"])
@pytest.mark.parametrize("seed", range(25))
async def test_a_rollout_looks_like_any_other(label: str, seed: int) -> None:
    sandbox = RecordingSandbox(small_plan(seed))
    fault = make_fault(label, "orders")
    await fault.inject(sandbox)
    version, settings = next(asked for capability, _, asked in sandbox.calls if capability == "restart")
    if label == "application.retry_storm":
        assert version is None
        assert settings["breaker"] is False
        assert settings["retries"] == 6
    else:
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), version
        assert tuple(map(int, version.split("."))) > (2, 7, 1)
    visible = [version, *(value for value in settings.values() if isinstance(value, str))]
    assert not [word for word in visible if word and TELLTALE.search(word)]


async def test_the_same_seed_breaks_the_same_way() -> None:
    asked: list[list[Any]] = []
    for seed in (3, 3, 4):
        sandbox = RecordingSandbox(small_plan(seed))
        await make_fault("application.bad_deploy", "orders").inject(sandbox)
        asked.append(sandbox.calls)
    assert asked[0] == asked[1]
    assert asked[0] != asked[2]


async def test_a_retry_gives_up_before_the_slowed_answer_can_be_there() -> None:
    sandbox = RecordingSandbox()
    await make_fault("application.retry_storm", "orders", {"delay": "100ms"}).inject(sandbox)
    settings = next(asked[1] for capability, _, asked in sandbox.calls if capability == "restart")
    toxic = await sandbox.link_toxic("payments")
    assert toxic is not None
    assert settings["timeout"] < 2 * (toxic.latency - toxic.jitter)


async def test_a_rollout_is_read_back_from_the_processes() -> None:
    sandbox = RecordingSandbox()  # its process stays the same one, whatever it is asked
    with pytest.raises(FaultError, match="was not rolled out"):
        async with make_fault("application.bad_deploy", "orders").applied(sandbox):
            pytest.fail("it was taken for applied")
    assert sandbox.residue == {}


@pytest.mark.parametrize(
    ("label", "target", "parameters", "message"),
    [
        ("configuration.credential", "web", {}, "'web' uses no database"),
        ("application.retry_storm", "payments", {}, "'payments' does not call anything; it calls nothing"),
        ("application.retry_storm", "web", {"dependency": "cache"}, "'web' does not call cache; it calls orders"),
        ("dependency.lock", "database", {"table": "invoices"}, "no table 'invoices'; it has orders, payments"),
        ("process.hang", "database", {}, "has no process"),
        ("resource.file_descriptors", "database", {}, "has no process"),
    ],
)
async def test_a_target_that_does_not_fit_is_refused(label: str, target: str, parameters: dict[str, Any], message: str) -> None:
    sandbox = RecordingSandbox()
    with pytest.raises(FaultError, match=re.escape(message)):
        async with make_fault(label, target, parameters).applied(sandbox):
            pytest.fail("it was taken for applied")
    assert sandbox.residue == {}


@pytest.mark.parametrize("label", ["network.latency", "network.partition", "application.retry_storm"])
async def test_without_a_link_nothing_is_slowed(label: str) -> None:
    sandbox = RecordingSandbox(dataclasses.replace(small_plan(), proxied=("cache",)))
    with pytest.raises(FaultError, match="is not behind a link; the plan has links for cache"):
        async with make_fault(label, "orders").applied(sandbox):
            pytest.fail("it was taken for applied")
    assert sandbox.residue == {}


async def test_a_toxic_that_did_not_take_is_noticed() -> None:
    sandbox = RecordingSandbox()
    fault = make_fault("network.latency", "orders")
    await fault.inject(sandbox)
    await sandbox.toxic("orders", Toxic(latency=0.001))
    with pytest.raises(FaultError, match=r"has Toxic\(latency=0\.001"):
        await fault.verify(sandbox)


# ---- reading back ----------------------------------------------------------------------------------------------


async def test_in_force_waits_and_then_says_what_is_missing() -> None:
    async def after(turns: Iterator[bool]) -> bool:
        return next(turns)

    answers = iter([False, False, True])
    await in_force(lambda: after(answers), lambda: "never asked")
    with pytest.raises(FaultError, match="it is not"):
        await in_force(lambda: after(repeat(False)), lambda: "it is not", within=0.01)


def test_a_process_is_read_from_proc() -> None:
    view = read_process(os.getpid())
    assert view is not None
    assert view.state in ("R", "S")
    assert view.pid in view.threads
    assert view.resident > 2**20
    assert {0, 1, 2} <= view.files
    assert view.files_limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert ProcessView.from_json(json.loads(json.dumps(view.to_json()))) == view


def test_a_process_that_has_ended_is_none() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    assert read_process(child.pid) is None
    child.wait()
    assert read_process(child.pid) is None


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_connections_are_told_from_other_descriptors(family: socket.AddressFamily) -> None:
    here, (left, right) = "127.0.0.1" if family == socket.AF_INET else "::1", socket.socketpair()
    with left, right, socket.create_server((here, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        accepted, _ = server.accept()
        with client, accepted:
            view = read_process(os.getpid())
            assert view is not None
            assert {client.fileno(), accepted.fileno()} <= view.connections <= view.files
            assert view.connections.isdisjoint({0, 1, 2, server.fileno(), left.fileno()})


@given(st.sets(st.integers(0, 60)), st.integers(0, 10))
def test_the_limit_leaves_exactly_the_spare_numbers(numbers: set[int], spare: int) -> None:
    limit = nth_free(numbers, spare)
    assert len([n for n in range(limit) if n not in numbers]) == spare
    assert limit not in numbers


def test_every_fault_says_where_it_is_described() -> None:
    assert [label for label, fault in FAULTS.items() if not fault.documented.startswith("https://")] == []
