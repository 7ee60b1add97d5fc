"""The PostgreSQL and the Redis of a worker: started once, reset between episodes, asserted clean.

Durability is off (the data lives as long as an episode); everything that shows in telemetry - log
format, lock waits, connection slots - is on. PostgreSQL starts from a template made once per machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio as redis_client

from chaosgym.errors import PrerequisiteError, SandboxError
from chaosgym.sandbox.binaries import Program, find_postgres, find_redis
from chaosgym.sandbox.namespaces import die_with_parent
from chaosgym.services.wiring import Login

__all__ = ["DATABASE", "POSTGRES_PORT", "REDIS_PORT", "Postgres", "PostgresClient", "Redis", "RedisClient"]

POSTGRES_PORT, REDIS_PORT, DATABASE = 5432, 6379, "app"
MAX_CONNECTIONS = 40
_START_TIMEOUT = 15.0
_REDIS_MEMORY = 64 * 2**20
_SERVER_SETTINGS = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "jit": "off",
    "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "48MB", "min_wal_size": "32MB", "shared_buffers": "16MB",
    "max_connections": str(MAX_CONNECTIONS), "superuser_reserved_connections": "3",
    "log_timezone": "UTC", "timezone": "UTC", "log_line_prefix": "%m [%p] ", "log_checkpoints": "off",
    "log_lock_waits": "on", "deadlock_timeout": "120ms", "log_min_duration_statement": "100ms",
}


def _unprivileged() -> int | None:
    """The uid to run PostgreSQL under: ours, or nobody's where we are root without a namespace."""
    return 65534 if os.getuid() == 0 else None


def _spawn(arguments: Sequence[str | Path], log: Path | None, folder: Path, user: int | None = None) -> subprocess.Popen[bytes]:
    with log.open("ab") if log else contextlib.nullcontext() as out:
        return subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder, user=user, group=user,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "TZ": "UTC"}, preexec_fn=die_with_parent,
        )


def _initdb(program: Program, target: Path, user: int | None) -> None:
    command = [program.path.with_name("initdb"), "-D", target, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
               "--no-sync", "--encoding=UTF8", "--locale=C", "--wal-segsize=16"]
    done = subprocess.run(command, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}, user=user, group=user,
                          cwd="/", check=False)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise PrerequisiteError(f"{command[0]} failed: {' '.join(last)}; try another PostgreSQL (chaosgym doctor lists those found)")


def _cached_template(program: Program, cache: Path) -> Path:
    """The initdb result for this binary, made on first use; racing workers each make one, the first rename wins."""
    final = cache / f"postgres-{program.version_text}-{program.source}"
    if (final / "PG_VERSION").exists():
        return final
    cache.mkdir(parents=True, exist_ok=True)
    draft = cache / f".{final.name}.{time.time_ns()}"
    _initdb(program, draft, None)
    try:
        draft.rename(final)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
    return final


