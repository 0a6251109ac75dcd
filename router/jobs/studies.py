"""Workers on one tuning study: who they are, who of them has ended, and more of them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # ships no types

from policies.studies import StudyPlace
from storage.studies import open_studies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.tuning import TuningTask

LEAVE_S = 30.0
"""How long a helper may take to end once the study is over."""


@contextmanager
def study_place(url: str, name: str | None = None, *, workers: int = 1) -> Iterator[StudyPlace]:
    """Give a place for a study in a database, worked on by ``workers`` >= 1 processes of ours."""
    with open_studies(url) as storage:
        helpers = partial(_helpers, url, workers - 1) if workers > 1 else None
        yield StudyPlace(storage, name, owner_name(), has_ended, helpers)


def owner_name() -> str:
    """Name this process among those that share a study."""
    return f"{socket.gethostname()}:{os.getpid()}"


def has_ended(owner: str) -> bool:
    """Whether a process of this host has ended; of other hosts only their silence tells.

    A trial is never looked at by the process that is running it: one of our own name was begun by
    an earlier process of the same number.
    """
    host, _, number = owner.rpartition(":")
    if host != socket.gethostname():
        return False
    if int(number) == os.getpid():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@contextmanager
def _helpers(url: str, count: int, name: str, task: TuningTask) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    crew = [
        context.Process(target=_help, args=(url, name, task), daemon=True) for _ in range(count)
    ]
    for helper in crew:
        helper.start()
    try:
        yield
        for helper in crew:
            helper.join(LEAVE_S)
    finally:
        for helper in crew:
            helper.terminate()
            helper.join()


def _help(url: str, name: str, task: TuningTask) -> None:
    with threadpool_limits(limits=1), study_place(url, name) as place:
        task.work(place, name)
