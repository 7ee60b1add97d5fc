"""Several processes that train one model: two of them by gloo do what one does, and what is killed goes on."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaosgym.errors import InputError, PrerequisiteError
from chaosgym.extras import missing_modules
from chaosgym.training import processes
from chaosgym.training.asking import AskingGRPOTrainer
from chaosgym.training.config import GrpoConfig, PpoConfig, SftConfig
from chaosgym.training.grpo import grpo
from chaosgym.training.ppo import ppo
from chaosgym.training.reinforcement import Method, grpo_config
from chaosgym.training.run import Run, open_run
from chaosgym.training.sft import sft
from chaosgym.training.supervised import cut, trainer_arguments

Record = Callable[..., None]
NANO = {"hidden": 64, "layers": 1}
WATCHED = (
    "loss", "grad_norm", "learning_rate", "num_tokens", "reward", "reward_std", "frac_reward_zero_std",
    "term/component", "zero_variance/share", "curriculum/success", "entropy", "kl", "value", "value_loss", "explained_variance", "pass@1",
    "pass@4", "validation/accuracy", "validation/reward", "validation/best_step",
)  # fmt: skip
CHILD = '''
import sys
from chaosgym.incident.answer import ANSWER_FRAGMENTS as PARTS

FAULTS = [f"{PARTS[1]}c{c}{PARTS[2]}process.{f}{PARTS[3]}0.9{PARTS[5]}" for c in (1, 2, 3) for f in ("crash", "hang")]

def fixed(self, prompt_ids, images, fields, num_generations, has_tool_images=False):
    """Answers that depend on the prompt and on their place in the group alone, whoever gives them; some are right."""
    words = [self.processing_class(text, add_special_tokens=False)["input_ids"] for text in (PARTS[0], *FAULTS)]
    said = [[*ids, self._tokenizer.eos_token_id] for ids in words]
    return [list(said[(sum(ids) + number % num_generations) % len(said)]) for number, ids in enumerate(prompt_ids)], None

if __name__ == "__main__":
    import yaml
    from chaosgym.training import config, grpo, ppo, processes
    from chaosgym.training.asking import AskingGRPOTrainer
    from chaosgym.training.curriculum import Curriculum

    AskingGRPOTrainer._generate_single_turn = fixed
    made, begin = [], Curriculum.__init__
    Curriculum.__init__ = lambda self, *a: (begin(self, *a), made.append(self))[0]
    command, told = sys.argv[1], yaml.safe_load(open(sys.argv[2]))
    grpo.grpo(config.GrpoConfig(**told)) if command == "grpo" else ppo.ppo(config.PpoConfig(**told))
    processes.refuse_difference("rates", made[0].state())
'''


# ── Without others ──────────────────────────────────────────────────────────────────────────────────
def told(steps: int = 2, **changes: Any) -> dict[str, Any]:
    return {"episodes": ["episodes"], "out": "out", "steps": steps, **changes}


@pytest.mark.parametrize(
    ("of", "most", "changes", "expected"),
    [
        (1, None, {}, (32, 1)), (2, None, {}, (16, 1)), (4, 8, {"micro_batch_size": 2}, (2, 4)),
        (2, None, {"batch_size": 6, "micro_batch_size": 3}, (3, 1)), (1, 8, {}, (8, 4)), (2, 8, {"batch_size": 24}, (6, 2)),
        (2, 8, {"batch_size": 6}, (3, 1)),
    ],
)  # fmt: skip
def test_all_processes_together_do_a_batch(
    of: int, most: int | None, changes: dict[str, Any], expected: tuple[int, int], monkeypatch: Any
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(of))
    assert cut(SftConfig.model_validate(told(**changes)), most) == expected


@pytest.mark.parametrize(
    ("of", "changes", "message"),
    [
        (3, {}, "batch_size 32 cannot be cut for 3 processes, alike: change batch_size, or start fewer"),
        (64, {}, "cannot be cut for 64"),
        (2, {"micro_batch_size": 32}, "32 sequences at a time each: set micro_batch_size so that it divides"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_refused(of: int, changes: dict[str, Any], message: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(of))
    with pytest.raises(InputError, match=message):
        cut(SftConfig.model_validate(told(**changes)))


def test_one_process_alone_asks_nobody(tmp_path: Path) -> None:
    assert (processes.count(), processes.rank(), processes.gather([3]), processes.first(lambda: 4)) == (1, 0, [[3]], 4)
    assert processes.merge([number + 1 for number in processes.share([1, 2, 3])], 3) == [2, 3, 4]
    processes.refuse_difference("numbers", [1])
    assert open_run(SftConfig.model_validate(told() | {"out": tmp_path / "run"}), "sft", False).path == tmp_path / "run"


MEET = """
import sys
from chaosgym.errors import InputError
from chaosgym.training import processes
rank = processes.rank()
assert processes.gather([rank] * rank) == [[], [1]]
assert processes.share([5, 6, 7]) == [[5, 7], [6, 5]][rank]
assert processes.merge([10 * item for item in processes.share([5, 6, 7])], 3) == [50, 60, 70]
def fail():
    raise InputError(f"refused by {rank}")
