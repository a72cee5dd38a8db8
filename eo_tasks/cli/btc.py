"""``eo-tasks btc``: the network alone, on two files; and whether a checkpoint computes as published."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rasterio import Env
from rich.console import Console
from rich.table import Table

from eo_tasks.cli.network import (
    DEVICE,
    OPTIONS,
    PLAIN,
    PRECISION,
    REVISION,
    THRESHOLD,
    bar,
    open_chosen,
    settings_from,
    torch_needed,
)
from eo_tasks.cli.stages import stored
from eo_tasks.errors import PermanentError
from eo_tasks.settings import Precision, Settings

if TYPE_CHECKING:
    from eo_tasks.btc.verify import Agreement


class _FilesByDefault(click.Group):
    """Takes ``btc BEFORE AFTER`` for ``btc compare BEFORE AFTER``, and ``btc --years`` for ``btc stored --years``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command's name in front where none is given."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            has_years = any(arg == "--years" or arg.startswith("--years=") for arg in args)
            args = ["stored" if has_years else "compare", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_FilesByDefault)
def btc() -> None:
    """Run the BTC network on files or stored composites.

    \b
    eo-tasks btc BEFORE AFTER -o OUT   maps the change between two images of one
                                       place; options: eo-tasks btc compare --help
    eo-tasks btc --years 2022-2023     maps the change between stored composites;
                                       options: eo-tasks btc stored --help
    eo-tasks btc verify CHECKPOINT     holds the fast network against the
                                       published one

    An image is any raster that GDAL reads, of any size, with or without a CRS: three 8-bit bands (red, green, blue), or
    uint16 reflectance × 10000 with bands named B04, B03 and B02 (BTC_STRETCH), such as this project's composites.

    \b
    Examples:
      eo-tasks btc 2021.tif 2022.tif -o changes/
      eo-tasks btc 2021.tif 2022.tif -o changes/ --align --float --threshold 0.5
      eo-tasks btc --years 2022-2023 --cells 463,464
      eo-tasks btc verify blaz-r/BTC-B_oscd96 --device cuda
    """


btc.add_command(stored)


@btc.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the results.")
@click.option("--align", is_flag=True, help="Warp AFTER onto the pixels of BEFORE if they differ.")
@click.option("--float", "with_float", is_flag=True, help="Write the probability as float32 too.")
@settings_from(*OPTIONS)
@PLAIN
def compare(
    before: Path, after: Path, out: Path, align: bool, with_float: bool, settings: Settings, is_plain: bool
) -> None:
    """Map the change between two images of one place.

    OUT gets change_mask_BEFORE_AFTER.png (0 and 255), .tiff (0, 1, 255 not seen), _probability.tiff (0–254, 255 not
    seen) and .json, which is written last.

    \b
    Examples:
      eo-tasks btc 2021.tif 2022.tif -o changes/
      eo-tasks btc 2021.tif 2022.tif -o changes/ --align --float --threshold 0.5
    """
    with torch_needed():
        from eo_tasks.btc.detect import Tiling
        from eo_tasks.btc.files import compare_files
        from eo_tasks.btc.rasters import open_pair
    from workers.resources import gdal_cache_mb

    with open_pair(before, after, settings.btc_stretch, align=align) as (earlier, _):
        rows = earlier.frame.height  # and what is wrong with the files is told before the network is loaded
    model = open_chosen(settings, is_plain=is_plain)
    with Env(GDAL_CACHEMAX=gdal_cache_mb(settings, 1)), bar("Rows", rows) as follow:
        made = compare_files(
            model,
            before,
            after,
            out,
            threshold=settings.btc_threshold,
            tiling=Tiling(settings.btc_window_px, settings.btc_stride_px),
            stretch=settings.btc_stretch,
            align=align,
            with_float=with_float,
            follow=follow,
        )
    record = made.record
    area = f" ({record['changed_ha']:g} of {record['seen_ha']:g} ha)" if record["seen_ha"] is not None else ""
    click.echo(f"{made.files.png}: {record['changed_px']} of {record['seen_px']} pixels changed{area}.")


@btc.command()
@click.argument("checkpoint")
@click.option("--windows", type=click.IntRange(min=1), default=16, show_default=True, help="Windows to compare.")
@settings_from(REVISION, THRESHOLD, DEVICE, PRECISION)
def verify(checkpoint: str, windows: int, settings: Settings) -> None:
    """Hold the fast network against the published one.

    CHECKPOINT is a hub id or a folder. Both networks are computed in float32 on the same made-up windows; their logits
    may differ by rounding only, else the exit code is 1. Then masks in lower precisions (--precision: in this one) are
    compared with those in float32.

    \b
    Examples:
      eo-tasks btc verify blaz-r/BTC-B_oscd96 --revision main
      eo-tasks btc verify ./my-checkpoint --device cuda --precision float16
    """
    with torch_needed():
        from eo_tasks.btc import verify as verifying
        from eo_tasks.btc.checkpoint import load_checkpoint
        from eo_tasks.btc.model import choose_device
    device = choose_device(settings.btc_device)
    loaded = load_checkpoint(checkpoint, settings.btc_model_revision)
    asked = settings.btc_precision
    lower = verifying.LOWER if asked is Precision.AUTO else [one for one in verifying.LOWER if one is asked]
    with Console(stderr=True).status("Comparing"):
        found = verifying.verify(loaded, device, windows=windows, threshold=settings.btc_threshold, lower=lower)
    title = f"{loaded.name}, revision {loaded.revision}, weights {loaded.weights_sha256[:12]}, on {device}"
    Console().print(_agreement_table(title, found, settings.btc_threshold))
    if not found.is_close:
        raise PermanentError(
            f"{checkpoint}: logits of the fast network differ from the published one's by "
            f"{found.largest_difference:.1e}, more than the {found.limit:.1e} that rounding explains. "
            "Compute with --plain, and report it."
        )


def _agreement_table(title: str, found: "Agreement", threshold: float) -> Table:
    table = Table("What", "Found", title=title, title_justify="left")
    sizes = found.architecture
    blocks, heads = ("/".join(map(str, numbers)) for numbers in (sizes.depths, sizes.heads))
    table.add_row(
        "architecture",
        f"{sizes.embed_dim} channels, blocks {blocks}, heads {heads}, window {sizes.window}, decoder {sizes.hidden}",
    )
    table.add_row("tensors", f"{found.used} used, {found.derived} worked out anew (position indices), none unused")
    table.add_row("windows compared", f"{found.windows}, each in two years")
    table.add_row("largest logit", f"{found.largest_logit:.3g}")
    table.add_row("largest difference of logits", f"{found.largest_difference:.1e}, allowed {found.limit:.1e}")
    for precision, flips in found.flips.items():
        share = f"{flips.share:.4%}" if flips.windows else "not computed"
        note = f"; {flips.note}" if flips.note else ""
        table.add_row(f"mask pixels that flip at {threshold:g}, {precision}", f"{share}{note}")
    return table
