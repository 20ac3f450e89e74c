"""Both runners keep the contract; and what happens to processes when something goes wrong."""

import dataclasses
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dataloupe._errors import BadInput, CapabilityError, TrainingError
from dataloupe.run import Processes, Serial, load_module, why_not_sendable
from dataloupe.run._processes import _exit_in_words, _surroundings
from dataloupe.testing._runner_contract import RunnerContract


class TestSerial(RunnerContract):
    def make(self) -> Serial:
        return Serial()


class TestProcesses(RunnerContract):
    def make(self) -> Processes:
        return Processes(workers=2)


# --- jobs --------------------------------------------------------------------------------------------------


def where_am_i(context: Any, job: int) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "threads": torch.get_num_threads(),
        "openmp": os.environ["OMP_NUM_THREADS"],
        "shared": context["x"].is_shared(),
        "main": hasattr(sys.modules["__main__"], "pytest"),
        "job": job,
    }


def die_once(folder: Path, job: int) -> int:
    """Job 1 kills its worker the first time; no exception, no farewell."""
    if job == 1 and not (folder / "died").exists():
        (folder / "died").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return job * 10


def die(code: int, job: int) -> int:
    if job == 1:
        os._exit(code)
    return job


class Unpackable(Exception):  # noqa: N818
    """Packs well and does not unpack, as many exceptions do."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail_oddly(_context: None, job: int) -> Any:
    if job == 0:
        raise Unpackable(1, 2)
    return threading.Lock()  # a result that cannot travel


def wait_for(context: Path, job: int) -> int:
    """Job 0 ends at once; any other only when somebody writes to the pipe."""
    if job:
        context.read_bytes()
    return job


# --- processes ---------------------------------------------------------------------------------------------


def test_workers_are_other_processes_with_few_threads_and_shared_tensors() -> None:
    found = [result for _, result in Processes(workers=2).map(where_am_i, {"x": torch.ones(3)}, [0, 1, 2])]
    assert sorted(result["job"] for result in found) == [0, 1, 2]
    assert os.getpid() not in {result["pid"] for result in found}
    expected = {"threads": 1, "openmp": "1", "shared": True, "main": False}
    assert all(expected.items() <= result.items() for result in found)


def test_a_job_whose_worker_dies_is_tried_once_more(tmp_path: Path) -> None:
    found = dict(Processes(workers=2).map(die_once, tmp_path, [0, 1, 2]))
    assert found == {0: 0, 1: 10, 2: 20}
    assert (tmp_path / "died").exists()


def test_a_job_that_kills_its_workers_is_named() -> None:
    with pytest.raises(TrainingError, match=r"dl-656.*job 1 .*two workers.*exit code 7.*Serial"):
        list(Processes(workers=1).map(die, 7, [0, 1]))


def test_exit_codes_in_words() -> None:
    assert _exit_in_words(-9) == "signal SIGKILL (which the system sends when memory runs out)"
    assert _exit_in_words(-11) == "signal SIGSEGV"
    assert _exit_in_words(1) == "exit code 1"


def test_what_cannot_travel_back_is_told_with_the_workers_traceback() -> None:
    with pytest.raises(TrainingError, match=r"dl-655.*Unpackable: 1 and 2") as told:
        list(Processes(workers=1).map(fail_oddly, None, [0]))
    assert "in fail_oddly\n    raise Unpackable(1, 2)" in told.value.__notes__[0]
    with pytest.raises(CapabilityError, match=r"dl-654.*lock"):
        list(Processes(workers=1).map(fail_oddly, None, [1]))


def test_a_consumer_that_stops_ends_the_workers(tmp_path: Path) -> None:
    """Ctrl-C, an error of the consumer, or a break: the generator closes, and no worker outlives it."""
    os.mkfifo(tmp_path / "never")
    results = Processes(workers=2).map(wait_for, tmp_path / "never", [0, 1, 2])
    assert isinstance(results, Iterator)
    assert next(results) == (0, 0)
    assert len(multiprocessing.active_children()) == 2
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


ORPHAN = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from dataloupe.run import Processes
import test_runners

def main():
    for number, _ in Processes(workers=1).map(test_runners.hold_open, Path({pipe!r}), [0, 1, 2, 3]):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    main()
"""
HELD = []


def hold_open(pipe: Path, job: int) -> int:
    """The worker holds a pipe open for as long as it lives."""
    if not HELD:
        HELD.append(os.open(pipe, os.O_WRONLY))
    return job


def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    script = ORPHAN.format(tests=str(Path(__file__).parent), pipe=str(pipe))
    (tmp_path / "parent.py").write_text(script)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"])
    end = os.open(pipe, os.O_RDONLY)  # waits until the worker opens it too
    try:
        assert parent.wait(60) == -signal.SIGKILL
        readable, _, _ = select.select([end], [], [], 60)  # the end of the file: nobody holds it any more
        assert readable
        assert os.read(end, 1) == b""
    finally:
        os.close(end)


def map_again(_context: None, job: int) -> list[Any]:
    return list(Processes(workers=1).map(die, 0, [job]))


def test_a_worker_starts_no_workers() -> None:
    with pytest.raises(CapabilityError, match=r"dl-650.*from within a worker"):
        list(Processes(workers=1).map(map_again, None, [0]))


def test_shared_memory_that_runs_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm)")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    with pytest.raises(CapabilityError, match=r"dl-657.*unable to allocate.*--shm-size"):
        list(Processes(workers=1).map(where_am_i, {"x": torch.ones(3)}, [0]))
    assert multiprocessing.active_children() == []


