"""What the commands about recordings have in common: the model, its device, the progress bar, the bad news."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sslam_lightning.inference import EncoderModel


def open_model(
    model: str | None, device: str, features: dict[str, float | int | str] | None = None, **options: Any
) -> EncoderModel:
    """The model on its device; what reads sound, images or text."""
    if not model:
        raise ValueError("no model is named: set --model to a checkpoint file, a folder or a Hugging Face Hub id")
    where = device_named(device)
    from sslam_lightning.inference import load_model

    return load_model(model, features=features, **options).to(where)


def device_named(name: str) -> Any:  # naming torch's class here would import it for the help
    """The device that ``--device`` names; ``auto`` takes a GPU where there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError):
        device = torch.device("meta")
    if device.type == "meta":
        raise ValueError(f"there is no device {name or repr(name)} here: try cpu, or cuda where there is a GPU (--device)")
    return device


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], Any]]:
    """A bar over recordings on standard error, where that is a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, unit="file", disable=None) as bar:
        yield bar.update


def tell_broken(broken: Sequence[tuple[str, str]], total: int) -> None:
    """List what could not be read and leave with exit code 1; nothing where everything could."""
    if not broken:
        return
    for name, reason in broken:
        print(f"sslam: {name}: {reason}", file=sys.stderr)
    print(f"sslam: {len(broken)} of {total} recordings could not be read", file=sys.stderr)
    sys.exit(1)
