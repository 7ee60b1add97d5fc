"""A small town of real services on a real PostgreSQL and a real Redis: what users see, and what the telemetry says."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from chaosgym.app import App
from chaosgym.drawing import draw_plan
from chaosgym.plan import Plan
from chaosgym.sandbox.datastores import Postgres, Redis
from chaosgym.sandbox.supervisor import Instance, ask
from chaosgym.sandbox.wire import Network, draw_address, make_network
from chaosgym.scenarios.load import load_scenario
from chaosgym.services.config import EndpointConfig, ServiceConfig
from chaosgym.services.load import EDGE, LoadGenerator
from chaosgym.services.program import Program
from chaosgym.services.wiring import service_configs
from chaosgym.telemetry.otlp import Receiver
from chaosgym.telemetry.store import TelemetryBuffer, table_from_rows

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

_APP = {
    "apiVersion": "chaosgym.dev/v1",
    "kind": "App",
    "metadata": {"name": "shop"},
    "spec": {
        "entry": "front",
        "components": {
            "front": {
                "kind": "gateway",
                "vocabulary": "gateway",
                "endpoints": {
                    "look": {"steps": [{"call": "back", "endpoint": "read", "timeout": "400ms", "retries": 0}]},
                    "buy": {"method": "POST", "steps": [{"call": "back", "endpoint": "write", "timeout": "400ms", "retries": 0}]},
                    "glance": {"steps": [{"call": "back", "endpoint": "read", "timeout": "400ms", "retries": 0, "optional": True}]},
                },
            },
            "back": {
                "kind": "service",
                "vocabulary": "catalog",
                "endpoints": {
                    "read": {
                        "steps": [
                            {
                                "cache": "cache",
                                "key": "thing",
                                "ttl": "5s",
                                "timeout": "400ms",
                                "otherwise": [{"query": "database", "table": "things", "operation": "get", "timeout": "400ms"}],
                            },
                            {"compute": "1ms"},
                        ]
                    },
                    "write": {
                        "method": "POST",
                        "steps": [
                            {"query": "database", "table": "things", "operation": "update", "timeout": "400ms"},
                            {"cache": "cache", "operation": "set", "key": "thing", "ttl": "5s", "timeout": "400ms"},
                            {"publish": "cache", "stream": "bought", "timeout": "400ms"},
                        ],
                    },
                },
            },
            "clerk": {
                "kind": "worker",
                "vocabulary": "notifications",
                "consumes": {
                    "redis": "cache",
                    "stream": "bought",
                    "steps": [{"query": "database", "table": "things", "operation": "insert", "timeout": "400ms"}],
                },
            },
            "database": {"kind": "postgres", "vocabulary": "database", "tables": {"things": {"rows": 40}}},
            "cache": {"kind": "redis", "vocabulary": "cache"},
        },
        "journeys": {"all": {"weight": 1, "requests": ["look", "buy"]}},
    },
}


class Town:
    """The running app; `get` and `post` are its users."""

    def __init__(self, plan: Plan, network: Network, postgres: Postgres, redis: Redis, buffer: TelemetryBuffer) -> None:
        self.plan, self.network, self.postgres, self.redis, self.buffer = plan, network, postgres, redis, buffer
        self.programs: dict[str, Program] = {}
        self.forkers: dict[str, socket.socket] = {}

    async def start(self, role: str, **settings: Any) -> None:
        """Start one program with changed settings and wait until it is ready."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.forkers[role] = ours
        config = service_configs(self.plan, self.network.wiring)[role].replace(**settings)
        program = self.programs[role] = Program(config, theirs)
        await program.start()
        assert await self.hear(role) == {"ready": True}

    async def hear(self, role: str) -> dict[str, Any]:
        """The next message on the control socket."""
        return json.loads(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.forkers[role], 4096), 5))

    async def stop(self, role: str) -> None:
        """Stop one program, which delivers its telemetry."""
        await self.programs.pop(role).stop()
        self.forkers.pop(role).close()

    async def ask(self, endpoint: str, item: int = 7) -> int:
        """The status that a user gets."""
        address, port = self.network.wiring.client["front"]
        entry = self.plan.app.spec.components["front"].endpoints[endpoint]
        route = self.plan.components["front"].routes[endpoint]
        path = route.split("{")[0] + str(item) + route.partition("}")[2] if "{" in route else f"{route}?id={item}"
        async with aiohttp.ClientSession() as session, session.request(entry.method, f"http://{address}:{port}{path}") as reply:
            await reply.read()
            return reply.status

    async def spans(self) -> list[dict[str, Any]]:
        """All spans, after stopping every program."""
        for role in list(self.programs):
            await self.stop(role)
        return table_from_rows("spans", self.buffer.spans).to_pylist()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[Postgres, Redis]]:
    """A PostgreSQL and a Redis for all tests of this file."""
    folder = Path(tempfile.mkdtemp(prefix="town-"))
    folder.chmod(0o755)
    postgres, redis = Postgres(folder, draw_address(), folder / "postgres.log"), Redis(folder, draw_address(), folder / "redis.log")
    try:
        redis.launch()
        postgres.launch(tmp_path_factory.getbasetemp() / "postgres")
        await asyncio.gather(redis.ready(), postgres.ready())
        yield postgres, redis
    finally:
        await asyncio.gather(postgres.stop(), redis.stop())
        shutil.rmtree(folder)


