"""What all tests share: the shapes in signatures are checked, randomness is seeded, and models are tiny."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING

import pytest
import torch
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from sslam_lightning.models import ConvDecoderConfig, EncoderConfig

if "PYTEST_XDIST_WORKER" in os.environ:  # several of us: threads that wait for each other would take many times as long
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
    torch.set_num_threads(1)

# Every call of a function of these packages is checked against its signature, shapes included; a wrong one raises
# jaxtyping.TypeCheckError. Left out: metrics and features.log_mels, whose own ValueErrors about shapes and names are
# tested and would come second, and what knows Lightning. The hook has to be there before the packages are imported,
# so nothing of the project is imported at the top of this file. A whole number may stand for a float.
_CHECKED = (
    "augment",
    "features.decibels",
    "features.fbank",
    "layers",
    "masking",
    "mixing",
    "models",
    "losses",
    "rng",
    "schedules",
    "types",
)
install_import_hook(
    [f"sslam_lightning.{name}" for name in _CHECKED],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How data workers and other processes start; Python's own choice depends on its version and the system."""
    parser.addoption("--start-method", choices=multiprocessing.get_all_start_methods())


def pytest_configure(config: pytest.Config) -> None:
    """Before any test could start a process."""
    if method := config.getoption("--start-method"):
        multiprocessing.set_start_method(method)
        multiprocessing.set_forkserver_preload(["torch", "sslam_lightning.data"])  # once, not in every process


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Initial weights, dropout and noise are the same in every run and in every order of the tests."""
    torch.manual_seed(0)


@pytest.fixture
def encoder_config() -> EncoderConfig:
    """Two blocks, 16 wide, on patches of 4 frames x 4 mels, four of them above each other."""
    from sslam_lightning.models import EncoderConfig

    return EncoderConfig(dim=16, depth=2, num_heads=2, mlp_ratio=2.0, patch_size=4, num_mels=16)


@pytest.fixture
def decoder_config() -> ConvDecoderConfig:
    """Two convolutions, as wide as the tiny encoder."""
    from sslam_lightning.models import ConvDecoderConfig

    return ConvDecoderConfig(dim=16, depth=2, groups=4)


@pytest.fixture
def keys() -> torch.Tensor:
    """The keys of 64 clips."""
    from sslam_lightning.rng import clip_keys

    return clip_keys(torch.arange(64), seed=0, epoch=0)
