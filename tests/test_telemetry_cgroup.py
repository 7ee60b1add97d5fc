"""What a control group counts, read from both versions of its files."""

from __future__ import annotations

from pathlib import Path

from chaosgym.telemetry.cgroup import sample_cgroup


def _values(root: Path) -> dict[str, float]:
    return {row[3]: row[6] for row in sample_cgroup("web", 7, root)}


def test_version_1(tmp_path: Path) -> None:
    for name, text in {
        "cpu/cpu.stat": "nr_periods 40\nnr_throttled 3\nthrottled_time 99\n",
        "cpuacct/cpuacct.usage": "2500000000\n",
        "memory/memory.usage_in_bytes": "4096\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _values(tmp_path) == {
        "container.cpu.time": 2.5, "container.cpu.throttling_data.throttled_periods": 3, "container.memory.usage": 4096,
    }  # fmt: skip


def test_version_2(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\nnr_periods 2\nnr_throttled 1\n")
    (tmp_path / "memory.current").write_text("8192\n")
    (tmp_path / "memory.max").write_text("16384\n")
    assert _values(tmp_path) == {
        "container.cpu.time": 1.5, "container.cpu.throttling_data.throttled_periods": 1, "container.memory.usage": 8192,
        "container.memory.usage.limit": 16384,
    }  # fmt: skip


def test_without_one_there_is_nothing(tmp_path: Path) -> None:
    assert sample_cgroup("web", 7, tmp_path) == []
