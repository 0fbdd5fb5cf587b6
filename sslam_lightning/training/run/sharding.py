"""Fully sharded data parallel training (FSDP2): weights, gradients, optimizer and teacher shared out among all devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor


class ShardedStrategy(ModelParallelStrategy):
    """Shares every weight out among all devices of all nodes; a module's ``configure_model`` does it, by :func:`shard`.

    Checkpoints are single files as those of one device: they open everywhere, and those of one device resume here.

    Args:
        timeout_seconds: how long a device waits for the others before the run ends with an error.
        process_group_backend: nccl on GPUs, gloo on CPUs where None.
    """

    def __init__(self, timeout_seconds: float = 1800.0, process_group_backend: str | None = None) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_seconds),
        )

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    # Lightning numbers the optimizer's state by the model's order of parameters, where a plain optimizer has its own: what
    # follows keeps to the latter, so that checkpoints of one device and of many are the same.

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        state = getattr(optimizer, "_optimizer", optimizer).state_dict()
        whole_state = {
            number: {
                name: full_tensor(value).cpu() if isinstance(value, Tensor) else value for name, value in values.items()
            }
            for number, values in state["state"].items()
        }
        return {**state, "state": whole_state}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Every rank reads the whole file and keeps its share."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, strict=strict)
        set_model_state_dict(self.model, dict(checkpoint["state_dict"]), options=options)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = [number for group in saved["param_groups"] for number in group["params"]]
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {name: to_local_shard(value, parameter) for name, value in saved["state"][number].items()}
                for number, parameter in zip(numbers, parameters, strict=True)
                if number in saved["state"]
            }
            optimizer.load_state_dict({**saved, "state": state})


def shard(parts: Sequence[nn.Module], mesh: DeviceMesh) -> None:
    """Share out the weights of modules and of the blocks within; all ranks start from rank 0's.

    Between uses a device holds its own rows of every weight alone; a block's are gathered while it runs.

    Args:
        parts: modules that are run by themselves: by a call, or by the encoder's ``embed``, ``choose``, ``enter`` and
            ``run``.
        mesh: all devices in a row.
    """
    for part in parts:
        for tensor in (*part.parameters(), *part.buffers()):
            distributed.broadcast(tensor.detach(), src=0)
        for block in getattr(part, "blocks", ()):
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
        for entrance in ("embed", "select_tokens", "prepare_tokens", "forward_blocks"):
            if hasattr(part, entrance):
                register_fsdp_forward_method(part, entrance)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor that is shared out among devices in one piece; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def to_local_shard(value: Any, parameter: Tensor) -> Any:
    """Of a tensor of a parameter's shape this rank's share; anything else, the count of updates above all, as it is."""
    if not isinstance(value, Tensor) or not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
