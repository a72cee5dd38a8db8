"""``eo-tasks btc`` and ``eo-tasks evaluate``."""

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from eo_tasks.btc.network.fast import FastNetwork
from tests.command_line import MISUSED, call, complaint
from tests.images import PLACE, read_image, write_image

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setenv("BTC_MODEL_CHECKPOINT", str(GOLDEN))


@pytest.fixture
def pair(tmp_path):
    """The golden pair, in the working directory."""
    with np.load(GOLDEN / "golden.npz") as golden:
        for year, name in ((2021, "imageA"), (2022, "imageB")):
            write_image(tmp_path / f"{year}.tif", golden[name][0])
    return "2021.tif", "2022.tif"


# Two files


@pytest.mark.parametrize("before_the_files", [["compare"], []], ids=["compare", "by default"])
def test_two_files_are_compared(pair, before_the_files):
    done = call("btc", *before_the_files, *pair, "-o", "out", "--threshold", "0.4")
    assert done.exit_code == 0, done.output
    record = json.loads(Path("out/change_mask_2021_2022.json").read_text())
    changed = int((read_image(Path("out/change_mask_2021_2022.png")) == 255).sum())
    assert record["changed_px"] == changed > 0
    assert done.output == (
        f"out/change_mask_2021_2022.png: {changed} of 9216 pixels changed ({changed / 100:g} of 92.16 ha).\n"
    )
    assert record["threshold"] == 0.4


def test_options_may_stand_before_the_files_and_win_over_the_settings(monkeypatch, pair):
    monkeypatch.setenv("BTC_THRESHOLD", "0.9")
    monkeypatch.setenv("BTC_WINDOW_PX", "64")
    options = (
        "--float",
        "--window",
        "48",
        "--stride",
        "40",
        "--batch-size",
        "3",
        "--device",
        "cpu",
        "--precision",
        "float32",
    )
    assert call("btc", *options, *pair, "-o", "out").exit_code == 0
    record = json.loads(Path("out/change_mask_2021_2022.json").read_text())
    assert [record[key] for key in ("threshold", "window_px", "stride_px")] == [0.9, 48, 40]
    assert read_image(Path("out/change_mask_2021_2022_probability_float32.tiff")).dtype == np.float32


def test_the_network_as_published_gives_the_same(pair):
    found = []
    for how in ([], ["--plain"]):
        assert call("btc", *pair, "-o", f"out{len(how)}", "--float", *how).exit_code == 0
        found.append(read_image(Path(f"out{len(how)}/change_mask_2021_2022_probability_float32.tiff")))
    assert 0 < np.abs(found[0] - found[1]).max() < 1e-4


def test_a_shifted_image_is_refused_unless_it_is_to_be_aligned(tmp_path, pair):
    write_image(tmp_path / "2022.tif", np.full((3, 96, 96), 9, np.uint8), transform=PLACE @ Affine.translation(0, 1))
    assert complaint("btc", *pair, "-o", "out") == (
        "2021.tif and 2022.tif have different pixels: EPSG:32633, 96×96 px of 10 × 10 from (500000, 5000000); "
        "EPSG:32633, 96×96 px of 10 × 10 from (500000, 4999990). Warp the later one onto the earlier one with --align."
    )
    assert call("btc", *pair, "-o", "out", "--align").exit_code == 0
    assert json.loads(Path("out/change_mask_2021_2022.json").read_text())["seen_px"] == 95 * 96


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.tif", "2022.tif"], "none.tif: no such file."),
        (["2021.tif", "notes.txt"], "notes.txt: cannot be read as a raster ("),
        (["2021.tif", "one_band.tif"], "one_band.tif: has 1 band of uint8 (no name). BTC takes exactly three 8-bit"),
        (["2021.tif", "2022.tif", "--checkpoint", "./none"], "BTC_MODEL_CHECKPOINT=./none: no such folder"),
        (["2021.tif", "2022.tif", "--threshold", "2"], "BTC_THRESHOLD=2.0: takes a value less than 1"),
        (["2021.tif", "2022.tif", "--window", "48"], "BTC_STRIDE_PX must not exceed BTC_WINDOW_PX"),
        (["2021.tif", "2022.tif", "--device", "cuda"], "BTC_DEVICE=cuda: torch sees no CUDA device here."),
    ],
)
def test_what_cannot_be_compared_is_told(monkeypatch, tmp_path, pair, arguments, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    Path("notes.txt").write_text("no raster")
    write_image(tmp_path / "one_band.tif", np.zeros((1, 96, 96), np.uint8))
    assert complaint("btc", *arguments, "-o", "out").startswith(message)
    assert not Path("out").exists()


def test_an_out_that_is_a_file_is_told(pair):
    Path("out").write_text("")
    assert complaint("btc", *pair, "-o", "out") == "out: File exists."


def test_wrong_files_are_told_before_the_network_is_loaded(pair):
    assert complaint("btc", "none.tif", "2022.tif", "-o", "out", "--checkpoint", "./none") == "none.tif: no such file."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["2021.tif"], "Missing argument 'AFTER'."),
        (["2021.tif", "2022.tif"], "Missing option '-o' / '--out'."),
        (["2021.tif", "2022.tif", "-o", "out", "--device", "tpu"], "Invalid value for '--device': 'tpu' is not one of"),
    ],
)
def test_a_command_line_that_is_written_wrong_is_told(pair, arguments, message):
    assert complaint("btc", *arguments, code=MISUSED).startswith(message)