class PostgresClient:
    """A superuser over the private socket in `folder`, wherever the server behind it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._admin: asyncpg.Connection | None = None
        self.monitor: asyncpg.Connection | None = None
        """For statistics alone, so that a query that hangs does not stop anything else."""
        self._roles: tuple[str, ...] = ()

    async def connect(self, database: str = DATABASE) -> asyncpg.Connection:
        """A superuser's connection over the private socket."""
        where: dict[str, Any] = self.server | {"database": database}
        return await asyncpg.connect(**where, user="postgres", timeout=2, server_settings={"application_name": ""})

    @property
    def server(self) -> dict[str, Any]:
        """Host, port and database, as asyncpg takes them."""
        return {"host": str(self.folder), "port": POSTGRES_PORT, "database": DATABASE}

    @property
    def admin(self) -> asyncpg.Connection:
        """Our own connection. Raises SandboxError before there is one."""
        if self._admin is None or self._admin.is_closed():
            raise SandboxError("PostgreSQL is not running")
        return self._admin

    async def reset(self, tables: Mapping[str, str], roles: Sequence[Login]) -> None:
        """Drop what the last episode left, load `tables` (name -> create-and-fill SQL) and make `roles`; assert it is clean."""
        if self._admin is None or self._admin.is_closed():  # at first, and when the server restarted all of its sessions
            self._admin = await self.connect()
        if self.monitor is None or self.monitor.is_closed():
            self.monitor = await self.connect()
        admin = self.admin
        others = f"pid not in (pg_backend_pid(), {self.monitor.get_server_pid()}) and usename is not null"
        await admin.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}")
        drop = "".join(f'drop role "{role}";' for role in self._roles)
        grants = "pg_read_all_data, pg_write_all_data"
        create = "".join(f"create role \"{r.user}\" login password '{r.password}'; grant {grants} to \"{r.user}\";" for r in roles)
        await admin.execute(f"drop schema public cascade; create schema public; grant usage on schema public to public; {drop}{create}"
                            + "".join(tables.values()) + "select pg_stat_reset();")
        self._roles = tuple(r.user for r in roles)
        await self._assert_clean(tables, roles)

    async def _assert_clean(self, tables: Mapping[str, str], roles: Sequence[Login]) -> None:
        found = await self.admin.fetchrow(
            "select (select array_agg(relname::text) from pg_class where relkind='r' and relnamespace='public'::regnamespace) as tables,"
            " (select array_agg(rolname::text) from pg_roles where rolname not like 'pg\\_%' and rolname <> 'postgres') as roles,"
            " (select count(*) from pg_locks where not granted) as waits")
        assert found is not None
        want = (set(tables), {r.user for r in roles}, 0)
        have = (set(found["tables"] or ()), set(found["roles"] or ()), found["waits"])
        if have != want:
            raise SandboxError(f"PostgreSQL is not clean after a reset: expected {want}, found {have}")

    def disconnect(self) -> None:
        """Close our connections."""
        for connection in (self._admin, self.monitor):
            if connection is not None:
                connection.terminate()


class Postgres(PostgresClient):
    """One server on `address:5432`, superuser over a socket that only the worker knows."""

    def __init__(self, folder: Path, address: str, log: Path | None) -> None:
        """`log`: None writes to our own output."""
        super().__init__(folder)
        self.address, self.log = address, log
        self.program = find_postgres()
        self._server: subprocess.Popen[bytes] | None = None

    def launch(self, cache: Path) -> None:
        """Lay out the data directory and spawn the server; `ready` waits for it."""
        data, user = self.folder / "postgresql", _unprivileged()
        if user is None:
            self.launch_copy(_cached_template(self.program, cache))
        else:
            os.chown(self.folder, user, user)
            _initdb(self.program, data, user)
            self._launch(data, user)

    def launch_copy(self, template: Path) -> None:
        """Spawn the server on a copy of `template`, as `initdb` made it; we must not be root."""
        data = self.folder / "postgresql"
        shutil.copytree(template, data)
        data.chmod(0o700)
        if self.address == "*":  # clients come from other machines, not from loopback
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all all scram-sha-256\n")
        self._launch(data, None)

    def _launch(self, data: Path, user: int | None) -> None:
        options = [f"-c{key}={value}" for key, value in _SERVER_SETTINGS.items()]
        if self.program.version >= (16,):
            options.append("-cscram_iterations=256")  # a login costs microseconds, as a warm pool's would
        if self.program.version >= (18,):
            options.append("-cio_method=sync")
        self._server = _spawn(
            [self.program.path, "-D", data, *options, f"-clisten_addresses={self.address}", f"-cport={POSTGRES_PORT}",
             f"-cunix_socket_directories={self.folder}"], self.log, self.folder, user)

    async def ready(self) -> None:
        """Wait until it answers and create the database. Raises SandboxError with the server's last words."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                first = await self.connect(database="postgres")
                break
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._raise_if_dead(error, deadline)
                await asyncio.sleep(0.01)
        if not await first.fetchval("select 1 from pg_database where datname = $1", DATABASE):
            await first.execute(f"create database {DATABASE}")
        await first.close()

    def _raise_if_dead(self, error: Exception, deadline: float) -> None:
        dead = self._server is None or self._server.poll() is not None
        if dead or time.monotonic() > deadline:
            words = _last_words(self.log, 2)
            where = f"{self.program.path} on {self.address}:{POSTGRES_PORT}"
            raise SandboxError(f"PostgreSQL {where} did not start: {words or error}")

    @property
    def pids(self) -> list[int]:
        """The server process."""
        return [self._server.pid] if self._server and self._server.poll() is None else []

    async def reset(self, tables: Mapping[str, str], roles: Sequence[Login]) -> None:
        """As the client's, and the log begins anew."""
        await super().reset(tables, roles)
        if self.log is not None:
            self.log.write_bytes(b"")

    async def stop(self) -> None:
        """Close the connections and end the server at once."""
        self.disconnect()
        _end(self._server, signal.SIGQUIT)


