"""Checkpoint folders and hub ids: what loads, and what is said of what does not."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file

from eo_tasks.btc.checkpoint import (
    architecture_of,
    load_checkpoint,
    network_from,
    published_name,
    rename,
    save_checkpoint,
)
from eo_tasks.errors import CheckpointError

HUB_ID = "blaz-r/BTC-B_oscd96"


@pytest.fixture
def tensors(golden_folder):
    """The published tensors of the tiny network."""
    return load_file(golden_folder / "model.safetensors")


@pytest.fixture
def folder(tmp_path, golden_folder) -> Path:
    """A copy of the tiny checkpoint."""
    made = tmp_path / "btc"
    made.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(golden_folder / name, made / name)
    return made


def refusal(name, revision="main") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(str(name), revision)
    message = str(caught.value)
    assert "\n" not in message
    return message


def states(network) -> dict[str, torch.Tensor]:
    return dict(sorted(network.state_dict().items()))


def same(left, right) -> bool:
    a, b = states(left), states(right)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# What loads


def test_a_checkpoint_says_where_its_weights_come_from(folder):
    loaded = load_checkpoint(str(folder))
    assert (loaded.name, loaded.revision) == (str(folder), "local")
    assert loaded.weights_sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert not loaded.network.training


def test_every_tensor_lands_in_the_network_unchanged(tensors):
    loaded = network_from(tensors).state_dict()
    kept = {key: tensor for key, tensor in tensors.items() if "relative_position_index" not in key}
    assert len(kept) == len(loaded)
    assert all(torch.equal(loaded[rename(key)], tensor) for key, tensor in kept.items())


@pytest.mark.parametrize("text", [None, "{}", '{"logger": null}', '{"embed_dim": 128}', "not JSON"])
def test_no_layout_of_the_configuration_matters(folder, checkpoint, text):
    if text is None:
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_text(text)
    assert same(load_checkpoint(str(folder)).network, checkpoint.network)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read_as_float32(folder, tensors, dtype):
    halved = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    save_file(halved, folder / "model.safetensors")
    loaded = load_checkpoint(str(folder)).network.state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32, torch.int64}
    key = "dec.classifier.weight"
    assert torch.equal(loaded[rename(key)], tensors[key].to(dtype).to(torch.float32))


def test_a_saved_checkpoint_loads_as_the_same_network(tmp_path, checkpoint):
    save_checkpoint(checkpoint.network, tmp_path / "saved")
    loaded = load_checkpoint(str(tmp_path / "saved"))
    assert same(loaded.network, checkpoint.network)
    assert loaded.network.architecture == checkpoint.network.architecture
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["config"]["data"]["img_size"] == 256


def test_a_saved_checkpoint_has_the_published_names(tmp_path, checkpoint, tensors):
    save_checkpoint(checkpoint.network, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == {key for key in tensors if "relative_position_index" not in key}


# Names of tensors


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("dec.bottleneck.conv.weight", "decode_head.bottleneck.conv.weight"),
        (
            "enc.backbone.embeddings.patch_embeddings.projection.weight",
            "backbone.swin.embeddings.patch_embeddings.projection.weight",
        ),
        ("enc.backbone.hidden_states_norms.stage1.bias", "backbone.hidden_states_norms.stage1.bias"),
        (
            "enc.backbone.encoder.layers.2.blocks.17.attention.self.query.weight",
            "backbone.swin.encoder.layers.2.blocks.17.attention.q_proj.weight",
        ),
        (
            "enc.backbone.encoder.layers.0.blocks.1.attention.output.dense.bias",
            "backbone.swin.encoder.layers.0.blocks.1.attention.o_proj.bias",
        ),
        (
            "enc.backbone.encoder.layers.0.blocks.1.output.dense.bias",
            "backbone.swin.encoder.layers.0.blocks.1.mlp.fc2.bias",
        ),
    ],
)
def test_a_tensor_is_renamed_and_back(published, ours):
    assert rename(published) == ours
    assert published_name(ours) == published


@pytest.mark.parametrize("variant", ["tiny", "btc-b"])
def test_every_published_tensor_is_renamed_and_back(full_set, variant):
    lines = (full_set / f"keymap_{variant}.txt").read_text().splitlines()
    pairs = [(old, new) for old, _, new in (line.split("\t") for line in lines) if not new.startswith("(dropped")]
    assert len(pairs) == {"tiny": 231, "btc-b": 503}[variant]
    assert [(rename(old), published_name(new)) for old, new in pairs] == [(new, old) for old, new in pairs]


# What does not load


def test_a_missing_folder_is_told(tmp_path):
    assert refusal(tmp_path / "none") == (
        f"BTC_MODEL_CHECKPOINT={tmp_path / 'none'}: no such folder, and not a hub id such as {HUB_ID}."
    )
    assert "no such folder" in refusal("./none")
    assert "no such folder" in refusal("none")


def test_a_folder_without_weights_is_told(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refusal(folder) == f"BTC_MODEL_CHECKPOINT={folder}: that folder has no model.safetensors."


@pytest.mark.parametrize("kept", [0, 4, 100, 500_000, 2_162_899])
def test_a_truncated_file_is_told(folder, kept):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    assert refusal(folder).startswith(f"{weights}: not a whole safetensors file (")


def test_what_is_pickled_is_not_read(folder, tensors):
    torch.save(tensors, folder / "model.safetensors")
    assert "not a whole safetensors file" in refusal(folder)


def test_weights_of_something_else_are_told(folder):
    save_file({"bert.encoder.weight": torch.zeros(2)}, folder / "model.safetensors")
    assert refusal(folder).startswith("not a BTC checkpoint: ")
    save_file({}, folder / "model.safetensors")
    assert refusal(folder).startswith("not a BTC checkpoint: ")


def test_another_swin_network_is_told(tensors):
    encoder = {key: tensor for key, tensor in tensors.items() if key.startswith("enc.")}
    with pytest.raises(CheckpointError, match=r"not a BTC checkpoint: no tensor for 'dec\.bottleneck\.conv\.weight'"):
        architecture_of(encoder)


def test_a_network_with_another_number_of_stages_is_told(tensors):
    three = {key: tensor for key, tensor in tensors.items() if ".layers.3." not in key}
    with pytest.raises(CheckpointError, match="3 stages and 4 pooling scales, not 4 and 4"):
        network_from(three)


def test_a_missing_tensor_is_named(folder, tensors):
    del tensors["dec.classifier.bias"]
    save_file(tensors, folder / "model.safetensors")
    assert refusal(folder).startswith("checkpoint lacks tensors: decode_head.classifier.bias (1 in all).")


def test_a_foreign_tensor_is_named(folder, tensors):
    save_file(tensors | {"aux.weight": torch.zeros(2)}, folder / "model.safetensors")
    assert refusal(folder).startswith("checkpoint has foreign tensors: aux.weight (1 in all).")


def test_a_misshapen_tensor_is_named(folder, tensors):
    save_file(tensors | {"dec.classifier.weight": torch.zeros(2, 16, 1, 1)}, folder / "model.safetensors")
    assert refusal(folder).startswith("checkpoint has misshapen tensors: decode_head.classifier.weight (1 in all).")


# The hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub whose download answers as told."""
    asked = []

    def answer(what):
        def download(repository, filename, *, revision):
            asked.append((repository, filename, revision))
            if isinstance(what, Exception):
                raise what
            return str(what)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return asked

    return answer


