"""Signals that are only received."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from sslam_lightning import __main__
from sslam_lightning.runtime.signals import clear, install, kept_from_children, received


@pytest.fixture(autouse=True)
def _as_before():
    handlers = {wanted: signal.getsignal(wanted) for wanted in (signal.SIGUSR1, signal.SIGINT)}
    yield
    for wanted, handler in handlers.items():
        signal.signal(wanted, handler)
    clear()


def test_signals_are_noted_until_they_are_forgotten():
    install(signal.SIGUSR1)
    assert received() == frozenset()
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert received() == {signal.SIGUSR1}
    clear()
    assert received() == frozenset()


def test_a_second_ctrl_c_is_one():
    install(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_cannot_and_do_not_fail():
    before = signal.getsignal(signal.SIGUSR1)
    thread = threading.Thread(target=install, args=(signal.SIGUSR1,))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_child_does_not_get_them():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGUSR1); print('lives')"
    with kept_from_children(signal.SIGUSR1):
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "lives\n"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGUSR1


def test_a_job_of_slurm_listens_before_anything_is_imported():
    """A signal that comes while torch is imported would end the job for good."""
    code = """
import os, signal, sys
from sslam_lightning import cli
from sslam_lightning.__main__ import main
cli.run_trainer = lambda argv: os.kill(os.getpid(), signal.SIGTERM)
main(["fit"])
from sslam_lightning.runtime.signals import received
print([came.name for came in received()], "torch" in sys.modules)
"""
    environment = {**os.environ, "SLURM_JOB_ID": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "['SIGTERM'] False\n"), done.stderr
    del environment["SLURM_JOB_ID"]
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -signal.SIGTERM


def test_ctrl_c_ends_a_command_in_one_line(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.delenv("SSLAM_DEBUG", raising=False)
    monkeypatch.setattr(__main__, "main", interrupted)
    with pytest.raises(SystemExit) as left:
        __main__.console()
    assert left.value.code == 130
    assert capsys.readouterr().err == "sslam: interrupted\n"
