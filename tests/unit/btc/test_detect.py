"""Series of images to strips of probability, against the plain network on each pair alone."""

import gc
import threading
import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from eo_tasks.btc.detect import Strip, Tiling, detect, packs
from eo_tasks.btc.engine import Engine, answer
from eo_tasks.btc.network.fast import FastNetwork, PlainNetwork
from eo_tasks.btc.pictures import ArrayPicture
from eo_tasks.btc.resize import enlarged
from eo_tasks.btc.series import Failure, Series
from eo_tasks.btc.windows import Blend, blend_weight
from eo_tasks.errors import InferenceError, RasterError, SettingsError
from tests.networks import ARCHITECTURES, RedNetwork, random_network, structured_windows

CPU = torch.device("cpu")
TILING = Tiling(32, 24)
ONE_WINDOW = Tiling(32, 32)


@pytest.fixture(scope="module")
def plain() -> PlainNetwork:
    """A network, as published."""
    return PlainNetwork(random_network(ARCHITECTURES["window 8, one block"]))


def series(years, pairs, key=None, hidden: dict | None = None) -> Series:
    """Years of one place from their images; ``hidden`` gives a year's pixels without data."""
    pictures = {}
    for year, rgb in enumerate(years):
        valid = np.ones(rgb.shape[:2], bool)
        if hidden and year in hidden:
            valid[hidden[year]] = False
        pictures[year] = ArrayPicture(rgb, valid)
    return Series(key, pictures, tuple(pairs))


def images(count: int, shape=(70, 90), seed=0) -> list[np.ndarray]:
    return [window[: shape[0], : shape[1]] for window in structured_windows(count, max(shape), seed)]


def flat(*levels: int, shape=(32, 32)) -> list[np.ndarray]:
    """A year of each level."""
    return [np.full((*shape, 3), level, np.uint8) for level in levels]


def collected(parts: Iterable[Strip | Failure]) -> dict[tuple, np.ndarray]:
    """Whole answers by series key and pair, whose strips must come from top to bottom and end once."""
    strips: dict[tuple, list[np.ndarray]] = {}
    ended = set()
    for part in parts:
        assert isinstance(part, Strip)
        key = (part.series.key, part.pair)
        assert key not in ended
        assert part.first == sum(map(len, strips.setdefault(key, [])))
        strips[key].append(part.probability)
        if part.is_last:
            ended.add(key)
    assert ended == strips.keys()
    return {key: np.concatenate(found) for key, found in strips.items()}


def one_by_one(plain: PlainNetwork, whole: Series, pair, tiling: Tiling) -> np.ndarray:
    """The same pair alone: all windows cut out of whole images, one at a time, blended over a whole image."""
    (early, early_valid), (late, late_valid) = (whole.pictures[year].rows(0, whole.shape[0]) for year in pair)
    seen = early_valid & late_valid
    side, shape = tiling.window_px, seen.shape
    filled = [(0, max(side - length, 0)) for length in shape]
    before, after = (np.pad(np.where(seen[..., None], image, 0), [*filled, (0, 0)]) for image in (early, late))
    total, weights = np.zeros((2, *before.shape[:2]))
    places = [[*range(0, length - side, tiling.stride_px), length - side] for length in before.shape[:2]]
    for row in places[0]:
        for column in places[1]:
            place = np.s_[row : row + side, column : column + side]
            earlier, later = (enlarged(torch.from_numpy(image[place][None].copy())) for image in (before, after))
            with torch.inference_mode():
                found = answer(plain.decode(plain.encode(earlier), plain.encode(later)), side)[0].numpy()
            total[place] += blend_weight(side) * found
            weights[place] += blend_weight(side)
    return np.where(seen, (total / weights)[: shape[0], : shape[1]], np.nan)


# The answer


