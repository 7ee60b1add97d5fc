"""Applications that are not ours, without an engine: their files, what is refused, what is written down, what their logs say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from chaosgym.cli.program import make_program
from chaosgym.drawing import draw_plan
from chaosgym.errors import FaultError, InputError, SandboxError
from chaosgym.faults import FAULTS
from chaosgym.foreign.cache import ForeignCache
from chaosgym.foreign.containers import shared_network
from chaosgym.foreign.database import GuardedConnection
from chaosgym.foreign.firewall import lacking
from chaosgym.foreign.journal import Journal, journal_path
from chaosgym.foreign.lines import parse_lines, stamped
from chaosgym.foreign.load import LoadedApp, load_foreign_app, secret
from chaosgym.foreign.plan import make_app, make_plan, make_scenario
from chaosgym.foreign.refusal import possible_faults, refuse, why_not
from chaosgym.foreign.users import Outcome, _judge  # pyright: ignore[reportPrivateUsage]
from chaosgym.recording.topology import chain_to_entry

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "foreign"


@pytest.fixture(params=["shop.yaml", "shop-kubernetes.yaml"])
def example(request: pytest.FixtureRequest) -> Path:
    return EXAMPLES / request.param


@pytest.fixture
def shop() -> LoadedApp:
    return load_foreign_app(EXAMPLES / "shop.yaml")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(make_program(), ["foreign", *arguments], prog_name="chaosgym")


# ── the file ───────────────────────────────────────────────────────────────────────────────────────


def test_the_examples_can_be_read_and_planned(example: Path) -> None:
    loaded = load_foreign_app(example)
    scenario = make_scenario(loaded.app, "process.crash", "shop", {})
    refuse(loaded, scenario, {})
    plan = make_plan(loaded.app, scenario, 7, {})
    assert [c.name for c in plan.components.values()] == ["front", "shop", "database", "cache"]
    assert plan.components["database"].tables == {"orders": "orders", "products": "products"}
    assert chain_to_entry(plan.app, "database") == ["database", "shop", "front"]
    assert draw_plan(make_app(loaded.app), scenario, 7).faults == plan.faults
    assert scenario.metadata.split == "foreign"


WRONG = [
    ("container: shop\n", "workload: shop\n", r":18:7: spec\.components\.shop\.workload: .* write 'container'"),
    ("calls: [shop]", "calls: [shopp]", r"calls\.0: there is no component 'shopp'.* did you mean 'shop'\?"),
    ("entry: front", "entry: database", r"'database' is a postgres; users talk to"),
    ("allow: [load]", "allow: [sql]", r"front\.allow\.0: sql needs a postgres"),
    ("allow: [redis]", "allow: [redis, load]", r"cache\.allow\.1: load comes to the entry"),
    ("allow: [redis]", "allow: [explode]", r"cache\.allow\.0: should be 'signal'"),
    ("      port: 8000\n", "", r"shop\.allow\.2: link needs to know where 'shop' listens"),
    ("compose: {project: shop}", "compose: {project: shop}\n  kubernetes: {context: a, namespace: b}", r"exactly one of"),
    ("http://127.0.0.1:18080", "127.0.0.1:18080", r"is not the address of a web server"),
    ("'\"tea\"'", "'['", r"is not a regular expression"),
    ("kind: gateway", "kind: gatway", r"did you mean 'gateway'"),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG)
def test_what_is_wrong_in_a_file_is_said_with_its_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    text = (EXAMPLES / "shop.yaml").read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=said) as error:
        load_foreign_app(path)
    assert str(error.value).startswith(f"{path}:")


def test_a_password_that_is_not_set_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_PASSWORD", raising=False)
    with pytest.raises(InputError, match=r"export NO_SUCH_PASSWORD="):
        secret("NO_SUCH_PASSWORD", "database")


# ── what is refused ────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_possible_where_nothing_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(re.sub(r"\n      allow: .*", "", (EXAMPLES / "shop.yaml").read_text()))
    loaded = load_foreign_app(path)
    assert [possible_faults(loaded, role, {}) for role in loaded.app.spec.components] == [[], [], [], []]


def test_each_fault_is_possible_or_refused_for_a_reason(shop: LoadedApp) -> None:
    for role, component in shop.app.spec.components.items():
        for label, fault in FAULTS.items():
            why = why_not(fault, role, component, {})
            assert why is None or label in why


def test_a_refusal_names_line_reason_and_what_would_do(shop: LoadedApp) -> None:
    said = r"shop\.yaml:\d+:\d+: spec\.components\.front\.allow: process\.crash needs hold and signal"
    with pytest.raises(InputError, match=said) as error:
        refuse(shop, make_scenario(shop.app, "process.crash", "front", {}), {})
    assert "process.crash can be had by shop" in str(error.value)
    lacks: Any = {"shop": {"link": "it needs root"}}
    with pytest.raises(InputError, match="cannot be done to 'shop' here: it needs root"):
        refuse(shop, make_scenario(shop.app, "network.partition", "shop", {}), lacks)
    with pytest.raises(InputError, match=r"has no table 'order'; .* did you mean 'orders'"):
        refuse(shop, make_scenario(shop.app, "dependency.lock", "database", {"table": "order"}), {})
    with pytest.raises(InputError, match="there is no component 'shp' to break"):
        refuse(shop, make_scenario(shop.app, "process.crash", "shp", {}), {})


def test_the_command_line_refuses_before_it_looks_for_an_engine() -> None:
    file = str(EXAMPLES / "shop.yaml")
    assert isinstance(run("run", file, "--fault", "process.crash", "--target", "front").exception, InputError)
    assert isinstance(run("run", file, "--fault", "process.crash").exception, InputError)
    assert isinstance(run("run", file, "--fault", "process.crsh", "--target", "shop").exception, InputError)
    dry = run("run", file, "--fault", "process.crash", "--target", "shop", "--dry-run")
    assert dry.exit_code == 0
    assert "in Compose project shop: process.crash on shop; 10 s" in dry.stderr
    rows = {row["fault"]: row["why_not"] for row in json.loads(run("faults", file, "database", "--json").stdout)}
    assert rows["dependency.lock"] is None
    assert rows["dependency.privilege"].startswith("dependency.privilege is for chaosgym's own")


# ── the journal ────────────────────────────────────────────────────────────────────────────────────


def test_a_journal_survives_whoever_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "app.jsonl"
    code = f"""
