"""Make a trained model small enough to be shipped: weights in bfloat16, tokenizer, prompt format.

    python benchmarks/ship_model.py runs/results/base/model models/nano

The folder's README.md, its model card, stays as it is. At most 12 MB; more is refused.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from chaosgym.agents.prompt import PromptFormat

MOST_BYTES = 12_000_000
_FILES = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}


def ship(source: Path, target: Path) -> int:
    """Write the model; returns the bytes of its folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder)
        AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, local_files_only=True).save_pretrained(draft)
        AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(draft)
        PromptFormat.load(source).save(draft)
        size = sum(file.stat().st_size for file in draft.iterdir())
        if size > MOST_BYTES:
            sys.exit(f"error: {source}: {size / 1e6:.1f} MB in bfloat16, and {MOST_BYTES / 1e6:g} may be shipped; pretrain a smaller one")
        target.mkdir(parents=True, exist_ok=True)
        for file in draft.iterdir():
            if file.name in _FILES or file.name == "chaosgym.json":
                shutil.copyfile(file, target / file.name)
    return size


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    print(f"{args.target}: {ship(args.source, args.target) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
