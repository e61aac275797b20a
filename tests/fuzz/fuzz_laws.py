"""Judges one fuzzer case; expected values are PyTorch's in float64 or the reference's bits."""

import math
import warnings
from dataclasses import dataclass

import torch
from fuzz_cases import Conv, tensor
from torch.nn import functional as F

import sparsetrain
from sparsetrain import reference, testing
from sparsetrain._native import _C
from sparsetrain.pruning import FACTOR, HEADER
from sparsetrain.testing import RESULTS, ROUNDOFF, Operands, accumulation_dtype

INSTRUCTION_SETS = ("scalar", "avx2", "avx512")
warnings.filterwarnings("ignore", "Using padding='same'")  # PyTorch warns about copying x


def findings(case):
    """Sentences that say what is wrong with the results of a case; empty if nothing is."""
    torch.set_num_threads(case.threads)
    before = _C.isa()
    try:
        return _conv(case) if isinstance(case, Conv) else _prune(case)
    finally:
        _C.set_isa(before)


def every_instruction_set(dtype):
    """Selects each available instruction set in turn and yields its name.

    float64 has one implementation, so one instruction set is enough.
    """
    for name in INSTRUCTION_SETS if dtype != torch.float64 else ("scalar",):
        _C.set_isa(name)
        if _C.isa() == name:
            yield name


@dataclass
class Expected:
    """What one result must be.

    Attributes:
        exact: Value and error bound, with Inf and NaN of the operands replaced by 0.
        non_finite: Where a nonzero meets an Inf or a NaN: the result must not be finite there.
            None if all operands are finite.
        undecided: Where a zero of an operand or of the padding meets an Inf or a NaN: any result
            is accepted there. None if there is no such place.
    """

    exact: testing.Exact
    non_finite: torch.Tensor | None = None
    undecided: torch.Tensor | None = None


class Oracle:
    """PyTorch's convolution on contiguous, batched float64 copies of the operands."""

    def __init__(self, case, operands):
        names = ("stride", "padding", "dilation", "groups")
        self.geometry = {name: getattr(case, name) for name in names}
        self.batched = operands.input.dim() == 4
        self.operands = Operands(*(self._copy(t, i) for i, t in enumerate(operands)))

    def _copy(self, t, index):
        if t is None:
            return None
        is_image = index in (0, 3)
        t = t.double() if self.batched or not is_image else t.double()[None]
        return t.clone(memory_format=torch.contiguous_format)

    def convolve(self, x, w, b):
        return F.conv2d(x, w, b, **self.geometry)

    def passes(self, x, w, b, dy):
        """y, grad_input, grad_weight and grad_bias, without the batch dimension if unbatched."""
        results = testing.three_passes(self.convolve, Operands(x, w, b, dy))
        if self.batched:
            return results
        return [results[0][0], results[1][0], *results[2:]]

    def expected(self):
        """What y, grad_input, grad_weight and grad_bias must be."""
        finite = [None if t is None else t.nan_to_num(0, 0, 0) for t in self.operands]
        exact = testing.exact_results(Operands(*finite), **self.geometry)
        if not self.batched:
            for result in exact[:2]:
                result.value, result.magnitude = result.value[0], result.magnitude[0]
        expected = [None if result is None else Expected(result) for result in exact]
        if not all(t is None or t.isfinite().all() for t in self.operands):
            self._mark_non_finite(expected)
        return expected

    def _mark_non_finite(self, expected):
        """Sets `non_finite` and `undecided` of each result.

        A pass skips the zeros of one operand: the forward those of x, grad_input those of dy,
        grad_weight those of either. Every other value meets every Inf and NaN of its window. To
        find out which outputs are met, the passes run on indicators (1 where an operand is bad,
        where it is nonzero, or everywhere) and count.
        """
        _, w, b, _ = self.operands
        ones = [t if t is None else torch.ones_like(t) for t in self.operands]
        bad = [t if t is None else (~t.isfinite()).double() for t in self.operands]
        nonzero = [t if t is None else (t != 0).double() for t in self.operands]
        nonzero_meets_bad = self.passes(nonzero[0], bad[1], None, nonzero[3])[:2]
        bad_meets_any = self.passes(bad[0], ones[1], None, bad[3])[:2]
        met = [a + c for a, c in zip(nonzero_meets_bad, bad_meets_any, strict=True)]
        if b is not None:
            met[0] = met[0] + bad[2][:, None, None]
        if_zeros_of_dy_are_skipped = (
            self.passes(bad[0], w, None, nonzero[3])[2] + self.passes(ones[0], w, None, bad[3])[2]
        ) > 0
        if_zeros_of_x_are_skipped = (
            self.passes(bad[0], w, None, ones[3])[2] + self.passes(nonzero[0], w, None, bad[3])[2]
        ) > 0
        in_either_way = if_zeros_of_dy_are_skipped & if_zeros_of_x_are_skipped
        bad_channels = bad[3].sum((0, 2, 3))
        counts = [*met, in_either_way, bad_channels]
        for result, count in zip(expected, counts, strict=True):
            if result is not None:
                result.non_finite = count > 0
        # A kernel may compute a whole output channel of grad_weight, or a whole input channel
        # without groups, from padded copies: padding's zeros then meet the Inf.
        undecided = (bad_channels > 0)[:, None, None, None]
        undecided = undecided | if_zeros_of_dy_are_skipped | if_zeros_of_x_are_skipped
        if self.geometry["groups"] == 1:
            undecided = undecided | (bad[0].sum((0, 2, 3)) > 0)[None, :, None, None]
        expected[2].undecided = undecided


