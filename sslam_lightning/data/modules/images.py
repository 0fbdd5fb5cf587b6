"""A folder of images, without labels for data2vec 2.0 on images, or a folder per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.files import class_folders, classes_of, find_files
from sslam_lightning.data.image_file import IMAGE_EXTENSIONS, cropped, open_image
from sslam_lightning.data.loading.dataset import BrokenClip, ClipDataset, Key
from sslam_lightning.data.modules.base import AudioDataModule, Split
from sslam_lightning.rng import clip_keys, uniform
from sslam_lightning.types import ImageBatch


class Picture(NamedTuple):
    """One image, cropped and normalized."""

    image: Float[Tensor, "channels rows columns"]
    labels: Float[Tensor, "classes"]
    clip_index: int
    name: str


class ImageDataset(ClipDataset):
    """The images of a folder, cropped to squares; see `ImageFolderDataModule` for the arguments."""

    def __init__(
        self,
        root: str | Path,
        size: int,
        smallest_crop: float,
        augment: bool,
        seed: int,
        class_names: Sequence[str] = (),
    ) -> None:
        self.root = Path(root)
        self.names = find_files(root, IMAGE_EXTENSIONS)
        self.num_classes = len(class_names)
        self.classes = classes_of(self.root, self.names, class_names) if class_names else None
        self.size, self.smallest_crop, self.augment, self.seed = size, smallest_crop, augment, seed

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def __getitem__(self, key: Key) -> Picture | BrokenClip:  # type: ignore[override]
        """The image of ``index``, or of ``(epoch, index)``: every epoch crops it differently."""
        epoch, index = (0, key) if isinstance(key, int) else key
        path = self.root / self.names[index]
        try:
            image = open_image(path)
        except OSError as error:
            return BrokenClip(self.names[index], f"{path}: {error}")
        area, left, top, flip = self._draw(epoch, index)
        pixels = cropped(image, self.size, area, left, top)
        labels = torch.zeros(self.num_classes, dtype=torch.float32, device="cpu")
        if self.classes is not None:
            labels[self.classes[index]] = 1.0
        return Picture(pixels.flip(2) if flip > 0.5 else pixels, labels, index, self.names[index])

    def _draw(self, epoch: int, index: int) -> tuple[float, float, float, float]:
        """Area and place of the crop, and above 1/2: mirrored. Without ``augment`` the largest one in the middle."""
        if not self.augment:
            return 1.0, 0.5, 0.5, 0.0
        key = clip_keys(torch.tensor([index], device="cpu"), self.seed, epoch)
        area, left, top, flip = uniform(key, 4)[0].tolist()
        return self.smallest_crop + (1 - self.smallest_crop) * area, left, top, flip


class ImageFolderDataModule(AudioDataModule):
    """All images below a folder, without labels or with its folders as classes.

    Training crops a random square of each (data2vec 2.0 and MAE also stretch it) and mirrors half of them.

    Args:
        root: folder of the training images; sub-folders are searched too.
        val_root: folder of the validation images; None: no validation.
        size: side of the squares that the model sees, in pixels.
        smallest_crop: the least share of the largest square's area that training crops.
        labeled: the first folder on the way to an image is its class.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no such folder, or no image in it (at setup).
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        root: str | Path,
        val_root: str | Path | None = None,
        size: int = 224,
        smallest_crop: float = 0.2,
        labeled: bool = False,
        **options: Any,
    ) -> None:
        names = class_folders(root) if labeled else ()
        super().__init__(class_names=names, multi_label=not labeled, **options)
        if size < 1 or not 0 < smallest_crop <= 1:
            raise ValueError(f"size must be positive and smallest_crop in (0, 1], got {size} and {smallest_crop}")
        self.folders: dict[Split, str | Path | None] = {"train": root, "val": val_root, "test": val_root}
        self.size, self.smallest_crop = size, smallest_crop

    def make_dataset(self, split: Split) -> ImageDataset | None:
        folder = self.folders[split]
        if folder is None:
            return None
        return ImageDataset(folder, self.size, self.smallest_crop, split == "train", self.seed, self.class_names)

    def collate_function(self) -> Callable[..., ImageBatch]:
        return collate_images


def collate_images(pictures: Sequence[Picture | BrokenClip]) -> ImageBatch:
    """Images of one size as a batch, without the broken ones, which it lists."""
    good = [picture for picture in pictures if isinstance(picture, Picture)]
    broken = tuple((picture.name, picture.reason) for picture in pictures if isinstance(picture, BrokenClip))
    nothing = torch.zeros(0, 3, 0, 0, dtype=torch.float32, device="cpu")
    return ImageBatch(
        torch.stack([picture.image for picture in good]) if good else nothing,
        torch.stack([picture.labels for picture in good]) if good else nothing.flatten(1),
        torch.tensor([picture.clip_index for picture in good], dtype=torch.int64, device="cpu"),
        tuple(picture.name for picture in good),
        broken,
    )
