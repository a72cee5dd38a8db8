"""Train the small BTC network that comes with the sample.

It learns on landscapes of the sample's generator with other seeds than the sample's own, seen through the same code
as in production: composites, stretch, windows of 96 px resized to 256. Run it from the repository:

    python scripts/train_sample_network.py

Two free CPU cores need about fifteen minutes; where others work too, put OMP_WAIT_POLICY=PASSIVE before it, so that
waiting threads do not spin. The result replaces ``eo_tasks/sample/checkpoint``.
"""

import argparse
import logging
import math
import time
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eo_tasks.btc.checkpoint import WEIGHTS, Checkpoint, save_checkpoint
from eo_tasks.btc.detect import Tiling
from eo_tasks.btc.model import Model, compare, make_model
from eo_tasks.btc.network.published import IMAGENET_MEAN, IMAGENET_STD, INPUT_PX, Architecture, BtcNetwork
from eo_tasks.btc.resize import enlarged
from eo_tasks.raster import Composite, Origin, PixelGrid, to_dn, to_rgb
from eo_tasks.sample.clouds import NO_DATA
from eo_tasks.sample.construction import Plot
from eo_tasks.sample.landscape import Landscape, make_landscape
from eo_tasks.sample.season import Acquisition, observe
from eo_tasks.sample.works import Work
from eo_tasks.settings import STRETCH, THRESHOLD, Precision, Settings

ARCHITECTURE = Architecture(embed_dim=24, depths=(1, 1, 2, 1), heads=(1, 2, 4, 8), window=8, hidden=32)
TILING = Tiling()
WINDOW_PX = TILING.window_px
MASKED_SCL = (*Settings.model_fields["masked_scl"].default, NO_DATA)
MONTHS = Settings.model_fields["composite_months"].default
YEARS = (2021, 2022, 2023)
PAIRS = ((0, 1), (1, 2), (0, 2))
FIRST_SEED, FIRST_HELD_OUT_SEED = 1_000, 900_000  # the sample's own seed is neither
SIDE_PX = 400
BATCH = 8
QUARTERS_SHARE = 0.7  # of the steps, the first: they see a quarter of each window, at a quarter of the cost
THREADS = 2
LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 1.2e-3, 0.02, 0.08
CENTRED_SHARE = 0.6  # of windows, around a change; the others anywhere
SWAPPED_SHARE = 0.12  # of pairs, shown in the wrong order: what disappears is no construction
HIDDEN_SHARE = 0.15  # of pairs, with a patch of nodata
WORKS = (Work.HALLS, Work.ESTATE, Work.QUARRY, Work.ROAD, Work.CLEAR_CUT)
README = """# BTC network of the sample

A very small network of BTC's architecture (Rolih et al., "Be the Change You Want to See", TGRS 2025), trained by
`scripts/train_sample_network.py` on synthetic landscapes only. It exists so that the sample runs end to end without
a network connection. It has never seen a real scene: **use it for nothing but the demonstration.** For real imagery
take a published checkpoint, such as `blaz-r/BTC-B_oscd96`.

- Input: two years' composites, red, green, blue, with the default `BTC_STRETCH`; windows of 96 px resized to 256.
- Output: probability of new construction; the default `BTC_THRESHOLD` of 0.2 is its operating point.
- Weights: {parameters:,} parameters, stored as float16.
- On held-out synthetic landscapes: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}. They come from the
  same generator, only with other seeds, so this says nothing about real imagery.

License: Apache-2.0
"""

log = logging.getLogger("train_sample_network")


@dataclass(frozen=True, eq=False)
class Example:
    """One landscape: RGB of each year, shape (year, y, x, 3), and the change of each of ``PAIRS``, (pair, y, x)."""

    rgb: NDArray[np.uint8]
    change: NDArray[np.bool_]


def make_example(seed: int) -> Example:
    """Make a landscape with many works and its composites."""
    rng = np.random.default_rng([seed, 9])
    half = SIDE_PX // 2
    plots = [
        Plot(
            year,
            (top, top + half),
            (left, left + half),
            tuple(WORKS[number] for number in rng.integers(len(WORKS), size=rng.integers(4))),
        )
        for year in YEARS[1:]
        for top in (0, half)
        for left in (0, half)
    ]
    landscape = make_landscape(seed, (SIDE_PX, SIDE_PX), plots)
    composites = [make_composite(landscape, year, rng) for year in YEARS]
    return Example(
        np.stack([to_rgb(composite, STRETCH) for composite in composites]),
        np.stack([landscape.change(YEARS[a], YEARS[b]) for a, b in PAIRS]),
    )


