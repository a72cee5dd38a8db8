"""Networks as STAC items, by the machine learning model extension; masks point to them.

What that extension asks for on the side of a mask: https://github.com/stac-extensions/mlm, best-practices.md.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from eo_tasks.products.stac.item import FILE, MLM, SHA2_256, Json, Origin, item

WEIGHTS_FILE = "model.safetensors"
LOCAL = "local"  # revision of a checkpoint that is a folder
TASK = "semantic-segmentation"  # what the extension calls a class for every pixel
SETTINGS = ("window_px", "stride_px", "threshold")


def model_id(record: Mapping[str, Any]) -> str | None:
    """The id of the network and the settings that made a mask; ``None`` if its record does not tell."""
    if not (record.get("model") or {}).get("checkpoint"):
        return None
    told = json.dumps([_made_by(record), _recipe(record)], sort_keys=True)
    return f"{_name(record)}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def model_item(record: Mapping[str, Any], origin: Origin, period: tuple[str, str]) -> Json:
    """The item of the network that made a mask.

    Args:
        record: The mask's.
        origin: Where the item lies in the catalog.
        period: First and last moment of what it was used on.

    Raises:
        ValueError: The record does not tell which network it was.
    """
    name = model_id(record)
    if name is None:
        raise ValueError("a record without a model")
    made_by, recipe = _made_by(record), _recipe(record)
    stretch = recipe.get("stretch") or []
    bands = [band for band, _, _ in stretch]
    # The extension asks for them in the properties, and the core then in an asset too.
    described = {"bands": [{"name": band} for band in bands]} if bands else {}
    side = recipe.get("window_px") or -1
    settings = {setting: recipe[setting] for setting in SETTINGS if recipe.get(setting) is not None}
    return item(
        name,
        origin,
        extensions=[FILE, MLM],
        place={"geometry": None},
        period=period,
        properties={
            "title": f"{made_by['checkpoint']}, revision {made_by['revision']}",
            **described,
            "mlm:name": _name(record),
            "mlm:architecture": "BTC",
            "mlm:framework": "PyTorch",
            "mlm:tasks": [TASK],
            "mlm:input": [
                {
                    "name": "years",
                    "description": "Reflectance of the earlier and the later year",
                    "bands": bands,
                    "input": {
                        "shape": [-1, 2, len(bands) or 3, side, side],
                        "dim_order": ["batch", "time", "bands" if bands else "channel", "height", "width"],
                        "data_type": "float32",
                    },
                    "value_scaling": [{"type": "min-max", "minimum": low, "maximum": high} for _, low, high in stretch]
                    or None,
                }
            ],
            "mlm:output": [
                {
                    "name": "change",
                    "description": "Probability of change of every pixel",
                    "tasks": [TASK],
                    "result": {
                        "shape": [-1, side, side],
                        "dim_order": ["batch", "height", "width"],
                        "data_type": "float32",
                    },
                    "classification:classes": [],
                }
            ],
            "mlm:hyperparameters": settings or None,
            "eo_tasks:model": made_by["checkpoint"],
            "eo_tasks:revision": made_by["revision"],
        },
        assets={"weights": _weights(made_by) | described},
    )


def _weights(made_by: Mapping[str, str | None]) -> Json:
    checkpoint, revision, sha256 = made_by["checkpoint"], made_by["revision"], made_by["weights_sha256"]
    folder = checkpoint if revision == LOCAL else f"https://huggingface.co/{checkpoint}/resolve/{revision}"
    return {
        "href": f"{folder}/{WEIGHTS_FILE}",
        "type": "application/octet-stream; framework=pytorch",
        "title": "Weights",
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "safetensors.torch.save_file",
        **({"file:checksum": SHA2_256 + sha256} if sha256 else {}),
    }


def _made_by(record: Mapping[str, Any]) -> dict[str, str | None]:
    model = record["model"]
    return {name: model.get(name) for name in ("checkpoint", "revision", "weights_sha256")}


def _recipe(record: Mapping[str, Any]) -> dict[str, Any]:
    recipe = record.get("recipe") or {}
    told = {name: recipe[name] for name in (*SETTINGS, "stretch") if name in recipe}
    return told | ({} if record.get("threshold") is None else {"threshold": record["threshold"]})


def _name(record: Mapping[str, Any]) -> str:
    """The last part of the checkpoint's name, of the characters that the extension allows."""
    last = PurePath(str(record["model"]["checkpoint"])).name
    name = re.sub(r"[^a-zA-Z0-9_.-]+", "-", last)
    name = re.sub(r"^[^a-zA-Z]+|[^a-zA-Z0-9]+$", "", name)
    return name if len(name) > 2 else "BTC"
