"""Models for other programs: ONNX, or PyTorch's own exported programs; each is run and compared before it gets its name."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.inference.graph import EncoderGraph
from sslam_lightning.inference.model import AudioModel
from sslam_lightning.inference.tables import MissingLibrary
from sslam_lightning.models import Encoder
from sslam_lightning.runtime.atomic_write import replacing

Format = Literal["onnx", "torch-export"]
What = Literal["encoder", "classifier"]

TOLERANCE = 1e-4
_INPUT = "waveforms"
_OUTPUTS: dict[str, tuple[str, ...]] = {"encoder": ("clip", "patches"), "classifier": ("probabilities",)}


class Comparison(NamedTuple):
    """How far an exported model is from the eager one on one input."""

    batch: int
    seconds: float
    largest_difference: float


def export_model(model: AudioModel, target: Path, file_format: Format, what: What) -> list[Comparison]:
    """Write a model that takes waveforms (batch, samples) at its sample rate, of any batch size and any common length.

    With padding as trained a shorter sound is padded and a longer one cut, as in training; masked, every length from two
    patches (0.185 s) to two minutes is taken as it is, or to ``max_time_patches`` of an encoder that has such. Outputs:
    ``clip`` (batch, dim) and ``patches`` (batch, time, mel, dim), or ``probabilities`` (batch, classes).

    Args:
        model: on the CPU, with its last layer, its CLS token and float32.
        target: the file, which must not exist.
        file_format: ``onnx``, or ``torch-export`` (for ``torch.export.load``).
        what: encoder or classifier.

    Returns:
        Comparisons with eager on several batch sizes and lengths, all within 1e-4.

    Raises:
        FileExistsError: the target exists.
        ValueError: no head where a classifier is asked for, a model or settings that cannot be exported, or a difference
            above 1e-4 (nothing is written then).
        MissingLibrary: what writes or runs ONNX is not installed.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists already: move it, or name another file")
    _refuse_others(model)
    if what == "classifier" and model.head is None:
        raise ValueError("the model has no classification head: export its encoder with --what encoder")
    if file_format == "onnx":
        _require_onnx()
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:  # a place that cannot be written to is told before the long work
        content, comparisons = _exported(model, file_format, what)
        file.write(content)
    return comparisons


def _exported(model: AudioModel, file_format: Format, what: What) -> tuple[bytes, list[Comparison]]:
    """The file's content, and how far what it computes is from the original."""
    graph = EncoderGraph(model, what).eval()
    num_samples = min(3 * model.sample_rate_hz, graph.max_samples)
    example = torch.randn(2, num_samples, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    samples = torch.export.Dim("samples", min=graph.min_samples, max=graph.max_samples)
    shapes = ({0: torch.export.Dim("batch"), 1: samples},)
    with _quiet(), torch.no_grad():
        program = torch.export.export(
            graph,
            (example,),
            dynamic_shapes=shapes,
            # What the exporter cannot prove of a length (that 16 n is a multiple of n) is checked when the program runs.
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        content = _onnx(program, what) if file_format == "onnx" else _program_bytes(program)
    run = _onnx_runner(content) if file_format == "onnx" else _program_runner(content)
    comparisons = list(_compare(model, what, run, graph.max_samples / model.sample_rate_hz))
    for comparison in comparisons:
        if not comparison.largest_difference <= TOLERANCE:  # nor if it is NaN
            raise ValueError(
                f"the exported model differs by {comparison.largest_difference:.2g} from the original on "
                f"{comparison.batch} x {comparison.seconds:g} s, more than {TOLERANCE:g}: nothing is written"
            )
    return content, comparisons


def _refuse_others(model: AudioModel) -> None:
    """The graph is that of log-mel patches with a CLS token; the family's other encoders have none yet."""
    if not isinstance(model.encoder, Encoder):
        raise ValueError("export takes log-mel patches with a CLS token, this model is one of transformers")
    config = model.encoder.config
    trained_frames = model.features.num_frames if model.features and model.padding == "trained" else None
    one_pass = config.max_time_patches and config.max_time_patches * config.patch_size
    others = {
        f"the front-end {type(config.front_end).__name__}": config.front_end,
        "no CLS token": not config.cls_token,
        "positions by convolution": config.conv_positions,
        "ALiBi": config.alibi,
        "a head behind its decoder": model.decoder,
        "more frames than max_time_patches": one_pass and trained_frames and trained_frames > one_pass,
    }
    if found := [name for name, has in others.items() if has]:
        raise ValueError(f"export takes log-mel patches with a CLS token, this model has {found[0]}")
    settings = {"layer": (model.layer, model.encoder.depth), "pool": (model.pool, "cls"), "bf16": (model.bf16, False)}
    for name, (setting, written) in settings.items():
        if setting != written:
            raise ValueError(f"export writes {name} {written}, this model has {name} {setting}: open it without {name}")


Runner = Callable[[Float[Tensor, "batch samples"]], Sequence[Tensor]]


def _compare(model: AudioModel, what: What, run: Runner, max_seconds: float) -> Iterator[Comparison]:
    """Noise that swells, with a tone in it and silence at the end: quiet and loud bands, and padding."""
    generator = torch.Generator().manual_seed(1)
    trained = ((model.features and model.features.num_frames) or 1024) / 100
    for batch, seconds in ((1, 0.2), (3, 1.0), (2, 0.37 * trained), (1, trained + 0.5), (4, 2.345)):
        seconds = min(seconds, max_seconds)
        num_samples = int(seconds * model.sample_rate_hz)
        time = torch.linspace(0, 1, num_samples, dtype=torch.float32)
        waveforms = torch.randn(batch, num_samples, dtype=torch.float32, generator=generator) * time.square() * 0.3
        waveforms = (waveforms + 0.3 * (time * seconds * 2764).sin()) * (time < 0.9)
        found = model.encode(waveforms, torch.full((batch,), num_samples), levels=("clip", "patch"))
        wanted = [found.probs] if what == "classifier" else [found.clip, found.patches]
        differences = []
        for theirs, ours in zip(run(waveforms), wanted, strict=True):
            assert ours is not None
            if what == "encoder" and theirs.ndim == 4:
                theirs = theirs[:, : ours.shape[1]]  # the padding's own patches, where there are such
            differences.append((theirs - ours).abs().max())
        yield Comparison(batch, seconds, float(torch.stack(differences).max()))


def _onnx(program: torch.export.ExportedProgram, what: What) -> bytes:
    names = list(_OUTPUTS[what])
    exported = torch.onnx.export(program, input_names=[_INPUT], output_names=names, dynamo=True, verbose=False)
    assert exported is not None
    return exported.model_proto.SerializeToString()


def _onnx_runner(content: bytes) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda waveforms: [torch.from_numpy(part) for part in session.run(None, {_INPUT: waveforms.numpy()})]


def _program_bytes(program: torch.export.ExportedProgram) -> bytes:
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def _program_runner(content: bytes) -> Runner:
    return torch.no_grad()(torch.export.load(io.BytesIO(content)).module())


def _require_onnx() -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(library)
        except ImportError as error:
            raise MissingLibrary(f"ONNX needs {library}: pip install 'sslam-lightning[export]' ({error})") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's notes to its authors are no news for users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.onnx")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
