"""What runs in a worker process. Plain pickle carries jobs and results; the context shares its tensors."""

import pickle
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from dataloupe._errors import CapabilityError, TrainingError
from dataloupe.run._modules import LoadedFile, load_again


class Answer(NamedTuple):
    """What a worker says of a job: its result, or the exception with its traceback as text."""

    number: int
    result: Any = None
    error: Exception | None = None
    trace: str = ""


def serve(pipe: Connection, threads: int, files: list[LoadedFile]) -> None:
    """Work until the pipe closes: it does when the parent ends, however it ends."""
    try:
        torch.set_num_threads(threads)
        try:
            load_again(files)
            work, context = _unpacked(pipe.recv_bytes())
        except (EOFError, ConnectionError):
            return
        except Exception as error:  # travels to the parent, which raises it
            pipe.send_bytes(_packed_error(-1, error))
            return
        while True:
            number, job = pickle.loads(pipe.recv_bytes())
            pipe.send_bytes(_done(work, context, number, job))
    except (EOFError, ConnectionError):
        return


def _unpacked(data: bytes) -> Any:
    """The work and its context. Raises ``CapabilityError`` dl-650 for what this process does not find."""
    try:
        return pickle.loads(data)
    except (AttributeError, ImportError) as error:
        raise CapabilityError(
            "dl-650",
            asked="work in other processes",
            found=f"{error}: a worker does not find it when it imports the files of this run",
            do="define it at the top of a module or file, or work in this process: dataloupe.run.Serial",
        ) from error


def _done(work: Any, context: Any, number: int, job: Any) -> bytes:
    try:
        return _packed(Answer(number, work(context, job)))
    except Exception as error:  # travels to the parent, which raises it
        return _packed_error(number, error)


def _packed(answer: Answer) -> bytes:
    try:
        return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # whatever the result's own packing raises
        raise CapabilityError(
            "dl-654",
            asked=f"the result of job {answer.number} from a worker process",
            found=f"a {type(answer.result).__name__} that cannot be pickled ({error})",
            do="return arrays, numbers, text, or objects of a class that stands in a file",
        ) from error


def _packed_error(number: int, error: Exception) -> bytes:
    trace = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps(Answer(number, error=error, trace=trace))
        pickle.loads(packed)  # many exceptions pack well and do not unpack
        return packed
    except Exception:  # then a plain one says the same
        plain = TrainingError(
            "dl-655",
            asked=f"job {number} in a worker process",
            found=f"{type(error).__qualname__}: {error}",
            do="see the worker's traceback below",
        )
        return pickle.dumps(Answer(number, error=plain, trace=trace))