def _wrong_values(result, expected, dtype, roundoff):
    """What is wrong with the values of one result, or None."""
    exact = expected.exact
    if (exact.terms + 1) * roundoff >= 1:
        return None  # the error bound says nothing
    value, bound, got = exact.value, exact.error_bound(dtype, roundoff), result.double()
    good = (got - value).abs() <= bound
    if expected.non_finite is None and good.all():
        return None
    # A result beyond the range of storage is Inf; one beyond the range of the sums is anything.
    good |= (got == value.sign() * math.inf) & (value.abs() + bound >= torch.finfo(dtype).max)
    good |= ~(exact.magnitude < torch.finfo(accumulation_dtype(dtype)).max * 0.99)
    if expected.non_finite is not None:
        good = torch.where(expected.non_finite, ~got.isfinite(), good)
        if expected.undecided is not None:
            good |= expected.undecided & ~expected.non_finite
    if good.all():
        return None
    at = tuple((~good).nonzero()[0].tolist())
    non_finite = expected.non_finite is not None and bool(expected.non_finite[at])
    wanted = "Inf or NaN" if non_finite else f"{value[at]:.9g} +- {bound[at]:.3g}"
    return f"{int((~good).sum())} of {good.numel()} wrong, at {at} {got[at]:.9g} for {wanted}"


def _conv(case):
    drawn = (case.x, case.w, case.bias, case.dy)
    operands = Operands(*(None if o is None else tensor(o, case.dtype) for o in drawn))
    oracle = Oracle(case, operands)

    def run(**options):
        def convolve(x, w, b):
            return sparsetrain.conv2d(x, w, b, **oracle.geometry, **options)

        return testing.three_passes(convolve, operands, case.needs_grad)

    if not case.valid and (message := _refusal(oracle, run)) is not None:
        return [message] if message else []
    expected = oracle.expected()
    kept = [None if t is None else t.clone() for t in operands]
    runs = [(f"sparse {name}", run(backend="sparse")) for name in every_instruction_set(case.dtype)]
    runs += [(backend, run(backend=backend)) for backend in ("auto", "dense")]
    found = []
    first = runs[0][1]
    for backend, results in runs:
        for name, result, wanted, other in zip(RESULTS, results, expected, first, strict=True):
            if result is None:
                continue
            message = _wrong_form(result, other, wanted, case.dtype)
            if not message and (roundoff := _roundoff(case, expected, backend, name)):
                message = _wrong_values(result, wanted, case.dtype, roundoff)
            if message:
                found.append(f"{name} of {backend}: {message}")
    found += _check_finite(oracle, run, runs[-1][1])
    if not all(a is None or _same(a, b) for a, b in zip(operands, kept, strict=True)):
        found.append("an operand was changed")
    return found


def _roundoff(case, expected, backend, name):
    """The unit roundoff of a backend's sums; None if the values are not judged.

    PyTorch's dense arithmetic is not judged where an operand holds Inf or NaN. In 16 bits it is
    not judged for unusual scales either: it may add in 16 bits and flush subnormal numbers. The
    gradient of the bias is always PyTorch's sum.
    """
    if backend.startswith("sparse") and name != "grad_bias":
        return ROUNDOFF[accumulation_dtype(case.dtype)]
    scales = {o.scale for o in (case.x, case.w, case.bias, case.dy) if o is not None}
    usual = scales == {"normal"} or case.dtype in (torch.float32, torch.float64)
    judged = usual and all(e is None or e.non_finite is None for e in expected)
    return ROUNDOFF[case.dtype] if judged else None


