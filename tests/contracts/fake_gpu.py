"""A GPU that is not there: no tensor may be left on the CPU, none may have a wrong type, and nothing may wait for it.

PyTorch's fake tensors know shapes, types and devices, but no values. So a tensor of the CPU that meets one of the GPU, and
a decision in Python that needs a value of the GPU's, end a step here as they would fail or stall on a real one; and mixed
precision casts as on a GPU. Arithmetic is not tested, and neither is the backward pass: see `tests/gpu`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.distributed.utils import _to_kwargs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sslam_lightning.features.fbank import fbank_tables
from sslam_lightning.models import ImageInput, TextInput
from sslam_lightning.training.modules.base import AudioModule
from sslam_lightning.training.modules.detection import DetectionModule
from sslam_lightning.types import AnyBatch, Batch, Events, ImageBatch, TextBatch

CLIPS, SECONDS = 4, 3


class _HostIsReal(TorchDispatchMode):
    """Inside a mode of fake tensors: what no GPU has to do with keeps its values. A copy that is waited for is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.copies_are_free = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        there = any(isinstance(leaf, FakeTensor) or getattr(leaf, "type", None) == "cuda" for leaf in leaves)
        with contextlib.nullcontext() if there else unset_fake_temporarily():
            result = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default and not (kwargs.get("non_blocking") or self.copies_are_free):
            came, went = args[0].device.type, result.device.type
            if came != went:
                raise WaitingCopy(f"a copy from {came} to {went} without non_blocking")
        return result


class WaitingCopy(RuntimeError):
    """Between host and GPU, and both wait for it."""


@contextlib.contextmanager
def a_gpu() -> Iterator[_HostIsReal]:
    """In here "cuda" is a device. Tables that are made once and kept are forgotten before and after."""
    fbank_tables.cache_clear()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), _HostIsReal() as mode:
            yield mode
    finally:
        fbank_tables.cache_clear()


@contextlib.contextmanager
def _mixed_precision(half: torch.dtype) -> Iterator[None]:
    """What `torch.autocast` does on a GPU, and refuses where there is none."""
    before = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    torch.set_autocast_dtype("cuda", half)
    torch.set_autocast_enabled("cuda", True)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_dtype("cuda", before[0])
        torch.set_autocast_enabled("cuda", before[1])


def move_to_gpu(module: nn.Module) -> None:
    """Put fake weights in place of a module's own, shared ones once."""
    moved: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in moved:
            there = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
            is_parameter = isinstance(tensor, nn.Parameter)
            moved[id(tensor)] = nn.Parameter(there, tensor.requires_grad) if is_parameter else there
        return moved[id(tensor)]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: fake(tensor) for name, tensor in tensors.items() if tensor is not None})


def batch_for(module: AudioModule, sample_rate_hz: int) -> AnyBatch:
    """Clips of different lengths, images or texts, as a data module makes them."""
    takes = module.front_end.takes
    labels = torch.zeros(CLIPS, getattr(module, "num_classes", 0))
    rest = labels, torch.arange(CLIPS), tuple("abcd")
    if isinstance(takes, ImageInput):
        return ImageBatch(torch.zeros(CLIPS, takes.channels, 224, 224), *rest)
    if isinstance(takes, TextInput):  # padded ones wait for the number of hidden tokens: see MaskSampler
        return TextBatch(torch.zeros(CLIPS, 64, dtype=torch.long), [64] * CLIPS, *rest)
    longest = SECONDS * sample_rate_hz
    events = None
    if isinstance(module, DetectionModule):
        at = torch.zeros(CLIPS, 5)
        events = Events(at.long(), at, at)
    return Batch(torch.zeros(CLIPS, longest), [longest, longest, longest - 1, longest // 2], *rest, (), events)


def hand_on(module: AudioModule, batch: AnyBatch) -> AnyBatch:
    """As the trainer does, and behind it DistributedDataParallel, which moves whatever is not on the GPU yet."""
    gpu = torch.device("cuda", 0)
    ((moved,),), _ = _to_kwargs((module.transfer_batch_to_device(batch, gpu, 0),), {}, gpu, False)
    return moved


def step_on_gpu(module: AudioModule, sample_rate_hz: int, half: torch.dtype = torch.bfloat16) -> None:
    """Two training steps in mixed precision, the teacher's, and a prediction; the module's weights are lost."""
    module._trainer = None  # which logs
    with a_gpu() as mode:
        move_to_gpu(module)
        mode.copies_are_free = True
        batch = hand_on(module, batch_for(module, sample_rate_hz))
        with _mixed_precision(half):
            module.train().training_step(batch, 0)
            mode.copies_are_free = False  # the first step has put tables in place
            loss = module.training_step(batch, 0)
        assert loss.device.type == "cuda"
        assert loss.requires_grad
        if getattr(module, "teacher", None) is not None:
            module.teacher.update_ema(module.student, 0.9)
        if not isinstance(module, DetectionModule):  # which collects events, however many there are
            with _mixed_precision(half), torch.no_grad():
                module.eval().predict_step(batch, 0)
