"""Names of units, which are the same everywhere."""

import pytest

from eo_tasks.errors import PermanentError
from eo_tasks.units import Stage, Unit

NAMES = {
    "download_463_2023": Unit(Stage.DOWNLOAD, 463, (2023,)),
    "store_0_2015": Unit(Stage.STORE, 0, (2015,)),
    "btc_463_2022_2023": Unit(Stage.BTC, 463, (2022, 2023)),
    "btc_1000000_2021_2024": Unit(Stage.BTC, 1_000_000, (2021, 2024)),
}


@pytest.mark.parametrize(("name", "unit"), NAMES.items())
def test_a_unit_is_written_and_read_by_one_name(name, unit):
    assert unit.id == name
    assert Unit.parse(name) == unit


@pytest.mark.parametrize(
    "name",
    [
        "",
        "download",
        "download_463",
        "download_463_2022_2023",
        "btc_463_2022",
        "btc_463_2022_2023_2024",
        "upload_463_2023",
        "download_SI_000463_2023",
        "download_463_now",
        "download-463-2023",
    ],
)
def test_what_is_no_units_name_is_refused_with_an_example(name):
    with pytest.raises(PermanentError) as caught:
        Unit.parse(name)
    assert str(caught.value) == f"{name!r} is no unit: give one such as download_463_2023 or btc_463_2022_2023."


def test_messages_name_the_cell_and_its_years():
    assert str(NAMES["download_463_2023"]) == "Cell 463, 2023"
    assert str(NAMES["btc_463_2022_2023"]) == "Cell 463, 2022–2023"


def test_the_period_is_the_year_or_both():
    assert NAMES["store_0_2015"].period == "2015"
    assert NAMES["btc_463_2022_2023"].period == "2022_2023"
