"""What fairseq's configuration says of a model is computed, or refused by the name of its key."""

from __future__ import annotations

import pytest
import torch

from sslam_lightning.checkpoints.formats.fairseq import rename
from sslam_lightning.checkpoints.formats.fairseq_config import conv_layers

LAYERS = ((512, 10, 5), *[(512, 3, 2)] * 4, (512, 2, 2), (512, 2, 2))


def test_positional_convolutions_are_counted_from_zero() -> None:
    names = {f"modality_encoders.AUDIO.relative_positional_encoder.{n}.0.weight": torch.tensor(n) for n in range(1, 12)}
    parts, unknown = rename(names)
    assert not unknown
    for number in range(11):
        assert parts["encoder"][f"conv_positions.convs.{number}.weight"] == number + 1


@pytest.mark.parametrize(
    "spec",
    [
        "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]",
        " [(512,10,5)]+[(512, 3, 2)]*4 + [(512, 2, 2)] * 2",
    ],
)
def test_sums_of_convolutions_are_read_in_their_order(spec: str) -> None:
    assert conv_layers(spec, "feature_encoder_spec") == LAYERS


@pytest.mark.parametrize(
    "spec",
    [
        '__import__("os")',
        "[(512, 10, 5)] + 4 * [(512, 3, 2)]",
        "([(512, 2, 2)] * 2 + [(512, 10, 5)])[::-1]",
        "[(512, 10, 5), (512, 3, 2)]",
        "[(512, 10, 5)] * 999999999",
        "[(512, 10, 5)] * 900 * 900",
        "[(512, 10)]",
        "[(512, 10, 5.0)]",
        "[(512, 10, 5)][0:1]",
        "[(512, 10, 5)] - [(512, 10, 5)]",
        "[x for x in ((512, 10, 5),)]",
        "(" * 5000,
        "512",
        "",
    ],
)
def test_convolutions_are_read_and_not_run(spec: str) -> None:
    with pytest.raises(
        ValueError, match=r"^feature_encoder_spec is not a sum of \[\(channels, kernel, stride\)\] \* times: "
    ):
        conv_layers(spec, "feature_encoder_spec")
