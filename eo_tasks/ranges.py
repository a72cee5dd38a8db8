"""Whole numbers as people write them: ``2021-2023``, ``4,5,6``, ``1-3,7``."""

from collections.abc import Collection
from itertools import pairwise


def read_ranges(text: str) -> tuple[int, ...]:
    """Read numbers and spans, separated by commas or blanks, in the order given.

    Raises:
        ValueError: There is none, or a span is open or runs backwards.
    """
    numbers: list[int] = []
    for part in text.replace(",", " ").split():
        first, dash, last = part.partition("-")
        span = range(int(first), int(last if dash else first) + 1)
        if not span:
            raise ValueError(f"{part!r} runs backwards")
        numbers += span
    if not numbers:
        raise ValueError("no number")
    return tuple(numbers)


def write_ranges(numbers: Collection[int]) -> str:
    """Write numbers compactly, ascending and each once: ``1-3,7``."""
    ordered = sorted(set(numbers))
    breaks = [i for i, (a, b) in enumerate(pairwise(ordered), start=1) if b != a + 1]
    spans = [ordered[start:end] for start, end in pairwise([0, *breaks, len(ordered)])]
    return ",".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans if span)
