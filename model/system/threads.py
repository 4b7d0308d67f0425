"""MLX in threads and processes.

An array that is not evaluated belongs to the thread that made it. After a fork MLX's own threads stay behind in the
parent, and evaluating anything in the child would wait forever.
"""

from __future__ import annotations

import functools
import os
import signal
import time

import mlx.core as mx

LOADED_IN = os.getpid()
"""The process that imported this; another one has forked from it."""
_PATIENCE = 5.0


def evaluated(array: mx.array) -> mx.array:
    """Return the array, which any thread can use from now on."""
    mx.eval(array)
    return array


def check(made_in: int | None = None) -> None:
    """Raise RuntimeError, saying what to do, in a process forked from one that had used MLX.

    `made_in` is the process that evaluated a model's weights: MLX was used there.
    """
    here = os.getpid()
    if here == LOADED_IN and made_in in (None, here):
        return
    if made_in not in (None, here) or not _alive(here):
        raise RuntimeError(
            "this process was forked from one that had used MLX, whose threads did not survive that: the model cannot "
            "run here; start processes with multiprocessing.get_context('spawn'), and load the model in each"
        )


@functools.cache
def _alive(_: int) -> bool:
    """Tell whether MLX can evaluate anything in this process: a child of it tries, which may be killed if it hangs."""
    child = os.fork()
    if child == 0:
        try:
            mx.eval(mx.ones(1) + 1)
            os._exit(0)
        finally:
            os._exit(1)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False
