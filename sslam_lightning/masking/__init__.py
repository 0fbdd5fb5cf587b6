"""Which patches the student does not see: one sampler a file, batched on the device."""

from sslam_lightning.masking.block import BlockMask, FlexibleInverseBlockMask, InverseBlockMask
from sslam_lightning.masking.chunk import ChunkMask
from sslam_lightning.masking.sampler import MaskSampler, RatioMask, mask_from_hidden
from sslam_lightning.masking.span import InverseSpanMask, SpanMask
from sslam_lightning.masking.uniform import UniformMask

__all__ = [
    "BlockMask",
    "ChunkMask",
    "FlexibleInverseBlockMask",
    "InverseBlockMask",
    "InverseSpanMask",
    "MaskSampler",
    "RatioMask",
    "SpanMask",
    "UniformMask",
    "mask_from_hidden",
]