def test_a_hub_id_is_downloaded_and_its_commit_recorded(hub, tmp_path, golden_folder):
    commit = tmp_path / "snapshots" / "8666e51"
    commit.mkdir(parents=True)
    shutil.copyfile(golden_folder / "model.safetensors", commit / "model.safetensors")
    asked = hub(commit / "model.safetensors")
    loaded = load_checkpoint(HUB_ID, "v1")
    assert asked == [(HUB_ID, "model.safetensors", "v1")]
    assert (loaded.name, loaded.revision) == (HUB_ID, "8666e51")


def test_a_checkpoint_in_the_hubs_cache_loads_without_a_network(tmp_path, golden_folder):
    """In a process of its own: the hub's client reads where its cache is when it is imported."""
    commit = "8666e51" + "0" * 33
    cached = tmp_path / "hub" / "models--blaz-r--BTC-B_oscd96"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    shutil.copytree(golden_folder, cached / "snapshots" / commit)
    code = (
        "from eo_tasks.btc.checkpoint import load_checkpoint; "
        f"loaded = load_checkpoint('{HUB_ID}'); print(loaded.revision, loaded.network.architecture.embed_dim)"
    )
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [commit, "8"], done.stderr


RESPONSE = SimpleNamespace(headers={}, request=None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            LocalEntryNotFoundError("long\nstory"),
            (
                f"BTC_MODEL_CHECKPOINT={HUB_ID}: the hub does not answer and the checkpoint is not in the local cache. "
                "Connect once, or download it elsewhere and set BTC_MODEL_CHECKPOINT to its folder."
            ),
        ),
        (
            RevisionNotFoundError("long\nstory", response=RESPONSE),
            f"BTC_MODEL_REVISION=v1: {HUB_ID} has no such revision.",
        ),
        (
            RemoteEntryNotFoundError("long\nstory", response=RESPONSE),
            f"BTC_MODEL_CHECKPOINT={HUB_ID}: has no model.safetensors; only safetensors are read.",
        ),
        (
            RepositoryNotFoundError("long\nstory", response=RESPONSE),
            f"BTC_MODEL_CHECKPOINT={HUB_ID}: the hub has no such repository.",
        ),
        (
            HfHubHTTPError("503 Server Error\n\nlong story", response=RESPONSE),
            f"BTC_MODEL_CHECKPOINT={HUB_ID}: cannot be downloaded (503 Server Error).",
        ),
        (
            HFValidationError("Repo id must use alphanumeric chars: 'a b'."),
            f"BTC_MODEL_CHECKPOINT={HUB_ID}: cannot be downloaded (Repo id must use alphanumeric chars: 'a b'.).",
        ),
        (
            OSError(28, "No space left on device"),
            f"BTC_MODEL_CHECKPOINT={HUB_ID}: cannot be downloaded ([Errno 28] No space left on device).",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_hub_that_does_not_give_the_weights_is_told_in_one_line(hub, error, message):
    hub(error)
    assert refusal(HUB_ID, "v1") == message