try:
    processes.first(fail)
except InputError as error:
    assert str(error) == "refused by 0"
try:
    processes.refuse_difference("ranks", rank)
except InputError as error:
    assert "2 processes have different ranks" in str(error)
else:
    sys.exit("not refused")
processes.first(lambda: print("the first alone", flush=True))
"""


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint",
            "127.0.0.1:0", "--local-addr", "127.0.0.1")  # fmt: skip


def launch(*program: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a program in two processes, as people do."""
    done = subprocess.run([*TORCHRUN, *program], env=environment(), capture_output=True, text=True, timeout=400, check=False)
    assert code is None or done.returncode == code, done.stderr[-4000:]
    return done


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def line(test: Any) -> Any:
    """Marks of tests that train; the warnings are of the libraries below us, about each other."""
    quiet = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
    return pytest.mark.training(pytest.mark.timeout(600)(quiet(test)))


@line
def test_processes_meet(tmp_path: Path) -> None:
    (tmp_path / "meet.py").write_text(MEET)
    assert launch(tmp_path / "meet.py").stdout.splitlines() == ["the first alone"]


# ── Training ────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def episodes(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    for number in range(30):
        record(folder, number)
    return folder


def written(episodes: Path, out: Path, **changes: Any) -> Path:
    """A configuration file beside `out`; float32, as sums of short floats depend on their order."""
    told = {"episodes": [str(episodes)], "out": str(out), "budget": 200, "log_every": 1, "precision": "float32", "nano": NANO, **changes}
    path = out.with_suffix(".yaml")
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def settings(path: Path, kind: Any) -> Any:
    return kind.model_validate(json.loads(path.read_text()))


