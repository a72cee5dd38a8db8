"""The arithmetic of docs/scaling.md."""

from pathlib import Path

import pytest

from benchmarks.scaling import needs, table

ROOT = Path(__file__).parents[3]


def test_the_table_is_what_the_kept_figures_say():
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert "\n".join(table()) in text


def test_an_area_twice_as_large_takes_twice_as_much():
    one, two = vars(needs(1000, 5)), vars(needs(2000, 5))
    assert {name: two[name] / one[name] for name in one} == pytest.approx(dict.fromkeys(one, 2))


def test_years_make_one_pair_less():
    assert (needs(10, 8).grid_years, needs(10, 8).pairs) == (80, 70)
    assert needs(10, 1).gpu_hours == 0