@pytest_asyncio.fixture(loop_scope="module")
async def town(servers: tuple[Postgres, Redis]) -> AsyncGenerator[Town]:
    """Datastores and a receiver; the tests start the programs they want."""
    plan = replace(draw_plan(App.model_validate(_APP), load_scenario("healthy/steady"), seed=11), proxied=())
    (postgres, redis), receiver = servers, Receiver(TelemetryBuffer())
    await receiver.start()
    network = make_network(plan, postgres.address, redis.address, receiver.endpoint)
    await asyncio.gather(postgres.reset(network.tables, list(network.wiring.logins.values())), redis.reset())
    made = Town(plan, network, postgres, redis, receiver.buffer)
    yield made
    for role in list(made.programs):
        await made.stop(role)
    await receiver.stop()


async def _until(true: Callable[[], bool], what: str) -> None:
    for _ in range(200):
        if true():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"never: {what}")


async def test_a_request_leaves_one_trace_through_everything(town: Town, capfd: pytest.CaptureFixture[str]) -> None:
    for role in ("back", "clerk", "front"):
        await town.start(role)
    assert [await town.ask("buy"), await town.ask("look"), await town.ask("look")] == [200, 200, 200]
    names = {role: c.name for role, c in town.plan.components.items()}
    await _until(lambda: any(row[7] == "consumer" for row in town.buffer.spans), "the worker handled the message")
    spans = await town.spans()
    bought = next(s["trace_id"] for s in spans if s["kind"] == "producer")
    trace = [s for s in spans if s["trace_id"] == bought]
    assert {s["service_name"] for s in trace} == {names["front"], names["back"], names["clerk"]}
    known = {s["span_id"] for s in trace}
    assert [s["name"] for s in trace if s["parent_span_id"] not in known] == [
        s["name"] for s in trace if s["service_name"] == names["front"]
    ][:1]
    hosts = {(s["service_name"], s["server_address"]) for s in trace if s["kind"] in ("client", "producer")}
    assert (names["front"], town.plan.components["back"].host) in hosts
    assert {(names["back"], town.plan.components[r].host) for r in ("database", "cache")} <= hosts
    assert all(s["status_code"] != "error" for s in spans)
    written = capfd.readouterr().out
    assert all(bought in line for line in written.splitlines() if "POST" in line)


async def test_metrics_have_their_names_and_units(town: Town) -> None:
    await town.start("back")
    await town.start("front")
    await town.ask("look")
    await town.spans()
    units = {row[3]: row[4] for row in town.buffer.metrics}
    assert units["http.server.request.duration"] == "s"
    assert units["http.server.active_requests"] == "{request}"
    assert units["db.client.connection.count"] == "{connection}"


async def test_a_dead_dependency_is_refused_then_left_alone(town: Town) -> None:
    await town.start("front")
    statuses = [await town.ask("look") for _ in range(14)]
    assert set(statuses) == {503}
    kinds = [s["error_type"] for s in await town.spans() if s["kind"] == "client"]
    assert kinds[0] == "ConnectionRefusedError"
    assert kinds[-1] == "CircuitBreakerOpen"


