"""What a process and those that it started hold of the machine's memory, read often and cheaply; see proc(5)."""

from __future__ import annotations

import re
from pathlib import Path

#: Pages that are no file's: what is mapped from one can be dropped, and costs nobody its memory.
_OWN = re.compile(r"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB$", re.MULTILINE)
#: Processes that start processes that start processes: deeper ones are not looked for.
_DEPTH = 4


def own_bytes(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Memory of a process and of its descendants that is no file's, in bytes; `None` where it is gone, or the system
    does not tell."""
    found = _of_one(proc / str(pid))
    if found is None:
        return None
    children = _children(pid, proc)
    for _ in range(_DEPTH):
        if not children:
            break
        found += sum(_of_one(proc / str(child)) or 0 for child in children)
        children = [one for child in children for one in _children(child, proc)]
    return found


def _of_one(folder: Path) -> int | None:
    try:
        figures = _OWN.findall((folder / "status").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return 1024 * sum(map(int, figures)) if figures else None


def _children(pid: int, proc: Path) -> list[int]:
    """Those that its first thread has started: a library that starts processes does so from there."""
    try:
        text = (proc / str(pid) / "task" / str(pid) / "children").read_text()
    except OSError:  # gone, or a kernel that does not list them
        return []
    return [int(word) for word in text.split()]