def test_help_explains_both_commands_without_settings(monkeypatch):
    monkeypatch.setenv("MAX_WORKERS", "many")
    shown = call("btc", "--help")
    assert shown.exit_code == 0
    for part in ("eo-tasks btc BEFORE AFTER -o OUT", "eo-tasks btc verify CHECKPOINT", "Examples:"):
        assert part in shown.output
    assert call("btc", "compare", "-h").exit_code == call("btc", "verify", "-h").exit_code == 0


def test_torch_that_is_not_installed_is_told(monkeypatch, pair):
    monkeypatch.setitem(__import__("sys").modules, "eo_tasks.btc.files", None)
    assert complaint("btc", *pair, "-o", "out").endswith("is not here: pip install 'eo-tasks[btc]'.")


# Checkpoints


def test_a_checkpoint_that_computes_as_published_is_told_of(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    done = call("btc", "verify", GOLDEN, "--windows", "3")
    assert done.exit_code == 0, done.output
    for part in (
        "8 channels, blocks 2/2/2/2, heads 1/2/4/8, window 12, decoder 16",
        "231 used, 8 worked out anew (position indices), none unused",
        "mask pixels that flip at 0.2, float16",
        "mask pixels that flip at 0.2, bfloat16",
    ):
        assert part in done.output


def test_one_lower_precision_may_be_chosen():
    shown = call("btc", "verify", GOLDEN, "--windows", "1", "--precision", "bfloat16").output
    assert "bfloat16" in shown
    assert "float16" not in shown.replace("bfloat16", "")


def test_a_checkpoint_that_does_not_compute_as_published_is_a_failure(monkeypatch):
    decode = FastNetwork.decode
    monkeypatch.setattr(FastNetwork, "decode", lambda self, *years: decode(self, *years) + 1)
    said = complaint("btc", "verify", GOLDEN, "--windows", "1", "--precision", "float32")
    assert said.startswith(
        f"{GOLDEN}: logits of the fast network differ from the published one's by 1.0e+00, more than"
    )


def test_a_checkpoint_that_is_none_is_told(tmp_path):
    assert (
        complaint("btc", "verify", tmp_path)
        == f"BTC_MODEL_CHECKPOINT={tmp_path}: that folder has no model.safetensors."
    )


# Labels


@pytest.fixture
def labelled(tmp_path):
    """Three labelled pairs, one of them no square; in the folder ``set``."""
    rng = np.random.default_rng(6)
    for number, shape in enumerate(((32, 32), (32, 32), (20, 40))):
        for part in "AB":
            write_image(
                tmp_path / "set" / part / f"{number}.png", rng.integers(0, 256, (3, *shape), dtype=np.uint8), crs=None
            )
        label = (rng.random((1, *shape)) < 0.4).astype(np.uint8)
        write_image(tmp_path / "set" / "label" / f"{number}.png", label, crs=None)
    return "set"


def test_scores_are_shown_and_written(labelled):
    done = call("evaluate", labelled, "--json", "scores.json")
    assert done.exit_code == 0, done.output
    assert "Images: 2 at the network's 256 × 256, as in the paper, 1 on their own pixels." in done.output
    record = json.loads(Path("scores.json").read_text())
    hits, false, missed = (record[key] for key in ("true_positives", "false_positives", "false_negatives"))
    assert record["precision"] == pytest.approx(hits / (hits + false), abs=1e-6)
    assert record["recall"] == pytest.approx(hits / (hits + missed), abs=1e-6)
    assert record["f1"] == pytest.approx(2 * hits / (2 * hits + false + missed), abs=1e-6)
    assert record["ciou"] == pytest.approx(hits / (hits + false + missed), abs=1e-6)
    assert hits + false + missed + record["true_negatives"] == 2 * 256**2 + 20 * 40
    assert (record["threshold"], record["images_at_256"], record["images_on_own_pixels"]) == (0.2, 2, 1)
    for name in ("threshold", "precision", "recall", "f1", "ciou"):
        assert f"{record[name]:.3f}".rstrip("0") in done.output


def test_a_curve_has_nineteen_thresholds_and_the_chosen_one(labelled):
    shown = call("evaluate", labelled, "--curve", "--threshold", "0.33", "--json", "scores.json").output
    record = json.loads(Path("scores.json").read_text())
    levels = [point["threshold"] for point in record["curve"]]
    assert levels == sorted([0.33, *(round(0.05 * step, 2) for step in range(1, 20))])
    recalls = [point["recall"] for point in record["curve"]]
    assert recalls == sorted(recalls, reverse=True)
    assert all(f" {level:g} " in shown for level in levels)


def test_a_score_that_does_not_exist_is_null(tmp_path):
    for part, image in (("A", np.zeros((3, 16, 16))), ("B", np.zeros((3, 16, 16))), ("label", np.zeros((1, 16, 16)))):
        write_image(tmp_path / "set" / part / "0.png", image.astype(np.uint8), crs=None)
    assert call("evaluate", "set", "--json", "scores.json", "--threshold", "0.999999").exit_code == 0
    record = json.loads(Path("scores.json").read_text())
    assert [record[name] for name in ("precision", "recall", "f1", "ciou")] == [None] * 4


def test_labels_that_cannot_be_used_are_told(labelled):
    assert complaint("evaluate", "none").startswith(
        "none/A: no such folder. It takes folders A (earlier), B (later) and"
    )
    Path("set/B/1.png").unlink()
    assert complaint("evaluate", labelled).startswith("set: 1.png is not in B. ")
    Path("set/B/1.png").write_text("no image")
    assert complaint("evaluate", labelled).startswith("set/B/1.png: cannot be read as a raster (")
    write_image(Path("set/B/1.png"), np.zeros((3, 32, 31), np.uint8), crs=None)
    assert complaint("evaluate", labelled).startswith("Images of one name differ in size: set/A/1.png 32×32 px; ")
