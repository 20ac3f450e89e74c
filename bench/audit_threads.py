"""Numbers that must not depend on threads, on death, or on what is set around a call; and what seeing to it costs.

    python bench/audit_threads.py [--quick]

- Labs of four threads, each with a job of its own, and four threads on one lab: every answer beside that of one thread alone.
- SIGKILL at random moments of a job (outcomes, TRAK, influence), again and again, then a rerun: every file of the store, by hash, and
  the answer, beside an undisturbed run. The killed processes are forked after the imports, so that they die at work.
- What a lab stores under autocast, no_grad, inference_mode, another default type or device, deterministic algorithms: beside nothing.
- The checks of a recipe (steps twice, plain torch, stacks, masked rows): seconds, beside those of 100 trainings.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn

import dataloupe as dl
from dataloupe.engine import Backend, Work, run_unit
from dataloupe.engine._training_checks import Pair, check_recipe
from dataloupe.store import open_store

THREADS = 4


def make_model():
    return nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))


def question() -> dl.Question:
    train, test = dl.data.digits()
    learner = dl.SGD(make_model, epochs=1, lr=0.1, momentum=0.9, batch_size=32, schedule="linear")
    return dl.Question(learner, train[:160], test[:8], dl.outputs.margin)


def lab(where: str | Path) -> dl.Lab:
    return dl.Lab(where, backend=Backend("stacked", group=4, threads=1, unit=4), progress=False)


def outcomes(where: str | Path, asked: dl.Question, seed: int = 1, count: int = 48) -> np.ndarray:
    return lab(where).outcomes(asked, dl.Subsets(n=asked.n, count=count, seed=seed), repeats=2).values


def trak(where: str | Path, asked: dl.Question) -> np.ndarray:
    return dl.TRAK(models=2, dim=128).attribute(asked, lab(where)).scores


def influence(where: str | Path, asked: dl.Question) -> np.ndarray:
    return dl.Influence(models=1).attribute(asked, lab(where)).scores


JOBS: dict[str, Callable[[str | Path, dl.Question], np.ndarray]] = {
    "outcomes": outcomes,
    "trak": trak,
    "influence": influence,
}


# --- threads -----------------------------------------------------------------------------------------------


def in_threads(work: Callable[[int], np.ndarray]) -> list[np.ndarray | Exception]:
    """What the work gives in each of four threads that begin together."""
    answers: list[np.ndarray | Exception] = [np.empty(0)] * THREADS
    together = threading.Barrier(THREADS)

    def one(i: int) -> None:
        together.wait()
        try:
            answers[i] = work(i)
        except Exception as error:
            answers[i] = error

    workers = [threading.Thread(target=one, args=(i,)) for i in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return answers


def wrong(answers: list[np.ndarray | Exception], alone: list[np.ndarray]) -> int:
    return sum(
        isinstance(one, Exception) or not np.array_equal(one, truth)
        for one, truth in zip(answers, alone, strict=True)
    )


def thread_rows(rounds: int) -> list[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        alone = [outcomes(root / f"alone {i}", question(), seed=i, count=12) for i in range(THREADS)]
        own = shared = 0
        for turn in range(rounds):
            one, asked = lab(root / f"{turn} shared"), question()

            def by_its_own(i: int, turn: int = turn) -> np.ndarray:
                return outcomes(root / f"{turn} {i}", question(), seed=i, count=12)

            def by_one(i: int, one: dl.Lab = one, asked: dl.Question = asked) -> np.ndarray:
                return one.outcomes(asked, dl.Subsets(n=asked.n, count=12, seed=i), repeats=2).values

            own += wrong(in_threads(by_its_own), alone)
            shared += wrong(in_threads(by_one), alone)
    total = rounds * THREADS
    return [
        (f"labs of {THREADS} threads, {rounds} rounds: wrong numbers or errors", "0", f"{own} of {total}"),
        (
            f"one lab of {THREADS} threads, {rounds} rounds: wrong numbers or errors",
            "0",
            f"{shared} of {total}",
        ),
    ]


# --- deaths ------------------------------------------------------------------------------------------------


def killed(name: str, where: Path, after: float | None) -> bool:
    """Whether a process at the job was still at work when it was killed; None lets it end."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            JOBS[name](where, question())
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def death_rows(kills: int) -> list[tuple[str, str, str]]:
    draws, hit, other, damaged, labs = random.Random(0), 0, 0, 0, 0
    sent = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        truth = {}
        for name, job in JOBS.items():
            answer = job(root / name, question())
            start = time.perf_counter()
            alive = killed(name, root / f"{name} again", None)  # what it takes after the first in a process
            truth[name] = (answer, open_store(root / name).digest(), time.perf_counter() - start)
            if alive or open_store(root / f"{name} again").digest() != truth[name][1]:
                raise SystemExit(f"the job {name} by itself does not end, or ends in other files")
        while hit < kills and sent < 10 * kills:
            name = list(JOBS)[labs % len(JOBS)]
            answer, digest, seconds = truth[name]
            where = root / f"{labs} killed"
            for _ in range(min(4, kills - hit)):
                sent += 1
                hit += killed(name, where, draws.uniform(0.0, seconds))
                if where.exists():
                    damaged += len(open_store(where).damaged())
            again = JOBS[name](where, question())
            other += not np.array_equal(again, answer) or open_store(where).digest() != digest
            labs += 1
    return [
        (
            f"{hit} kills at work (of {sent}) of {labs} labs: reruns whose answer or files differ",
            "0",
            str(other),
        ),
        (f"{hit} kills at work: damaged files", "0", str(damaged)),
    ]