def _wrong_form(result, other, expected, dtype):
    """What is wrong with shape, dtype or strides of a result, or None.

    Every backend must return the strides that the first one (`other`) returns.
    """
    shape = expected.exact.value.shape
    if result.shape != shape or result.dtype != dtype:
        return f"{tuple(result.shape)} {result.dtype}, expected {tuple(shape)} {dtype}"
    sizes_and_strides = zip(result.shape, result.stride(), other.stride(), strict=True)
    if result.numel() and any(n > 1 and a != b for n, a, b in sizes_and_strides):
        return f"strides {result.stride()}, another backend's are {other.stride()}"
    return None


def _refusal(oracle, run):
    """None if PyTorch accepts the call, else "" or what is wrong with our refusal.

    Images without channels or pixels must be refused whatever PyTorch does: it returns no output
    channels for the former, and accepts the latter in an empty batch only.
    """
    x, w, b, _ = oracle.operands
    try:
        if 0 not in x.shape[1:] and oracle.convolve(x, w, b).numel() >= 0:
            return None
    except RuntimeError:
        pass
    try:
        run(backend="auto")
    except (ValueError, TypeError) as error:
        return "" if str(error).startswith("sparsetrain") else f"refused by {error}"
    return "torch refuses this call, sparsetrain does not"


def _check_finite(oracle, run, dense):
    """With check_finite=True, calls whose operands hold Inf or NaN equal the dense ones bit by bit.

    The forward reads x and w, the backward also dy.
    """
    x, w, _, dy = (t is None or bool(t.isfinite().all()) for t in oracle.operands)
    if x and w and dy:
        return []
    results = run(backend="sparse", check_finite=True)
    compared = slice(0 if not (x and w) else 1, 4)
    triples = zip(RESULTS[compared], results[compared], dense[compared], strict=True)
    return [
        f"{name} of check_finite is not the dense one"
        for name, result, other in triples
        if result is not None and not _same(result, other)
    ]


def _same(a, b):
    """Whether two tensors are equal; NaN equals NaN."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _prune(case):
    grad = tensor(case.grad, case.dtype)
    dense = torch.ops.aten.is_non_overlapping_and_dense(grad)
    memory = grad.as_strided((grad.numel(),), (1,), grad.storage_offset()) if dense else (
        grad.contiguous().flatten())  # fmt: skip
    expected = reference.prune(memory, case.threshold, case.seed, case.offset)
    total = reference.abs_sum(memory) if memory.numel() else 0.0
    counts = [int((t != 0).sum()) for t in (memory, expected)]
    rng = torch.tensor([case.seed, case.offset])
    threshold = torch.tensor(case.threshold, dtype=torch.float64)
    found = []
    for isa in every_instruction_set(torch.float32):
        out, stats = torch.ops.sparsetrain.prune(grad, threshold, rng)
        flat = out.as_strided((out.numel(),), (1,)) if dense else out.flatten()
        if out.shape != grad.shape or not _same(flat, expected):
            found.append(f"prune, {isa}: not the reference's bits")
        if not _same(stats, torch.tensor([total, *counts], dtype=torch.float64)):
            found.append(f"prune, {isa}: statistics {stats.tolist()}, expected {[total, *counts]}")
        found += [f"prune_step, {isa}: {message}" for message in _step(case, grad, expected, total)]
    return found


def _step(case, grad, expected, total):
    """Judges `prune_step` with a history whose mean gives the case's threshold.

    Yields a sentence for each fault: other bits than the reference's, or a wrong new state.
    """
    if grad.numel() == 0 or not (case.threshold >= 0 and math.isfinite(2 * case.threshold)):
        return
    state = torch.zeros(HEADER + 2, dtype=torch.float64)
    state[0], state[1], state[2], state[FACTOR] = case.seed, case.offset, 2, 1.0
    state[HEADER:] = case.threshold
    out = torch.ops.sparsetrain.prune_step(grad, state)
    if not _same(out.as_strided((out.numel(),), (1,)) if out.stride() == grad.stride() else
                 out.flatten(), expected):  # fmt: skip
        yield "not the reference's bits"
    pushed = math.isfinite(total)
    if state[1] != case.offset + (grad.numel() + 3) // 4 or state[2] != 2 + pushed:
        yield f"offset {state[1]} and pushes {state[2]} afterwards"
    if pushed and state[HEADER] != total / grad.numel():
        yield f"mean |g| {state[HEADER]}, expected {total / grad.numel()}"
