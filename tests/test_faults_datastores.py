"""Faults on a real PostgreSQL, a real Redis and real links, read back by clients that know nothing of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio
from redis.exceptions import OutOfMemoryError

from chaosgym.errors import FaultError
from chaosgym.faults import make_fault
from chaosgym.faults.double import RecordingSandbox
from chaosgym.faults.login import Job, Login
from chaosgym.sandbox.base import Toxic
from chaosgym.sandbox.binaries import find_postgres, find_redis
from chaosgym.sandbox.links import Link

_NOBODY = 65534
_SLOTS, _RESERVED = 14, 3
_END_OTHERS = "select pg_terminate_backend(pid, 1000) from pg_stat_activity where pid <> pg_backend_pid() and usename is not null"
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.environ["PATH"]}


@dataclass
class Server:
    """A running server and how to reach it."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 15
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Server]:
    user = _NOBODY if os.getuid() == 0 else None  # it refuses to run as root
    folder, port = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")), _free_port()
    if user is not None:
        os.chown(folder, user, user)
    program = find_postgres().path
    command = [program.with_name("initdb"), "-D", folder / "data", "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
               "--no-sync", "--encoding=UTF8", "--locale=C"]
    subprocess.run(command, user=user, group=user, cwd="/", env=_ENVIRONMENT, check=True, capture_output=True)
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "max_connections": _SLOTS,
                "superuser_reserved_connections": _RESERVED, "fsync": "off", "shared_buffers": "16MB", "autovacuum": "off"}
    options = [f"-c{key}={value}" for key, value in settings.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", folder / "data", *options], user=user, group=user, cwd="/", env=_ENVIRONMENT,
                                   stdout=log, stderr=log)
    _wait_for(port)
    yield Server(process, folder, port)
    process.terminate()
    process.wait(10)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("redis"), _free_port()
    command = [find_redis().path, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--maxmemory", "64mb"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _wait_for(port)
    yield Server(process, folder, port)
    process.kill()
    process.wait(10)


class DatastoreSandbox(RecordingSandbox):
    """`database` and `cache` are real servers behind real links; what else is asked is noted only."""

    def __init__(self, postgres: Server, cache: Server) -> None:
        super().__init__()
        self.servers = {"database": postgres, "cache": cache}
        self.links = {role: Link("127.0.0.1", _free_port(), ("127.0.0.1", server.port)) for role, server in self.servers.items()}
        self.client = redis.asyncio.Redis(port=cache.port)

    async def processes(self, role: str) -> list[int]:
        process = self.servers[role].process
        return [process.pid] if process.poll() is None else []

    def address(self, role: str) -> tuple[str, int]:
        return self.links[role].address, self.links[role].port

    async def toxic(self, role: str, toxic: Toxic | None) -> None:
        self.links[role].set(toxic)

    async def link_toxic(self, role: str) -> Toxic | None:
        return self.links[role].toxic

    @asynccontextmanager
    async def sql(self, role: str) -> AsyncGenerator[Any]:
        server = self.servers[role]
        admin = await asyncpg.connect(host=str(server.folder), port=server.port, user="postgres", database="postgres")
        try:
            yield admin
        finally:
            await admin.close()

    def sql_server(self, role: str) -> dict[str, Any]:
        return {"host": str(self.servers[role].folder), "port": self.servers[role].port, "database": "postgres"}

    async def redis(self, role: str, *command: str | int) -> Any:
        return await self.client.execute_command(*command)


@pytest.fixture
async def sandbox(postgres_server: Server, redis_server: Server) -> AsyncIterator[DatastoreSandbox]:
    """With a table of orders and an application's login `app`."""
    running = DatastoreSandbox(postgres_server, redis_server)
    for link in running.links.values():
        link.start()
    async with running.sql("database") as admin:
        await admin.execute("""drop table if exists orders; create table orders(id int primary key); insert into orders values (1);
            drop role if exists app; create role app login password 'app'; grant pg_read_all_data to app""")
    yield running
    await running.client.aclose()
    for link in running.links.values():
        await _refuse(link)
    async with running.sql("database") as admin:
        roles = {row["rolname"] for row in await admin.fetch("select rolname from pg_roles where rolname not like 'pg\\_%'")}
        assert roles == {"postgres", "app"}, "a fault left a login behind"


async def _refuse(link: Link) -> None:
    link.refuse()
    await asyncio.sleep(0.01)  # its tasks let go of their sockets in the loop's next turns


async def _connect(sandbox: DatastoreSandbox, user: str = "app") -> asyncpg.Connection:
    host, port = sandbox.address("database")
    return await asyncpg.connect(host=host, port=port, user=user, password=user, database="postgres", ssl=False, timeout=2)


async def test_a_full_database_refuses_newcomers_and_serves_those_inside(sandbox: DatastoreSandbox) -> None:
    inside = await _connect(sandbox)
    async with make_fault("dependency.connections", "database").applied(sandbox):
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await _connect(sandbox)
        assert await inside.fetchval("select count(*) from orders") == 1
        async with sandbox.sql("database") as admin:  # superusers have slots of their own
            assert await admin.fetchval("select sum(numbackends) from pg_stat_database") >= _SLOTS - _RESERVED
    later = await _connect(sandbox)
    await asyncio.gather(inside.close(), later.close())


async def test_a_slot_that_comes_free_is_taken(sandbox: DatastoreSandbox) -> None:
    inside = await _connect(sandbox)
    async with make_fault("dependency.connections", "database").applied(sandbox):
        await inside.close()
        await asyncio.sleep(0.3)
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await _connect(sandbox)
    await (await _connect(sandbox)).close()


async def test_the_job_that_fills_the_database_has_an_everyday_name(sandbox: DatastoreSandbox) -> None:
    async with make_fault("dependency.connections", "database").applied(sandbox), sandbox.sql("database") as admin:
        rows = await admin.fetch(
            "select distinct usename, application_name from pg_stat_activity where usename not in ('postgres', 'app')")
    assert len(rows) == 1
    words = " ".join(rows[0]).lower()
    assert not [word for word in ("chaos", "fault", "inject", "test", "hog", "exhaust") if word in words], words


async def test_a_filled_database_is_given_back_after_a_failure_half_way(sandbox: DatastoreSandbox) -> None:
    fault = make_fault("dependency.connections", "database")
    injecting = asyncio.create_task(fault.inject(sandbox))
    await asyncio.sleep(0.03)
    injecting.cancel()
    await asyncio.gather(injecting, return_exceptions=True)
    for _ in range(2):
        await fault.heal(sandbox)
    sessions = await asyncio.gather(*(_connect(sandbox) for _ in range(_SLOTS - _RESERVED - 2)))
    assert len(sessions) == _SLOTS - _RESERVED - 2
    await asyncio.gather(*(session.close() for session in sessions))


async def test_a_locked_table_makes_its_readers_wait(sandbox: DatastoreSandbox) -> None:
    reader = await _connect(sandbox)
    async with make_fault("dependency.lock", "database", {"table": "orders"}).applied(sandbox):
        with pytest.raises(TimeoutError):
            await reader.fetchval("select count(*) from orders", timeout=0.2)
        assert await reader.fetchval("select 1") == 1
    assert await reader.fetchval("select count(*) from orders") == 1
    await reader.close()


async def test_a_lock_that_is_taken_already_is_a_fault_error(sandbox: DatastoreSandbox) -> None:
    async with sandbox.sql("database") as admin, admin.transaction():
        await admin.execute("lock table orders in access share mode")
        with pytest.raises(FaultError, match="no lock on 'orders' within 2 s"):
            async with make_fault("dependency.lock", "database", {"table": "orders"}).applied(sandbox):
                pytest.fail("it was taken for applied")
    async with sandbox.sql("database") as admin:
        assert await admin.fetchval("select count(*) from pg_locks where mode = 'AccessExclusiveLock'") == 0


async def test_a_lock_that_was_lost_is_noticed(sandbox: DatastoreSandbox) -> None:
    fault = make_fault("dependency.lock", "database", {"table": "orders"})
    await fault.inject(sandbox)
    async with sandbox.sql("database") as admin:
        await admin.execute("select pg_terminate_backend(pid, 1000) from pg_locks where mode = 'AccessExclusiveLock'")
    with pytest.raises(FaultError, match="nobody holds an ACCESS EXCLUSIVE lock"):
        await fault.verify(sandbox)
    await fault.heal(sandbox)


async def test_a_login_steps_aside_for_one_that_the_application_has(sandbox: DatastoreSandbox) -> None:
    login = Login(Job("app", "report"))
    await login.create(sandbox, "database")
    assert login.user == "app_2"
    session = await login.connect()
    assert await session.fetchval("select current_user") == "app_2"
    await login.drop(sandbox, "database")
    assert login.user is None
    session.terminate()


async def test_a_full_cache_serves_reads_and_refuses_writes(sandbox: DatastoreSandbox) -> None:
    await sandbox.client.set("cart:1", "apples")
    before = await sandbox.client.config_get("maxmemory*")
    async with make_fault("dependency.cache_memory", "cache").applied(sandbox):
        assert await sandbox.client.get("cart:1") == b"apples"
        with pytest.raises(OutOfMemoryError, match="used memory > 'maxmemory'"):
            await sandbox.client.set("cart:2", "pears")
        with pytest.raises(OutOfMemoryError):
            await sandbox.client.xadd("mails", {"order": "1"})
    assert await sandbox.client.set("cart:2", "pears")
    assert await sandbox.client.config_get("maxmemory*") == before
    assert await sandbox.client.keys("lease:*") == []


async def test_a_cache_that_takes_writes_is_noticed(sandbox: DatastoreSandbox) -> None:
    fault = make_fault("dependency.cache_memory", "cache")
    await fault.inject(sandbox)
    await sandbox.client.config_set("maxmemory", "64mb")
    with pytest.raises(FaultError, match="the limit should be below the use"):
        await fault.verify(sandbox)
    await fault.heal(sandbox)


@pytest.mark.parametrize("role", ["database", "cache"])
async def test_a_slow_link_delays_both_ways(sandbox: DatastoreSandbox, role: str) -> None:
    async def round_trip() -> float:
        begin = time.monotonic()
        if role == "database":
            await session.fetchval("select 1")
        else:
            await client.ping()
        return time.monotonic() - begin

    host, port = sandbox.address(role)
    client = redis.asyncio.Redis(host=host, port=port)
    session = await _connect(sandbox)
    await round_trip()
    async with make_fault("network.latency", role, {"delay": "40ms", "jitter": "5ms"}).applied(sandbox):
        assert await round_trip() >= 0.07
    await asyncio.sleep(0.05)
    assert min([await round_trip() for _ in range(3)]) < 0.03
    await asyncio.gather(client.aclose(), session.close())


async def test_a_link_that_is_not_slow_is_noticed(sandbox: DatastoreSandbox) -> None:
    fault = make_fault("network.latency", "cache", {"delay": "60ms"})
    await fault.inject(sandbox)
    sandbox.links["cache"].delay = lambda: 0.0
    with pytest.raises(FaultError, match="its link should add at least"):
        await fault.verify(sandbox)


async def test_behind_a_partition_nothing_connects_and_nothing_is_refused(sandbox: DatastoreSandbox) -> None:
    async with make_fault("network.partition", "database").applied(sandbox):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection(*sandbox.address("database")), 0.2)
    await (await _connect(sandbox)).close()


