"""What is exported is compared before it gets its name."""

from __future__ import annotations

import sys

import pytest
import torch

from sslam_lightning.features import LogMels
from sslam_lightning.inference import export
from sslam_lightning.inference.graph import DecibelsGraph, LogMelsGraph
from sslam_lightning.inference.tables import MissingLibrary


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        ("kaldi", {}),
        ("kaldi", {"window": "povey", "remove_mean": False, "partial_patch": "drop"}),
        ("decibel", {}),
        ("decibel", {"partial_patch": "drop"}),
    ],
)
@pytest.mark.parametrize("num_frames", [None, 64, 256])
@pytest.mark.parametrize("num_samples", [2800, 10639, 16000])
def test_log_mels_as_a_graph_are_the_log_mels(kind, num_frames, num_samples, others) -> None:
    features = LogMels(num_frames=num_frames, kind=kind, **others)
    waveforms = 0.1 * torch.randn(3, num_samples) + 0.05
    found = (DecibelsGraph if kind == "decibel" else LogMelsGraph)(features)(waveforms).flatten(1, 2)
    torch.testing.assert_close(found, features(waveforms, torch.full((3,), num_samples)), atol=1e-4, rtol=0)


def test_what_differs_is_not_written(make_model, tmp_path, monkeypatch) -> None:
    """A model that says something else than what was exported, and the export as if it had worked."""
    model = make_model("mean")
    monkeypatch.setattr(torch.export, "export", lambda *args, **options: None)
    monkeypatch.setattr(torch.export, "save", lambda program, content: content.write(b"program"))
    offset = torch.zeros(())

    def run(waveforms):
        encoded = model.encode(waveforms, torch.full((len(waveforms),), waveforms.shape[1]), ())
        return [encoded.probs + offset]

    monkeypatch.setattr(export, "_program_runner", lambda content: run)
    target = tmp_path / "x.pt2"
    for wrong in (2e-4, float("nan")):
        offset.fill_(wrong)
        with pytest.raises(
            ValueError, match=r"differs by .* from the original on .*, more than 0.0001: nothing is written"
        ):
            export.export_model(model, target, "torch-export", "classifier")
        assert not list(tmp_path.iterdir())
    offset.fill_(5e-5)
    comparisons = export.export_model(model, target, "torch-export", "classifier")
    assert target.read_bytes() == b"program"
    assert {(c.batch, round(c.seconds, 2)) for c in comparisons} >= {(1, 0.2), (3, 1.0)}
    with pytest.raises(FileExistsError, match=r"x\.pt2 exists already"):
        export.export_model(model, target, "torch-export", "classifier")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"layer": 1}, "export writes layer 2, this model has layer 1: open it without layer"),
        ({"layer": "mean"}, "export writes layer 2, this model has layer mean"),
        ({"pool": "mean"}, "export writes pool cls, this model has pool mean: open it without pool"),
        ({"bf16": True}, "export writes bf16 False, this model has bf16 True"),
    ],
)
def test_settings_that_no_file_holds_are_refused(make_model, tmp_path, settings, told) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        export.export_model(make_model(**settings), tmp_path / "x.pt2", "torch-export", "encoder")
    assert not list(tmp_path.iterdir())


def test_onnx_needs_its_libraries(make_model, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingLibrary, match=r"ONNX needs onnxruntime: pip install 'sslam-lightning\[export\]'"):
        export.export_model(make_model(), tmp_path / "x.onnx", "onnx", "encoder")


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(make_model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.export, "export", lambda *args, **options: pytest.fail("the work has begun"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        export.export_model(make_model(), tmp_path / "file" / "x.pt2", "torch-export", "encoder")
