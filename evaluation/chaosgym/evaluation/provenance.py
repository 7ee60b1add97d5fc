"""Where a result comes from: everything needed to get the same one again."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from chaosgym.agents import Agent
from chaosgym.document import Strict

__all__ = ["Provenance", "fingerprint", "git_revision", "make_provenance"]

_PACKAGES = ("chaosgym", "numpy", "pyarrow", "drain3-improved")
_MODEL_PACKAGES = ("torch", "transformers", "tokenizers", "peft")


class Provenance(Strict):
    """What went into a result."""

    seed: int
    """Draws handles and the order of rows, and what random agents say."""
    budget: int
    """Tokens of report that the agent was shown."""
    batch_size: int
    episodes_sha256: str
    """Of the ids of all episodes given, sorted."""
    scenarios: dict[str, tuple[str, ...]]
    """Name of each scenario -> hashes of the versions of it that were recorded."""
    majority: str
    """What the rail `majority` was fitted on: `train` episodes, or the `evaluated` ones themselves."""
    model: dict[str, str]
    """Of a language model: hashes of its tokenizer, chat template and prompt, and how many parameters it has; empty for others."""
    git_revision: str | None = None
    """Of chaosgym's source, with `-dirty` when it was changed; None when it is not a checkout."""
    versions: dict[str, str]


def make_provenance(agent: Agent, episodes: Sequence[str], **known: Any) -> Provenance:
    """Collect what can be found out by itself beside what the caller knows."""
    model = fingerprint(agent)
    packages = (*_PACKAGES, *_MODEL_PACKAGES) if model else _PACKAGES
    found = {name: _version(name) for name in packages}
    return Provenance(
        episodes_sha256=_digest("\n".join(sorted(episodes))),
        model=model,
        git_revision=git_revision(),
        versions={"python": platform.python_version(), **{name: v for name, v in found.items() if v}},
        **known,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # an extra that is not installed, or a source tree that never was
        return None


def fingerprint(agent: Agent) -> dict[str, str]:
    """Hashes of what a language model reads through; empty for any other agent.

    The agent's tokenizer and network are its own affair, so this looks for them by name and does without those that are not there.
    """
    form, tokenizer, network = (getattr(getattr(agent, "model", agent), name, None) for name in ("format", "_tokenizer", "_model"))
    found: dict[str, str] = {}
    if form is not None:
        found["prompt_sha256"] = _digest(form.model_dump_json())
    if tokenizer is not None:
        found["tokenizer_sha256"] = _digest(_tokenizer_text(tokenizer))
        found["template_sha256"] = _digest(str(tokenizer.chat_template))
    if network is not None:
        found["parameters"] = str(sum(p.numel() for p in network.parameters()))
    return found


def _tokenizer_text(tokenizer: Any) -> str:
    """All that decides how text becomes tokens: a fast tokenizer's own description without its padding, else the vocabulary."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        return json.dumps(sorted(tokenizer.get_vocab().items()))
    description: dict[str, Any] = json.loads(inner.to_str())
    return json.dumps({key: value for key, value in description.items() if key not in ("padding", "truncation")}, sort_keys=True)


def git_revision() -> str | None:
    """The commit that this source is of; None when it is not in a checkout or git is not there."""
    here = Path(__file__)
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:  # installed below somebody else's checkout
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--match=")


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
