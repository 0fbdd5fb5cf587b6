from __future__ import annotations

import logging
import warnings

import lightning.pytorch as pl
import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Models this small only lose by a second thread, most of all where something else runs beside the tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _quiet_and_seeded():
    """The same initial weights in every test; Lightning's advice to itself would hide the test's own output."""
    pl.seed_everything(11, verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec|.*`list` across ranks is zero|.*eval mode at the start")
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        yield
