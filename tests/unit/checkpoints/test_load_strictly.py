from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sslam_lightning.checkpoints import load_state_dict_strict
from sslam_lightning.models import Encoder, EncoderConfig

State = dict[str, torch.Tensor]


def other_weights(config: EncoderConfig) -> State:
    """Every one of them differs from a new encoder's."""
    return {name: value + 1 for name, value in Encoder(config).state_dict().items()}


def test_everything_is_copied(encoder_config: EncoderConfig) -> None:
    encoder, state = Encoder(encoder_config), other_weights(encoder_config)
    load_state_dict_strict(encoder, state, "student", "a file")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, state[name])
        assert value.data_ptr() != state[name].data_ptr()


def without(name: str) -> Callable[[State], object]:
    return lambda state: state.pop(name)


def with_value(name: str, value: float) -> Callable[[State], object]:
    return lambda state: state[name].view(-1)[-1:].fill_(value)


def reshaped(*names: str) -> Callable[[State], object]:
    return lambda state: state.update({name: torch.zeros(3, 5) for name in names})


LAST = "blocks.1.mlp.fc2.bias"  # all before it is whole


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            without(LAST),
            r"a file: student\.blocks\.1\.mlp\.fc2\.bias is missing, which the model has: ",
        ),
        (
            reshaped(LAST),
            r"a file: student\.blocks\.1\.mlp\.fc2\.bias has shape \(3, 5\), the model expects \(16,\): the configured",
        ),
        (reshaped("blocks.1.norm1.bias", "cls_token", "blocks.0.norm1.bias"), r"student\.cls_token has shape \(3, 5\)"),
        (with_value(LAST, float("nan")), r"a file: student\.blocks\.1\.mlp\.fc2\.bias holds values that are not finite"),
        (with_value(LAST, float("-inf")), r"student\.blocks\.1\.mlp\.fc2\.bias holds values that are not finite"),
        (
            lambda state: state.update(surplus=torch.zeros(1)),
            r"a file: student\.surplus is not in the model: ",
        ),
    ],
    ids=["missing", "shape", "first shape", "nan", "infinite", "unknown"],
)
def test_nothing_is_copied_where_something_is_wrong(
    encoder_config: EncoderConfig, spoil: Callable[[State], object], message: str
) -> None:
    encoder, state = Encoder(encoder_config), other_weights(encoder_config)
    assert list(state)[-1] == LAST
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    spoil(state)
    with pytest.raises(ValueError, match=message):
        load_state_dict_strict(encoder, state, "student", "a file")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