# --- what can travel ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Recipe:
    name: str
    make: Any


def test_what_cannot_travel_is_refused_before_any_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataloupe.run._processes.get_context", lambda *_: pytest.fail("a process started"))
    context = {"recipes": [Recipe("good", Recipe), Recipe("bad", lambda: None)]}
    with pytest.raises(
        CapabilityError, match=r"dl-650.*\['context'\]\['recipes'\]\[1\]\.make: a lambda.*define it in"
    ):
        Processes(workers=1).map(where_am_i, context, [0])
    with pytest.raises(CapabilityError, match=r"dl-650.*\['jobs'\]\[1\]"):
        Processes(workers=1).map(where_am_i, {}, [0, threading.Lock()])


def test_why_not_sendable_names_the_part() -> None:
    def local() -> None: ...

    assert why_not_sendable({"x": torch.ones(3), "f": os.path.join}) is None
    assert str(why_not_sendable(Recipe("x", local))).startswith(
        ".make: a function or class made inside another"
    )
    x = torch.ones(3, requires_grad=True)
    assert why_not_sendable(x) is None
    assert "gradient" in str(why_not_sendable([x * 2]))


def test_asking_copies_no_data() -> None:
    """A tensor of 4 TB, of which one number exists, can be asked about and not be copied."""
    assert why_not_sendable(torch.zeros(1).expand(10**12)) is None


def test_what_stands_in_the_script_needs_a_script_with_a_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker would run a script without a guard once more, and a prompt it cannot import at all."""
    made = type("Made", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Made", made, raising=False)
    script = tmp_path / "script.py"
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    assert "prompt or in a notebook" in str(why_not_sendable(made))
    script.write_text("work()\n")
    assert "no `if __name__" in str(why_not_sendable([made()]))
    guard = 'if __name__ == "__main__":'
    script.write_text(f"class Made: ...\n{guard}\n    work()\n")
    assert why_not_sendable([made()]) is None
    for hidden in (
        f"{guard}\n    class Made: ...",
        f"def main():\n    global Made\n    class Made: ...\n{guard}\n    main()",
    ):
        script.write_text(hidden)
        problem = str(why_not_sendable({"learner": made()}))
        assert "Made of the script" in problem and "top of the file" in problem


def test_a_file_that_works_while_it_is_imported_is_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "eager.py"
    file.write_text(
        "from dataloupe.run import why_not_sendable\n"
        "def make(): ...\n"
        "why = why_not_sendable({'make': make})\n"
    )
    eager = load_module(file)
    assert "['make']" in eager.why and "eager.py, which does its work while it is imported" in eager.why
    assert why_not_sendable({"make": eager.make}) is None


PLAIN_SCRIPT = """
from operator import mul
from pathlib import Path
with open({log!r}, "a") as log:
    log.write("ran\\n")
from dataloupe.run import Processes
assert sorted(Processes(workers=1).map(mul, 3, [1, 2])) == [(0, 3), (1, 6)]
"""


def test_a_plain_script_needs_no_guard_and_runs_once(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN_SCRIPT.format(log=str(tmp_path / "log")))
    subprocess.run([sys.executable, tmp_path / "plain.py"], check=True, timeout=60)
    assert (tmp_path / "log").read_text() == "ran\n"


def test_too_few_workers_or_threads_are_refused() -> None:
    for settings in ({"workers": 0}, {"threads": 0}, {"workers": -1}):
        with pytest.raises(BadInput, match="dl-651"):
            Processes(**settings)
    assert Processes().workers >= 1
    assert Processes(threads=10**6).workers == 1


# --- question files ----------------------------------------------------------------------------------------


def test_workers_import_question_files_again_and_refuse_changed_ones(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_fashion.py").write_text("FACTOR = 3\n")
    file = tmp_path / "fashion.py"
    file.write_text(
        "from neighbour_of_fashion import FACTOR\n\n\ndef work(context, job):\n    return FACTOR * context * job\n"
    )
    module = load_module(file)
    assert module.__name__.startswith("dataloupe_file_fashion_")
    assert dict(Processes(workers=1).map(module.work, 2, [5])) == {0: 30}
    file.write_text(file.read_text().replace("FACTOR *", "1 *"))
    with pytest.raises(BadInput, match=r"dl-653.*fashion\.py.*changed"):
        list(Processes(workers=1).map(module.work, 2, [5]))


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"dl-652.*no file at .*absent\.py"):
        load_module(tmp_path / "absent.py")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(BadInput, match=r"dl-652.*no \.py file"):
        load_module(tmp_path / "notes.txt")
    broken = tmp_path / "broken_question.py"
    broken.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_module(broken)
    broken.write_text("fine = True\n")
    assert load_module(broken).fine  # a failed import leaves nothing behind


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(f"which = {folder!r}\n")
    assert load_module(tmp_path / "one/same.py").which == "one"
    assert load_module(tmp_path / "two/same.py").which == "two"


def test_a_ctrl_c_that_another_thread_takes_waits_until_a_worker_has_started() -> None:
    """A signal goes to any thread that does not block it; Python then interrupts the main one, wherever it is."""
    release, reached = threading.Event(), False
    other = threading.Thread(target=release.wait)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        other.start()
        with pytest.raises(KeyboardInterrupt), _surroundings(1, needs_main=True):
            signal.pthread_kill(other.ident or 0, signal.SIGINT)
            release.set()
            other.join()  # it cannot end before it has taken the signal
            reached = True
        assert reached
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        release.set()
        signal.signal(signal.SIGINT, before)