async def test_an_optional_dependency_may_be_dead(town: Town) -> None:
    await town.start("front")
    assert await town.ask("glance") == 200


async def test_retries_multiply_the_calls_and_end_in_a_timeout(town: Town) -> None:
    with socket.create_server(town.network.wiring.bind["back"]):  # it accepts and never answers
        await town.start("front", retries=4, timeout=0.04, backoff=0.0, breaker=False)
        assert await town.ask("look") == 504
        calls = [s for s in await town.spans() if s["kind"] == "client"]
    assert len(calls) == 5
    assert [json.loads(s["attributes"]).get("http.request.resend_count", 0) for s in calls] == [0, 1, 2, 3, 4]
    assert {s["error_type"] for s in calls} == {"TimeoutError"}


async def test_a_wrong_password_is_refused_by_the_database(town: Town, capfd: pytest.CaptureFixture[str]) -> None:
    await town.start("back", database_password="wrong")
    await town.start("front")
    assert await town.ask("look") == 502
    assert "password authentication failed" in capfd.readouterr().out
    assert "InvalidPasswordError" in {(s["error_type"] or "").split(".")[-1] for s in await town.spans()}


async def test_a_full_cache_fails_what_it_must_keep_and_not_what_it_may_forget(town: Town) -> None:
    await town.start("back")
    await town.start("front")
    await town.redis.client.config_set("maxmemory", 1)
    assert await town.ask("look") == 200
    assert await town.ask("buy") == 503
    assert "OutOfMemoryError" in {(s["error_type"] or "").split(".")[-1] for s in await town.spans()}


async def test_a_locked_table_lets_statements_time_out(town: Town) -> None:
    await town.start("back")
    await town.start("front", timeout=2.0)
    table = town.plan.components["database"].tables["things"]
    transaction = town.postgres.admin.transaction()
    await transaction.start()
    await town.postgres.admin.execute(f'lock table "{table}" in access exclusive mode')
    assert await town.ask("buy") == 504
    await transaction.rollback()
    assert await town.ask("buy") == 200


async def test_a_bug_is_switched_on_and_off_while_serving(town: Town, capfd: pytest.CaptureFixture[str]) -> None:
    await town.start("back")
    await town.start("front")
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(town.forkers["back"], b'{"id": 1, "defect": {"kind": "raise", "share": 1.0, "flavour": 0}}\n')
    assert await town.hear("back") == {"id": 1, "ok": True}
    assert await town.ask("look") == 502
    written = capfd.readouterr().out
    assert "KeyError" in written
    assert "chaosgym" not in written.replace(str(Path(__file__).parent), "")
    await loop.sock_sendall(town.forkers["back"], b'{"id": 2, "defect": null}\n')
    assert await town.hear("back") == {"id": 2, "ok": True}
    assert await town.ask("look") == 200
    await loop.sock_sendall(town.forkers["back"], b'{"defect": {"kind": "melt"}}\n')
    assert (await town.hear("back"))["ok"] is False


async def test_telemetry_is_delivered_on_request(town: Town) -> None:
    await town.start("back")
    await town.start("front")
    assert await town.ask("look") == 200
    await asyncio.get_running_loop().sock_sendall(town.forkers["front"], b'{"id": 1, "deliver": true}\n')
    assert await town.hear("front") == {"id": 1, "ok": True}
    public = town.plan.components["front"].name
    assert public in {row[2] for row in town.buffer.spans}
    assert "http.server.request.duration" in {row[3] for row in town.buffer.metrics if row[2] == public}


async def test_the_late_answer_to_an_earlier_order_is_passed_over() -> None:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    with ours, theirs:
        instance, loop = Instance(os.getpid(), ours), asyncio.get_running_loop()
        assert not await ask(instance, {"deliver": True}, 0.02)
        await loop.sock_sendall(theirs, b'{"id": 1, "ok": true}\n{"id": 2, "ok": false}\n')
        assert not await ask(instance, {"defect": None}, 1.0)
        await loop.sock_sendall(theirs, b'{"id": 3, "ok": true}\n')
        assert await ask(instance, {"defect": None}, 1.0)
        theirs.close()
        assert not await ask(instance, {"defect": None}, 1.0)


