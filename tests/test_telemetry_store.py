"""Episodes and tables on disk: round trips, and every way in which a file can be wrong."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from chaosgym.episode import (
    ComponentInfo,
    EdgeInfo,
    EpisodeHeader,
    Window,
    list_episodes,
    read_episode,
    read_header,
    validate_episode,
    write_episode,
)
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.telemetry.schema import SIGNALS
from chaosgym.telemetry.store import TelemetryBuffer, empty_tables, read_tables, write_tables
from chaosgym.truth import TrueCause, Truth, read_truth

T0 = 1_795_000_000_000_000_000
HEADER = EpisodeHeader(
    id="a-1",
    baseline=Window(T0, T0 + 10),
    incident=Window(T0 + 10, T0 + 30),
    entry="front",
    components=(ComponentInfo(name="front", kind="gateway", host="front.example"), ComponentInfo(name="db", kind="postgres")),
    edges=(EdgeInfo(source="front", target="db", protocol="postgresql"),),
)
CAUSE = TrueCause(component="db", fault="dependency.lock")
TRUTH = Truth(scenario="s", app="shop", verdict="fault", causes=(CAUSE,), chain=("db", "front"))


def filled() -> TelemetryBuffer:
    buffer = TelemetryBuffer()
    buffer.logs += [(T0 + 5, "front", 9, "INFO", "later", None, None, "{}"), (T0 + 1, "front", 17, "ERROR", "sooner", "t", "s", "{}")]
    buffer.spans.append((T0, T0 + 2, "front", "t", "s", None, "GET /", "server", "error", None, None, 503, "503", "{}"))
    buffer.metrics.append((T0, T0, "db", "m", "s", "histogram", 1.5, 3, [0.1, 1.0], [1, 1, 1], "{}"))
    buffer.metrics.append((T0 + 20, T0, "db", "g", "1", "gauge", 2.0, None, None, None, "{}"))
    buffer.events.append((T0, "front", "deployment", "1.0 -> 1.1", "{}"))
    return buffer


def test_tables_are_sorted_and_keep_every_value() -> None:
    tables = filled().tables()
    assert tables["logs"].column("body").to_pylist() == ["sooner", "later"]
    assert tables["spans"].column("http_status_code").to_pylist() == [503]
    assert tables["metrics"].column("buckets").to_pylist() == [[1, 1, 1], None]
    assert {name: table.schema for name, table in tables.items()} == SIGNALS


def test_a_window_cuts_rows_by_time() -> None:
    tables = filled().tables((T0 + 1, T0 + 20))
    assert {name: table.num_rows for name, table in tables.items()} == {"logs": 2, "spans": 0, "metrics": 0, "events": 0}


def test_clear_keeps_the_lists_that_others_hold() -> None:
    buffer = filled()
    logs = buffer.logs
    buffer.clear()
    assert buffer.logs is logs
    assert not any((buffer.logs, buffer.spans, buffer.metrics, buffer.events))


def test_tables_round_trip(tmp_path: Path) -> None:
    tables = filled().tables()
    write_tables(tmp_path, tables)
    assert read_tables(tmp_path) == tables


def test_a_table_of_other_columns_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"logs\.parquet: has columns \(x int64\)"):
        write_tables(tmp_path, {"logs": pa.table({"x": [1]})})


def test_an_episode_round_trips(tmp_path: Path) -> None:
    tables = filled().tables()
    path = write_episode(tmp_path / "new", HEADER, tables, TRUTH)
    assert path == tmp_path / "new" / "a-1"
    episode = validate_episode(path)
    assert (episode.header, episode.tables, read_truth(path)) == (HEADER, tables, TRUTH)
    assert list_episodes(tmp_path / "new") == [path]
    assert list_episodes(path) == [path]


def test_public_files_do_not_tell_the_truth(tmp_path: Path) -> None:
    path = write_episode(tmp_path, HEADER, filled().tables(), TRUTH)
    public = b"".join(file.read_bytes() for file in path.iterdir() if file.name != "truth.json")
    assert b"dependency.lock" not in public


def test_an_episode_is_never_overwritten(tmp_path: Path) -> None:
    write_episode(tmp_path, HEADER, filled().tables(), TRUTH)
    with pytest.raises(InputError, match="exists already"):
        write_episode(tmp_path, HEADER, empty_tables(), TRUTH)
    assert read_episode(tmp_path / "a-1").tables["logs"].num_rows == 2


def test_what_a_killed_writer_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".a-1.partial").mkdir()
    (tmp_path / ".a-1.partial" / "stray").write_text("half")
    path = write_episode(tmp_path, HEADER, filled().tables(), TRUTH)
    assert not (path / "stray").exists()
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InfrastructureError, match=r"No space left on device.*free some space"):
        write_episode(tmp_path, HEADER, filled().tables(), TRUTH)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="cannot write the episode"):
        write_episode(tmp_path / "file", HEADER, {}, TRUTH)


def test_unfinished_and_foreign_folders_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".a-2.partial").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert list_episodes(tmp_path) == []
    with pytest.raises(InputError, match="chaosgym record"):
        list_episodes(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [*(f"{signal}.parquet" for signal in SIGNALS), "episode.json", "truth.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = write_episode(tmp_path, HEADER, filled().tables(), TRUTH)
    file = path / name
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes({"truncated": whole[: len(whole) // 2], "foreign": b"%PDF-1.7 \xff\xfe not ours", "empty": b""}[damage])
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        read_truth(path) if name == "truth.json" else validate_episode(path)


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write_episode(tmp_path, HEADER, filled().tables(), TRUTH)
    pq.write_table(pa.table({"a": [1]}), path / "spans.parquet")
    with pytest.raises(InputError, match=r"spans\.parquet: has columns \(a int64\), but an episode has \(start_time_unix_nano int64"):
        validate_episode(path)


def test_a_newer_schema_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = write_episode(tmp_path, HEADER, filled().tables(), TRUTH)
    document = json.loads((path / "episode.json").read_text()) | {"schema_version": 2, "novelty": True}
    (path / "episode.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"schema version 2 is newer than 1.*upgrade chaosgym"):
        read_header(path)


@pytest.mark.parametrize("text", ["[]", "7", "null", '{"id": 5}', '{"id": "../x"}', "[" * 100_000, '{"id": "x", "fault": "process.crash"}'])
def test_wrong_headers_are_input_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "episode.json").write_text(text)
    with pytest.raises(InputError, match=r"episode\.json"):
        read_header(tmp_path)


def test_unsorted_rows_and_silent_episodes_are_refused(tmp_path: Path) -> None:
    path = write_episode(tmp_path, HEADER, filled().tables(), TRUTH)
    logs = read_episode(path).tables["logs"]
    pq.write_table(logs.take([1, 0]), path / "logs.parquet")
    with pytest.raises(InputError, match="not sorted by time_unix_nano"):
        validate_episode(path)
    silent = write_episode(tmp_path, HEADER.model_copy(update={"id": "b"}), {}, TRUTH)
    with pytest.raises(InputError, match="no telemetry at all"):
        validate_episode(silent)


def test_an_unscorable_episode_says_why(tmp_path: Path) -> None:
    header = EpisodeHeader(id="u", status="unscorable", reason="postgres died during the baseline")
    assert validate_episode(write_episode(tmp_path, header, {})).header == header
    with pytest.raises(ValidationError, match="has a reason"):
        EpisodeHeader(id="u", status="unscorable")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"incident": (T0 + 5, T0 + 30)}, "must be a span of time"),
        ({"baseline": (0, 0)}, "must be a span of time"),
        ({"entry": "nobody"}, "'nobody' is not among the components"),
        ({"edges": ({"source": "front", "target": "x"},)}, "'x' is not among the components"),
        ({"components": ({"name": "front", "kind": "a"}, {"name": "front", "kind": "b"})}, "same name"),
    ],
)
def test_headers_are_cross_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EpisodeHeader.model_validate(HEADER.model_dump() | change)


def test_truth_is_cross_checked() -> None:
    with pytest.raises(ValidationError, match="healthy has none"):
        Truth(scenario="s", app="a", verdict="healthy", causes=TRUTH.causes)
    with pytest.raises(ValidationError, match=r"did you mean 'dependency.lock'"):
        TrueCause(component="db", fault="dependency.locks")
