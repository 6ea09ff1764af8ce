"""Profiles made on the way: for a model that has none, from the inputs that it is fed with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from dpred_sim.cache import cache_folder
from dpred_sim.errors import InputError
from dpred_sim.workload.capture import Subject, key_of
from dpred_sim.workload.profile import SUFFIX, read_profile, write_profile
from dpred_sim.workload.profile_search import LEAST_INPUTS, Report, profile_model

SEARCH = 1
"""Part of every key: raise it when the search finds other profiles."""


def profile_of(subject: Subject) -> Path | None:
    """The file of a profile of a subject on its own inputs, from the cache or made now.

    Shows on stderr what is being done: it takes seconds to minutes. None for fewer than `LEAST_INPUTS`
    inputs. Raises InputError for what is wrong with model or inputs, and a cache that cannot be written.
    """
    if len(subject.inputs) < LEAST_INPUTS:
        return None
    path = cache_folder("profiles", key_of([subject.key, SEARCH])[:32], f"{subject.name}{SUFFIX}")
    try:
        read_profile(path)
        return path
    except InputError:
        # Not there, or damaged.
        pass
    show, close = progress()
    show(f"{subject.name} has no profile: one is made on {len(subject.inputs)} inputs")
    try:
        found = profile_model(subject, report=show)
    finally:
        close()
    try:
        write_profile(path, found)
    except OSError as error:
        raise InputError(
            f"the profile cannot be kept: {error.strerror}",
            file=path,
            allowed="a cache folder that can be written ($DPRED_SIM_CACHE), or --quantise full_range",
        ) from None
    return path


def progress() -> tuple[Report, Callable[[], None]]:
    """Progress of a search on stderr, and what ends it.

    One line that is written over on a terminal, else every tenth line.
    """
    stream, lines = sys.stderr, 0
    terminal = stream is not None and stream.isatty()

    def report(line: str) -> None:
        nonlocal lines
        lines += 1
        if terminal:
            print(f"\r\x1b[2K{line[:78]}", end="", file=stream, flush=True)
        elif stream is not None and (lines % 10 == 1 or line.startswith("all together")):
            print(line, file=stream, flush=True)

    def close() -> None:
        if terminal:
            print("\r\x1b[2K", end="", file=stream, flush=True)

    return report, close
