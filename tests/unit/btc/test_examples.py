"""Labelled data sets on disk."""

import numpy as np
import pytest

from eo_tasks.btc.examples import Example, find_examples
from eo_tasks.errors import RasterError
from tests.images import write_image

LAYOUT = "It takes folders A (earlier), B (later) and label (0 where nothing changed), with images of the same names."


@pytest.fixture
def folder(tmp_path):
    """Two examples, one of them 24 × 16 pixels."""
    for name, shape in (("0.png", (16, 16)), ("1.tif", (16, 24))):
        add(tmp_path / "set", name, shape)
    return tmp_path / "set"


def add(folder, name, shape=(16, 16), parts="AB"):
    for part in parts:
        write_image(folder / part / name, np.full((3, *shape), 9, np.uint8), crs=None)
    label = np.zeros((1, *shape), np.uint8)
    label[0, 2, 3] = 255
    write_image(folder / "label" / name, label, crs=None)


def test_images_of_one_name_are_an_example(folder):
    small, wide = find_examples(folder)
    assert (small.before, small.after, small.label) == tuple(folder / part / "0.png" for part in ("A", "B", "label"))
    assert (small.shape, small.is_window) == ((16, 16), True)
    assert (wide.shape, wide.is_window) == ((16, 24), False)
    assert np.argwhere(small.truth()).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("shape", "whole"), [((256, 256), True), ((257, 257), False), ((96, 95), False), ((1, 1), True)]
)
def test_the_network_sees_a_square_of_up_to_256_pixels_whole(tmp_path, shape, whole):
    assert Example(tmp_path, tmp_path, tmp_path, shape).is_window is whole


def test_the_part_test_of_a_divided_set_is_taken(folder):
    divided = folder.parent / "divided"
    divided.mkdir()
    folder.rename(divided / "test")
    assert [example.before for example in find_examples(divided)] == [
        divided / "test" / "A" / name for name in ("0.png", "1.tif")
    ]


def test_other_files_are_left_alone(folder):
    for name in ("A/notes.txt", "label/.0.png", "B/0.png.aux.xml"):
        (folder / name).write_text("no image")
    assert len(find_examples(folder)) == 2


@pytest.mark.parametrize("value", [1, 255])
def test_a_label_is_whatever_is_not_zero(folder, value):
    label = np.zeros((3, 16, 16), np.uint8)
    label[1, 5, 6] = value
    write_image(folder / "label" / "0.png", label, crs=None)
    assert np.argwhere(find_examples(folder)[0].truth()).tolist() == [[5, 6]]


def test_what_only_one_year_shows_is_hidden_in_both(folder):
    image = np.full((3, 16, 16), 7, np.uint8)
    image[:, 4, 4] = 0
    write_image(folder / "A" / "0.png", image, crs=None, nodata=0)
    before, after, seen = find_examples(folder)[0].images({})
    assert np.argwhere(~seen).tolist() == [[4, 4]]
    assert (before[4, 4] == 0).all()
    assert (after[4, 4] == 0).all()
    assert (after[seen] == 9).all()


def test_a_folder_that_is_missing_is_told_of(folder):
    with pytest.raises(RasterError) as told:
        find_examples(folder / "none")
    assert str(told.value) == f"{folder / 'none' / 'A'}: no such folder. {LAYOUT}"


def test_a_set_without_images_is_told_of(tmp_path):
    for part in ("A", "B", "label"):
        (tmp_path / part).mkdir()
    with pytest.raises(RasterError) as told:
        find_examples(tmp_path)
    assert str(told.value) == f"{tmp_path}: no images. {LAYOUT}"


def test_an_image_without_its_partners_is_told_of(folder):
    add(folder, "2.png", parts="A")
    with pytest.raises(RasterError) as told:
        find_examples(folder)
    assert str(told.value) == f"{folder}: 2.png is not in B. {LAYOUT}"


def test_images_of_different_sizes_are_told_of(folder):
    write_image(folder / "label" / "0.png", np.zeros((1, 16, 15), np.uint8), crs=None)
    with pytest.raises(RasterError) as told:
        find_examples(folder)
    sizes = ((folder / part / "0.png", side) for part, side in (("A", 16), ("B", 16), ("label", 15)))
    assert (
        str(told.value)
        == f"Images of one name differ in size: {'; '.join(f'{path} {side}×16 px' for path, side in sizes)}."
    )


@pytest.mark.parametrize("part", ["A", "B", "label"])
def test_an_image_that_cannot_be_read_is_told_of(folder, part):
    (folder / part / "0.png").write_text("no image")
    with pytest.raises(RasterError, match=rf"{part}/0\.png: cannot be read as a raster \("):
        find_examples(folder)


def test_a_label_that_breaks_off_is_told_of(folder):
    label = folder / "label" / "1.tif"
    label.write_bytes(label.read_bytes()[:-200])
    with pytest.raises(RasterError, match=r"label/1\.tif: cannot be read as a raster \("):
        find_examples(folder)[1].truth()


def test_an_image_of_another_kind_is_told_of(folder):
    write_image(folder / "A" / "0.png", np.zeros((1, 16, 16), np.uint8), crs=None)
    with pytest.raises(RasterError, match=r"A/0\.png: has 1 band of uint8"):
        find_examples(folder)
