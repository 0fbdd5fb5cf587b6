"""Files from before fairseq saved plain data: their objects are read without the packages that they are of."""

from __future__ import annotations

import argparse
import enum
import pickle
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tiny_weights import assert_same_bits, finetuned, pretrained

from sslam_lightning.checkpoints import read_weights
from sslam_lightning.checkpoints.formats.fairseq_export import to_fairseq


class Node:
    """Pickles as OmegaConf's nodes do: a new object, and its state."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


@pytest.fixture
def packages() -> Iterator[dict[str, type]]:
    """OmegaConf, and a user directory of fairseq, as far as pickling asks for them."""
    names = {
        "omegaconf": [],
        "omegaconf.dictconfig": ["DictConfig"],
        "omegaconf.listconfig": ["ListConfig"],
        "omegaconf.base": ["ContainerMetadata", "Metadata"],
        "omegaconf.nodes": ["AnyNode", "IntegerNode", "EnumNode"],
        "EAT": [],
        "EAT.data": [],
        "EAT.data.modality": [],
        "EAT.models": [],
        "EAT.models.mae_image_classification": ["MaeImageClassificationConfig"],
    }
    before = {name: sys.modules.get(name) for name in names}
    classes: dict[str, type] = {}
    for module_name, kinds in names.items():
        module = sys.modules[module_name] = ModuleType(module_name)
        for kind in kinds:
            classes[kind] = type(kind, (Node,), {"__module__": module_name})
            setattr(module, kind, classes[kind])
    for module_name, kind, members in (
        ("EAT.data.modality", "Modality", ["AUDIO", "IMAGE", "TEXT"]),
        ("EAT.models.mae_image_classification", "PredictionMode", ["MEAN_POOLING", "CLS_TOKEN", "LIN_SOFTMAX"]),
    ):
        classes[kind] = enum.Enum(kind, members, module=module_name)  # type: ignore[misc]
        setattr(sys.modules[module_name], kind, classes[kind])
    yield classes
    for name, module in before.items():
        if module is None:
            del sys.modules[name]
        else:
            sys.modules[name] = module


def as_nodes(value: Any, packages: dict[str, type], parent: Any = None, object_type: type = dict) -> Any:
    """Plain data as a tree of OmegaConf's nodes, each knowing its parent."""
    metadata = {"ref_type": Any, "object_type": object_type, "optional": True, "key": None, "flags": {}}
    metadata["resolver_cache"] = defaultdict(dict)
    if isinstance(value, (dict, list)):
        kind = packages["DictConfig" if isinstance(value, dict) else "ListConfig"]
        node = kind(_metadata=packages["ContainerMetadata"](**metadata), _parent=parent, _content=None)
        if isinstance(value, dict):
            node._content = {key: as_nodes(item, packages, node) for key, item in value.items()}
        else:
            node._content = [as_nodes(item, packages, node) for item in value]
        return node
    kind = packages["EnumNode" if isinstance(value, enum.Enum) else "AnyNode"]
    return kind(_metadata=packages["Metadata"](**metadata), _parent=parent, _val=value)


def test_a_configuration_of_omegaconf(tmp_path, packages: dict[str, type]) -> None:
    original = pretrained()
    content, _ = to_fairseq(original)
    del content["sslam_lightning"]
    image = content["cfg"]["model"]["modalities"]["image"]
    image["type"] = packages["Modality"].IMAGE  # type: ignore[attr-defined]
    content["cfg"]["common"] = {"user_dir": PosixPath("EAT"), "lr": [0.1, None]}
    content["cfg"] = as_nodes(content["cfg"], packages)
    torch.save(content, tmp_path / "old.pt")
    weights = read_weights(tmp_path / "old.pt")
    assert_same_bits(weights, original._replace(encoder=weights.encoder), "features", "resampler", "reconstruction")
    assert (weights.encoder.num_heads, weights.encoder.norm_eps) == (2, 1e-5)
    assert weights.features is not None
    assert weights.features["num_frames"] == 32
    assert weights.decoder_config == original.decoder_config


@pytest.mark.parametrize(
    ("mode", "pooling"), [("MEAN_POOLING", "mean"), ("CLS_TOKEN", "cls"), ("LIN_SOFTMAX", "linear_softmax")]
)
def test_an_enum_in_a_finetuned_file(tmp_path, packages: dict[str, type], mode: str, pooling: str) -> None:
    content, _ = to_fairseq(finetuned())
    del content["sslam_lightning"]
    content["cfg"]["model"]["prediction_mode"] = packages["PredictionMode"][mode]  # type: ignore[index]
    content["task_state"] = as_nodes(content["task_state"], packages)
    nested = content["cfg"]["model"].pop("pretrained_model_args")
    object_type = packages["MaeImageClassificationConfig"]
    content["cfg"]["model"] = as_nodes(content["cfg"]["model"], packages, object_type=object_type)
    content["cfg"]["model"]._content["pretrained_model_args"] = argparse.Namespace(**nested)
    torch.save(content, tmp_path / "old.pt")
    weights = read_weights(tmp_path / "old.pt")
    assert (weights.pooling, weights.multi_label, weights.class_names) == (pooling, False, finetuned().class_names)
    assert weights.encoder.num_heads == 2


