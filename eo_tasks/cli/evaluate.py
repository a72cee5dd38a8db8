"""``eo-tasks evaluate``: the network against labels."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from eo_tasks import __version__
from eo_tasks.cli.network import OPTIONS, PLAIN, bar, open_chosen, settings_from, torch_needed
from eo_tasks.files import write_json
from eo_tasks.score import Score
from eo_tasks.settings import Settings

if TYPE_CHECKING:
    from eo_tasks.btc.evaluation import Evaluation

CURVE = tuple(round(0.05 * step, 2) for step in range(1, 20))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--curve", is_flag=True, help="Score at thresholds from 0.05 to 0.95 too.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the scores here too.")
@settings_from(*OPTIONS)
@PLAIN
def evaluate(folder: Path, curve: bool, json_file: Path | None, settings: Settings, is_plain: bool) -> None:
    """Score the network on labelled images.

    FOLDER has folders A (earlier images), B (later ones) and label (0 where nothing changed), with files of the same
    names; or a folder test that has them. Pixels of all images are pooled. A square image of up to 256 pixels is
    scored as in the paper: at the network's 256 × 256, to which its label is resized. Others are scored on their own
    pixels.

    \b
    Examples:
      eo-tasks evaluate OSCD96/test
      eo-tasks evaluate OSCD96/test --threshold 0.5 --curve --json scores.json
    """
    with torch_needed():
        from eo_tasks.btc.detect import Tiling
        from eo_tasks.btc.evaluation import evaluate as run
        from eo_tasks.btc.examples import find_examples
    examples = find_examples(folder, settings.btc_stretch)
    model = open_chosen(settings, is_plain=is_plain)
    threshold = settings.btc_threshold
    with bar("Images", len(examples)) as follow:
        found = run(
            model,
            examples,
            (threshold, *CURVE) if curve else (threshold,),
            tiling=Tiling(settings.btc_window_px, settings.btc_stride_px),
            stretch=settings.btc_stretch,
            follow=follow,
        )
    console = Console()
    console.print(_table(f"{model.name} on {folder}", found.scores, threshold))
    console.print(_told(found))
    if json_file is not None:
        write_json(json_file, _record(folder, model.facts, threshold, found))
        console.print(f"Written to {json_file}")


def _table(title: str, scores: dict[float, Score], chosen: float) -> Table:
    """One row per threshold; the chosen one is marked where there are more."""
    table = Table("Threshold", "Precision", "Recall", "F1", "cIoU", title=title, title_justify="left")
    for threshold, score in scores.items():
        values = (score.precision, score.recall, score.f1, score.iou)
        is_marked = threshold == chosen and len(scores) > 1
        table.add_row(f"{threshold:g}", *(f"{value:.3f}" for value in values), style="bold" if is_marked else "")
    return table


def _told(found: "Evaluation") -> str:
    parts = [
        f"{found.windows} at the network's 256 × 256, as in the paper" if found.windows else "",
        f"{found.larger} on their own pixels" if found.larger else "",
    ]
    return f"Images: {', '.join(part for part in parts if part)}."


def _record(folder: Path, model: dict[str, str], threshold: float, found: "Evaluation") -> dict[str, Any]:
    return {
        "folder": str(folder.absolute()),
        "model": model,
        "images_at_256": found.windows,
        "images_on_own_pixels": found.larger,
        **_score_record(threshold, found.scores[threshold]),
        "curve": [_score_record(each, score) for each, score in found.scores.items()],
        "versions": {"eo_tasks": __version__},
    }


def _score_record(threshold: float, score: Score) -> dict[str, Any]:
    shares = {"precision": score.precision, "recall": score.recall, "f1": score.f1, "ciou": score.iou}
    return {
        "threshold": threshold,
        **{name: None if math.isnan(value) else round(value, 6) for name, value in shares.items()},
        "true_positives": score.true_positives,
        "false_positives": score.false_positives,
        "false_negatives": score.false_negatives,
        "true_negatives": score.true_negatives,
    }
