"""Records written into so many files of a folder, by several processes, whole or to be gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from data.record_descriptions import DESCRIPTION
from data.record_files import write_records
from data.record_makers import Records
from data.workers import end_with_parent, hear_signals, process_context, start_server

SHUFFLE_SEED = 2019


def shard_name(name: str, shard: int, shards: int) -> str:
    return f"{name}-{shard:05d}-of-{shards:05d}"


class Part(NamedTuple):
    """Records that belong into so many files of a folder."""

    folder: Path
    records: Records
    shards: int


def write_parts(
    out: Path,
    parts: Mapping[str, Part],
    *,
    processes: int = 1,
    progress: bool = True,
    **facts: Any,
) -> dict[str, int]:
    """Write the files of each part, such as train, that are not there yet, and beside them in `out` what they are.

    Every record is in one file. Training records are dealt out at random, always in the same way. Files appear whole;
    a call that was interrupted goes on with what is missing. Returns the number of records written of each part.

    Raises ValueError, before anything is written, where a folder holds files of that name made from other records or
    into another number, be it a file without a number.
    """
    for name, part in parts.items():
        count = len(part.records)
        if not 1 <= part.shards <= count:
            raise ValueError(f"{count} {name} records fit into 1 to {count} files, not {part.shards}")
    for name, part in parts.items():
        _check_plan(name, part)
    (out / DESCRIPTION).unlink(missing_ok=True)
    written = {name: _write_part(name, part, processes, progress) for name, part in parts.items()}
    describe(out, [part.folder / name for name, part in parts.items()], **facts)
    return written


def _write_part(name: str, part: Part, processes: int, progress: bool) -> int:
    count = len(part.records)
    # the newer generators may draw otherwise in another version of NumPy
    shuffled = np.random.RandomState(SHUFFLE_SEED).permutation
    order = shuffled(count) if name == "train" else np.arange(count)
    paths = [part.folder / shard_name(name, shard, part.shards) for shard in range(part.shards)]
    indices = np.array_split(order, part.shards)
    jobs = [(path, some) for path, some in zip(paths, indices, strict=True) if not path.exists()]
    missing = sum(len(some) for _, some in jobs)
    with tqdm(total=count, initial=count - missing, desc=name, unit="image", disable=not progress) as bar:
        for written in _written(part.records, jobs, processes):
            bar.update(written)
    return missing


def _check_plan(name: str, part: Part) -> None:
    """Note what the files are made from, or compare it with what was noted."""
    folder = part.folder
    folder.mkdir(parents=True, exist_ok=True)
    plan = {"records": len(part.records), "shards": part.shards, "made_from": part.records.fingerprint()}
    noted = folder / f".{name}.plan.json"
    found = [*folder.glob(f"{name}.tfrecord"), *sorted(folder.glob(f"{name}-*-of-*"))]
    known = False
    with suppress(FileNotFoundError, ValueError):  # a damaged note is none
        known = json.loads(noted.read_text(encoding="utf-8")) == plan
    if found and (not known or found[0].suffix == ".tfrecord"):
        raise ValueError(
            f"{folder} holds {found[0].name}, made from other images or into another number of files: "
            "remove these files, or write into another folder"
        )
    for path in folder.glob(f".{name}-*.tmp"):
        if _ended(path.name.split(".")[-2]):
            path.unlink(missing_ok=True)
    noted.write_text(json.dumps(plan), encoding="utf-8")


def _ended(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False


def check_no_shards(path: Path) -> None:
    """That a file which is to hold all records stands alone."""
    if found := sorted(path.parent.glob(f"{path.stem}-*-of-*")):
        raise ValueError(
            f"{path.parent} holds {found[0].name}, which would be read together with {path.name}: "
            "remove these files, or write into another folder"
        )


def _written(records: Records, jobs: Sequence[tuple[Path, np.ndarray]], processes: int) -> Iterator[int]:
    """How many records each finished file has, as they finish."""
    if processes <= 1 or len(jobs) <= 1:
        for path, indices in jobs:
            yield _write_shard(records, path, indices)
        return
    context = process_context()
    start_server()  # the pool would start one that hears signals, and it may serve a training next
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _begin, (records,)) as pool:
        futures: list[Future[int]] = [pool.submit(_work, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise ValueError("a writing process ended (out of memory?); call again to go on") from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_own: Records


def _begin(records: Records) -> None:
    global _own
    _own = records
    hear_signals()
    torch.set_num_threads(1)
    end_with_parent()


def _work(path: Path, indices: np.ndarray) -> int:
    return _write_shard(_own, path, indices)


def _write_shard(records: Records, path: Path, indices: np.ndarray) -> int:
    return write_records(path, (records.record(int(index)) for index in indices))


def describe(folder: Path, files: Sequence[Path], **facts: Any) -> None:
    """Note in a folder what a reader of the images wants to know: names of the classes, mean, deviation.

    `files` are those in it that this holds of, without the number of a shard and the suffix.
    """
    facts["files"] = [file.relative_to(folder).as_posix() for file in files]
    temporary = folder / f".{DESCRIPTION}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / DESCRIPTION)
