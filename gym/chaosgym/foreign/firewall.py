"""Packets that vanish or are refused, by rules in the network namespace of a container.

The rules match the port that the component listens on, so that what it asks of others itself is not touched. They carry a mark,
by which they are found and taken away, and vanish with the container. This needs root on the machine of the engine, and nsenter
and iptables there, which a Docker engine has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from chaosgym.errors import FaultError, SandboxError
from chaosgym.sandbox.base import Toxic

__all__ = ["lacking", "present_toxic", "put_rules", "remove_rules"]

_MARK = "chaosgym"
_RULE = re.compile(rf"^-A (INPUT|OUTPUT) .*--comment {_MARK} -j (DROP|REJECT)", re.MULTILINE)
_SHARE = re.compile(r"--probability ([\d.]+)")


def lacking() -> str:
    """Why rules cannot be made on this machine; an empty string when they can."""
    if os.geteuid() != 0:
        return "it needs root on the machine of the engine: run chaosgym as root there"
    missing = [name for name in ("nsenter", "iptables") if shutil.which(name) is None]
    return f"it needs {' and '.join(missing)} on this machine" if missing else ""


def put_rules(pid: int, port: int, toxic: Toxic) -> None:
    """Do to the packets of the process's namespace what `toxic` says. Raises FaultError for what rules cannot do."""
    for rule in _rules(port, toxic):
        _iptables(pid, "-I", *rule)


def _rules(port: int, toxic: Toxic) -> list[tuple[str, ...]]:
    comment = ("-m", "comment", "--comment", _MARK)
    to, back = ("INPUT", "-p", "tcp", "--dport", str(port)), ("OUTPUT", "-p", "tcp", "--sport", str(port))
    drop, share = (*comment, "-j", "DROP"), ("-m", "statistic", "--mode", "random", "--probability", f"{toxic.drop:g}")
    if toxic == Toxic(drop=1.0):
        return [(*to, *drop), (*back, *drop)]
    if toxic == Toxic(drop=toxic.drop) and toxic.drop:
        return [(*to, *share, *drop)]
    if toxic == Toxic(mute=True):
        return [(*back, *drop)]
    if toxic == Toxic(refuse=True):
        return [(*to, *comment, "-j", "REJECT", "--reject-with", "tcp-reset")]
    raise FaultError(f"{toxic} cannot be done by rules of a firewall: they drop or refuse packets, they do not delay or change them")


def present_toxic(pid: int) -> Toxic | None:
    """What our rules in the process's namespace amount to."""
    lines = [line for line in _iptables(pid, "-S").splitlines() if _RULE.match(line)]
    found = {match[1]: match[2] for line in lines if (match := _RULE.match(line))}
    shares = [float(share[1]) for line in lines if (share := _SHARE.search(line))]
    if found == {"INPUT": "DROP"} and shares:
        return Toxic(drop=round(shares[0], 6))
    known = {"INPUT OUTPUT": Toxic(drop=1.0), "OUTPUT": Toxic(mute=True), "INPUT": Toxic(refuse=True)}
    return known.get(" ".join(sorted(found)))


def remove_rules(pid: int) -> None:
    """Take away every rule with our mark."""
    for line in _iptables(pid, "-S").splitlines():
        if _RULE.match(line):
            _iptables(pid, "-D", *line.split()[1:])


def _iptables(pid: int, *arguments: str) -> str:
    command = ["nsenter", "--target", str(pid), "--net", "iptables", "-w", "5", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise SandboxError(f"{' '.join(command)} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
