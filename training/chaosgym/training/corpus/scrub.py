"""Scrubbing: what belongs to a person, and what opens a door, replaced by a word that says what stood there."""

from __future__ import annotations

import ipaddress
import re
from functools import cache
from typing import Any, NamedTuple

__all__ = ["Scrubbed", "scrub"]

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)", re.S)
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")
_BEARER = re.compile(r"(?i)(?<=\bbearer )[\w.~+/-]{16,}=*")
_NAMED = re.compile(
    r"(?i)\b(?:[a-z0-9]+[_-])*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key)[\"']?\s*[:=]\s*[\"']?(?P<value>[^\s\"'<>,;)]{8,})"
)
_AWS_SECRET = re.compile(r"(?i)aws[\w .-]{0,20}?[\"']?\s*[:=]\s*[\"']?(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])")
_EMAIL = re.compile(r"\b[A-Za-z0-9_.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_UNSURE = frozenset(("BasicAuthDetector", "IPPublicDetector", "KeywordDetector", "PrivateKeyDetector", "IbmCloudIamDetector",
                     "SoftlayerDetector", "CloudantDetector", "IbmCosHmacDetector", "ArtifactoryDetector", "JwtTokenDetector"))
"""Detectors that answer in other places here, or that take ordinary words for a secret."""


class Scrubbed(NamedTuple):
    """A text without secrets, and what was in it."""

    text: str
    found: tuple[tuple[str, str], ...]
    """Kind and value, in order of the kinds."""


def scrub(text: str) -> Scrubbed:
    """Replace private keys, tokens, passwords, e-mail and public IP addresses."""
    found: list[tuple[str, str]] = []
    text = _replace(text, _PRIVATE_KEY, "private-key", found)
    for pattern in (_JWT, _BEARER, _AWS_SECRET, _NAMED, *_detectors()):
        text = _replace(text, pattern, "secret", found)
    text = _replace(text, _EMAIL, "email", found)
    for pattern in (_IPV4, _IPV6):
        text = _replace(text, pattern, "ip", found)
    return Scrubbed(text, tuple(found))


def _replace(text: str, pattern: re.Pattern[str], kind: str, found: list[tuple[str, str]]) -> str:
    named = "value" in pattern.groupindex

    def answer(match: re.Match[str]) -> str:
        value = match["value"] if named else match[0]
        if (kind == "ip" and not _public(value)) or not value.strip() or value.startswith("<"):
            return match[0]
        found.append((kind, value))
        if not named:
            return f"<{kind}>"
        start, end = match.start("value") - match.start(), match.end("value") - match.start()
        return f"{match[0][:start]}<{kind}>{match[0][end:]}"

    return pattern.sub(answer, text)


def _public(value: str) -> bool:
    try:
        return ipaddress.ip_address(value).is_global
    except ValueError:
        return False


@cache
def _detectors() -> tuple[re.Pattern[str], ...]:
    """The patterns of detect-secrets: AWS, GitHub, GitLab, Slack, Stripe, npm, PyPI, OpenAI, Twilio, ..."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    kinds: list[Any] = sorted(get_mapping_from_secret_type_to_class().values(), key=lambda kind: kind.__name__)
    wanted = [kind() for kind in kinds if issubclass(kind, RegexBasedDetector) and kind.__name__ not in _UNSURE]
    return tuple(pattern for detector in wanted for pattern in detector.denylist)
