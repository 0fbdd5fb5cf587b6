import subprocess
import sys

import pytest

_FAULTS = """
import resource, numpy
from sslam_lightning.runtime.malloc import keep_freed_memory
def faults():
    for _ in range(10):
        numpy.ones(10_000_000, numpy.float32)  # the heap grows by a few of them before it finds its freed ones
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        numpy.ones(10_000_000, numpy.float32)  # 40 MB: above 32 MB glibc maps every block anew
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
without = faults()
assert keep_freed_memory()
print(without, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_pages_of_freed_tensors_are_used_again():
    """R30: counted in a process of its own, and against itself, as pages are larger on some systems."""
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    without, keeping = map(int, done.stdout.split())
    assert without > 100
    assert keeping < 0.1 * without