import os
from pathlib import Path
from chaosgym.foreign.journal import Journal
journal = Journal(Path({str(path)!r}))
journal.write("start", "shop", container="c1")
journal.write("start", "shop", container="c1")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    with path.open("a") as file:
        file.write('{"kind": "sta')
    journal = Journal(path)
    assert journal.entries == [{"kind": "start", "role": "shop", "container": "c1"}]
    with pytest.raises(SandboxError, match="another chaosgym is at work"):
        Journal(path)
    journal.write("unpause", "shop", container="c2")
    journal.close()
    again = Journal(path)
    assert [entry["kind"] for entry in again.entries] == ["start", "unpause"]
    again.clear()
    again.close()
    assert path.read_text() == ""
    assert path.stat().st_mode & 0o77 == 0


def test_journals_of_different_engines_are_different(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert journal_path("docker-shop", "a") != journal_path("docker-shop", "b")
    assert journal_path("docker-shop", "a").parent == tmp_path / "chaosgym" / "foreign"


# ── databases of others ────────────────────────────────────────────────────────────────────────────


class Server:
    """Stands for an asyncpg connection to a server on which nothing is in the way."""

    def __init__(self, *, free: bool = True) -> None:
        self.free = free
        self.ran: list[str] = []

    async def execute(self, query: str, *_: Any) -> str:
        self.ran.append(query)
        return ""

    async def fetchval(self, *_: Any, **__: Any) -> bool:
        return self.free

    fetch = fetchrow = fetchval


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "j.jsonl")
    yield opened
    opened.close()


UNDONE = [
    ('create role "etl" login password \'x\'', 'drop role if exists "etl"'),
    ('alter table "orders" rename to "orders_old"', 'alter table if exists "orders_old" rename to "orders"'),
    ("alter system set default_transaction_read_only = on", "alter system reset default_transaction_read_only"),
    ("create function f() returns trigger language plpgsql as $$ begin return new; end $$", "drop function if exists f()"),
    ('create trigger f before insert or update on "orders" for each row execute function f()', 'drop trigger if exists f on "orders"'),
]


@pytest.mark.parametrize(("statement", "undo"), UNDONE)
async def test_a_statement_is_let_through_once_its_undoing_is_written(statement: str, undo: str, journal: Journal) -> None:
    server = Server()
    await GuardedConnection(server, "database", journal).execute(statement)
    assert server.ran == [statement]
    assert undo in journal.entries[0]["statements"]
    await GuardedConnection(server, "database", journal).execute(undo.replace(" if exists", ""))
    assert len(journal.entries) == 1
    journal.clear()
    with pytest.raises(FaultError, match=r"already|somebody has set"):
        await GuardedConnection(Server(free=False), "database", journal).execute(statement)
    assert journal.entries == []


LEFT = [
    "drop table orders", "delete from orders", "truncate orders", "update orders set product = 1", "grant pg_read_all_data to shop",
    "alter role shop connection limit 1", "create table x ()", "select 1; drop table orders", "drop role if exists shop",
    "alter system reset work_mem", "do $$ begin drop table orders; end $$", "select setval('orders_id_seq', 1)",
]  # fmt: skip


@pytest.mark.parametrize("statement", LEFT)
async def test_a_statement_that_could_not_be_undone_is_refused(statement: str, journal: Journal) -> None:
    server = Server()
    with pytest.raises(FaultError, match="not done to 'database'"):
        await GuardedConnection(server, "database", journal).execute(statement)
    assert server.ran == []
    assert journal.entries == []


