"""What every worker process of a pool does first."""

from __future__ import annotations

import os
import signal
from multiprocessing import parent_process
from threading import Thread


def follow_parent() -> None:
    """Leaves Ctrl-C to the parent and ends this process when the parent is gone.

    Ctrl-C reaches the whole process group, but only the parent knows what is to be finished. A
    parent that was killed cannot tell its workers, and they would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