@pytest.fixture(scope="module")
def tuned(episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that has begun to answer."""
    path = written(episodes, tmp_path_factory.mktemp("tuned") / "sft", steps=6, batch_size=8, validation=0.5)
    return str(sft(settings(path, SftConfig))["model"])


def metrics(run: Path) -> dict[tuple[str, int], float]:
    """Those that must be alike, by name and step."""
    records = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return {(name, record["step"]): record[name] for record in records for name in WATCHED if name in record}


def same(one: Path, other: Path, near: float = 2e-4) -> set[str]:
    """Check that two runs logged the same and made the same model, but for rounding; the names of what they logged."""
    from safetensors.torch import load_file
    from torch.testing import assert_close

    found, others = metrics(one), metrics(other)
    assert found == pytest.approx(others, rel=near, abs=near)
    for name, weights in load_file(one / "model" / "model.safetensors").items():
        assert_close(load_file(other / "model" / "model.safetensors")[name], weights, atol=near, rtol=near)
    return {name for name, _ in found}


@line
def test_supervised_training_is_the_same_by_two_processes(episodes: Path, tmp_path: Path) -> None:
    """By the command line, with accumulation in one of them; both optimizers."""
    changes = {"steps": 5, "batch_size": 8, "validation": 0}
    sft(settings(written(episodes, tmp_path / "one", micro_batch_size=4, **changes), SftConfig))
    two = written(episodes, tmp_path / "two", **changes)
    done = launch("--module", "chaosgym.cli", "train", "sft", "--config", two, "--json")
    assert json.loads(done.stdout)["steps"] == 5  # said once
    assert {"loss", "grad_norm", "num_tokens"} <= same(tmp_path / "one", tmp_path / "two")
    again = launch("--module", "chaosgym.cli", "train", "sft", "--config", two, code=None)
    assert again.returncode != 0
    assert "holds a run already; pass --resume" in again.stderr


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("child") / "child.py"
    path.write_text(CHILD)
    return path


@line
@pytest.mark.parametrize("command", ["grpo", "ppo"])
def test_reinforcement_is_the_same_by_two_processes(
    command: str, tuned: str, episodes: Path, child: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both get the same answers: what is sampled differs, as each process has random numbers of its own."""
    changes: dict[str, Any] = {
        "model": tuned, "steps": 4, "batch_size": 16, "generations": 4, "pool": 5, "shared_prefix": False, "validation": 0.5,
        "validate_every": 2, "beta": 0.02, **({"oversample": 0} if command == "grpo" else {}),
    }  # fmt: skip
    launch(child, command, written(episodes, tmp_path / "two", **changes))
    monkeypatch.setattr(AskingGRPOTrainer, "_generate_single_turn", runpy.run_path(str(child))["fixed"])
    one = written(episodes, tmp_path / "one", **changes)
    grpo(settings(one, GrpoConfig)) if command == "grpo" else ppo(settings(one, PpoConfig))
    logged = same(tmp_path / "one", tmp_path / "two")
    assert {"loss", "grad_norm", "reward", "kl", "curriculum/success", "pass@4", "validation/reward"} <= logged
    assert command == "grpo" or {"value_loss", "explained_variance"} <= logged
    assert max(value for (name, _), value in metrics(tmp_path / "one").items() if name == "reward_std") > 0


@line
def test_replaced_groups_leave_two_processes_with_the_same_rates(tuned: str, episodes: Path, child: Path, tmp_path: Path) -> None:
    """Each replaces its own, in as many rounds as the one that needs most; the child refuses rates that differ."""
    changes = {"model": tuned, "steps": 3, "batch_size": 8, "generations": 2, "pool": 0, "shared_prefix": False, "validation": 0}
    launch(child, "grpo", written(episodes, tmp_path / "two", oversample=4, follow=True, **changes))
    replaced = [json.loads(text).get("zero_variance/replaced", 0) for text in (tmp_path / "two/metrics.jsonl").read_text().splitlines()]
    assert max(replaced) > 0


@line
def test_a_killed_process_ends_all_and_the_run_goes_on(episodes: Path, tmp_path: Path) -> None:
    changes = {"steps": 60, "batch_size": 8, "validation": 0, "save_every": 5}
    whole, broken = (written(episodes, tmp_path / name, **changes) for name in ("whole", "broken"))
    program = ("--module", "chaosgym.cli", "train", "sft", "--resume", "--config")
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*TORCHRUN, *program, broken], env=environment(), **silent) as running:
        until = time.monotonic() + 300
        while not list((tmp_path / "broken").glob("checkpoint-*/trainer_state.json")) and time.monotonic() < until:
            assert running.poll() is None
            time.sleep(0.05)
        workers = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        assert running.wait(100) != 0
    assert not (tmp_path / "broken/summary.json").exists()
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    launch(*program, broken)
    launch(*program, whole)
    assert json.loads((tmp_path / "broken/summary.json").read_text())["resumed_from"]
    same(tmp_path / "broken", tmp_path / "whole", near=1e-6)


