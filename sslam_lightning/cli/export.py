"""``sslam export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

_ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}


def export(
    out: str,
    model: str | None = None,
    format: Literal["onnx", "torch-export"] = "onnx",
    what: Literal["encoder", "classifier"] | None = None,
    part: Literal["student", "teacher"] = "student",
    padding: Literal["masked", "trained"] | None = None,
    features: dict[str, Any] | None = None,
) -> None:
    """Write a model, log-mels included, for other programs, and check it against the original within 1e-4.

    It takes waveforms (batch, samples) at the model's rate, of any batch size and length. An encoder gives ``clip``
    (batch, dim) and ``patches`` (batch, time, mel, dim), a classifier ``probabilities`` (batch, classes).

    Args:
        out: the file to write, which must not exist.
        model: a checkpoint file, a folder or a Hugging Face Hub id.
        format: onnx, or torch-export for torch.export.load.
        what: classifier where the checkpoint has a head, else encoder.
        part: the student or the teacher of a pre-trained model.
        padding: trained (padded or cut to the trained length) or masked (any length up to two minutes as it is).
        features: log-mel settings that the checkpoint does not tell, such as '{num_frames: 512, mean: -6.627, std: 5.359}'.
    """
    from sslam_lightning.inference.export import export_model

    if Path(out).exists():
        raise FileExistsError(f"{out} exists already: move it, or name another file")
    if Path(out).suffix in set(_ENDINGS.values()) - {_ENDINGS[format]}:
        raise ValueError(f"{out} has the ending of another format: --format {format} writes {_ENDINGS[format]} files")
    if not model:
        raise ValueError("no model is named: set --model to a checkpoint file, a folder or a Hugging Face Hub id")
    from sslam_lightning.inference import from_pretrained

    audio_model = from_pretrained(model, part, padding, features=features)
    what = what or ("classifier" if audio_model.head is not None else "encoder")
    comparisons = export_model(audio_model, Path(out), format, what)
    for comparison in comparisons:
        shape = f"{comparison.batch} x {comparison.seconds:.2f} s"
        print(f"  {shape:<14} largest difference from the original {comparison.largest_difference:.1e}")
    print(f"{out}: {what}, {Path(out).stat().st_size / 2**20:.1f} MiB")
