"""`benchmarks/gpu.py` without a GPU: it says so, and its code runs on tiny shapes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, str(PATH), *arguments], env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.training
@pytest.mark.timeout(400)
def test_both_loops_run_on_tiny_shapes_and_not_on_a_cpu_by_default() -> None:
    done = run("--cpu-smoke", "--json", "--peak-tflops", "1")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["device"] == "cpu"
    assert row["sft_tokens_per_s"] == pytest.approx(8 * 32 / row["sft_step_s"], rel=0.6)  # steps are rounded to milliseconds
    assert 0 < row["sft_mfu"] < 1
    assert min(row["grpo_rollouts_per_s"], row["grpo_tokens_per_s"], row["sft_memory_gb"], row["grpo_memory_gb"]) > 0
    refused = run("--json")
    assert refused.returncode == 1
    assert "torch sees no CUDA device" in refused.stderr


def test_the_large_shape_is_that_of_qwen3_0_6b() -> None:
    """596 million parameters, of which 155 million are embeddings, and about 4.6 GFLOP a token at 1,024 tokens."""
    spec = importlib.util.spec_from_file_location("gpu", PATH)
    assert spec
    assert spec.loader
    gpu: Any = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = gpu
    spec.loader.exec_module(gpu)
    from types import SimpleNamespace

    import torch

    shape = gpu.Shape(gpu._LARGE, 128, 151_936, 1, 1, 1024, 8)
    with torch.device("meta"):
        model = gpu.new_model(shape, SimpleNamespace(eos_token_id=1, pad_token_id=0))
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == 596_049_920
    assert gpu.flops_per_token(shape, parameters) == 6 * 596_049_920 + 6 * 28 * 2048 * 1024
