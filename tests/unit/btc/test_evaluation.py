"""Scores against labels, at the network's own resolution and on images' own pixels."""

import numpy as np
import pytest
import torch

from eo_tasks.btc.detect import Tiling
from eo_tasks.btc.evaluation import enlarged_flags, evaluate
from eo_tasks.btc.examples import find_examples
from eo_tasks.btc.model import compare, make_model
from eo_tasks.score import score
from eo_tasks.settings import Precision
from tests.images import write_image


@pytest.fixture
def model(checkpoint):
    return make_model(checkpoint, torch.device("cpu"), Precision.FLOAT32)


def add(folder, name, before, after, label, **profile):
    write_image(folder / "A" / name, before, crs=None, **profile)
    write_image(folder / "B" / name, after, crs=None)
    write_image(folder / "label" / name, label[None].astype(np.uint8) * 255, crs=None)


def made_up(seed, height, width):
    rng = np.random.default_rng(seed)
    before, after = rng.integers(1, 256, (2, height, width, 3), dtype=np.uint8)
    return before, after, rng.random((height, width)) < 0.3


def counted(probability, truth, threshold):
    return score([(probability > threshold).astype(np.uint8)], [truth.astype(np.uint8)])


def test_a_window_is_scored_where_the_authors_score_it(tmp_path, model, golden):
    _, _, label = made_up(1, 96, 96)
    add(tmp_path, "0.png", golden["imageA"][0], golden["imageB"][0], label)
    found = evaluate(model, find_examples(tmp_path), [0.2, 0.5])
    at = np.arange(256) * 96 // 256
    for threshold in (0.2, 0.5):
        expected = counted(golden["prob"][0, 0], label[at][:, at], threshold)
        assert found.scores[threshold].f1 == pytest.approx(expected.f1, abs=1e-4)
        assert found.scores[threshold].precision == pytest.approx(expected.precision, abs=1e-4)
    assert (found.windows, found.larger) == (1, 0)
    assert sum(vars(found.scores[0.2]).values()) == 256**2


def test_labels_are_resized_as_opencv_resizes_them():
    cv2 = pytest.importorskip("cv2")
    for side in (96, 100, 255, 256, 33):
        _, _, label = made_up(side, side, side)
        expected = cv2.resize(label.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST)
        assert (enlarged_flags(label) == (expected == 1)).all()


def test_an_image_that_is_no_window_is_scored_on_its_own_pixels(tmp_path, model):
    before, after, label = made_up(2, 40, 70)
    add(tmp_path, "0.png", before, after, label)
    found = evaluate(model, find_examples(tmp_path), [0.3], tiling=Tiling(32, 24))
    assert found.scores == {0.3: counted(compare(model, before, after, Tiling(32, 24)), label, 0.3)}
    assert (found.windows, found.larger) == (0, 1)


def test_pixels_of_all_images_are_pooled_whatever_their_size_and_the_batch(tmp_path, model):
    sizes = [(16, 16), (16, 16), (20, 20), (16, 24), (16, 16)]
    for number, size in enumerate(sizes):
        add(tmp_path / "all", f"{number}.png", *made_up(number, *size))
        add(tmp_path / f"only{number}", f"{number}.png", *made_up(number, *size))
    done = []
    found = evaluate(model, find_examples(tmp_path / "all"), [0.2], follow=done.append)
    alone = [evaluate(model, find_examples(tmp_path / f"only{number}"), [0.2]).scores[0.2] for number in range(5)]
    together = vars(found.scores[0.2])
    assert {name: sum(vars(one)[name] for one in alone) for name in together} == pytest.approx(together, abs=3)
    assert sum(together.values()) == 4 * 256**2 + 16 * 24
    assert (found.windows, found.larger, sum(done)) == (4, 1, 5)
    model.engine.batch_size = 1
    assert vars(evaluate(model, find_examples(tmp_path / "all"), [0.2]).scores[0.2]) == pytest.approx(together, abs=3)


def test_what_is_not_seen_counts_nowhere(tmp_path, model):
    before, after, label = made_up(3, 64, 64)
    before[:16] = 0
    add(tmp_path, "0.png", before, after, label, nodata=0)
    found = evaluate(model, find_examples(tmp_path), [0.2])
    assert sum(vars(found.scores[0.2]).values()) == 256**2 * 3 // 4


def test_each_threshold_is_scored_as_if_alone(tmp_path, model):
    add(tmp_path, "0.png", *made_up(4, 32, 32))
    examples = find_examples(tmp_path)
    curve = evaluate(model, examples, [0.1, 0.5, 0.9]).scores
    assert curve == {level: evaluate(model, examples, [level]).scores[level] for level in (0.1, 0.5, 0.9)}
