"""The command line: `chaosgym NOUN VERB`, data on stdout, talk on stderr, `--json` on everything that reports.

Exit codes: 0 done, 1 a check failed, 2 wrong usage or input, 3 something is missing here or the machinery
failed, 130 interrupted. Commands import what they need when they run, so that help is instant.
"""

from __future__ import annotations

from chaosgym.cli.program import main

__all__ = ["main"]
