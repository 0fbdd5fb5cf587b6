"""Models by their Hub id through the Hub's own client, from a server on this machine that answers as the Hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from tiny import FRAMES, encoder

import sslam_lightning
from sslam_lightning.checkpoints import Weights, read_weights
from sslam_lightning.checkpoints.write import write_weights
from sslam_lightning.models import ClassificationHead, Encoder

pytest.importorskip("huggingface_hub")
HUB_ID, COMMIT = "someone/crows", "0123456789abcdef0123456789abcdef01234567"
_HERE = Path(__file__).parent


class Hub(ThreadingHTTPServer):
    """One repository; ``asked`` is the log."""

    def __init__(self, repository: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files = {path.name: path.read_bytes() for path in repository.iterdir()}
        self.asked: list[str] = []


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        name = path.removeprefix(f"/{HUB_ID}/resolve/{COMMIT}/")
        if path == f"/api/models/{HUB_ID}/tree/{COMMIT}":
            files = self.server.files.items()
            entries = [{"type": "file", "oid": COMMIT, "size": len(content), "path": file} for file, content in files]
            body, kind = json.dumps(entries).encode(), "application/json"
        elif path == f"/api/models/{HUB_ID}/revision/main":
            siblings = [{"rfilename": file} for file in self.server.files]
            about = {"_id": "1", "id": HUB_ID, "modelId": HUB_ID, "sha": COMMIT, "private": False, "siblings": siblings}
            body, kind = json.dumps({**about, "tags": [], "downloads": 0, "likes": 0}).encode(), "application/json"
        elif name in self.server.files:
            body, kind = self.server.files[name], "application/octet-stream"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for header, value in {
            "Content-Type": kind,
            "Content-Length": len(body),
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
        }.items():
            self.send_header(header, str(value))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def model() -> Weights:
    torch.manual_seed(3)
    parts = (Encoder(encoder()), ClassificationHead(32, 3, "cls"))
    student, head = ({name: value.detach() for name, value in part.state_dict().items()} for part in parts)
    features = {"num_frames": FRAMES, "mean": -5.0, "std": 4.0}
    return Weights("a model", encoder(), student, head=head, features=features, class_names=("crow", "dog", "rain"))


@pytest.fixture
def hub(model, tmp_path) -> Iterator[Hub]:
    """The model in the Hugging Face layout, among files that would leave a mark if they ran."""
    repository, mark = tmp_path / "repository", tmp_path / "mark"
    write_weights(model, repository, "eat_hf")
    config = json.loads((repository / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_eat.EATModel", "AutoConfig": "configuration_eat.EATConfig"}
    (repository / "config.json").write_text(json.dumps(config))
    for name in ("modeling_eat.py", "configuration_eat.py", "setup.py"):
        (repository / name).write_text(f"open({str(mark)!r}, 'w')\n")
    (repository / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch " + os.fsencode(mark) + b"'\ntR.")
    (repository / "README.md").write_text("# Crows\n")
    server = Hub(repository)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
    assert not mark.exists()


def use(folder: Path, home: Path, endpoint: str) -> str:
    folder.mkdir()
    path = os.pathsep.join([str(Path(sslam_lightning.__file__).parents[1]), str(_HERE), os.environ.get("PYTHONPATH", "")])
    unset = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "HF_HUB_OFFLINE"), "")
    done = subprocess.run(
        [sys.executable, str(_HERE / "hub_job.py"), HUB_ID, str(folder)],
        env={
            **os.environ,
            **unset,
            "PYTHONPATH": path,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "OMP_NUM_THREADS": "1",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_only_configuration_and_weights_are_fetched_once_and_nothing_runs(hub, model, tmp_path):
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    told = use(tmp_path / "first", tmp_path / "home", endpoint)
    count = len(model.student)
    assert told.splitlines()[-1] == f"{count} of {count} weights are the same"
    fetched = [line for line in hub.asked if line.startswith("GET") and "/resolve/" in line]
    assert sorted(fetched) == [f"GET /{HUB_ID}/resolve/{COMMIT}/{name}" for name in ("config.json", "model.safetensors")]
    touched = {line.rpartition("/")[2] for line in hub.asked if "/resolve/" in line}
    assert touched == {"config.json", "model.safetensors"}
    converted = read_weights(tmp_path / "first" / "converted")
    assert all(torch.equal(converted.student[name], value) for name, value in model.student.items())
    assert converted.class_names == model.class_names

    assert {line.split(" ")[1].split("/")[1] for line in hub.asked} == {"api", "someone"}
    hub.shutdown()  # without the server the cache serves
    hub.server_close()
    assert use(tmp_path / "second", tmp_path / "home", endpoint).splitlines()[-1] == told.splitlines()[-1]
