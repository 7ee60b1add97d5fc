"""The samplers against real processes, a real PostgreSQL and a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chaosgym.sandbox.binaries import find_postgres, find_redis
from chaosgym.telemetry.postgres import sample_postgres
from chaosgym.telemetry.process import ProcessSampler
from chaosgym.telemetry.redis import sample_redis
from chaosgym.telemetry.store import Row, TelemetryBuffer


def values(rows: list[Row]) -> dict[str, float]:
    """Value by metric name, of rows without attributes."""
    return {row[3]: row[6] for row in rows if row[10] == "{}"}


@pytest.fixture
def spinner() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process
        process.kill()


def test_a_process_is_measured(spinner: subprocess.Popen[bytes]) -> None:
    sampler = ProcessSampler()
    first = values(sampler.sample([spinner.pid], "cart", time.time_ns()))
    time.sleep(0.3)
    rows = sampler.sample([spinner.pid], "cart", time.time_ns())
    second = values(rows)
    assert TelemetryBuffer(metrics=rows).tables()["metrics"].num_rows == len(rows)
    assert "process.cpu.utilization" not in first
    assert 0 < second["process.cpu.utilization"] <= 1.1
    assert 0 < second["process.cpu.time"] < 5
    assert second["process.memory.usage"] > 2**20
    assert second["process.thread.count"] == 1
    assert second["process.uptime"] > first["process.uptime"]


def test_descriptors_sockets_and_limit_are_counted() -> None:
    before = values(ProcessSampler().sample([os.getpid()], "me", 1))
    with socket.socket(), open(os.devnull, "rb"):
        after = values(ProcessSampler().sample([os.getpid()], "me", 1))
    assert after["process.unix.file_descriptor.count"] - before["process.unix.file_descriptor.count"] == 2
    assert after["process.socket.count"] - before["process.socket.count"] == 1
    assert after["process.unix.file_descriptor.limit"] >= after["process.unix.file_descriptor.count"]


def test_a_component_of_two_processes_is_summed(spinner: subprocess.Popen[bytes]) -> None:
    alone = values(ProcessSampler().sample([os.getpid()], "me", 1))
    both = values(ProcessSampler().sample([os.getpid(), spinner.pid], "me", 1))
    assert both["process.memory.usage"] > alone["process.memory.usage"]
    assert both["process.thread.count"] == alone["process.thread.count"] + 1


def test_cpu_time_never_falls_when_processes_are_replaced(spinner: subprocess.Popen[bytes]) -> None:
    sampler = ProcessSampler()
    sampler.sample([spinner.pid], "cart", 10**9)
    time.sleep(0.1)
    busy = values(sampler.sample([spinner.pid], "cart", 2 * 10**9))["process.cpu.time"]
    assert values(sampler.sample([os.getpid()], "cart", 3 * 10**9))["process.cpu.time"] >= busy


def test_the_dead_and_the_undead_give_no_rows(spinner: subprocess.Popen[bytes]) -> None:
    spinner.kill()
    os.waitid(os.P_PID, spinner.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert ProcessSampler().sample([spinner.pid], "cart", 1) == []
    spinner.wait()
    assert ProcessSampler().sample([spinner.pid], "cart", 1) == []
    assert ProcessSampler().sample([], "cart", 1) == []


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="chaosgym-"))  # short: a socket's path has at most 107 characters
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def redis_server(folder: Path) -> Iterator[str]:
    server = [str(find_redis().path), "--port", "0", "--unixsocket", f"{folder}/s", "--dir", str(folder), "--save", ""]
    with subprocess.Popen(server, stdout=subprocess.DEVNULL) as process:
        yield f"{folder}/s"
        process.kill()


@pytest.fixture
async def redis(redis_server: str) -> AsyncIterator[Redis]:
    client = Redis(unix_socket_path=redis_server, decode_responses=True)
    await _until_answer(client)
    yield client
    await client.aclose()


async def _until_answer(client: Redis) -> None:
    for _ in range(500):
        try:
            await client.execute_command("PING")
            return
        except RedisError:
            await asyncio.sleep(0.01)
    pytest.fail("redis-server did not answer within 5 s")


@pytest.mark.sandbox
async def test_redis_tells_of_memory_hits_and_refusals(redis: Redis) -> None:
    await redis.execute_command("SET", "a", "1")
    await redis.execute_command("GET", "a")
    await redis.execute_command("GET", "b")
    await redis.execute_command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(RedisError):
        await redis.execute_command("SET", "b", "1")
    rows = await sample_redis(redis, "cache", 1)
    assert TelemetryBuffer(metrics=rows).tables()["metrics"].num_rows == len(rows)
    found = values(rows)
    assert (found["redis.keyspace.hits"], found["redis.keyspace.misses"], found["redis.maxmemory"]) == (1, 1, 1)
    assert found["redis.memory.used"] > 100_000
    labelled = {(row[3], row[10]): row[6] for row in rows if row[10] != "{}"}
    assert labelled["redis.errors", '{"error":"OOM"}'] == 1
    assert labelled["redis.db.keys", '{"db":"0"}'] == 1


@pytest.mark.sandbox
async def test_a_frozen_redis_is_a_gap(redis: Redis) -> None:
    pid = int((await redis.info())["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        assert await sample_redis(redis, "cache", 1, timeout=0.05) == []
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await sample_redis(redis, "cache", 1, timeout=2)


@pytest.fixture
def postgres(folder: Path) -> Iterator[str]:
    user = 65534 if os.geteuid() == 0 else None  # it refuses to run as root
    programs, data = find_postgres().path.parent, f"{folder}/data"
    initdb = [str(programs / "initdb"), "-D", data, "-U", "postgres", "--no-sync", "-A", "trust"]
    subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
    server = [str(programs / "postgres"), "-D", data, "-clisten_addresses=", f"-cunix_socket_directories={folder}", "-cmax_connections=20"]
    with subprocess.Popen(server, user=user, cwd=folder, stderr=subprocess.DEVNULL) as process:
        yield str(folder)
        process.send_signal(signal.SIGQUIT)


async def _connect(folder: str) -> asyncpg.Connection:
    for _ in range(500):
        try:
            return await asyncpg.connect(host=folder, user="postgres", database="postgres")
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.01)
    pytest.fail("postgres did not accept a connection within 5 s")


@pytest.mark.sandbox
async def test_postgres_tells_of_backends_and_locks(postgres: str) -> None:
    monitor, holder, waiter = [await _connect(postgres) for _ in range(3)]
    await holder.execute("create table carts (id int)")
    before = values(await sample_postgres(monitor, "db", 1))
    assert (before["postgresql.backends"], before["postgresql.connection.max"]) == (2, 20)
    assert before["postgresql.database.locks.waiting"] == 0
    async with holder.transaction():
        await holder.execute("lock table carts in access exclusive mode")
        waiting = asyncio.create_task(waiter.execute("select * from carts"))
        await asyncio.sleep(0.1)
        rows = await sample_postgres(monitor, "db", 2)
    await waiting
    assert TelemetryBuffer(metrics=rows).tables()["metrics"].num_rows == len(rows)
    assert values(rows)["postgresql.database.locks.waiting"] == 1
    locks = [json.loads(row[10]) for row in rows if row[3] == "postgresql.database.locks"]
    assert {"relation": "carts", "mode": "AccessExclusiveLock", "lock_type": "relation", "granted": True} in locks
    assert {"relation": "carts", "mode": "AccessShareLock", "lock_type": "relation", "granted": False} in locks
    for connection in (holder, waiter):
        await connection.close()
    await monitor.close()
    assert await sample_postgres(monitor, "db", 3) == []
