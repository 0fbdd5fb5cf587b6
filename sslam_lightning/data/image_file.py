"""Image files as normalized pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# ImageNet's colors, as every public model takes them; on the CPU, whatever device is the default at first use.
_MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float32, device="cpu").view(3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float32, device="cpu").view(3, 1, 1)


def open_image(path: Path) -> Any:
    """An image of PIL in three colors.

    Raises:
        OSError: if it cannot be read, or would fill the memory.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            return file.convert("RGB")
    # A chunk of a PNG that is none is a SyntaxError.
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise OSError(f"cannot be read as an image ({error})") from None


def cropped(
    image: Any, size: int, area: float = 1.0, left: float = 0.5, top: float = 0.5
) -> Float[Tensor, "channels rows columns"]:
    """A square of an image of PIL as normalized pixels, by default the largest one in the middle.

    Args:
        image: the image.
        size: side of what comes out, in pixels.
        area: share of the largest square's area that is cut out.
        left, top: where, from 0 to 1.
    """
    from PIL.Image import Resampling

    image = image.resize((size, size), Resampling.BICUBIC, square(image.width, image.height, area, left, top))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255).sub(_MEAN).div(_STD)


def square(width: int, height: int, area: float, left: float, top: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a square in an image, see :func:`cropped`."""
    side = min(width, height) * area**0.5
    x, y = left * (width - side), top * (height - side)
    return x, y, x + side, y + side