async def test_rights_are_given_to_our_own_logins_alone(journal: Journal) -> None:
    connection = GuardedConnection(Server(), "database", journal)
    await connection.execute("create role \"etl\" login password 'x'")
    await connection.execute('grant "shop" to "etl"')
    with pytest.raises(FaultError):
        await connection.execute('grant "shop" to "somebody"')


LOSING = [
    ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"), ("CONFIG", "SET", "requirepass", "x"),
    ("DEL", "session:1"), ("SET", "session:1", "x"), ("EVAL", "return redis.call('DEL', 'a')", 0), ("REPLICAOF", "a", "1"),
    ("ACL", "SETUSER", "default", "-@all"), ("CLIENT", "KILL", "TYPE", "normal"),
]  # fmt: skip


@pytest.mark.parametrize("command", LOSING)
async def test_a_command_that_loses_something_is_refused(command: tuple[str | int, ...], journal: Journal) -> None:
    cache = ForeignCache("cache", ("127.0.0.1", 1), None)
    with pytest.raises(FaultError, match="not done to 'cache'"):
        await cache.command(journal, *command)
    await cache.close()
    assert journal.entries == []


# ── what it says ───────────────────────────────────────────────────────────────────────────────────

LOG = """2026-11-22T20:00:00.000000001Z 2026/11/22 23:00:00 [error] 29#29: *1 connect() failed (111: Connection refused) while connecting
2026-11-22T20:00:01.5Z 1.2.3.4 - - [22/Nov/2026:20:00:01 +0000] "GET /x HTTP/1.1" 502 157 "-" "curl/7"
2026-11-22T20:00:02Z {"level": "warn", "msg": "slow", "trace_id": "0af7651916cd43dd8448eb211c80319c"}
2026-11-22T20:00:03Z 2026-11-22 20:00:03.123 UTC [7] ERROR:  canceling statement due to statement timeout
2026-11-22T20:00:03Z 2026-11-22 20:00:03.123 UTC [7] STATEMENT:  select 1
2026-11-22T20:00:04Z something WARN without a time
2026-11-22T20:00:05Z Traceback (most recent call last):
2026-11-22T20:00:05Z   File "x.py", line 1, in <module>
2026-11-22T20:00:05Z ValueError: no
broken in two
2026-11-22T20:00:06Z listening on port 80
"""


def test_any_log_is_read_by_the_engines_clock() -> None:
    rows = parse_lines(stamped(LOG), "front")
    assert [(row[2], row[4].split("\n")[0][:20]) for row in rows] == [
        (17, "connect() failed (11"), (17, '"GET /x HTTP/1.1" 50'), (13, "slow"), (17, "canceling statement "),
        (13, "something WARN witho"), (17, "Traceback (most rece"), (0, "listening on port 80"),
    ]  # fmt: skip
    assert rows[0][0] % 10**9 == 1
    assert rows[1][0] - rows[0][0] == 1_499_999_999
    assert rows[2][5] == "0af7651916cd43dd8448eb211c80319c"
    assert rows[3][4].endswith("STATEMENT:  select 1")
    assert rows[5][4].endswith("ValueError: no")


def test_a_user_gets_what_is_expected_or_a_failed_request(shop: LoadedApp) -> None:
    probe = shop.app.spec.probes["look"]
    assert _judge(probe, 200, '{"products": ["tea"]}') == Outcome(200, "", "")
    assert _judge(probe, 200, "[]").error == "UnexpectedBody"
    assert _judge(probe, 404, "tea").error == "404"


def test_what_a_firewall_lacks_is_said() -> None:
    assert lacking() == "" or "needs" in lacking()


@pytest.mark.parametrize(("mode", "alone"), [("bridge", True), ("shop_default", True), ("host", False), ("container:abc", False)])
def test_no_rules_in_a_network_that_others_use(mode: str, alone: bool) -> None:
    container = SimpleNamespace(name="web", attrs={"HostConfig": {"NetworkMode": mode}})
    assert (shared_network([container]) == "") == alone


def test_a_scenario_file_is_played_on_the_application(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = """
apiVersion: chaosgym.dev/v1
kind: Scenario
metadata: {name: mine, split: foreign}
spec:
  app: shop
  parameters: {target: {choice: [shop, front]}}
  faults: [{fault: process.hang, target: "${target}"}]
  decoys: [{kind: deploy}]
"""
    path.write_text(text)
    refused = run("run", str(EXAMPLES / "shop.yaml"), "--scenario", str(path))
    assert "process.hang needs signal" in str(refused.exception)
    assert "a decoy of kind deploy" in str(refused.exception)
    path.write_text(text.replace("[shop, front]", "[shop]").replace("kind: deploy", "kind: traffic"))
    assert run("run", str(EXAMPLES / "shop.yaml"), "--scenario", str(path), "--dry-run").exit_code == 0
