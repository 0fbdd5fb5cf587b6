"""A suite: a data set and how models are judged on it, read from one file; see ``configs/downstream/README.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from sslam_lightning.data.modules.base import AudioDataModule
from sslam_lightning.evaluation.protocols.base import Protocol
from sslam_lightning.evaluation.settings import build, deep_merge, read_yaml

# What every suite can be judged by, unless it says `exclude_protocols`.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "linear": {"class_path": "sslam_lightning.evaluation.LinearProbe"},
    # configs/finetune/spass.yaml with overlays/as_published: as the public code's tables were made.
    "linear_published": {
        "class_path": "sslam_lightning.evaluation.FineTuning",
        "init_args": {
            "model": {
                "frozen_encoder": True,
                "frozen_drop_path": True,
                "mixup": {"alpha": 0.8, "prob": 0.9},
                "spec_augment": {"time_mask_ratio": 0.2, "freq_mask_ratio": 0.2},
                "optimizer": {
                    "lr": 1e-3,
                    "warmup_steps": 0,
                    "decay_all": True,
                    "min_lr": 1e-6,
                    "min_lr_scaled": False,
                    "layer_decay": 1.0,
                    "layer_decay_embedding": False,
                },
            }
        },
    },
    "knn": {"class_path": "sslam_lightning.evaluation.KNN"},
    "attentive": {"class_path": "sslam_lightning.evaluation.AttentiveProbe"},
    "convex_gated": {"class_path": "sslam_lightning.evaluation.ConvexGatedProbe"},
    "finetune": {"class_path": "sslam_lightning.evaluation.FineTuning"},
}
# Where clips may be of several classes; cross entropy is divided by clips.
_MULTI_LABEL: dict[str, dict[str, Any]] = {"linear_published": {"init_args": {"model": {"bce_reduction": "positives"}}}}
_PLACE = Path("configs/downstream")


@dataclass(frozen=True)
class Suite:
    """The content of a suite's file.

    Args:
        name: in the table.
        metric: accuracy, mAP, or what a protocol of the suite's own brings.
        data: ``class_path`` and ``init_args`` of the data module.
        features: of its clips.
        folds: name -> settings over ``data.init_args``.
        share_clips: whether clips of one name are the same in all folds.
        validation: the share of the training clips, or ``val``, on which a probe's settings are chosen.
        protocols: name -> ``class_path`` and ``init_args``.
        exclude_protocols: names of protocols that make no sense here.
    """

    name: str
    metric: str
    data: Mapping[str, Any]
    features: Mapping[str, Any] = field(default_factory=dict)
    folds: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"all": {}})
    share_clips: bool = False
    validation: float | Literal["val"] = 0.2
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exclude_protocols: tuple[str, ...] = ()

    def data_settings(self, fold: str, over: Mapping[str, Any], under: Mapping[str, Any]) -> dict[str, Any]:
        """``class_path`` and ``init_args`` of a fold; ``over`` wins over all, ``under`` over nothing."""
        init_args = {**under, **self.data.get("init_args", {}), **self.folds[fold], **over}
        return {"class_path": self.data["class_path"], "init_args": init_args}

    def protocol_settings(self, name: str) -> dict[str, Any]:
        """``class_path`` and ``init_args`` of a protocol; ValueError if this suite has none of this name."""
        if name not in self.protocol_names:
            why = " on purpose (`exclude_protocols`)" if name in self.exclude_protocols else ""
            raise ValueError(f"the suite {self.name} has no protocol {name}{why}, only {', '.join(self.protocol_names)}")
        of_labels = _MULTI_LABEL.get(name, {}) if self.metric == "mAP" else {}
        ours, theirs = deep_merge(PROTOCOLS.get(name, {}), of_labels), self.protocols.get(name, {})
        init_args = deep_merge(ours.get("init_args", {}), theirs.get("init_args", {}))
        return {"class_path": theirs.get("class_path", ours.get("class_path")), "init_args": init_args}

    def build_protocol(self, name: str) -> Protocol:
        """The protocol of this name; errors as `protocol_settings`, or naming the setting that it does not take."""
        return build(Protocol, f"protocols.{name}", self.protocol_settings(name))

    @property
    def protocol_names(self) -> list[str]:
        """The shipped ones, then the suite's own."""
        return [name for name in {**PROTOCOLS, **self.protocols} if name not in self.exclude_protocols]


def read_suite(name: str, folder: Path) -> Suite:
    """The suite of a file, or of this name in the folder of suites.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: naming the file and what is wrong in it.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise FileNotFoundError(f"there is no suite {name}: name a .yaml file, or one of {known} (in {_PLACE})")
    content = read_yaml(path)
    try:
        return _checked(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_suite(suite: Suite, protocols: Sequence[str], data: Mapping[str, Any]) -> None:
    """Read the settings of all folds and of protocols (none: all) without looking for a file; ValueError as `build`."""
    for fold in suite.folds:
        build(AudioDataModule, "data", suite.data_settings(fold, data, {}), check_only=True)
    for name in protocols or suite.protocol_names:
        suite.build_protocol(name)


def _checked(content: Any) -> Suite:
    if not isinstance(content, Mapping):
        raise ValueError("a suite is a table with name, metric and data")
    known = [one.name for one in fields(Suite)]
    if unknown := [str(key) for key in content if key not in known]:
        near = get_close_matches(unknown[0], known, n=1)
        raise ValueError(f"there is no setting {unknown[0]}" + (f": did you mean {near[0]}?" if near else ""))
    for key in ("name", "metric", "data"):
        if not content.get(key):
            raise ValueError(f"{key} is missing")
    for key in ("data", "features", "folds", "protocols"):
        if not isinstance(content.get(key, {}), Mapping):
            raise ValueError(f"{key} must be a table, got {type(content[key]).__name__}")
    if not content["data"].get("class_path"):
        raise ValueError("data.class_path is missing: it names the data module")
    folds = {str(name): dict(settings or {}) for name, settings in content.get("folds", {"all": {}}).items()}
    if not folds:
        raise ValueError("folds is empty: leave it out where there is one split")
    validation = content.get("validation", 0.2)
    if validation != "val" and not (isinstance(validation, float) and 0 < validation < 1):
        raise ValueError(f"validation must be a share of the training clips between 0 and 1, or val, got {validation}")
    suite = Suite(**{**content, "folds": folds, "exclude_protocols": tuple(content.get("exclude_protocols", ()))})
    for name in (*suite.protocols, *suite.exclude_protocols):
        if name not in PROTOCOLS and not (suite.protocols.get(name) or {}).get("class_path"):
            raise ValueError(f"{name} is no protocol, and brings no class_path; known are {', '.join(PROTOCOLS)}")
    return suite
