"""Years in pictures, without a font: ten digits and a dash of 5 × 7 pixels."""

import numpy as np
from numpy.typing import NDArray

from eo_tasks.raster import Rgb

HEIGHT_PX, WIDTH_PX, GAP_PX = 7, 5, 1
INK, PAPER = 40, 255
LONGEST = " 0000–0000 "

_SIGNS = {
    "0": ".###. #...# #..## #.#.# ##..# #...# .###.",
    "1": "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    "2": ".###. #...# ....# ...#. ..#.. .#... #####",
    "3": "##### ...#. ..#.. ...#. ....# #...# .###.",
    "4": "...#. ..##. .#.#. #..#. ##### ...#. ...#.",
    "5": "##### #.... ####. ....# ....# #...# .###.",
    "6": "..##. .#... #.... ####. #...# #...# .###.",
    "7": "##### ....# ...#. ..#.. .#... .#... .#...",
    "8": ".###. #...# #...# .###. #...# #...# .###.",
    "9": ".###. #...# #...# .#### ....# ...#. .##..",
    "–": "..... ..... ..... ##### ..... ..... .....",
    " ": "..... ..... ..... ..... ..... ..... .....",
}


def written(text: str) -> NDArray[np.bool_]:
    """Where the ink of a text goes, shape (y, x).

    Args:
        text: Of digits, dashes and spaces.
    """
    gap = np.zeros((HEIGHT_PX, GAP_PX), bool)
    parts = [part for sign in text for part in (_drawn(sign), gap)]
    return np.concatenate(parts[:-1], axis=1) if parts else np.zeros((HEIGHT_PX, 0), bool)


def label(text: str, width_px: int) -> Rgb:
    """A strip with a year or two in its middle, at most three times the size; strips of one width are of one height.

    Args:
        text: Of digits, dashes and spaces; nothing for an empty strip.
        width_px: Of the strip.
    """
    scale = max(1, min(3, width_px // written(LONGEST).shape[1]))
    ink = written(text).repeat(scale, axis=0).repeat(scale, axis=1)[:, :width_px]
    strip = np.full(((HEIGHT_PX + 4) * scale, width_px, 3), PAPER, np.uint8)
    left = (width_px - ink.shape[1]) // 2
    strip[2 * scale : -2 * scale, left : left + ink.shape[1]][ink] = INK
    return strip


def _drawn(sign: str) -> NDArray[np.bool_]:
    return np.array([[pixel == "#" for pixel in row] for row in _SIGNS[sign].split()])
