import resource
import subprocess
import sys

import pytest

_FAULTS = """
import resource, torch
from sslam_lightning.host_memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.zeros(10_000_000)  # the heap grows by a few of them before it finds its freed ones
before = faults()
for _ in range(10):
    torch.zeros(10_000_000)  # 40 MB: above 32 MB glibc maps every block anew
print(faults() - before)
"""


def _page_faults(keep: bool) -> int:
    script = _FAULTS.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_pages_of_freed_tensors_are_used_again():
    pages = 10 * 40_000_000 // resource.getpagesize()
    assert _page_faults(keep=False) > 0.9 * pages
    assert _page_faults(keep=True) < 0.1 * pages