# ── Parts of a model, and who generates ─────────────────────────────────────────────────────────────
SHARDED = '''
import sys
from accelerate import PartialState
from accelerate.utils import DistributedType

begin = PartialState.__init__

def claim(self, *args, **kwargs):
    """accelerate shards on GPUs alone; told that these processes have some, it does by gloo too."""
    begin(self, *args, **kwargs)
    if self.distributed_type is DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU

PartialState.__init__ = claim
if __name__ == "__main__":
    from chaosgym.cli import main
    main()
'''


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (SftConfig, {"shard": True}, "set muon_learning_rate: 0"),
        (PpoConfig, {"shard": True, "model": "m"}, "shard does not know the value head"),
        (GrpoConfig, {"model": "m", "vllm": "server"}, "vllm: server and vllm_url go together"),
        (GrpoConfig, {"model": "m", "vllm_url": "http://a:8000"}, "go together"),
        (GrpoConfig, {"model": "m", "vllm": "colocate", "shared_prefix": True}, "drop one of them"),
    ],
)
def test_what_does_not_go_together_is_refused(kind: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.model_validate(told(**changes))


def test_one_process_has_nobody_to_share_with(tmp_path: Path) -> None:
    config = SftConfig.model_validate(told(shard=True, muon_learning_rate=0))
    with pytest.raises(InputError, match="start several with `torchrun`, or drop shard"):
        trainer_arguments(config, Run(tmp_path, "sft"))


@pytest.mark.skipif(not missing_modules("vllm"), reason="vLLM is installed")
@pytest.mark.parametrize(("kind", "train"), [(GrpoConfig, grpo), (PpoConfig, ppo)])
def test_without_vllm_nothing_begins(kind: Any, train: Any, tmp_path: Path) -> None:
    config = kind.model_validate(told(model="m", vllm="colocate") | {"out": tmp_path / "run"})
    with pytest.raises(PrerequisiteError, match=r"pip install 'chaosgym\[vllm\]'"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_trl_is_told_of_the_server(tmp_path: Path) -> None:
    config = GrpoConfig.model_validate(told(model="m", vllm="server", vllm_url="http://vllm:8000"))
    args = grpo_config(config, Run(tmp_path, "grpo"), Method(AskingGRPOTrainer, AskingGRPOTrainer, {}), 8)
    assert (args.use_vllm, args.vllm_mode, args.vllm_server_base_url) == (True, "server", "http://vllm:8000")


@line
def test_weights_that_are_trained_are_float32_also_on_a_gpu(tuned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from chaosgym.training.nano import load_model

    model, tokenizer = load_model(tuned)
    for part in (model.bfloat16(), tokenizer):
        part.save_pretrained(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert {kept: load_model(str(tmp_path), kept)[0].dtype for kept in (False, True)} == {False: torch.float32, True: torch.bfloat16}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sharded") / "sharded.py"
    path.write_text(SHARDED)
    return path


@line
def test_a_sharded_model_learns_the_same_and_goes_on(episodes: Path, sharded: Path, tmp_path: Path) -> None:
    changes = {"steps": 6, "batch_size": 8, "validation": 0, "save_every": 3, "muon_learning_rate": 0}
    two = written(episodes, tmp_path / "two", shard=True, **changes)
    launch(sharded, "train", "sft", "--config", two)
    assert (tmp_path / "two/checkpoint-3/pytorch_model_fsdp.bin").is_file()
    sft(settings(written(episodes, tmp_path / "one", **changes), SftConfig))
    same(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "two/checkpoint-6")
    shutil.rmtree(tmp_path / "two/model")
    (tmp_path / "two/summary.json").unlink()
    launch(sharded, "train", "sft", "--config", two, "--resume")
    assert json.loads((tmp_path / "two/summary.json").read_text())["resumed_from"] == "checkpoint-3"
    same(tmp_path / "one", tmp_path / "two")


@line
def test_a_sharded_model_answers_and_is_taken_back(tuned: str, episodes: Path, sharded: Path, tmp_path: Path) -> None:
    """It answers, each process other questions, beside a reference; the best of kept-out episodes is put back, part by part."""
    from safetensors.torch import load_file

    changes = {"model": tuned, "steps": 2, "batch_size": 8, "generations": 2, "pool": 3, "validation": 0.5, "validate_every": 1}
    path = written(episodes, tmp_path / "two", shard=True, beta=0.05, learning_rate=0.5, patience=50, **changes)
    launch(sharded, "train", "grpo", "--config", path)
    records = [json.loads(text) for text in (tmp_path / "two/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "validation/accuracy" in record] == [0, 1, 2]
    assert {"kl", "grad_norm"} <= {name for record in records for name in record}
    [best] = [record["validation/best_step"] for record in records if "validation/best_step" in record]
    before, after = (load_file(Path(model) / "model.safetensors") for model in (tuned, tmp_path / "two/model"))
    assert all(bool((after[name] == weights).all()) for name, weights in before.items()) == (best == 0)


@line
def test_without_gpus_nothing_is_sharded_in_silence(episodes: Path, tmp_path: Path) -> None:
    path = written(episodes, tmp_path / "two", shard=True, steps=1, batch_size=2, validation=0, muon_learning_rate=0)
    done = launch("--module", "chaosgym.cli", "train", "sft", "--config", path, code=None)
    assert done.returncode != 0
    assert "shard: needs GPUs" in done.stderr
