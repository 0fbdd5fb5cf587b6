"""What a frozen encoder makes of clips, computed once for all protocols, folds and seeds."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader

from sslam_lightning.data.modules.base import AudioDataModule, Split
from sslam_lightning.evaluation.identity import clip_key
from sslam_lightning.evaluation.model import Layers, OpenedModel, all_layers
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.types import Batch

Level = Literal["pooled", "layers"]
POOLINGS = ("cls", "mean")

_BROKEN = -1


class FrozenBatch(NamedTuple):
    """Features of some clips and their labels.

    ``features`` are (clips, 2, dim), CLS token and mean of the tokens of the last layer, at the level ``pooled``; at the
    level ``layers`` (clips, layers, 1 + tokens, dim), the CLS token first.
    """

    features: Float[Tensor, "clips *shape dim"]
    labels: Float[Tensor, "clips classes"]
    padding: Bool[Tensor, "clips tokens"] | None = None


class FrozenClips:
    """The clips of one split, in their order, without those that could not be read: ``num_broken``.

    Args:
        store: holds their features.
        loader: makes batches of so many of the clips at these places in the data set.
        places: of every clip, in the data set and its row in the store.
        num_broken: how many clips the split has besides.
    """

    def __init__(
        self,
        store: FeatureStore,
        loader: Callable[[list[int], int], Any],
        places: Sequence[tuple[int, int]],
        num_broken: int,
    ) -> None:
        self._store, self._loader, self.num_broken = store, loader, num_broken
        self._index = [index for index, _ in places]
        self._rows = torch.tensor([row for _, row in places], dtype=torch.long, device="cpu")
        self.pooled, self.labels = store.pooled[self._rows], store.labels[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, level: Level, chosen: Int[Tensor, "chosen"], batch_size: int) -> Iterator[FrozenBatch]:
        """The features of the chosen clips, on the store's device, in this order."""
        store = self._store
        if level == "layers" and not store.holds(self._rows):  # more than it may hold: through the encoder again
            for batch in self._loader([self._index[place] for place in chosen.tolist()], batch_size):
                found = store.encode(batch)
                labels = batch.labels.to(store.device)
                yield FrozenBatch(store.rounded(found.tokens).float(), labels, found.padding)
            return
        for part in chosen.split(batch_size):
            labels = self.labels[part].to(store.device)
            if level == "pooled":
                yield FrozenBatch(self.pooled[part].to(store.device), labels)
            else:
                found = store.layers(self._rows[part])
                yield FrozenBatch(found.tokens, labels, found.padding)


def check_poolings(poolings: Sequence[str], protocol: str) -> None:
    """Raise ValueError unless these are some of `POOLINGS`."""
    if not poolings or not set(poolings) <= set(POOLINGS):
        raise ValueError(f"{protocol}: poolings are cls and mean, got {list(poolings)}")


def poolings_of(model: OpenedModel, wanted: Sequence[str]) -> Sequence[str]:
    """Those that there are: without a CLS token, the mean of the tokens stands for the clip."""
    return wanted if model.encoder.cls_token is not None else ("mean",)


