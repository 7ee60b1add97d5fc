"""What keeping freed memory is worth: seconds and page faults of the same training steps, without and with it.

    python benchmarks/allocator.py [--json]

Each side runs in a process of its own, in turns; medians and the ratio are printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

_STEPS, _TURNS = 5, 3


def measure(keep: bool) -> tuple[float, int]:
    """(seconds a step, page faults a step) of a small network on 16 sequences of 700 tokens."""
    import torch

    from chaosgym.training.allocator import keep_freed_memory

    if keep and not keep_freed_memory():
        sys.exit("error: this C library has no mallopt")
    x = torch.randn(16, 700, 256)
    body = torch.nn.Sequential(torch.nn.Linear(256, 768), torch.nn.SiLU(), torch.nn.Linear(768, 256))
    head = torch.nn.Linear(256, 2000)

    def step() -> None:
        y = x
        for _ in range(4):
            y = y + body(y)
        torch.logsumexp(head(y[:, :200]), -1).mean().backward()

    step()
    faults, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    for _ in range(_STEPS):
        step()
    seconds = (time.perf_counter() - begun) / _STEPS
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) // _STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=("plain", "kept"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side == "kept")))
        return
    runs: dict[str, list[tuple[float, int]]] = {"plain": [], "kept": []}
    for _ in range(_TURNS):
        for side, found in runs.items():
            done = subprocess.run([sys.executable, __file__, "--side", side], capture_output=True, text=True, check=True)
            found.append(tuple(json.loads(done.stdout)))
    seconds = {side: statistics.median(s for s, _ in found) for side, found in runs.items()}
    faults = {side: statistics.median(f for _, f in found) for side, found in runs.items()}
    row = {
        "step_s_plain": round(seconds["plain"], 3), "step_s_kept": round(seconds["kept"], 3),
        "ratio": round(seconds["kept"] / seconds["plain"], 3), "faults_plain": faults["plain"], "faults_kept": faults["kept"],
    }  # fmt: skip
    if args.json:
        print(json.dumps(row))
        return
    for name, value in row.items():
        print(f"{name:14s} {value}")


if __name__ == "__main__":
    main()
