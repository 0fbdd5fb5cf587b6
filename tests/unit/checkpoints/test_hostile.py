"""Files that mean harm: each is refused in one line, nothing in it runs, nothing is written, and memory does not grow.

Where a file could run something, it would leave a mark; the traps are shown to work by opening them unsafely.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_weights import finetuned, pretrained
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sslam_lightning.checkpoints import convert
from sslam_lightning.checkpoints.formats.fairseq_export import to_fairseq
from sslam_lightning.checkpoints.write import write_weights

MEBIBYTE = 2**20


class Reduce:
    """Unpickling it calls ``function(*arguments)``."""

    def __init__(self, function: Callable, *arguments: Any, state: Any = None) -> None:
        self.made = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


def leave(mark: str) -> None:
    Path(mark).touch()


class Loud:
    """Leaves its mark when its state is set."""

    def __setstate__(self, state: dict[str, str]) -> None:
        leave(state["mark"])


def model() -> dict[str, Any]:
    """A pre-trained model as the public trainer saves it, without anything of ours."""
    content = to_fairseq(pretrained())[0]
    del content["sslam_lightning"], content["model"][POSITIONS]
    return content


POSITIONS = "modality_encoders.IMAGE.fixed_positional_encoder.positions"


# Pickles: what runs, and in which disguise -----------------------------------------------------------------------------

TRAPS: dict[str, Callable[[str], Any]] = {
    "os.system": lambda mark: Reduce(os.system, f"touch {mark}"),
    "eval": lambda mark: Reduce(eval, f"open({mark!r}, 'w').close()"),
    "exec": lambda mark: Reduce(exec, f"open({mark!r}, 'w').close()"),
    "open": lambda mark: Reduce(open, mark, "w"),
    "a method": lambda mark: Reduce(Path.touch, Path(mark)),
    "a function of a test": lambda mark: Reduce(leave, mark),
    "a setter of state": lambda mark: Reduce(Loud, state={"mark": mark}),
    "numpy.load": lambda mark: Reduce(np.save, mark, np.zeros(1)),
    "another torch.load": lambda mark: Reduce(torch.save, {}, mark),
    "a numpy array of objects": lambda mark: np.array([Reduce(leave, mark)], dtype=object),
    "a set": lambda mark: {Reduce(leave, mark)},
    "the state of an OrderedDict": lambda mark: Reduce(OrderedDict, state={"x": Reduce(leave, mark)}),
}


def torch_file(path: Path, content: Any, **settings: Any) -> Path:
    torch.save(content, path, **settings)
    return path


def in_the_weights(path: Path, trap: Any) -> Path:
    return torch_file(path, {**model(), "model": {"blocks.0.norm1.weight": trap}})


def in_the_configuration(path: Path, trap: Any) -> Path:
    content = model()
    content["cfg"]["model"]["num_heads"] = trap
    return torch_file(path, content)


def in_what_nobody_reads(path: Path, trap: Any) -> Path:
    return torch_file(path, {**model(), "last_optimizer_state": [trap]})


def in_a_lightning_checkpoint(path: Path, trap: Any) -> Path:
    return torch_file(path, {"pytorch-lightning_version": "2.6", "state_dict": {}, "hyper_parameters": {"encoder": trap}})


def of_a_later_protocol(path: Path, trap: Any) -> Path:
    return torch_file(path, {**model(), "x": trap}, pickle_protocol=4)


def before_zip(path: Path, trap: Any) -> Path:
    return torch_file(path, {**model(), "x": trap}, _use_new_zipfile_serialization=False)


def bare(path: Path, trap: Any) -> Path:
    path.write_bytes(pickle.dumps({"model": trap}))
    return path


def in_a_tar(path: Path, trap: Any) -> Path:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(trap, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def opens_unsafely(path: Path) -> None:
    with path.open("rb") as file:
        if tarfile.is_tarfile(file):
            with tarfile.open(path) as tar:
                pickle.loads(tar.extractfile("pickle").read())  # type: ignore[union-attr]
            return
    try:
        torch.load(path, weights_only=False)
    except (RuntimeError, pickle.UnpicklingError, TypeError):
        pickle.loads(path.read_bytes())


DISGUISES = [
    in_the_weights,
    in_the_configuration,
    in_what_nobody_reads,
    in_a_lightning_checkpoint,
    of_a_later_protocol,
    before_zip,
    bare,
    in_a_tar,
]


class Allocations(TorchDispatchMode):
    """Counts the bytes of all tensors that are made, and the most that Python and NumPy hold at once, whoever else is busy.

    Memory that a tensor shares with another counts once; that of a file which is mapped counts, too.
    """

    def __enter__(self) -> Allocations:
        super().__enter__()
        self.seen: dict[int, torch.UntypedStorage] = {}  # kept, so that no other gets the same place
        torch.zeros(1)  # what PyTorch imports for its first call under such a mode is not counted
        tracemalloc.start()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                storage = tensor.untyped_storage()
                self.seen.setdefault(storage.data_ptr(), storage)
        return result

    def __exit__(self, *_: Any) -> None:
        super().__exit__(*_)
        self.most_in_python = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    @property
    def in_tensors(self) -> int:
        return sum(storage.nbytes() for storage in self.seen.values())


def test_allocations_are_counted() -> None:
    with Allocations() as made:
        bytearray(3 * MEBIBYTE)
        torch.zeros(MEBIBYTE).view(-1)
        torch.zeros(1).expand(MEBIBYTE).clone()
    assert 3 * MEBIBYTE <= made.most_in_python < 4 * MEBIBYTE
    assert 8 * MEBIBYTE <= made.in_tensors < 9 * MEBIBYTE


def refuse(source: Path) -> str:
    """What ``convert`` says; it wrote nothing, and took no more memory than a small file explains."""
    target = source.parent / "target"
    before = sorted(source.parent.iterdir())
    with Allocations() as made, pytest.raises((ValueError, OSError)) as caught:
        convert(source, target)
    assert made.most_in_python < 64 * MEBIBYTE
    assert made.in_tensors < 64 * MEBIBYTE + source.stat().st_size
    assert sorted(source.parent.iterdir()) == before
    message = str(caught.value)
    assert message.isprintable(), "one line"
    assert len(message) < 600
    return message


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("kind", list(TRAPS))
def test_nothing_runs(tmp_path, kind: str, disguise: Callable[[Path, Any], Path]) -> None:
    mark = tmp_path / "mark.npy"
    source = disguise(tmp_path / "trap.pt", TRAPS[kind](str(mark)))
    assert "trap.pt cannot be opened as a checkpoint: " in refuse(source)
    assert not mark.exists()


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("kind", list(TRAPS))
def test_the_traps_are_traps(tmp_path, kind: str, disguise: Callable[[Path, Any], Path]) -> None:
    mark = tmp_path / "mark.npy"
    opens_unsafely(disguise(tmp_path / "trap.pt", TRAPS[kind](str(mark))))
    assert mark.exists()


def archive(path: Path, content: bytes, **more: bytes) -> Path:
    """A zip as torch.save writes it, with a pickle of our own."""
    with zipfile.ZipFile(path, "w") as file:
        for name, value in {"data.pkl": content, "version": b"3\n", "byteorder": b"little", **more}.items():
            file.writestr(f"archive/{name}", value)
    return path


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\x80\x02(S'touch MARK'\nios\nsystem\n.", "INST"),
        (b"\x80\x02(cos\nsystem\nS'touch MARK'\no.", r"os.system"),
        (b"\x80\x02\x8c\x02os\x8c\x06system\x93\x8c\x0atouch MARK\x85R.", "STACK_GLOBAL"),
        (b"\x80\x02cposix\nsystem\nX\x0a\x00\x00\x00touch MARK\x85R.", r"posix.system"),
        (b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.", r"builtins.eval"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02ctorch._utils\n_rebuild_device_tensor_from_numpy\n)R.", "_rebuild_device_tensor_from_numpy"),
        (b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.", "bytearray"),  # 64 GiB
        (b"\x80\x02ctorch\nFloatStorage\n\x8a\x05\x00\x00\x00\x00\x10\x85R.", "checkpoint"),
        (b"\x80\x02X\xff\xff\xff\xffabc.", "checkpoint"),
        (b"\x80\x02]" + b"2" * 50, "checkpoint"),
        (b"\x80\x05N.", "protocol 5"),
        (b"\x80\x02" + b"}" * (17 * MEBIBYTE) + b".", "its description takes 17825795 bytes, more than any model's"),
        # Bytes by way of codecs, which would double them at every turn: only as torch.save writes them.
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.", "it asks for _codecs.encode"),
        (b"\x80\x02c_codecs\nencode\nq\x000h\x00X\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.", "_codecs.encode"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1h\x00\x86R.", "_codecs.encode"),
        (b"\x80\x02c_codecs\nencode\n2.", "_codecs.encode"),
        (b"\x80\x02Nq\x00c_codecs\nencode\nq\x00.", "uses a place of its memory twice"),
        (b"", "checkpoint"),
        (b"\x80\x02" + b"(" * 1000, "checkpoint"),
        (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "neither a fairseq checkpoint"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pickles_by_hand(tmp_path, content: bytes, named: str) -> None:
    mark = tmp_path / "mark"
    source = archive(tmp_path / "trap.pt", content.replace(b"MARK", str(mark).encode()))
    assert named in refuse(source)
    assert not mark.exists()


# Archives that lie -----------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path) -> Path:
    """A good file, outside of the folder that is watched."""
    path = tmp_path / "whole" / "good.pt"
    path.parent.mkdir()
    torch.save(model(), path)
    return path


def rezipped(good: Path, target: Path, compression: int = zipfile.ZIP_STORED, **more: bytes) -> Path:
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(target, "w", compression) as copy:
        for entry in source.infolist():
            copy.writestr(entry.filename, source.read(entry))
        for name, content in more.items():
            copy.writestr(name, content)
    return target


def test_a_good_file_is_one(whole: Path, tmp_path) -> None:
    """What the bad ones are made from would open."""
    convert(rezipped(whole, tmp_path / "again.pt"), tmp_path / "target")
    assert (tmp_path / "target" / "model.safetensors").is_file()


def test_a_bomb(whole: Path, tmp_path) -> None:
    source = rezipped(whole, tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED, **{"good/data/999": bytes(256 * MEBIBYTE)})
    assert source.stat().st_size < 2 * MEBIBYTE
    assert "compressed entries" in refuse(source)


@pytest.mark.parametrize("name", ["../mark", "/mark", "good/../../mark", "good\\..\\mark", "other/mark"])
def test_names_that_lead_out(whole: Path, tmp_path, name: str) -> None:
    assert "lead out of its folder" in refuse(rezipped(whole, tmp_path / "out.pt", **{name: b"mark"}))
    assert not (tmp_path.parent / "mark").exists()


@pytest.mark.parametrize("name", ["good/code/__torch__.py", "good/constants.pkl"])
def test_torchscript(whole: Path, tmp_path, name: str) -> None:
    assert "a TorchScript archive, which holds code" in refuse(rezipped(whole, tmp_path / "script.pt", **{name: b"x"}))


def test_a_second_pickle_of_the_same_name(whole: Path, tmp_path) -> None:
    trap = pickle.dumps(Reduce(os.system, f"touch {tmp_path / 'mark'}"), protocol=2)
    with pytest.warns(UserWarning, match="Duplicate name"):
        source = rezipped(whole, tmp_path / "two.pt", **{"good/data.pkl": trap})
    assert "table of contents" in refuse(source)
    assert not (tmp_path / "mark").exists()


def test_a_second_table_of_contents(whole: Path, tmp_path) -> None:
    other = archive(tmp_path / "whole" / "other.pt", b"\x80\x02N.")
    source = tmp_path / "two.pt"
    good = bytearray(whole.read_bytes())
    good[-2:] = struct.pack("<H", 60000)  # the second archive as the comment of the first
    source.write_bytes(bytes(good) + other.read_bytes().ljust(60000, b"\0"))
    refuse(source)


class Large:
    """Two hundred bytes that become as many megabytes."""

    def __reduce__(self) -> Any:
        return bytearray, (200_000_000,)


def test_a_second_pickle_whose_name_differs_in_case(whole: Path, tmp_path) -> None:
    """PyTorch's reader would take it, Python's takes the other one."""
    trap = pickle.dumps(Large(), protocol=2)
    assert "table of contents" in refuse(rezipped(whole, tmp_path / "case.pt", **{"good/DATA.PKL": trap}))


@pytest.mark.parametrize("signature", [b"PK\6\6", b"PK\0\0"])
def test_a_64_bit_archive_with_a_table_for_python_and_one_for_pytorch(whole: Path, tmp_path, signature: bytes) -> None:
    content, tables = bytearray(), {"python": b"", "pytorch": b""}
    trap, count = pickle.dumps(Large(), protocol=2), 0
    with zipfile.ZipFile(whole) as source:
        for entry in source.infolist():
            data, count = source.read(entry), count + 1
            own = add_record(content, entry.filename, data)
            tables["python"] += own
            tables["pytorch"] += add_record(content, entry.filename, trap) if entry.filename == "good/data.pkl" else own
    ends = {}
    for reader in ("pytorch", "python"):
        start = len(content)
        content += tables[reader]
        ends[reader] = len(content)
        kind = signature if reader == "python" else b"PK\6\6"
        content += struct.pack("<4sQ2H2L4Q", kind, 44, 45, 45, 0, 0, count, count, len(tables[reader]), start)
    content += struct.pack("<4sLQL", b"PK\6\7", 0, ends["pytorch"], 1)
    content += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "two.pt").write_bytes(content)
    told = refuse(tmp_path / "two.pt")
    assert signature != b"PK\6\6" or "table of contents" in told


def add_record(content: bytearray, name: str, data: bytes) -> bytes:
    """Append an entry; returns its row of the table of contents."""
    place, crc = len(content), zlib.crc32(data)
    content += struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, crc, len(data), len(data), len(name), 0)
    content += name.encode() + data
    row = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, crc, len(data), len(data), len(name), 0, 0, 0, 0, 0, place
    )
    return row + name.encode()


def test_an_entry_that_claims_more_than_the_file(whole: Path, tmp_path) -> None:
    content = bytearray(rezipped(whole, tmp_path / "lie.pt").read_bytes())
    at = content.rfind(b"PK\x01\x02")  # in the table of contents: sizes before and after compression
    content[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    (tmp_path / "lie.pt").write_bytes(content)
    assert "larger than the file" in refuse(tmp_path / "lie.pt")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_truncated(whole: Path, tmp_path, share: float) -> None:
    content = whole.read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: int(share * len(content))])
    assert "cannot be opened as a checkpoint" in refuse(tmp_path / "cut.pt")


# Tensors and tables that lie -------------------------------------------------------------------------------------------

CLIP_TOKEN = "modality_encoders.IMAGE.extra_tokens"
PROJECTION = "modality_encoders.IMAGE.local_encoder.proj.weight"


def spoilt(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["model"].update({key: value})


def described(**settings: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.update(sslam_lightning=settings)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoilt(CLIP_TOKEN, torch.full((1, 1, 16), float("nan"))), "cls_token holds values that are not finite"),
        (spoilt("blocks.0.norm1.bias", torch.full((16,), float("inf"))), "norm1.bias holds values that are not finite"),
        (spoilt("blocks.0.norm1.bias", torch.zeros(16, dtype=torch.int64)), "must hold floating-point numbers"),
        (spoilt("blocks.0.norm1.bias", torch.zeros(16, dtype=torch.complex64)), "asks for torch.ComplexFloatStorage"),
        (spoilt("blocks.0.norm1.bias", [0.0] * 16), "blocks.0.norm1.bias must be a tensor, got list"),
        (spoilt("blocks.0.norm1.bias", "zeros"), "must be a tensor, got 'zeros'"),
        (spoilt(7, torch.zeros(16)), "has a key that is no weight's name: 7"),
        (spoilt("a\x1b[2J\nb", torch.zeros(16)), "has a key that is no weight's name"),
        (spoilt("_ema", [1, 2]), "model._ema must be a table of weights, got list"),
        (spoilt(PROJECTION, torch.zeros(1).expand(10**6, 1, 10**3, 10**3)), "with the memory of a smaller one"),
        (spoilt(PROJECTION, torch.zeros(0, 1, 10**9, 10**9)), "image.patch_size is 1000000000, but the public code"),
        (spoilt(PROJECTION, torch.zeros(10**9, 1, 0, 0)), "image.patch_size is 0, but the public code"),
        (
            spoilt(PROJECTION, torch.zeros(4000, 1, 16, 16)),
            "has shape (4000, 1, 16, 16), the model expects (16, 1, 16, 16)",
        ),
        (spoilt(POSITIONS, torch.zeros(1, 16, 16)), "not the fixed sine-cosine table"),
        (spoilt("blocks.999999999.norm1.bias", torch.zeros(16)), "teacher has 2 blocks, its configuration says 3"),
        (lambda content: content["cfg"]["model"].update(num_heads="2"), "num_heads must be a whole number, got '2'"),
        (lambda content: content["cfg"]["model"].update(num_heads=0), "num_heads must be at least 1, got 0"),
        (lambda content: content["cfg"]["model"].update(num_heads=-2), "num_heads must be at least 1, got -2"),
        (lambda content: content["cfg"]["model"].update(norm_eps=float("nan")), "norm_eps must be a number, got nan"),
        (described(features={"num_frames": "x"}), "num_frames must be a whole"),
        (described(features={"num_frames": 16 * 10**8}), "num_frames must be at most 60000, got 1600000000"),
        (described(features={"sample_rate_hz": 10**9}), "sample_rate_hz must be at most 768000, got 1000000000"),
        (described(resampler="sox"), "resampler must be one of 'torchaudio', 'soxr', got 'sox'"),
        (described(class_names=["a\nb"]), "class_names: the class 'a\\nb' holds a control character"),
        (described(class_names=["a", 7]), "class_names must be a list of names, got list"),
        (described(class_names=["a"]), "it has 1 names for 0 classes"),
        (described(pooling="shell"), "pooling must be one of 'cls'"),
        (described(encoder={"depth": 10**12}), "its encoder.dim is 16, by its description it is 768"),
        (described(encoder=7), "sslam_lightning.encoder must be a table of settings, got 7"),
    ],
)
def test_a_model_that_is_none(tmp_path, spoil: Callable[[dict[str, Any]], Any], message: str) -> None:
    content = model()
    spoil(content)
    torch.save(content, tmp_path / "a.pt")
    assert message in refuse(tmp_path / "a.pt")


def test_one_memory_for_many_weights(tmp_path) -> None:
    content, memory = model(), torch.zeros(16 * MEBIBYTE)
    content["model"] |= {f"blocks.{number}.norm1.bias": memory for number in range(2, 2000)}
    torch.save(content, tmp_path / "a.pt")
    assert "bytes of weights, the file has" in refuse(tmp_path / "a.pt")


def test_a_storage_that_claims_more_than_its_record(tmp_path) -> None:
    """torch.load would hand out the memory behind it; mapped, it ends with the file."""

    torch.save({"model": {"x": torch.zeros(4)}, "cfg": {}}, tmp_path / "honest.pt")
    with zipfile.ZipFile(tmp_path / "honest.pt") as honest:
        content = honest.read("honest/data.pkl")
        record = honest.read("honest/data/0")
    (tmp_path / "honest.pt").unlink()
    lying = content.replace(b"K\x04tq", b"J\x00\x00\x00\x10tq").replace(b"K\x04\x85", b"J\x00\x00\x00\x10\x85")
    assert lying != content
    assert "storage" in refuse(archive(tmp_path / "a.pt", lying, **{"data/0": record}))


# Folders that lie ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "here").mkdir()
    write_weights(finetuned(), tmp_path / "here" / "model", "eat_hf")
    return tmp_path / "here" / "model"


def with_header(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    changed = change(header)
    text = (changed if isinstance(changed, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


NAME = "model.extra_tokens"


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header[NAME].update(data_offsets=[0, 10**15]),
        lambda header: header[NAME].update(data_offsets=[64, 0]),
        lambda header: header[NAME].update(data_offsets=[-64, 0]),
        lambda header: header[NAME].update(data_offsets=header["model.pre_norm.bias"]["data_offsets"]),
        lambda header: header[NAME].update(shape=[10**6, 10**6]),
        lambda header: header[NAME].update(shape=[2**33, 2**33]),
        lambda header: header[NAME].update(dtype="F64"),
        lambda header: header[NAME].update(dtype="PICKLE"),
        lambda header: header[NAME].update(shape="all"),
        lambda header: header.update({"__metadata__": {"deep": {"deeper": 1}}}),
        lambda header: header.pop("model.pre_norm.bias"),
        lambda header: json.dumps(header)[:-1] + f', "{NAME}": {json.dumps(header[NAME])}}}',
        lambda header: "[" * 100_000,
        lambda header: '{"__metadata__": {}, "x": [' + "{}," * MEBIBYTE + "{}]}",
        lambda header: "\x80\x02cos\nsystem\n.",
        lambda header: "{}",
    ],
)
def test_a_header_that_lies(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with_header(folder, change)
    refuse(folder)


@pytest.mark.parametrize("length", [0, 7, 2**20, 2**40, 2**63, 2**64 - 1])
def test_a_header_of_another_length(folder: Path, length: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    assert "model.safetensors cannot be opened as a checkpoint: " in refuse(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_truncated_safetensors(folder: Path, share: float) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "model.safetensors cannot be opened as a checkpoint: " in refuse(folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (NAME, torch.full((1, 1, 16), float("nan")), "cls_token holds values that are not finite"),
        ("model.head.weight", torch.zeros(3, 16, dtype=torch.int8), "must hold floating-point numbers"),
        ("model.head.weight", torch.zeros(7, 16), "num_classes is 3, its head has 7"),
        ("model.head.weight", torch.zeros(3), "holds no classification head"),
        ("model.fixed_positional_encoder.positions", torch.rand(1, 64, 16), "not the fixed sine-cosine table"),
        ("model.fixed_positional_encoder.positions", torch.zeros(0), "not the fixed sine-cosine table"),
        ("model.extra_tokens", torch.zeros(1, 1, 0), "cls_token has shape (1, 1, 0)"),
    ],
)
def test_weights_that_are_none(folder: Path, name: str, value: torch.Tensor, message: str) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({**state, name: value}, folder / "model.safetensors")
    assert message in refuse(folder)


def pickled(mark: Path) -> bytes:
    return pickle.dumps(Reduce(leave, str(mark)))


def test_a_pickle_that_is_called_safetensors(folder: Path, tmp_path) -> None:
    (folder / "model.safetensors").write_bytes(pickled(tmp_path / "mark"))
    refuse(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "config.json is not the JSON of a model: "),
        ('{"a":' * 200_000, "config.json is not the JSON of a model: "),
        ("[]", "it holds a list, not a table"),
        ("", "config.json is not the JSON of a model: "),
        ('{"model_type": "eat", "model_type": "eat"}', "it names a key twice"),
        ('{"model_type": "eat", "norm_eps": NaN}', "NaN is no number of JSON"),
        ('{"depth": ' + "9" * 10_000 + "}", "config.json is not the JSON of a model: "),
        ('{"model_type": "bert"}', "neither of model_type 'eat' nor of this project"),
        ('{"model_type": ["eat"]}', "neither of model_type 'eat' nor of this project"),
        (" " * 9 * MEBIBYTE, "the JSON of a model takes at most"),
        ("\x80\x02cos\nsystem\n(S'touch mark'\ntR.", "config.json is not the JSON of a model: "),
    ],
    ids=lambda value: value[:12],
)
def test_a_configuration_that_is_none(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    assert message in refuse(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embed_dim": "16"}, "embed_dim must be a whole number, got '16'"),
        ({"embed_dim": 10**12}, "not the fixed sine-cosine table"),
        ({"depth": 10**9}, "depth"),
        ({"depth": True}, "depth must be a whole number, got True"),
        ({"patch_size": 0}, "stride is 16, only 0 is computed here"),
        ({"patch_size": 0, "stride": 0, "mel_bins": 0}, "patch_size must be at least 1, got 0"),
        ({"in_chans": 3}, "a spectrogram has one channel, got in_channels 3"),
        ({"mel_bins": 64}, "is not the fixed sine-cosine table of 4 patches along the mels"),
        ({"stride": 2}, "stride is 2, only 16 is computed here"),
        ({"num_classes": 10**9}, "num_classes is 1000000000, its head has 3"),
        ({"model_variant": "jailbreak"}, "model_variant must be one of 'pretrain', 'finetune', got 'jailbreak'"),
        ({"layer_norm_first": True}, "layer_norm_first is True, only False is computed here"),
        ({"qkv_bias": False}, "qkv_bias is False, only True is computed here"),
        ({"norm_eps": 1e999}, "config.json is not the JSON of a model"),
        ({"mlp_ratio": 10**300}, "mlp_ratio"),
        ({"sslam_lightning": "x"}, "must be a table of settings, got 'x'"),
    ],
    ids=str,
)
def test_settings_that_lie(folder: Path, settings: dict[str, Any], message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    assert message in refuse(folder)


def test_an_index_is_not_followed(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    os.replace(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index = {"weight_map": dict.fromkeys(state, "../outside.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "it holds no model.safetensors" in refuse(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_links_that_lead_out(folder: Path, tmp_path, name: str) -> None:
    os.replace(folder / name, tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    assert f"{name} is a link that leads out of its folder" in refuse(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert f"it holds no {name}" in refuse(folder)


def test_the_code_of_a_repository_is_not_run(folder: Path, tmp_path) -> None:
    code = f"open({str(tmp_path / 'mark')!r}, 'w').close()\n"
    for name in ("modeling_eat.py", "configuration_eat.py", "__init__.py", "setup.py", "conftest.py"):
        (folder / name).write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_eat.EATModel", "AutoConfig": "configuration_eat.EATConfig"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pytorch_model.bin").write_bytes(pickled(tmp_path / "mark"))
    done = convert(folder, tmp_path / "target")
    assert not (tmp_path / "mark").exists()
    assert done.unused == ()
    assert sorted(path.name for path in done.target.iterdir()) == ["README.md", "config.json", "model.safetensors"]