class FeatureStore:
    """Encodes every clip once and keeps what comes out: pooled in memory; all layers, in half precision, in a file that is
    gone with the process. What would make the file larger than ``max_bytes`` is encoded anew whenever it is asked for.

    ``pooled`` are CLS token and mean of the tokens of the last layer, (rows, 2, dim), on the CPU as are the ``labels``.

    Args:
        model: the encoder.
        device: where it runs, and where features are handed out.
        folder: on whose disk the file lies.
        max_bytes: of the file; 0 where no protocol looks at all layers.
        share_clips: whether clips of one name (and place in it, where recordings are cut) are the same in all folds.
        progress: told the number of clips whenever some are encoded.
    """

    def __init__(
        self,
        model: OpenedModel,
        device: torch.device,
        folder: Path,
        max_bytes: float,
        share_clips: bool = False,
        progress: Callable[[int], Any] = lambda num_clips: None,
    ) -> None:
        self.model, self.device, self.max_bytes = model, device, max_bytes
        self.share_clips, self.progress = share_clips, progress
        model.encoder.to(device)
        self.broken: dict[str, str] = {}  # name -> reason; a protocol that reads clips by itself adds its own
        self.pooled = self.labels = torch.zeros(0, dtype=torch.float32, device="cpu")
        self._row: dict[Hashable, int] = {}
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # without a name, so nothing is ever left behind
        self._shape: tuple[int, ...] = ()  # of a clip's layers
        self._place = torch.zeros(0, dtype=torch.long, device="cpu")  # row -> place in the file, or _BROKEN
        self._num_tokens = torch.zeros(0, dtype=torch.long, device="cpu")  # of the clips in the file, padding left out
        self._num_kept = 0

    def split(self, data: AudioDataModule, split: Split, fold: str) -> FrozenClips:
        """The clips of a split; those that are new go through the encoder.

        Raises:
            ValueError: if there are none, or more of them cannot be read than the data module allows.
        """
        dataset = data.dataset(split)
        if dataset is None:
            raise ValueError(f"{type(data).__name__} has no {split} clips")
        keys: list[Hashable] = [
            clip_key(dataset, index) if self.share_clips else (fold, split, index) for index in range(len(dataset))
        ]

        def loader(order: list[int], batch_size: int) -> DataLoader[Any]:
            workers, collate = data.num_workers, data.collate_function()
            return DataLoader(dataset, batch_size, sampler=order, num_workers=workers, collate_fn=collate)

        if new := [index for index, key in enumerate(keys) if key not in self._row]:
            rows = self._take_in(data, loader(new, data.batch_size), len(new))
            self._row.update({keys[index]: rows.get(index, _BROKEN) for index in new})
        places = [(index, self._row[key]) for index, key in enumerate(keys) if self._row[key] != _BROKEN]
        if not places:
            raise ValueError(f"none of the {len(dataset)} {split} clips of {type(data).__name__} can be read")
        return FrozenClips(self, loader, places, len(keys) - len(places))

    def holds(self, rows: Int[Tensor, "chosen"]) -> bool:
        """Whether all layers of all these clips are in the file."""
        return bool((self._place[rows] != _BROKEN).all())

    def layers(self, rows: Int[Tensor, "chosen"]) -> Layers:
        """All layers of clips that are in the file, in float32 on the device."""
        table = np.memmap(self._file, np.float16, "r", shape=(self._num_kept, *self._shape))
        places = self._place[rows]
        tokens = torch.from_numpy(np.array(table[places.numpy()])).to(self.device).float()
        padding = torch.arange(tokens.shape[2] - 1, device="cpu") >= self._num_tokens[places].unsqueeze(1)
        return Layers(tokens, padding.to(self.device) if bool(padding.any()) else None)

    def encode(self, batch: Batch) -> Layers:
        batch = batch._replace(waveforms=batch.waveforms.to(self.device))
        return all_layers(self.model.encoder, self.model.read(batch))

    def rounded(self, tokens: Float[Tensor, "clips layers clip_and_tokens dim"]) -> Tensor:
        """As the file holds them; ValueError if they are too large for half precision."""
        tokens = tokens.half()
        self._check_finite(tokens, " within half precision (65504), which features of all layers are kept in")
        return tokens

    def _check_finite(self, tokens: Tensor, where: str = "") -> None:
        if not bool(torch.isfinite(tokens).all()):
            raise ValueError(f"{self.model.candidate.source}: the encoder's outputs are not finite numbers{where}")

    def _take_in(self, data: AudioDataModule, loader: Any, num_new: int) -> dict[int, int]:
        """Encode clips; returns place in the data set -> row of those that can be read.

        All is counted when all is written: a full disk leaves the store as it was.
        """
        pooled, labels, num_tokens = [self.pooled], [self.labels], [self._num_tokens]
        rows, num_kept, keep = dict[int, int](), self._num_kept, False
        for batch in loader:
            self.broken.update(batch.broken)
            data.broken.record(batch)
            data.broken.judge()
            self.progress(len(batch.names) + len(batch.broken))
            if not batch.names:
                continue
            found = self.encode(batch)
            self._check_finite(found.tokens)
            last = found.tokens[:, -1]
            pooled.append(torch.stack([last[:, 0], mean_of_tokens(last[:, 1:], found.padding)], dim=1).cpu())
            labels.append(batch.labels)
            if not rows:
                self._shape = tuple(found.tokens.shape[1:])
                keep = 2 * (self._num_kept + num_new) * math.prod(self._shape) <= self.max_bytes
            if keep:
                num_tokens.append(self._write(found, num_kept))
                num_kept += len(last)
            for index in batch.clip_index.tolist():
                rows[index] = len(self._place) + len(rows)
        places = torch.arange(self._num_kept, self._num_kept + len(rows), device="cpu")
        self._place = torch.cat([self._place, places if keep else torch.full_like(places, _BROKEN)])
        self._num_kept = num_kept
        self.pooled, self.labels, self._num_tokens = map(torch.cat, (pooled, labels, num_tokens))
        return rows

    def _write(self, found: Layers, place: int) -> Int[Tensor, "clips"]:
        """Write clips behind ``place`` others; returns how many tokens of each are no padding."""
        tokens = self.rounded(found.tokens)
        self._file.seek(2 * place * math.prod(self._shape))
        self._file.write(tokens.cpu().contiguous().numpy().data)
        self._file.flush()
        full = torch.full((len(tokens),), tokens.shape[2] - 1, device="cpu")
        return full if found.padding is None else (~found.padding).sum(dim=1).cpu()