class RedisClient:
    """The administrator's connection over the private socket in `folder`, wherever the server behind it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client: redis_client.Redis = redis_client.Redis(unix_socket_path=str(folder / "redis.sock"), decode_responses=True)

    async def reset(self) -> None:
        """Empty it and restore the settings that a fault may have changed; assert it is clean."""
        pipe = self.client.pipeline(transaction=False)
        pipe.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        pipe.execute_command("CONFIG", "SET", "maxmemory", _REDIS_MEMORY)
        pipe.execute_command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        pipe.execute_command("CONFIG", "SET", "maxclients", 500)
        pipe.execute_command("CONFIG", "SET", "requirepass", "")
        pipe.execute_command("ACL", "SETUSER", "default", "+@all")
        pipe.execute_command("REPLICAOF", "NO", "ONE")
        pipe.execute_command("FLUSHALL")
        pipe.execute_command("CONFIG", "RESETSTAT")
        pipe.execute_command("DBSIZE")
        size = (await pipe.execute())[-1]
        if size != 0:
            raise SandboxError(f"Redis is not clean after a reset: {size} keys left")

    async def disconnect(self) -> None:
        """Close our connections."""
        await self.client.aclose()


class Redis(RedisClient):
    """One server on `address:6379`, without persistence."""

    def __init__(self, folder: Path, address: str, log: Path | None) -> None:
        """`log`: None writes to our own output."""
        super().__init__(folder)
        self.address, self.log = address, log
        self.program = find_redis()
        self._server: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Spawn the server; `ready` waits for it."""
        self._server = _spawn(
            [self.program.path, "--bind", self.address, "--port", str(REDIS_PORT), "--unixsocket", str(self.folder / "redis.sock"),
             "--dir", str(self.folder), "--save", "", "--appendonly", "no", "--maxmemory", str(_REDIS_MEMORY),
             "--protected-mode", "no"], self.log, self.folder)

    async def ready(self) -> None:
        """Wait for PONG. Raises SandboxError with the server's last words."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                await self.client.ping()
                return
            except redis_client.RedisError as error:
                dead = self._server is None or self._server.poll() is not None
                if dead or time.monotonic() > deadline:
                    where = f"{self.program.path} on {self.address}:{REDIS_PORT}"
                    raise SandboxError(f"Redis {where} did not start: {_last_words(self.log, 1) or error}") from error
                await asyncio.sleep(0.005)

    @property
    def pids(self) -> list[int]:
        """The server process."""
        return [self._server.pid] if self._server and self._server.poll() is None else []

    async def reset(self) -> None:
        """As the client's, and the log begins anew."""
        await super().reset()
        if self.log is not None:
            self.log.write_bytes(b"")

    async def stop(self) -> None:
        """End the server at once."""
        await self.disconnect()
        _end(self._server, signal.SIGKILL)


def _last_words(log: Path | None, count: int) -> str:
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-count:]) if log else ""


def _end(server: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    if server is None or server.poll() is not None:
        return
    server.send_signal(number)
    try:
        server.wait(3)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
