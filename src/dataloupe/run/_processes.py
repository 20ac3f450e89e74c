"""Many processes on this machine, each with its own pipe: no queue, no lock, nothing shared but tensors."""

import collections
import contextlib
import dataclasses
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from torch.multiprocessing import get_context

from dataloupe._errors import BadInput, CapabilityError, TrainingError
from dataloupe.run._mapped import packed
from dataloupe.run._modules import loaded_files
from dataloupe.run._sendable import inspect_parcel
from dataloupe.run._worker import Answer, serve

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_MEMORY_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
"""A training frees and takes the same few megabytes at every step: glibc is told to keep them."""
_KEPT_BYTES = 1 << 30
_PATIENCE = 5.0
"""Seconds that a worker gets to end when it is told to."""
_IDLE = -1


class Processes:
    """Jobs in worker processes, `threads` threads each; as many workers as fit the cores unless told.

    Workers are spawned for each ``map`` and get the context once, its tensors in shared memory (of a mapped file: mapped
    again): they must not be written to. A job whose worker dies is tried once more. Results come in the order they end.

    Raises ``BadInput`` dl-651 (fewer than one worker or thread); ``map`` raises ``CapabilityError`` dl-650
    before any process starts (context or jobs that cannot travel), dl-657 (no shared memory), ``TrainingError`` dl-656 (a job whose
    worker died twice), and whatever a job raises, the worker's traceback as its note.

    >>> from operator import add
    >>> sorted(Processes(workers=2).map(add, 10, [1, 2, 3]))
    [(0, 11), (1, 12), (2, 13)]
    """

    def __init__(self, workers: int | None = None, threads: int = 1) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if threads < 1 or (workers is not None and workers < 1):
            raise BadInput(
                "dl-651",
                asked=f"{workers} workers of {threads} threads",
                found=f"a number below 1 (this machine lends {cores} cores)",
                do="ask for at least one of each, or leave them out",
            )
        self._workers, self._threads = workers or max(1, cores // threads), threads

    def __repr__(self) -> str:
        return f"Processes(workers={self._workers}, threads={self._threads})"

    @property
    def workers(self) -> int:
        """How many jobs run at once."""
        return self._workers

    @property
    def threads(self) -> int:
        """How many threads each may use."""
        return self._threads

    def map(
        self, work: Callable[[Any, Any], Any], context: Any, jobs: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        """``work(context, job)`` for every job, as (number of the job, result), in the order they end."""
        parcel = inspect_parcel({"work": work, "context": context, "jobs": list(jobs)})
        problem = parcel.problem
        if multiprocessing.current_process().daemon:
            problem = "a call from within a worker process, which starts no others"
        if problem is not None:
            raise CapabilityError(
                "dl-650",
                asked="work in other processes",
                found=problem,
                do="define it in a module or file that can be imported, or work in this process: dataloupe.run.Serial",
            )
        crew = _Crew(work, context, self._threads, parcel.needs_main)
        return _carry_out(crew, list(jobs), self._workers)


def _carry_out(crew: "_Crew", jobs: list[Any], workers: int) -> Iterator[tuple[int, Any]]:
    waiting = collections.deque(range(len(jobs)))
    deaths: collections.Counter[int] = collections.Counter()
    try:
        for _ in range(min(workers, len(jobs))):
            crew.hire()
        for worker in crew.workers:
            worker.give(waiting, jobs)
        while busy := [worker for worker in crew.workers if worker.job != _IDLE]:
            ready = wait([worker.pipe for worker in busy])
            for worker in (worker for worker in busy if worker.pipe in ready):
                answer = worker.answer()
                if answer is None:
                    waiting.appendleft(crew.bury(worker, deaths))
                    crew.hire().give(waiting, jobs)
                    continue
                if answer.error is not None:
                    answer.error.add_note(f"in a worker process:\n{answer.trace}")
                    raise answer.error
                worker.give(waiting, jobs)  # before the result is looked at: nobody idles meanwhile
                yield answer.number, answer.result
    finally:
        crew.dismiss()


@dataclasses.dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: int = _IDLE

    def give(self, waiting: collections.deque[int], jobs: list[Any]) -> None:
        """Hand the next job over, if there is one."""
        self.job = waiting.popleft() if waiting else _IDLE
        if self.job != _IDLE:
            with contextlib.suppress(ConnectionError):  # it died: its silence tells, in `answer`
                self.pipe.send_bytes(pickle.dumps((self.job, jobs[self.job])))

    def answer(self) -> Answer | None:
        """What it says; None if it is dead."""
        try:
            return pickle.loads(self.pipe.recv_bytes())
        except (EOFError, ConnectionError):
            return None


class _Crew:
    """The living workers of one ``map``."""

    def __init__(self, work: Callable[[Any, Any], Any], context: Any, threads: int, needs_main: bool) -> None:
        self.workers: list[_Worker] = []
        self._errand, self._threads, self._needs_main = (work, context), threads, needs_main

    def hire(self) -> _Worker:
        """A new process, with the context on its way."""
        ours, theirs = multiprocessing.Pipe()
        process = get_context("spawn").Process(
            target=serve, args=(theirs, self._threads, loaded_files()), daemon=True
        )
        with _surroundings(self._threads, self._needs_main):
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        try:
            with contextlib.suppress(ConnectionError):  # it died: its silence tells, in `answer`
                ours.send_bytes(packed(self._errand))
        except RuntimeError as error:  # torch's, where it shares tensors
            raise CapabilityError(
                "dl-657",
                asked="tensors in memory that processes share",
                found=str(error),
                do="give the machine more of it (docker run --shm-size=8g), or work in this process: dataloupe.run.Serial",
            ) from error
        return worker

    def bury(self, worker: _Worker, deaths: collections.Counter[int]) -> int:
        """Take a dead worker off the list; the job it had, to be tried once more, or ``TrainingError``."""
        self.workers.remove(worker)
        code = _end(worker)
        deaths[worker.job] += 1
        if deaths[worker.job] > 1:
            raise TrainingError(
                "dl-656",
                asked=f"job {worker.job} in a worker process",
                found=f"two workers that died of it, the last with {_exit_in_words(code)}",
                do="run it in this process (dataloupe.run.Serial) to see why; if memory ran out, use fewer workers",
            )
        return worker.job

    def dismiss(self) -> None:
        """End all workers at once: results have come home, and nothing else of theirs is kept."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            _end(worker)
        self.workers.clear()


def _end(worker: _Worker) -> int | None:
    """Wait for the end of a worker, and make sure of it; its exit code."""
    worker.pipe.close()
    worker.process.join(_PATIENCE)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    return worker.process.exitcode


def _exit_in_words(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"signal {name}" + (" (which the system sends when memory runs out)" if code == -9 else "")
    return f"exit code {code}"


@contextlib.contextmanager
def _surroundings(threads: int, needs_main: bool) -> Iterator[None]:
    """What a new process inherits: few threads, no Ctrl-C of its own, and the script only if it is needed.

    A spawned process imports the caller's script anew, which does the script's work again where it has no
    ``if __name__ == "__main__"``; a plain script must not need one to use the library.
    """
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _ctrl_c_later():
            yield from _dressed(threads, needs_main)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """A Ctrl-C that another thread takes would cut a start in two: it is kept until the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


def _dressed(threads: int, needs_main: bool) -> Iterator[None]:
    """The environment and the script that a new process sees, put back after."""
    before = {name: os.environ.get(name) for name in (*_THREAD_VARIABLES, *_MEMORY_VARIABLES)}
    main = sys.modules["__main__"]
    try:
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
        os.environ.update(dict.fromkeys(_MEMORY_VARIABLES, str(_KEPT_BYTES)))
        if not needs_main:
            sys.modules["__main__"] = types.ModuleType("__main__")
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
