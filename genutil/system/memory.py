"""A limit on memory, so that what asks for more than there is fails at once instead of filling the machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KIB = 1024


def available() -> int | None:
    """Bytes that programs may still get on this machine; None where the system does not say."""
    return _from("/proc/meminfo", "MemAvailable")


@contextmanager
def bounded() -> Iterator[None]:
    """Within it this process gets no more memory than there is: what asks for more fails with an error of its library.

    Only on Linux; elsewhere nothing is bounded.
    """
    used, free = _from("/proc/self/status", "VmSize"), available()
    if used is None or free is None or not sys.platform.startswith("linux"):
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = [used + free, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory."""
    return isinstance(error, MemoryError) or bool(re.search(r"can't allocate memory|out of memory", str(error)))


def _from(place: str, name: str) -> int | None:
    try:
        text = Path(place).read_text()
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * KIB if found else None