def test_a_path_that_python_3_13_wrote(tmp_path, packages: dict[str, type], monkeypatch) -> None:
    """It alone has the classes of paths in a module of their own."""
    owner = ModuleType("pathlib._local")
    owner.PosixPath = type("PosixPath", (), {"__module__": owner.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, owner.__name__, owner)
    content, _ = to_fairseq(pretrained())
    content["cfg"]["common"] = {"user_dir": owner.PosixPath()}
    torch.save(content, tmp_path / "old.pt")
    assert b"pathlib._local" in (tmp_path / "old.pt").read_bytes()
    assert read_weights(tmp_path / "old.pt").encoder.num_heads == 2


def test_the_arguments_of_a_command_line(tmp_path) -> None:
    content, _ = to_fairseq(pretrained())
    model = content.pop("cfg")["model"]
    del content["sslam_lightning"]
    for name, cfg in (("absent.pt", {}), ("none.pt", {"cfg": None})):
        torch.save({**content, "args": argparse.Namespace(**model), **cfg}, tmp_path / name)
        weights = read_weights(tmp_path / name)
        assert (weights.encoder.num_heads, weights.encoder.norm_eps, weights.features) == (2, 1e-5, None)


def test_the_packages_themselves_are_not_imported(tmp_path, packages: dict[str, type], monkeypatch) -> None:
    content, _ = to_fairseq(pretrained())
    content["cfg"] = as_nodes(content["cfg"], packages)
    torch.save(content, tmp_path / "old.pt")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("omegaconf", "EAT")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError):
        torch.load(tmp_path / "old.pt", weights_only=False)
    assert read_weights(tmp_path / "old.pt").encoder.num_heads == 2


def test_the_real_omegaconf(tmp_path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    content, _ = to_fairseq(pretrained())
    del content["sslam_lightning"]
    content["cfg"]["lists"] = [1, {"deep": [2.0, None]}, "${model.num_heads}", "???"]
    content["cfg"] = omegaconf.OmegaConf.create(content["cfg"])
    torch.save(content, tmp_path / "old.pt")
    weights = read_weights(tmp_path / "old.pt")
    assert (weights.encoder.num_heads, weights.encoder.norm_eps) == (2, 1e-5)
    assert weights.decoder_config == pretrained().decoder_config


@pytest.mark.parametrize("score", [np.float64(0.486), np.float32(0.5), np.int64(7)])
def test_scores_of_numpy_among_the_records(tmp_path, score: Any) -> None:
    content, _ = to_fairseq(finetuned())
    content["extra_state"] = {"best": score, "val_loss": [score, np.float64(0.1)], "text": "latin1"}
    torch.save(content, tmp_path / "old.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"numpy"):
        torch.load(tmp_path / "old.pt", weights_only=True)
    assert_same_bits(read_weights(tmp_path / "old.pt"), finetuned(), "student", "head")


def test_a_value_that_points_elsewhere_is_named(tmp_path) -> None:
    content, _ = to_fairseq(pretrained())
    content["cfg"]["model"]["num_heads"] = "${common.heads}"
    torch.save(content, tmp_path / "old.pt")
    with pytest.raises(ValueError, match=r"num_heads must be a whole number, got '\$\{common\.heads\}'"):
        read_weights(tmp_path / "old.pt")


def test_nodes_that_go_in_circles(tmp_path, packages: dict[str, type]) -> None:
    content, _ = to_fairseq(pretrained())
    circle = packages["AnyNode"]()
    circle._val = circle  # type: ignore[attr-defined]
    content["cfg"]["model"]["num_heads"] = circle
    torch.save(content, tmp_path / "old.pt")
    with pytest.raises(ValueError, match=r"its configuration has no cfg\.model\.num_heads"):
        read_weights(tmp_path / "old.pt")
    loop = packages["DictConfig"]()
    loop._content = {"pretrained_model_args": loop, "model": loop}  # type: ignore[attr-defined]
    content["cfg"] = loop
    torch.save(content, tmp_path / "loop.pt")
    with pytest.raises(ValueError, match=r"its configuration has no cfg\.model\.num_heads"):
        read_weights(tmp_path / "loop.pt")


def test_a_prediction_mode_that_nobody_knows(tmp_path) -> None:
    """D3: another pooling is refused by the key's name."""
    content, _ = to_fairseq(finetuned())
    del content["sslam_lightning"]
    content["cfg"]["model"]["prediction_mode"] = "MAX_POOLING"
    torch.save(content, tmp_path / "new.pt")
    told = r"cfg\.model\.prediction_mode must be one of CLS_TOKEN, MEAN_POOLING, LIN_SOFTMAX, got 'MAX_POOLING'"
    with pytest.raises(ValueError, match=told):
        read_weights(tmp_path / "new.pt")
