"""The triton kernels give the answers of their plain references: on NumPy, in triton's interpreter, on a GPU."""

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import triton_on_numpy

from dataloupe import kernels
from dataloupe.kernels import _on_gpu, bucket_add, bucket_add_reference, fold_add
from dataloupe.solve import DenseSketch
from dataloupe.solve._sketch import hash_tables

FILE = Path(kernels.__file__).with_name("_triton_sketch.py")
TRITON = importlib.util.find_spec("triton") is not None
GPU = torch.cuda.is_available()
HOW = ["numpy", *["cuda" if GPU else "interpreter"] * TRITON]
SIZES = [(5, 300, 32), (1, 1, 1), (3, 40, 65), (6, 10, 200), (70, 130, 64)]


@pytest.fixture(params=HOW)
def fast(request, monkeypatch):
    """The kernels as one way of running them sees them, and the device that their tensors are on."""
    if request.param == "numpy":
        triton, language = triton_on_numpy.modules()
        monkeypatch.setitem(sys.modules, "triton", triton)
        monkeypatch.setitem(sys.modules, "triton.language", language)
    if request.param == "interpreter":
        from triton import knobs

        monkeypatch.setattr(knobs.runtime, "interpret", True)
    spec = importlib.util.spec_from_file_location(f"sketches_{request.param}", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return SimpleNamespace(
        module=module, device=torch.device("cuda" if request.param == "cuda" else "cpu"), how=request.param
    )


def given(b, p, d, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(b, p, generator=draws), torch.randn(b, d, generator=draws)


@pytest.mark.parametrize(("b", "p", "d"), SIZES)
@pytest.mark.parametrize("s", [1, 3])
def test_sums_into_buckets_have_the_bits_of_the_loop(fast, b, p, d, s):
    x, found = given(b, p, d)
    truth, plain = found.clone(), found.clone()
    found = found.to(fast.device)
    buckets, signs = hash_tables(1, s, d, p, torch.device("cpu"))
    for bucket, sign in zip(buckets, signs, strict=True):
        bucket_add(truth, x, bucket, sign)
        bucket_add_reference(plain, x, bucket, sign)
        fast.module.bucket_add(found, *(part.to(fast.device) for part in (x, bucket, sign)))
    if s == 1:
        assert torch.equal(found.cpu(), truth)
    torch.testing.assert_close(found.cpu(), truth, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.cpu(), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("b", "p", "d"), SIZES)
def test_signs_are_bit_for_bit_those_of_the_stream(fast, b, p, d):
    sketch, first = DenseSketch(d, seed=5), (1 << 33) + 7
    ids = torch.arange(p).numpy() + first
    found = torch.zeros(p, d, device=fast.device)
    fast.module.sign_add(found, torch.eye(p, device=fast.device), sketch._stream.key, first)
    assert torch.equal(found.sign().cpu(), sketch._drawn(ids))
    x, out = given(b, p, d)
    truth = out.double() + x.double() @ sketch._drawn(ids).double() / d**0.5
    out = out.to(fast.device)
    fast.module.sign_add(out, x.to(fast.device), sketch._stream.key, first)
    torch.testing.assert_close(out.cpu().double(), truth, rtol=1e-5, atol=1e-5)


def test_rows_in_other_layouts_and_types_and_some_rows_of_the_sums(fast):
    x, out = given(6, 50, 40)
    buckets, signs = (part[0] for part in hash_tables(0, 1, 40, 50, torch.device("cpu")))
    for rows in (x.T.contiguous().T, x.half(), x[:, ::2]):
        width = rows.shape[1]
        truth, found = out.clone(), out.clone().to(fast.device)
        bucket_add(truth[1:4], rows[1:4], buckets[:width], signs[:width])
        sizes = (rows.to(fast.device)[1:4], buckets[:width].to(fast.device), signs[:width].to(fast.device))
        fast.module.bucket_add(found[1:4], *sizes)
        assert torch.equal(found.cpu(), truth)
        sketch = DenseSketch(40)
        sketch._add(truth[1:4], rows[1:4], 3)
        fast.module.sign_add(found[1:4], rows.to(fast.device)[1:4], sketch._stream.key, 3)
        torch.testing.assert_close(found.cpu(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("b", "k", "c", "d"), [(3, 20, 30, 64), (2, 40, 65, 300), (1, 1, 1, 1), (2, 9, 200, 64), (4, 3, 300, 300)]
)
@pytest.mark.parametrize("shared", [*itertools.product([False, True], repeat=3)])
def test_a_fold_is_that_of_the_loop(fast, b, k, c, d, shared):
    draws = torch.Generator().manual_seed(b + k)
    rows = torch.randn(b, 1 if shared[0] else k, c, generator=draws)
    scales = torch.randn(1 if shared[1] else b, k, generator=draws)
    turns = torch.randint(d, (1 if shared[2] else b, k), generator=draws)
    signs, truth = torch.randn(c, generator=draws), torch.randn(b, 2 * d, generator=draws)[:, :d]
    found = truth.clone().to(fast.device)
    truth = truth.contiguous()
    fold_add(truth, rows, scales, turns, signs)
    fast.module.fold_add(found, *(part.to(fast.device) for part in (rows, scales, turns, signs)))
    torch.testing.assert_close(found.cpu(), truth, rtol=1e-4, atol=1e-4)


def test_a_fold_of_halves_into_some_lines_of_the_sums(fast):
    draws = torch.Generator().manual_seed(0)
    rows, scales = torch.randn(2, 5, 7, generator=draws).half(), torch.randn(1, 5, generator=draws)
    turns, signs = torch.randint(16, (1, 5), generator=draws), torch.ones(7)
    truth, found = torch.zeros(4, 16), torch.zeros(4, 16, device=fast.device)
    fold_add(truth[1:3], rows.mT.contiguous().mT, scales, turns, signs)
    fast.module.fold_add(found[1:3], *(part.to(fast.device) for part in (rows, scales, turns, signs)))
    torch.testing.assert_close(found.cpu(), truth, rtol=1e-5, atol=1e-5)


def test_nothing_to_add_changes_nothing(fast):
    out = torch.ones(0, 4, device=fast.device)
    nothing = torch.empty(0, dtype=torch.int64, device=fast.device)
    fast.module.bucket_add(out, torch.empty(0, 0, device=fast.device), nothing, nothing.float())
    some = torch.ones(3, 4, device=fast.device)
    fast.module.bucket_add(some, torch.empty(3, 0, device=fast.device), nothing, nothing.float())
    fast.module.sign_add(some, torch.empty(3, 0, device=fast.device), 1, 0)
    lines = torch.empty(1, 0, device=fast.device)
    fast.module.fold_add(some, torch.ones(3, 1, 2, device=fast.device), lines, lines.long(), some[0, :2])
    assert torch.equal(some.cpu(), torch.ones(3, 4))


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU, and computes here."""

    is_cuda = True
    device = torch.device("cuda")


@pytest.mark.parametrize("there", [True, False])
def test_a_tensor_on_a_gpu_goes_to_triton_if_it_is_there(monkeypatch, there):
    called = []
    note = ModuleType("note")
    note.bucket_add, note.fold_add, note.sign_add = (
        lambda *_: called.append("bucket"),
        lambda *_: called.append("fold"),
        lambda *given: called.append(given[2:]),
    )
    monkeypatch.setattr(_on_gpu, "_kernels", lambda: note if there else None)
    rows, (here, plain) = given(2, 50, 8)[0], torch.zeros(2, 2, 8)
    buckets, signs = (part[0] for part in hash_tables(0, 1, 8, 50, torch.device("cpu")))
    gpu = rows.as_subclass(OnGpu)
    bucket_add(here, gpu, buckets, signs)
    bucket_add_reference(plain, rows, buckets, signs)
    assert called == ["bucket"] * there
    assert torch.equal(here, torch.zeros(2, 8) if there else plain)
    called.clear()
    one, turn = torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64)
    fold_add(here, gpu[:, None], one, turn, torch.ones(50))
    assert called == ["fold"] * there
    called.clear()
    bucket_add(here, rows, buckets, signs)
    fold_add(here, rows[:, None], one, turn, torch.ones(50))
    DenseSketch(8)._add(here, rows, 3)
    assert called == []
    if there:
        DenseSketch(8)._add(here, gpu, 3)
        assert called == [(DenseSketch(8)._stream.key, 3)]
