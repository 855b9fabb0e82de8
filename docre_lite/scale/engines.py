"""The workers that process parts: processes on this machine, or Ray's workers on a cluster."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context, parent_process
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ..support import DataError
from . import parts
from .parts import Job, Part, Source, parts_of


def with_processes(job: Job, missing: Iterable[Part], workers: int, threads: int | None) -> Iterator[dict[str, Any]]:
    """Processes as many parts at a time as there are workers, so that an interrupted run ends soon; one more waits."""
    threads = threads or max(1, torch.get_num_threads() // workers)
    spawn = get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, spawn, _begin, (threads, spawn.Value("i", 0))) as pool:
            running = set()
            for part in missing:
                if len(running) == workers:
                    ready, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in ready:
                        yield future.result()
                running.add(pool.submit(parts.work, job, part))
            for future in as_completed(running):
                yield future.result()
    except BrokenProcessPool:
        raise DataError(
            "a worker was killed, perhaps for lack of memory; run the same command again with fewer --workers or "
            "a smaller --batch-size: it continues where it stopped"
        ) from None


def _begin(threads: int, begun: Synchronized[int]) -> None:
    """A worker leaves interrupts to the first process, and ends with it even if that process is killed.

    Workers are spread over the GPUs of this machine in turn; `begun` counts them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def ray_library() -> ModuleType:
    try:
        import ray
        import ray.data
    except ImportError:
        raise ValueError("the engine 'ray' needs Ray: pip install 'docre_lite[ray]', or omit --engine") from None
    return ray


def with_ray(
    job: Job, sources: Sequence[Source], done: Mapping[str, Any], workers: int, threads: int | None = None
) -> Iterator[dict[str, Any]]:
    """Ray Data maps the same function over the same parts: tasks stream the inputs, actors with a model process parts.

    It runs on the cluster that `RAY_ADDRESS` or an earlier `ray.init` names, else on this machine. All machines must
    see the folders of model, inputs and output under the same paths.
    """
    ray = ray_library()
    job = replace(job, model=job.model.absolute(), out=job.out.absolute())  # Ray's processes start in other folders
    with _ray_data(ray, workers):
        gpus = int(ray.cluster_resources().get("GPU", 0))
        rows = [{**source.mark, "path": str(source.path)} for source in sources]
        # resources that differ from a worker's keep reading a separate task, and spread an input's parts over workers
        missing = ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(
            _ray_parts, fn_args=(job.settings["part_size"], frozenset(done)), num_cpus=0.5
        )
        found = missing.map(
            _RayWorker,
            fn_constructor_args=(job, threads),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_gpus=1 / math.ceil(workers / gpus) if gpus else None,  # for each worker; Ray hides the other GPUs
        )
        for row in found.iter_rows():
            if row["fault"]:
                raise DataError(row["fault"])
            yield json.loads(row["count"])


def _ray_parts(row: dict[str, Any], size: int, done: frozenset[str]) -> Iterator[dict[str, Any]]:
    source = Source(row["name"], Path(row["path"]), row["bytes"], row["sha256"])
    return ({"part": part} for part in parts_of(source, size) if part.name not in done)


class _RayWorker:
    def __init__(self, job: Job, threads: int | None):
        self.job = job
        torch.set_num_threads(threads or 1)

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        try:
            return {"count": json.dumps(parts.work(self.job, row["part"])), "fault": ""}
        except DataError as error:  # Ray would report it in many lines
            return {"count": "", "fault": str(error)}


@contextmanager
def _ray_data(ray, workers: int) -> Iterator[None]:
    """Sets Ray up for this job, and restores its settings afterwards."""
    begun = ray.is_initialized()
    if not begun:
        cluster = {} if "RAY_ADDRESS" in os.environ else {"address": "local", "num_cpus": workers + 1}
        ray.init(log_to_driver=False, **cluster)
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.target_max_block_size
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a part is a block, so that it goes to the next worker as soon as it is read
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size = before
        if not begun:
            ray.shutdown()
