"""The command line: what it prints, where, and what it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from chaosgym.cli import output, reference
from chaosgym.cli.program import main, make_program
from chaosgym.errors import InputError
from chaosgym.taxonomy import FAULT_TYPES

HEAVY = {"aiohttp", "asyncpg", "drain3", "gymnasium", "matplotlib", "numpy", "pyarrow", "pydantic", "torch", "transformers", "trl", "yaml"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(make_program(), list(arguments), prog_name="chaosgym")


def run_apart(*arguments: str, code: str = "from chaosgym.cli import main; main()") -> subprocess.CompletedProcess[str]:
    """As a process of its own, so that `main` and its exit code are real."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=30, check=False)


def commands(group: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for command in group.registered_commands:
        yield (*path, command.name or "")
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance, (*path, inner.name or ""))


@pytest.mark.parametrize("path", list(commands(make_program())), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help")
    assert shown.exit_code == 0
    assert f"Example: chaosgym {' '.join(path)}" in " ".join(shown.output.split())


def test_what_reports_can_print_json() -> None:
    silent = [path for path in commands(make_program()) if "--json" not in run(*path, "--help").output]
    assert silent == [("faults", "new"), ("scenario", "new")]  # they write a file, and report nothing


def test_help_is_light() -> None:
    code = "import sys\nfrom chaosgym.cli import main\ntry: main()\nfinally: print(len(sys.modules), *sys.modules, file=sys.stderr)"
    shown = run_apart("--help", code=code)
    count, *modules = shown.stderr.split()
    assert shown.returncode == 0
    assert int(count) < 450
    assert HEAVY & set(modules) == set()


def test_page_of_the_command_line_is_fresh() -> None:
    page = Path(__file__).parents[1] / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == reference.render(), "run: make docs"


def test_faults_as_json_name_every_label() -> None:
    rows = json.loads(run("faults", "list", "--json").stdout)
    assert {row["name"] for row in rows} == set(FAULT_TYPES)
    assert all(row["kinds"] and row["symptoms"] and row["description"] for row in rows)


@pytest.mark.parametrize("noun", ["faults", "apps", "scenario"])
def test_lists_are_arrays_of_objects_with_a_name(noun: str) -> None:
    rows = json.loads(run(noun, "list", "--json").stdout)
    assert rows
    assert all(isinstance(row["name"], str) for row in rows)


@pytest.mark.parametrize("noun", ["faults", "apps", "scenario"])
def test_what_is_listed_can_be_shown(noun: str) -> None:
    for row in json.loads(run(noun, "list", "--json").stdout):
        assert json.loads(run(noun, "show", row["name"], "--json").stdout)["name"] == row["name"]
        assert row["name"] in run(noun, "show", row["name"]).stdout


def test_faults_go_by_their_synonyms_too() -> None:
    assert json.loads(run("faults", "show", "OOM-kill", "--json").stdout)["name"] == "resource.memory_leak"


def test_new_scenario_is_valid_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "Slow Orders!.yaml"
    assert run("scenario", "new", str(path)).exit_code == 0
    assert run("scenario", "check", str(path)).exit_code == 0
    written = path.read_text()
    again = run("scenario", "new", str(path), "--target", "cart")
    assert isinstance(again.exception, InputError)
    assert path.read_text() == written


@pytest.mark.parametrize("stem", ["x", "9 lives", "---", "ÄÖ", "a" * 90, "UPPER_case.v2"])
def test_any_file_name_becomes_a_scenario_name(tmp_path: Path, stem: str) -> None:
    path = tmp_path / f"{stem}.yaml"
    assert run("scenario", "new", str(path)).exit_code == 0
    assert run("scenario", "check", str(path)).exit_code == 0


def test_check_tells_bad_documents_from_impossible_ones(tmp_path: Path) -> None:
    good, bad, impossible = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "impossible.yaml"
    run("scenario", "new", str(good))
    bad.write_text(good.read_text().replace("target: orders", "traget: orders"))
    impossible.write_text(good.read_text().replace("target: orders", "target: notifications"))
    assert [run("scenario", "check", str(path)).exit_code for path in (good, impossible, bad)] == [0, 1, 2]
    shown = run("scenario", "check", str(tmp_path / "*.yaml"), "--json")
    assert shown.exit_code == 2
    assert [row["ok"] for row in json.loads(shown.stdout)] == [False, True, False]
    assert "did you mean 'target'" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["faults", "show", "network.latncy"], 2, "did you mean 'network.latency'"),
        (["apps", "show", "shpo"], 2, "did you mean 'shop'"),
        (["scenario", "show", "process-crsh"], 2, "did you mean 'process-crash'"),
        (["run", "process-crash", "--agent", "rulez"], 2, "did you mean 'rules'"),
        (["record", "--scenarios", "nothing-*", "--out", "x"], 2, "no scenario matches"),
        (["record", "--out", "x", "--split", "sedes"], 2, "did you mean 'seeds'"),
        (["episodes", "list", "no-such-folder"], 2, "chaosgym record"),
        (["doctor", "--sandbox", "locla"], 2, "did you mean 'local'"),
        (["faluts", "list"], 2, "faults"),
        (["faults", "list", "--jsno"], 2, "--json"),
        (["--version"], 0, ""),
    ],
)
def test_mistakes_end_with_one_clear_error(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    command = [sys.executable, "-m", "chaosgym.cli", *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path)
    assert shown.returncode == code
    assert said in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(("module", "extra"), [("uvloop", "services"), ("trl", "train"), ("matplotlib.pyplot", "view")])
def test_missing_extra_names_its_install_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, extra: str
) -> None:
    def fail() -> typer.Typer:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("chaosgym.cli.program.make_program", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert f"pip install 'chaosgym[{extra}]'" in capsys.readouterr().err


def test_missing_module_of_no_extra_is_a_bug_with_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> typer.Typer:
        raise ModuleNotFoundError("No module named 'nosuch'", name="nosuch")

    monkeypatch.setattr("chaosgym.cli.program.make_program", fail)
    with pytest.raises(ModuleNotFoundError):
        main()


def test_interrupt_ends_with_130() -> None:
    code = (
        "import sys, chaosgym.doctor\n"
        "def interrupted(sandbox): raise KeyboardInterrupt\n"
        "chaosgym.doctor.examine = interrupted\n"
        "sys.argv = ['chaosgym', 'doctor']\n"
        "from chaosgym.cli import main; main()"
    )
    assert run_apart(code=code).returncode == 130


def test_closed_pipe_is_no_traceback() -> None:
    piped = f"{sys.executable} -m chaosgym.cli faults list --json | head -c 1"
    shown = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, timeout=30, check=False)
    assert shown.stdout == "["
    assert "Traceback" not in shown.stderr


def test_plain_rows_are_aligned_and_keep_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([{"a": "[red]", "b": True}, {"a": ["x", "y"], "b": None}, {"a": 0.123456789}], ("a", "b"))
    assert capsys.readouterr().out == "A       B\n[red]   yes\nx, y\n0.1235\n"


def test_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    output.print_rows([{"a": "[red]"}], ("a",))
    assert "[red]" in capsys.readouterr().out


def test_json_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        output.print_json(float("nan"))
