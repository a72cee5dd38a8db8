"""Whole numbers as people write them: ``2021-2023``, ``4,5,6``, ``1-3,7``."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Self, overload


class Ranges(Sequence[int]):
    """Whole numbers, ascending and each once, kept as spans: a country's million cells take a few bytes."""

    __slots__ = ("_before", "_spans", "_starts")

    def __init__(self, spans: Sequence[range]) -> None:
        self._spans = tuple(spans)
        self._starts = [span.start for span in self._spans]
        self._before = list(accumulate(map(len, self._spans), initial=0))  # numbers before each span

    @classmethod
    def of(cls, numbers: Collection[int]) -> Self:
        """Order the numbers and keep each once."""
        ordered = sorted(set(numbers))
        breaks = [i for i, (a, b) in enumerate(pairwise(ordered), start=1) if b != a + 1]
        edges = pairwise([0, *breaks, len(ordered)])
        return cls([range(ordered[start], ordered[end - 1] + 1) for start, end in edges if end > start])

    @classmethod
    def union(cls, parts: Iterable["Ranges"]) -> Self:
        """The numbers of all parts."""
        joined: list[range] = []
        for span in sorted((span for part in parts for span in part._spans), key=lambda span: span.start):
            if joined and span.start <= joined[-1].stop:
                joined[-1] = range(joined[-1].start, max(joined[-1].stop, span.stop))
            else:
                joined.append(span)
        return cls(joined)

    @property
    def spans(self) -> tuple[range, ...]:
        """The spans, ascending."""
        return self._spans

    def __len__(self) -> int:
        return self._before[-1]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._spans)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number in self._spans[at]

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[int, ...]: ...

    def __getitem__(self, place: int | slice) -> int | tuple[int, ...]:
        if isinstance(place, slice):
            return tuple(map(self._at, range(*place.indices(len(self)))))
        index = place + len(self) if place < 0 else place
        if not 0 <= index < len(self):
            raise IndexError(place)
        return self._at(index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._spans == other._spans

    def __hash__(self) -> int:
        return hash(self._spans)

    def __str__(self) -> str:
        return ",".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in self._spans)

    def __repr__(self) -> str:
        return f"Ranges({self})"

    def _at(self, index: int) -> int:
        at = bisect_right(self._before, index) - 1
        return self._spans[at][index - self._before[at]]


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
    return str(numbers if isinstance(numbers, Ranges) else Ranges.of(numbers))
