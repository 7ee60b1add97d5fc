"""Stores of episodes: each stands there once and whole, whoever writes how often; and the shards of a recording."""

from __future__ import annotations

import json
import secrets
import shutil
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from chaosgym.cli.program import make_program
from chaosgym.drawing import draw_plan
from chaosgym.episode import HEADER_FILE, list_episodes, read_header, validate_episode
from chaosgym.errors import InfrastructureError, InputError, PrerequisiteError
from chaosgym.recording.failure import write_failure
from chaosgym.recording.pool import Recorded, episode_id
from chaosgym.recording.record import Task, plan_tasks, record, share
from chaosgym.recording.store import Store, fetch_episodes, open_store
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.truth import read_truth

SCENARIO, APP = load_scenario("process-crash"), load_app("shop")
TASKS = plan_tasks([SCENARIO], {"shop": APP}, 6, seed=0, split=None)


def episode(folder: Path, seed: int, reason: str = "for a test") -> Path:
    """The smallest whole episode."""
    return write_failure(draw_plan(APP, SCENARIO, seed), episode_id(SCENARIO, APP, seed), folder, "local", reason)


@pytest.fixture(params=["file", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a store that is empty: a folder, and one of objects."""
    return f"file://{tmp_path}/store" if request.param == "file" else f"memory://{secrets.token_hex(4)}/episodes"


@pytest.fixture
def store(address: str) -> Store:
    return open_store(address)


@pytest.fixture
def objects() -> Store:
    return open_store(f"memory://{secrets.token_hex(4)}/episodes")


# ── one episode ──────────────────────────────────────────────────────────────────────────────────────


def test_what_was_put_there_is_got_back(store: Store, tmp_path: Path) -> None:
    made = episode(tmp_path / "a", 1)
    assert store.finished() == frozenset()
    assert store.put(made)
    assert store.finished() == {made.name}
    copy = store.get(made.name, tmp_path / "copy")
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {path.name: path.read_bytes() for path in made.iterdir()}
    assert read_truth(validate_episode(copy).path).scenario == "process-crash"


def test_one_that_is_there_is_never_overwritten(store: Store, tmp_path: Path) -> None:
    first, second = episode(tmp_path / "a", 1, "the first"), episode(tmp_path / "b", 1, "the second")
    assert store.put(first)
    assert not store.put(second)
    assert not store.put(first)
    assert read_header(store.get(first.name, tmp_path / "copy")).reason == "the first"


def test_of_those_who_write_at_once_one_wins_and_is_whole(store: Store, tmp_path: Path) -> None:
    made = [episode(tmp_path / str(n), 1, f"writer {n}") for n in range(8)]
    for path in made:
        (path / "logs.parquet").write_bytes(read_header(path).reason.encode())
    won: list[str] = []
    start = threading.Barrier(len(made))

    def write(path: Path) -> None:
        start.wait()
        if store.put(path):
            won.append(read_header(path).reason)

    threads = [threading.Thread(target=write, args=(path,)) for path in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    copy = store.get(made[0].name, tmp_path / "copy")
    assert won == [read_header(copy).reason] == [(copy / "logs.parquet").read_bytes().decode()]
    assert store.finished() == {made[0].name}
    if store.folder:
        assert [path.name for path in store.folder.iterdir()] == [made[0].name]  # no draft is left


def test_writer_that_sees_no_mark_yet_gives_way(objects: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark of the other appears between our look and ours: what we have written lies apart, and goes."""
    first, second = episode(tmp_path / "a", 1, "the first"), episode(tmp_path / "b", 1, "the second")
    objects.put(first)
    first_look, exists = iter([False]), objects.fs.exists
    monkeypatch.setattr(objects.fs, "exists", lambda path: next(first_look, exists(path)))
    assert not objects.put(second)
    assert read_header(objects.get(first.name, tmp_path / "copy")).reason == "the first"
    attempts = {path.split("/")[-2] for path in objects.fs.find(f"{objects.root}/{first.name}")}
    assert len(attempts) == 2  # the id, and the digest of the first


def test_the_mark_comes_last(objects: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that dies before it leaves nothing that anybody takes for an episode, and the next one is not in its way."""
    made = episode(tmp_path / "a", 1)

    def dies(*arguments: Any, **named: Any) -> None:
        raise ConnectionResetError("the pod was killed")

    with monkeypatch.context() as patch:
        patch.setattr(objects.fs, "pipe_file", dies)
        with pytest.raises(InfrastructureError, match=r"the pod was killed.*run the same again"):
            objects.put(made)
    assert objects.fs.find(objects.root)
    assert objects.finished() == frozenset()
    assert objects.put(episode(tmp_path / "b", 1, "another"))
    assert read_header(objects.get(made.name, tmp_path / "copy")).reason == "another"


def test_a_store_that_cannot_create_exclusively_is_written_all_the_same(
    objects: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write: Any = objects.fs.pipe_file

    def refuse(path: str, value: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise NotImplementedError("a header you provided implies functionality that is not implemented")
        write(path, value)

    monkeypatch.setattr(objects.fs, "pipe_file", refuse)
    made = episode(tmp_path / "a", 1)
    assert objects.put(made)
    assert not objects.put(made)
    assert objects.finished() == {made.name}


def test_folders_copied_there_by_other_means_are_read(objects: Store, tmp_path: Path) -> None:
    made = episode(tmp_path / "a", 1)
    for path in made.iterdir():
        objects.fs.put_file(str(path), f"{objects.root}/{made.name}/{path.name}")
    assert {path.name for path in objects.get(made.name, tmp_path / "copy").iterdir()} == {path.name for path in made.iterdir()}


# ── reading a store ──────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_read_where_it_is(tmp_path: Path) -> None:
    assert fetch_episodes(str(tmp_path), tmp_path / "cache") == tmp_path
    assert fetch_episodes(f"file://{tmp_path}", tmp_path / "cache") == tmp_path


def test_a_copy_follows_the_store(objects: Store, tmp_path: Path) -> None:
    made = [episode(tmp_path / "a", seed) for seed in (1, 2)]
    for path in made:
        objects.put(path)
    copy = fetch_episodes(objects.address, tmp_path / "cache")
    assert [path.name for path in list_episodes(copy)] == sorted(path.name for path in made)
    kept = (copy / made[1].name / HEADER_FILE).stat().st_mtime_ns
    objects.fs.rm(f"{objects.root}/{made[0].name}", recursive=True)
    objects.put(episode(tmp_path / "b", 3))
    again = fetch_episodes(objects.address, tmp_path / "cache")
    assert {path.name for path in list_episodes(again)} == {made[1].name, episode_id(SCENARIO, APP, 3)}
    assert (copy / made[1].name / HEADER_FILE).stat().st_mtime_ns == kept  # not fetched again
    one = fetch_episodes(f"{objects.address}/{made[1].name}", tmp_path / "cache")
    assert list_episodes(one) == [one]


def test_what_cannot_be_a_store_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nonsense://x: .*known are file://"):
        open_store("nonsense://x")
    with pytest.raises(InputError, match="holds no episodes; `chaosgym record --out memory://"):
        fetch_episodes("memory://nothing/here", tmp_path)
    (tmp_path / "taken").touch()
    with pytest.raises(InfrastructureError, match=r"file://.*taken: cannot be read or written"):
        open_store(f"file://{tmp_path}/taken").put(episode(tmp_path / "a", 1))


def test_missing_driver_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(PrerequisiteError, match="pip install s3fs"):
        open_store("s3://bucket/episodes")


# ── recording into one ───────────────────────────────────────────────────────────────────────────────


class Quick:
    """A pool that breaks nothing and takes no time."""

    size = 2
    choice = SandboxChoice()

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def record(self, scenario: Any, app: Any, seed: int, out: Path) -> Recorded:
        self.seeds.append(seed)
        return Recorded(episode(out, seed), "unscorable", None, "for a test")


def run(tasks: list[Task], store: Store, out: Path) -> tuple[list[int], Any]:
    pool: Any = Quick()
    summary = record(tasks, pool, out, lambda task, outcome: None, store=store)
    return sorted(pool.seeds), summary


@given(st.integers(1, 60), st.integers(1, 20))
def test_shards_are_disjoint_and_complete(episodes: int, of: int) -> None:
    tasks = plan_tasks([SCENARIO], {"shop": APP}, episodes, seed=3, split=None)
    shares = [share(tasks, index, of) for index in range(of)]
    seeds = [task.seed for each in shares for task in each]
    assert sorted(seeds) == [task.seed for task in tasks]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shards_make_one_recording(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosgym.recording.record.STAGGER", 0)
    for index in range(2):
        seeds, summary = run(share(TASKS, index, 2), store, tmp_path / f"shard{index}")
        assert seeds == [index, index + 2, index + 4]
        assert (summary.recorded, summary.skipped) == (3, 0)
        assert list((tmp_path / f"shard{index}").iterdir()) == []  # handed over
    assert store.finished() == {task.id for task in TASKS}
    assert run(TASKS, store, tmp_path / "again")[0] == []


def test_only_what_is_missing_in_the_store_is_recorded(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosgym.recording.record.STAGGER", 0)
    store.put(episode(tmp_path / "before", 2))
    episode(tmp_path / "out", 3)  # of a run that ended before it was in the store
    seeds, summary = run(TASKS, store, tmp_path / "out")
    assert seeds == [0, 1, 4, 5]
    assert (summary.recorded, summary.skipped) == (6, 2)
    assert store.finished() == {task.id for task in TASKS}


def test_when_somebody_else_was_faster_theirs_counts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = episode(tmp_path / "theirs", 0, "theirs")
    heard: list[str] = []
    monkeypatch.setattr(Store, "finished", lambda self: store.put(theirs) and frozenset[str]())  # right after our look
    pool: Any = Quick()
    summary = record(TASKS[:1], pool, tmp_path / "out", lambda task, outcome: heard.append(outcome.reason), store=store)
    assert (heard, summary.skipped) == (["theirs"], 1)


# ── the commands ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shard", ["2/2", "1", "a/b", "-1/2", "0/0", "/"])
def test_a_shard_that_is_none_is_refused(shard: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(make_program(), ["record", "--out", str(tmp_path), f"--shard={shard}"])
    assert isinstance(done.exception, InputError)
    assert "I from 0 to N-1" in str(done.exception)


def test_commands_read_from_a_store(objects: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = episode(tmp_path / "a", 1)
    objects.put(made)
    shutil.rmtree(made)
    listed = CliRunner().invoke(make_program(), ["episodes", "list", objects.address, "--json"])
    assert [row["name"] for row in json.loads(listed.stdout)] == [made.name]
    shown = CliRunner().invoke(make_program(), ["episodes", "show", f"{objects.address}/{made.name}", "--json"])
    assert json.loads(shown.stdout)["reason"] == "for a test"
    judged = CliRunner().invoke(make_program(), ["eval", "rules", "--episodes", objects.address])
    assert "none of 1 episodes may be scored" in str(judged.exception)


@pytest.mark.sandbox
def test_record_writes_into_a_store(tmp_path: Path) -> None:
    arguments = ["record", "--scenarios", "process-crash", "--episodes", "3", "--workers", "1", "--out", f"file://{tmp_path}/store"]
    done = CliRunner().invoke(make_program(), [*arguments, "--shard", "2/3", "--json"])
    assert json.loads(done.stdout) | {"retried": 0} == {
        "out": f"file://{tmp_path}/store", "recorded": 1, "unscorable": 0, "invisible": 0, "skipped": 0, "retried": 0,
    }  # fmt: skip
    [path] = list_episodes(tmp_path / "store")
    assert validate_episode(path).header.seed == 2
    assert json.loads(CliRunner().invoke(make_program(), [*arguments, "--shard", "2/3", "--json"]).stdout)["skipped"] == 1