def make_composite(landscape: Landscape, year: int, rng: np.random.Generator) -> Composite:
    """The median of a season's clear observations, as a source makes it."""
    stack = []
    for month in MONTHS:
        cover, cirrus = rng.choice([0, rng.uniform(0.05, 0.6)]), rng.choice([0, 0, rng.uniform(0.05, 0.3)])
        seen = observe(landscape, Acquisition(year, month, int(rng.integers(1, 29)), float(cover), float(cirrus)))
        clear = ~np.isin(seen.scl, MASKED_SCL).repeat(2, axis=0).repeat(2, axis=1)
        stack.append(np.where(clear, seen.reflectance[:3], np.nan))
    observations = np.sort(np.stack(stack), axis=0)  # puts NaN last
    count = np.isfinite(observations[:, 0]).sum(axis=0)
    last = np.maximum(count - 1, 0)
    low, high = (np.take_along_axis(observations, at[None, None], axis=0)[0] for at in (last // 2, (last + 1) // 2))
    pixels = PixelGrid(32633, (0.0, 0.0, SIDE_PX * 10.0, SIDE_PX * 10.0))
    return Composite(pixels, ("B02", "B03", "B04"), to_dn((low + high) / 2), count.astype(np.uint16), Origin("", ""))


def draw_batch(rng: np.random.Generator, examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of both years and their labels: inputs (pair, 3, 256, 256), labels (pair, 1, 256, 256) in [0, 1]."""
    drawn = [draw_window(rng, examples[rng.integers(len(examples))]) for _ in range(BATCH)]
    before, after, labels = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    resized = functional.interpolate(labels[:, None], (INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False)
    return to_input(before), to_input(after), resized


def to_input(windows: Tensor) -> Tensor:
    """RGB windows resized and normalised as they will be for inference, shape (window, 3, 256, 256)."""
    normalised = (enlarged(windows) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    return normalised.permute(0, 3, 1, 2).contiguous()


def quarters(rng: np.random.Generator, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """A random quarter of each window in a batch."""
    half = INPUT_PX // 2
    corners = rng.integers(0, half + 1, (BATCH, 2)).tolist()
    before, after, labels = (
        torch.stack([one[:, y : y + half, x : x + half] for one, (y, x) in zip(part, corners, strict=True)])
        for part in batch
    )
    return before, after, labels


def draw_window(rng: np.random.Generator, example: Example) -> tuple[NDArray[np.uint8], ...]:
    """One augmented window: RGB before and after, shape (96, 96, 3), and the label, float32, shape (96, 96)."""
    pair = int(rng.integers(len(PAIRS)))
    change, last = example.change[pair], SIDE_PX - WINDOW_PX
    top, left = rng.integers(0, last + 1, 2)
    if rng.random() < CENTRED_SHARE and change.any():
        row, column = np.divmod(rng.choice(np.flatnonzero(change)), SIDE_PX)
        top, left = np.clip((row, column) - rng.integers(0, WINDOW_PX, 2), 0, last)
    place = np.s_[top : top + WINDOW_PX, left : left + WINDOW_PX]
    before, after = (example.rgb[year][place] for year in PAIRS[pair])
    label = change[place].astype(np.float32)
    if rng.random() < SWAPPED_SHARE:
        before, after, label = after, before, np.zeros_like(label)
    seen = (before.any(axis=2) & after.any(axis=2)) & ~draw_hidden(rng)
    turns, is_flipped = int(rng.integers(4)), rng.random() < 0.5
    window = []
    for image in (np.where(seen[..., None], before, 0), np.where(seen[..., None], after, 0), np.where(seen, label, 0)):
        turned = np.rot90(image, turns)
        window.append(np.ascontiguousarray(turned[:, ::-1] if is_flipped else turned))
    return window[0].astype(np.uint8), window[1].astype(np.uint8), window[2].astype(np.float32)


def draw_hidden(rng: np.random.Generator) -> NDArray[np.bool_]:
    """A round patch without data, in some windows."""
    if rng.random() >= HIDDEN_SHARE:
        return np.zeros((WINDOW_PX, WINDOW_PX), bool)
    row, column = rng.integers(0, WINDOW_PX, 2)
    y, x = np.ogrid[:WINDOW_PX, :WINDOW_PX]
    return np.asarray(np.hypot(y - row, x - column) < rng.uniform(4, 25))


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy plus one minus the soft Dice coefficient of the batch."""
    probability = torch.sigmoid(logits)
    overlap = (probability * labels).sum()
    dice = (2 * overlap + 1) / (probability.sum() + labels.sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, labels) * 2 + 1 - dice


def train(examples: list[Example], steps: int, seed: int) -> BtcNetwork:
    """Train from random weights with AdamW and one cycle of the learning rate."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = BtcNetwork(ARCHITECTURE).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=WARM_UP)
    recent, start = [], time.monotonic()
    for step in range(1, steps + 1):
        batch = draw_batch(rng, examples)
        before, after, labels = quarters(rng, batch) if step <= QUARTERS_SHARE * steps else batch
        logits = network(before, after)  # always of the full size
        loss = loss_of(functional.interpolate(logits, labels.shape[-2:], mode="bilinear"), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % 50 == 0:
            rate = step * BATCH / (time.monotonic() - start)
            log.info("step %d of %d: loss %.3f, %.1f pairs/s", step, steps, float(np.mean(recent[-50:])), rate)
    return network.eval()


def predictions(network: BtcNetwork, examples: list[Example]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Probabilities and truth of all consecutive pairs, flattened over the pixels that both years show."""
    model = ready(network)
    probability, truth = [], []
    for example in examples:
        for (first, second), change in zip(PAIRS[:2], example.change, strict=False):
            seen = example.rgb[first].any(axis=2) & example.rgb[second].any(axis=2)
            images = [np.where(seen[..., None], example.rgb[year], np.uint8(0)) for year in (first, second)]
            probability.append(compare(model, images[0], images[1], TILING)[seen])
            truth.append(change[seen])
    return np.concatenate(probability), np.concatenate(truth)


def ready(network: BtcNetwork) -> Model:
    """A copy of the network as it is inferred with."""
    return make_model(Checkpoint(deepcopy(network), "training", "", ""), torch.device("cpu"), Precision.FLOAT32)


def precision_recall_f1(change: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Pooled over pixels."""
    hits, found, real = (float(part.sum()) for part in (change & truth, change, truth))
    return hits / max(found, 1), hits / max(real, 1), 2 * hits / max(found + real, 1)


def calibrate(network: BtcNetwork, probability: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Shift the last bias so that the best F1 lies at the product's threshold; returns where it lay before."""
    candidates = np.arange(0.05, 0.95, 0.05)
    best = max(candidates, key=lambda threshold: precision_recall_f1(probability > threshold, truth)[2])
    with torch.no_grad():
        network.decode_head.classifier.bias += math.log(THRESHOLD / (1 - THRESHOLD)) - math.log(best / (1 - best))
    return float(best)


def main() -> None:
    """Make data, train, calibrate, validate, save."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=1700)
    arguments.add_argument("--landscapes", type=int, default=44)
    arguments.add_argument("--held-out", type=int, default=6)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "eo_tasks" / "sample" / "checkpoint")
    chosen = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(THREADS)

    seeds = [FIRST_SEED + number for number in range(chosen.landscapes)]
    seeds += [FIRST_HELD_OUT_SEED + number for number in range(chosen.held_out)]
    with ProcessPoolExecutor(THREADS, mp_context=get_context("spawn")) as pool:
        made = list(pool.map(make_example, seeds))
    examples, held_out = made[: chosen.landscapes], made[chosen.landscapes :]
    log.info("%d landscapes, %.1f %% changed", len(made), 100 * np.mean([example.change.mean() for example in made]))

    network = train(examples, chosen.steps, chosen.seed)
    best = calibrate(network, *predictions(network, examples[: chosen.held_out]))
    network = network.half().float()  # validate what is stored: float16
    probability, truth = predictions(network, held_out)
    precision, recall, f1 = precision_recall_f1(probability > THRESHOLD, truth)
    log.info("threshold was best at %.2f; held out: P %.3f R %.3f F1 %.3f", best, precision, recall, f1)
    parameters = sum(tensor.numel() for tensor in network.parameters())
    save_checkpoint(network.half(), chosen.out)
    (chosen.out / WEIGHTS).chmod(0o644)  # safetensors keeps its files to their owner
    (chosen.out / "README.md").write_text(
        README.format(parameters=parameters, precision=precision, recall=recall, f1=f1), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
