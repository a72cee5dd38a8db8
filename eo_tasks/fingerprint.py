"""What failures have in common: their class, and their message without what differs from unit to unit."""

import hashlib
import re
from dataclasses import dataclass

LONGEST_TEMPLATE = 160

_VARIABLE = (
    (re.compile(r"^(?:Cell \S+ \S+: )+"), ""),  # the cell and its years
    (re.compile(r"https?://\S+"), "<url>"),
    (re.compile(r"'[^']*'|\"[^\"]*\"|«[^»]*»"), "<text>"),
    (re.compile(r"(?<![\w<])(?:/[\w.+-]+){2,}/?"), "<path>"),
    (re.compile(r"\b(?=[0-9a-f-]*\d)[0-9a-f]{8}[0-9a-f-]*\b"), "#"),  # hashes, ids of jobs and requests
    (re.compile(r"\d+(?:[.,:]\d+)*"), "#"),
)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One kind of failure.

    Attributes:
        error_class: Such as ``SourceError``.
        template: The message with what varies replaced.
    """

    error_class: str
    template: str

    @property
    def id(self) -> str:
        """A short name of the kind, the same in every process."""
        return hashlib.sha256(f"{self.error_class}: {self.template}".encode()).hexdigest()[:8]


def fingerprint(error: str) -> Fingerprint:
    """The kind of a failure that is written as ``Class: message``."""
    error_class, _, message = error.partition(": ")
    for pattern, instead in _VARIABLE:
        message = pattern.sub(instead, message)
    return Fingerprint(error_class, " ".join(message.split())[:LONGEST_TEMPLATE])