async def test_a_rehearsal_leaves_neither_a_thread_nor_a_socket_behind() -> None:
    left = "print(threading.active_count(), os.system('ls -l /proc/$PPID/fd'))"
    script = f"import os, threading, chaosgym.services.main as m; m.warm_up(); {left}"
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    listing, _, last = (await program.communicate())[0].decode().strip().rpartition("\n")
    assert last == "1 0"
    assert "pipe:" in listing  # of libuv, one for all its loops
    assert "socket:" not in listing


async def test_a_leak_grows_the_process(town: Town) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    await town.start("front")
    before = resident()
    defect = json.dumps({"defect": {"kind": "leak", "bytes_per_second": 200 * 2**20}}).encode() + b"\n"
    await asyncio.get_running_loop().sock_sendall(town.forkers["front"], defect)
    await town.hear("front")
    await _until(lambda: resident() - before > 30 * 2**20, "30 MiB more")
    await town.stop("front")


async def test_a_runaway_job_makes_requests_wait(town: Town) -> None:
    await town.start("front")
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(town.forkers["front"], b'{"defect": {"kind": "spin", "duty": 0.9}}\n')
    await town.hear("front")
    begin, burnt = loop.time(), _thread_seconds()
    await asyncio.sleep(1.0)
    assert _thread_seconds() - burnt > 0.2 * (loop.time() - begin)
    await town.stop("front")


def _thread_seconds() -> float:
    return time.process_time()


async def test_the_next_version_listens_beside_the_old_one(town: Town) -> None:
    await town.start("back")
    await town.start("front")
    old = town.programs.pop("back"), town.forkers.pop("back")
    await town.start("back", version="9.0.0")
    await old[0].stop()
    old[1].close()
    assert [await town.ask("look", item) for item in range(1, 9)] == [200] * 8


async def test_telemetry_that_nobody_takes_changes_nothing(town: Town) -> None:
    await town.start("front", otlp="http://127.0.0.1:9")
    await town.start("back", otlp="http://127.0.0.1:9")
    assert await town.ask("look") == 200
    async with asyncio.timeout(5):
        await town.stop("front")


@pytest.mark.parametrize("body", [b"{", b'{"id": "x"}', b'{"id": 1e99}', b"\xff"])
async def test_nonsense_is_answered_with_400(town: Town, body: bytes) -> None:
    await town.start("front", endpoints=(EndpointConfig("POST", "/buy", ()),))
    address, port = town.network.wiring.client["front"]
    assert await _post(f"http://{address}:{port}/buy", body) == 400
    assert await _post(f"http://{address}:{port}/no/such/place", body) == 404


async def _post(url: str, body: bytes) -> int:
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as reply:
        return reply.status


async def test_users_come_at_their_rate_and_tell_what_they_saw(town: Town) -> None:
    await town.start("back")
    await town.start("front")
    load = LoadGenerator(town.plan, *town.network.wiring.client["front"], seed=3)
    await load.start()
    await asyncio.sleep(1.5)
    await load.stop()
    assert len(load.samples) > 15
    assert sum(s.ok for s in load.samples) > 0.9 * len(load.samples)
    rows = table_from_rows("spans", load.rows()).to_pylist()
    assert {row["service_name"] for row in rows} == {EDGE}
    served = {row["trace_id"] for row in await town.spans() if row["kind"] == "server"}
    assert {row["trace_id"] for row in rows} <= served


async def test_users_note_that_nobody_is_there(town: Town) -> None:
    load = LoadGenerator(town.plan, *town.network.wiring.client["front"], seed=3)
    await load.start()
    load.rate_factor = 3.0
    await _until(lambda: len(load.samples) > 5, "some users came")
    await load.stop()
    assert {sample.error for sample in load.samples} == {"ConnectionRefusedError"}
    assert {row[8] for row in load.rows()} == {"error"}


async def test_an_address_that_is_taken_is_an_error() -> None:
    address = draw_address()
    with socket.create_server((address, 8124)):
        config = ServiceConfig("cart-api", "1.2.3", "cart.local", 8124, (address, 8124), "plain", 1, "http://127.0.0.1:9")
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(OSError, match="in use"):
            await Program(config, theirs).start()
