"""Starting from other weights: what a module takes out of a checkpoint, and one line that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from sslam_lightning.checkpoints import Weights, load_state_dict_strict
from sslam_lightning.checkpoints.weights import State
from sslam_lightning.features import LogMels
from sslam_lightning.models import SpectrogramTokensConfig

_PARTS = ("student", "teacher", "decoder", "reconstruction", "contrast", "head")


def load_parts(
    weights: Weights, parts: Mapping[str, tuple[nn.Module | None, State | None]], features: LogMels | None = None
) -> None:
    """Load every part of a checkpoint into the module that it is for.

    Args:
        weights: the checkpoint.
        parts: by their names, the modules (None: there is none) and what the file has for them (None: they start fresh).
        features: the log-mels of the module that takes the parts, see :func:`check_features`.

    Raises:
        ValueError: naming the first parameter or the first setting of the log-mels that does not fit.
    """
    check_features(weights, features)
    taken: list[str] = []
    fresh: list[str] = []
    for name, (module, state) in parts.items():
        if module is None:
            continue
        if state:
            load_state_dict_strict(module, state, name, weights.source)
        (taken if state else fresh).append(name)
    left = [*(name for name in _PARTS if getattr(weights, name, None) and name not in taken), *weights.unused]
    tell_parts(weights.source, taken, left, fresh)


def check_features(weights: Weights, features: LogMels | None) -> None:
    """Refuse log-mels that are made in another way than those that the weights were trained on.

    Their length may differ, and so may mean and standard deviation, which are those of a data set; but not where the
    front-end normalizes by statistics of its own.

    Raises:
        ValueError: naming the first setting that differs.
    """
    if weights.features is None or features is None:
        return
    theirs, names = LogMels(**weights.features), ["kind", "window"]
    if isinstance(getattr(weights.encoder, "front_end", None), SpectrogramTokensConfig):
        names += ["mean", "std"]
    for name in names:
        its, ours = getattr(theirs, name), getattr(features, name)
        if its != ours:
            raise ValueError(
                f"{weights.source}: its features.{name} is {its}, the configured one is {ours}: set model.features.{name}"
            )


def tell_parts(source: str, taken: Sequence[str], left: Sequence[str], fresh: Sequence[str]) -> None:
    """Say once what a start took from a checkpoint, what it did not, and what begins anew."""
    told = {"took": taken, "left": left, "starts fresh": fresh}
    rank_zero_info(f"{source}: " + "; ".join(f"{what} {', '.join(names)}" for what, names in told.items() if names))