@pytest.mark.parametrize("shape", [(70, 90), (32, 32), (20, 50), (81, 33), (5, 4)])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_every_pairs_answer_is_the_plain_networks_on_that_pair_alone(plain, shape, batch_size):
    rng = np.random.default_rng(3)
    hidden = {1: rng.random(shape) < 0.05, 2: np.s_[: shape[0] // 2, : shape[1] // 3]}
    whole = series(images(3, shape), [(0, 1), (1, 2), (0, 2)], hidden=hidden)
    engine = Engine(FastNetwork(plain.network), CPU, batch_size)
    found = collected(detect(engine, [whole], TILING))
    assert list(found) == [(None, pair) for pair in whole.pairs]
    for (_, pair), probability in found.items():
        expected = one_by_one(plain, whole, pair, TILING)
        assert probability.dtype == np.float32
        assert probability.shape == shape
        assert np.array_equal(np.isnan(probability), np.isnan(expected))
        assert np.nanmax(np.abs(probability - expected)) < 1e-5


def test_a_pixel_is_nan_where_either_year_has_no_data(plain):
    whole = series(images(2), [(0, 1)], hidden={0: np.s_[5, 6], 1: np.s_[60:, 70]})
    found = collected(detect(Engine(plain, CPU, 8), [whole], TILING))[None, (0, 1)]
    expected = np.zeros((70, 90), bool)
    expected[5, 6] = expected[60:, 70] = True
    assert (np.isnan(found) == expected).all()
    assert ((found[~expected] >= 0) & (found[~expected] <= 1)).all()


def test_what_one_year_shows_where_the_other_has_no_data_changes_nothing(plain):
    early, late = images(2)
    changed = late.copy()
    changed[:40, 20:] = 255 - changed[:40, 20:]
    hidden = {0: np.s_[:40, 20:]}
    first, second = (
        collected(detect(Engine(plain, CPU, 8), [series([early, year], [(0, 1)], hidden=hidden)], TILING))
        for year in (late, changed)
    )
    assert np.array_equal(first[None, (0, 1)], second[None, (0, 1)], equal_nan=True)


def test_swapped_years_differ(plain):
    found = collected(detect(Engine(plain, CPU, 8), [series(images(2), [(0, 1), (1, 0)])], TILING))
    assert np.abs(found[None, (0, 1)] - found[None, (1, 0)]).max() > 0.05


def test_repeating_gives_the_same_bytes(plain):
    whole, engine = series(images(2), [(0, 1)]), Engine(FastNetwork(plain.network), CPU, 3)
    first, second = (collected(detect(engine, [whole], TILING))[None, (0, 1)].tobytes() for _ in range(2))
    assert first == second


def test_each_window_comes_back_to_its_own_place():
    early, late = flat(0, 0, shape=(64, 96))
    late[32:, :32], late[:32, 64:] = 100, 200
    found = collected(detect(Engine(RedNetwork(), CPU, 2), [series([early, late], [(0, 1)])], ONE_WINDOW))
    by_window = found[None, (0, 1)].reshape(2, 32, 3, 32)[:, 16, :, 16]
    sigmoid = 1 / (1 + np.exp(-np.array([[0, 0, 4], [2, 0, 0]])))
    assert by_window == pytest.approx(sigmoid)


# What is computed


def test_a_year_is_encoded_once_for_all_its_pairs():
    network = RedNetwork()
    whole = series(flat(10, 20, 30, 40), [(0, 1), (1, 2), (2, 3), (0, 3)])
    collected(detect(Engine(network, CPU, 64), [whole], ONE_WINDOW))
    assert (network.encoded, network.decoded) == ([4], [4])


def test_a_year_is_encoded_again_only_where_a_pair_shows_less_of_it():
    network = RedNetwork()
    years = flat(10, 20, 30, shape=(32, 64))
    whole = series(years, [(0, 1), (1, 2)], hidden={2: np.s_[3, 40]})  # in the second window
    found = collected(detect(Engine(network, CPU, 64), [whole], ONE_WINDOW))
    assert (network.encoded, network.decoded) == ([3 + 4], [4])
    assert np.isnan(found[None, (1, 2)]).sum() == 1
    assert not np.isnan(found[None, (0, 1)]).any()


def test_windows_without_common_data_are_not_inferred():
    network = RedNetwork()
    whole = series(flat(10, 20, shape=(32, 96)), [(0, 1)], hidden={0: np.s_[:, :32], 1: np.s_[:, 64:]})
    found = collected(detect(Engine(network, CPU, 64), [whole], ONE_WINDOW))[None, (0, 1)]
    assert (network.encoded, network.decoded) == ([2], [1])
    assert np.isnan(found).reshape(32, 3, 32).all((0, 2)).tolist() == [True, False, True]


def test_a_pair_without_common_data_has_an_answer_of_nan():
    network = RedNetwork()
    whole = series(images(2), [(0, 1)], hidden={0: np.s_[:30], 1: np.s_[30:]})
    found = collected(detect(Engine(network, CPU, 8), [whole], TILING))[None, (0, 1)]
    assert found.shape == (70, 90)
    assert np.isnan(found).all()
    assert network.encoded == []


def test_windows_of_several_series_share_a_batch():
    network = RedNetwork()
    places = [series(flat(0, 50 * number), [(0, 1)], key=number) for number in range(5)]
    found = collected(detect(Engine(network, CPU, 4), places, ONE_WINDOW))
    assert network.encoded == [4, 4, 2]
    assert {key: answer[0, 0] for (key, _), answer in found.items()} == pytest.approx(
        {number: 1 / (1 + np.exp(-number)) for number in range(5)}
    )


def test_a_window_with_more_images_than_a_batch_holds_is_computed_in_parts():
    network = RedNetwork()
    whole = series(flat(0, 50, 100, 150, 200), [(0, year) for year in range(1, 5)])
    found = collected(detect(Engine(network, CPU, 2), [whole], ONE_WINDOW))
    assert network.encoded == [2, 2, 1]
    assert [found[None, pair][0, 0] for pair in whole.pairs] == pytest.approx(1 / (1 + np.exp(-np.arange(1, 5))))


def test_no_series_give_nothing():
    assert list(detect(Engine(RedNetwork(), CPU, 4), [], TILING)) == []


# What is held


def test_packs_hold_as_many_images_as_a_batch_and_never_part_a_window():
    places = [series(flat(*range(count)), [(0, year) for year in range(1, count)], key=count) for count in (2, 3, 2, 4)]
    made = list(packs(places, ONE_WINDOW, 4))
    assert [len(pack.windows) for pack in made] == [2, 3, 2, 4]
    assert [pack.pairs.tolist() for pack in made] == [
        [[0, 1]], [[0, 1], [0, 2]], [[0, 1]], [[0, 1], [0, 2], [0, 3]],
    ]  # fmt: skip
    (whole,) = packs(places, ONE_WINDOW, 11)
    assert whole.pairs.tolist() == [[0, 1], [2, 3], [2, 4], [5, 6], [7, 8], [7, 9], [7, 10]]
    assert [image[0, 0, 0] for image in whole.windows] == [0, 1, 0, 1, 2, 0, 1, 0, 1, 2, 3]


def test_series_are_taken_when_there_is_room_for_their_windows():
    taken = []

    def places():
        for number in range(50):
            taken.append(number)
            yield series(flat(0, 50), [(0, 1)], key=number)

    answers = detect(Engine(RedNetwork(), CPU, 2), places(), ONE_WINDOW)
    next(answers)
    # Two packs in work, two prepared, one being made; a pack is given when the next series has been looked at.
    assert len(taken) <= 8
    answers.close()


def test_a_tall_image_takes_no_more_memory_than_its_windows_rows():
    class Tall:
        shape = (20_000, 64)

        def rows(self, start, stop):
            return np.full((stop - start, 64, 3), start % 251, np.uint8), np.ones((stop - start, 64), bool)

    engine = Engine(RedNetwork(), CPU, 8)
    whole = Series(None, {0: Tall(), 1: Tall()}, ((0, 1),))
    engine.infer(np.zeros((2, 32, 32, 3), np.uint8), np.array([[0, 1]]))  # what is made once
    tracemalloc.start()
    rows = sum(len(part.probability) for part in detect(engine, [whole], ONE_WINDOW))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 20_000
    assert peak_bytes < 20_000 * 64 * (2 * 4 + 4) / 20  # of both images with their masks and of the answer


# What goes wrong


class BrokenPicture(ArrayPicture):
    """Cannot be read from row 40 on."""

    def rows(self, start, stop):
        if stop > 40:
            raise RasterError("broken from row 40")
        return super().rows(start, stop)


def test_a_year_that_breaks_off_fails_its_pairs_and_no_other(plain):
    years = images(3)
    whole = series(years, [(0, 1), (1, 2), (0, 2)])
    whole.pictures[1] = BrokenPicture(years[1])
    other = series(images(2, seed=9), [(0, 1)], key="other")
    parts = list(detect(Engine(plain, CPU, 8), [whole, other], TILING))
    failures = [part for part in parts if isinstance(part, Failure)]
    assert [(failure.pair, str(failure.error)) for failure in failures] == [
        ((0, 1), "broken from row 40"),
        ((1, 2), "broken from row 40"),
    ]
    failed = [part for part in parts if isinstance(part, Strip) and part.series is whole and 1 in part.pair]
    assert [(part.first, len(part.probability), part.is_last) for part in failed] == [(0, 24, False)] * 2
    found = collected(part for part in parts if part not in failures and part not in failed)
    assert found.keys() == {(None, (0, 2)), ("other", (0, 1))}
    assert np.abs(found[None, (0, 2)] - one_by_one(plain, whole, (0, 2), TILING)).max() < 1e-5
    assert np.abs(found["other", (0, 1)] - one_by_one(plain, other, (0, 1), TILING)).max() < 1e-5


def test_the_rows_of_pairs_that_failed_are_not_kept():
    def places():
        for number in range(40):
            whole = series(flat(0, 0, shape=(96, 32)), [(0, 1)], key=number)
            whole.pictures[1] = BrokenPicture(whole.pictures[1].rgb)
            yield whole

    parts = detect(Engine(RedNetwork(), CPU, 2), places(), ONE_WINDOW)
    assert [type(next(parts)) for _ in range(70)] == [Strip, Failure] * 35
    assert sum(type(kept) is Blend for kept in gc.get_objects()) < 5
    assert len(list(parts)) == 10


class WhiteFails(RedNetwork):
    """Its answer is not a number where the later year is all red."""

    def decode(self, before, after):
        return torch.where(after[0][..., 0] == 255, torch.nan, super().decode(before, after))


def test_an_answer_that_is_not_a_number_fails_its_pair_alone():
    years = flat(0, 0, 100, shape=(96, 32))
    years[1][40:50, 3:9] = 255  # in the second of three windows
    parts = list(detect(Engine(WhiteFails(), CPU, 3), [series(years, [(0, 1), (0, 2)])], ONE_WINDOW))
    (failure,) = (part for part in parts if isinstance(part, Failure))
    assert failure.pair == (0, 1)
    assert isinstance(failure.error, InferenceError)
    assert str(failure.error).startswith("the network's answer is not a number: ")
    assert [(part.first, part.is_last) for part in parts if part is not failure and part.pair == (0, 1)] == [(0, False)]
    found = collected(part for part in parts if part is not failure and part.pair == (0, 2))
    assert found[None, (0, 2)] == pytest.approx(np.full((96, 32), 1 / (1 + np.exp(-2))))


def test_an_answer_that_is_not_a_number_where_a_year_has_no_data_is_none():
    years = flat(0, 0, shape=(32, 64))
    years[1][:, :32] = 255
    whole = series(years, [(0, 1)], hidden={1: np.s_[:, :32]})
    found = collected(detect(Engine(WhiteFails(), CPU, 3), [whole], ONE_WINDOW))[None, (0, 1)]
    assert np.isnan(found).tolist() == [[True] * 32 + [False] * 32] * 32


@pytest.mark.parametrize(("white", "error"), [(0, InferenceError), (20, InferenceError), (70, RasterError)])
def test_a_pair_fails_once_whatever_goes_wrong_with_it(white, error):
    years = flat(0, 0, 0, shape=(96, 32))
    years[1][white : white + 6] = 255
    whole = series(years, [(0, 1), (0, 2)])
    whole.pictures[1] = BrokenPicture(years[1])
    places = [whole, series(flat(0, 0), [(0, 1)], key="next")]
    parts = list(detect(Engine(WhiteFails(), CPU, 2), places, ONE_WINDOW))
    failures = [part for part in parts if isinstance(part, Failure)]
    assert [(failure.pair, type(failure.error)) for failure in failures] == [((0, 1), error)]
    assert collected(part for part in parts if part.series is not whole or 1 not in part.pair).keys() == {
        (None, (0, 2)), ("next", (0, 1)),
    }  # fmt: skip


def threads_ahead() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "ahead"]


def test_a_network_that_fails_is_told_and_no_thread_goes_on():
    network = RedNetwork(0, RuntimeError("shapes"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(detect(Engine(network, CPU, 4), [series(images(2), [(0, 1)])] * 9, TILING))
    assert threads_ahead() == []


def test_an_error_in_what_gives_the_series_is_told_after_the_answers_before():
    def places():
        yield series(flat(0, 0), [(0, 1)], key="first")
        raise LookupError("no more")

    answers = detect(Engine(RedNetwork(), CPU, 1), places(), ONE_WINDOW)
    with pytest.raises(LookupError, match="no more"):
        list(answers)
    assert threads_ahead() == []


def test_leaving_early_stops_the_reading():
    answers = detect(Engine(RedNetwork(), CPU, 2), (series(flat(0, 0), [(0, 1)]) for _ in range(10_000)), ONE_WINDOW)
    next(answers)
    answers.close()
    assert threads_ahead() == []


def test_windows_that_leave_gaps_are_refused():
    with pytest.raises(SettingsError, match=r"^windows of 32 px every 33 px leave gaps"):
        Tiling(32, 33)