# --- around a call -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def set_to(setter: Callable, value: object, back: object) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(back)


AROUND: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default dtype": lambda: set_to(torch.set_default_dtype, torch.float64, torch.float32),
    "default device": lambda: torch.device("meta"),
    "deterministic": lambda: set_to(torch.use_deterministic_algorithms, True, False),
    "matmul precision": lambda: set_to(torch.set_float32_matmul_precision, "medium", "highest"),
}


def around_rows() -> list[tuple[str, str, str]]:
    differ, asked = 0, question()
    with tempfile.TemporaryDirectory() as folder:
        for name, job in JOBS.items():
            plain = job(Path(folder) / name, asked)
            for setting, context in AROUND.items():
                with context():
                    differ += not np.array_equal(job(Path(folder) / f"{name} {setting}", asked), plain)
    tried = len(JOBS) * len(AROUND)
    return [(f"{tried} jobs under another state of torch: stored numbers that differ", "0", str(differ))]


# --- the price ---------------------------------------------------------------------------------------------


def price_rows(trainings: int) -> list[tuple[str, str, str]]:
    train, test = dl.data.digits()
    learner = dl.SGD(make_model, epochs=15, lr=0.1, momentum=0.9, batch_size=32)
    asked = dl.Question(learner, train, test[:100], dl.outputs.margin)
    subsets = dl.Subsets(n=asked.n, count=trainings)
    masks, seeds = subsets.masks(), [subsets.train_seed(k, 0) for k in range(trainings)]
    found = []
    for backend in (Backend("loop", unit=trainings), Backend("stacked", 32, unit=trainings)):
        start = time.perf_counter()
        run_unit(Work(asked, subsets, 1, backend, False), (0, trainings))
        middle = time.perf_counter()
        pair = Pair.of(learner, masks, seeds)
        check_recipe(asked, learner, pair, stacked=backend.kind == "stacked", same_size=True)
        checks = time.perf_counter() - middle
        found.append(f"{backend.kind} {100 * checks / (middle - start):.1f} %")
    return [(f"checks of a recipe beside {trainings} trainings (digits, 15 epochs)", "5 %", ", ".join(found))]


def measure(*, quick: bool) -> list[tuple[str, str, str]]:
    """What is measured, the bar, the measured value."""
    torch.set_num_threads(1)
    return [
        *thread_rows(5 if quick else 50),
        *death_rows(24 if quick else 200),
        *around_rows(),
        *price_rows(20 if quick else 100),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    for what, bar, value in measure(quick=parser.parse_args().quick):
        sys.stdout.write(f"{what}: {value} (bar: {bar})\n")