async def test_a_partition_that_lets_packets_through_is_noticed(sandbox: DatastoreSandbox) -> None:
    fault = make_fault("network.partition", "database")
    link = sandbox.links["database"]
    link.toxic = Toxic(drop=1.0)  # said, not done
    with pytest.raises(FaultError, match="went through in"):
        await fault.verify(sandbox)
    await _refuse(link)
    with pytest.raises(FaultError, match="was answered"):
        await fault.verify(sandbox)


async def test_a_database_without_passwords_makes_the_credential_no_fault(
    sandbox: DatastoreSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = make_fault("configuration.credential", "orders")
    pids = iter([[1], [2], [2], [2]])

    async def processes(role: str) -> list[int]:
        return next(pids)

    monkeypatch.setattr(sandbox, "processes", processes)
    await fault.inject(sandbox)
    await fault.verify(sandbox)
    hba = Path(sandbox.servers["database"].folder / "data" / "pg_hba.conf")
    closed = hba.read_text()
    try:
        hba.write_text("host all all 127.0.0.1/32 trust\n" + closed)
        with pytest.raises(FaultError, match="lets clients in without a password"):
            await fault.verify(sandbox)
    finally:
        hba.write_text(closed)


@pytest.mark.parametrize(("label", "parameters"), [("dependency.connections", {}), ("dependency.lock", {"table": "orders"})])
async def test_healing_behind_a_dead_database_is_silent(sandbox: DatastoreSandbox, label: str, parameters: dict[str, Any]) -> None:
    """The server ends while the fault is on; one that only the fault talks to, so that the others go on."""
    fault = make_fault(label, "database", parameters)
    await fault.inject(sandbox)
    async with sandbox.sql("database") as admin:
        await admin.execute(_END_OTHERS)
        user = await admin.fetchval("select rolname from pg_roles where rolcanlogin and rolname not in ('postgres', 'app')")
        await admin.execute(f'drop role "{user}"')
    gone = random.Random(0).randint(20_000, 30_000)
    real, sandbox.servers["database"] = sandbox.servers["database"], Server(_ended(), Path("/nonexistent"), gone)
    for _ in range(2):
        await fault.heal(sandbox)
    sandbox.servers["database"] = real


def _ended() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["true"])
    process.wait()
    return process
