"""`chaosgym train` and `chaosgym quickstart`: from recorded episodes to a model that diagnoses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["QUICKSTART_EXAMPLE", "group", "quickstart"]

QUICKSTART_EXAMPLE = "Example: chaosgym quickstart --out runs/quickstart"

group = typer.Typer(help="Train a language model on recorded episodes.", no_args_is_help=True, rich_markup_mode=None)

_Config = Annotated[Path, typer.Option("--config", help="A YAML file; docs/cli.md lists what it may hold.")]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the same run.")]


@group.command("pretrain", epilog="Example: chaosgym train pretrain --config pretrain.yaml")
def pretrain(config: _Config, resume: _Resume = False, as_json: JsonOption = False) -> None:
    """Teach a model from nothing the language of reports; never on the diagnosis task."""
    from chaosgym.training.config import PretrainConfig, read_config

    settings = read_config(config, PretrainConfig)
    from chaosgym.training.pretrain import pretrain as train

    _show_training()
    _report(train(settings, resume=resume), as_json)


@group.command("sft", epilog="Example: chaosgym train sft --config sft.yaml --resume")
def sft(config: _Config, resume: _Resume = False, as_json: JsonOption = False) -> None:
    """Fine-tune a model on right answers to recorded episodes of the split `train`."""
    from chaosgym.training.config import SftConfig, read_config

    settings = read_config(config, SftConfig)
    from chaosgym.training.sft import sft as train

    _show_training()
    _report(train(settings, resume=resume), as_json)


@group.command("distill", epilog="Example: chaosgym train distill --config distill.yaml")
def distill(config: _Config, resume: _Resume = False, as_json: JsonOption = False) -> None:
    """Teach a model what another agent answers, or what another model thinks, on recorded episodes of the split `train`."""
    from chaosgym.training.config import DistillConfig, read_config

    settings = read_config(config, DistillConfig)
    from chaosgym.training.distill import distill as train

    _show_training()
    _report(train(settings, resume=resume), as_json)


@group.command("grpo", epilog="Example: chaosgym train grpo --config grpo.yaml --resume")
def grpo(config: _Config, resume: _Resume = False, as_json: JsonOption = False) -> None:
    """Improve a model by reinforcement learning (GRPO) on recorded episodes of the split `train`."""
    from chaosgym.training.config import GrpoConfig, read_config

    settings = read_config(config, GrpoConfig)
    from chaosgym.training.grpo import grpo as train

    _show_training()
    _report(train(settings, resume=resume), as_json)


@group.command("ppo", epilog="Example: chaosgym train ppo --config ppo.yaml --resume")
def ppo(config: _Config, resume: _Resume = False, as_json: JsonOption = False) -> None:
    """Improve a model by reinforcement learning with a value head (PPO) on recorded episodes of the split `train`."""
    from chaosgym.training.config import PpoConfig, read_config

    settings = read_config(config, PpoConfig)
    from chaosgym.training.ppo import ppo as train

    _show_training()
    _report(train(settings, resume=resume), as_json)


@group.command("calibrate", epilog="Example: chaosgym train calibrate runs/grpo/model --episodes episodes")
def calibrate(
    model: Annotated[Path, typer.Argument(help="Folder of the model, as training wrote it.")],
    episodes: Annotated[list[Path], typer.Option(help="Folder with the episodes it was trained on; may be repeated.")],
    validation: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of them that training kept out.")] = 0.15,
    as_json: JsonOption = False,
) -> None:
    """Let a model state how sure it may be of the causes it names, found from the episodes that training kept out.

    Changes `chaosgym.json` in the model's folder and nothing of what it answers: it goes by how likely the model
    finds its own words, where before it stated what it wrote.
    """
    from dataclasses import asdict

    from chaosgym.training.calibrate import calibrate as find_out

    _report(asdict(find_out(model, episodes, validation)), as_json)


@group.command("watch", epilog="Example: chaosgym train watch runs/grpo")
def watch(
    run: Annotated[Path, typer.Argument(help="Run directory, the `out` of `chaosgym train ...`; `latest` beside it is the newest.")],
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch a training run: how far it is, how long it still takes, and the course of its key figures.

    Ends with the run, or by Ctrl-C, which leaves the run alone. `--json` prints the latest value of every metric.
    """
    from chaosgym.cli.watch import frame, read_progress
    from chaosgym.cli.watch import watch as show

    if as_json:
        print_json(read_progress(run).to_json())
    elif once:
        print(frame(read_progress(run)))
    else:
        show(run)


def _report(summary: Mapping[str, Any], as_json: bool) -> None:
    if not _first():
        return
    if as_json:
        print_json(dict(summary))
    else:
        print_rows([{"field": key, "value": value} for key, value in summary.items()], ("field", "value"))


def _first() -> bool:
    """Whether this process speaks: under `torchrun` there are several."""
    from chaosgym.training.processes import rank

    return rank() == 0


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for episodes, models, summary.json and report.html.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(min=0, help="Of the recordings and of training.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Record live episodes, train a small model on them and show on unseen ones whether it got better.

    Interrupted, the same command goes on where it was.
    """
    _consult()
    from chaosgym.cli.record import recording_bar
    from chaosgym.training.quickstart import quickstart as run_quickstart

    began = time.monotonic()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        talk(f"{minutes:2d}:{seconds:02d}  {text}")

    _show_training()
    done = run_quickstart(out, say, recording_bar, seed=seed)
    if as_json:
        print_json(done.summary)
        return
    print(f"{done.table}\n\n{done.sentence}\n")
    print(f"{done.summary['seconds'] / 60:.1f} minutes, {done.summary['episodes']['recorded']} live episodes. Look at it: {done.page}")


def _consult() -> None:
    """Ask the doctor first: say what is wrong, and do not begin what cannot end."""
    from chaosgym.doctor import examine
    from chaosgym.errors import PrerequisiteError

    checks = [check for check in examine("local") if check.fix]
    for check in checks:
        talk(f"{check.status} {check.name}: {check.found}: {check.fix}")
    failed = [check.name for check in checks if check.status == "fail"]
    if failed:
        raise PrerequisiteError(f"this machine cannot run the quickstart yet: {', '.join(failed)}; the fixes stand above")


def _show_training() -> None:
    """Tell on stderr how training goes, a line now and then."""
    import logging

    class Talk(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            talk(f"       {record.getMessage()}")

    if not _first():
        return
    log = logging.getLogger("chaosgym.training")
    log.setLevel(logging.INFO)
    log.addHandler(Talk())
