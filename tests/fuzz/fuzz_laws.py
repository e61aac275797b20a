"""What the fuzzer asserts of a call; every answer is torch's in float64 or the reference's bits."""

import math
import os
import warnings
from dataclasses import dataclass, field

import torch
from fuzz_cases import Conv, tensor
from torch.nn import functional as F

import sparsetrain
from sparsetrain import reference
from sparsetrain._native import _C
from sparsetrain.pruning import FACTOR, HEADER

ISAS = ("scalar", "avx2", "avx512")
NAMES = ("y", "dx", "dw", "db")
ROUNDOFF = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.bfloat16: 2.0**-8,
    torch.float16: 2.0**-11,
}
warnings.filterwarnings("ignore", "Using padding='same'")  # torch's, about its own copy of x


def findings(case):
    """Sentences about what is wrong with the answers to a case; normally none."""
    torch.set_num_threads(case.threads)
    before = os.environ.get("SPARSETRAIN_ISA")
    try:
        return _conv(case) if isinstance(case, Conv) else _prune(case)
    finally:
        os.environ.pop("SPARSETRAIN_ISA", None)
        if before is not None:
            os.environ["SPARSETRAIN_ISA"] = before


def every_isa(dtype):
    """Sets each instruction set that this machine has and that matters, and yields its name."""
    for isa in ISAS if dtype != torch.float64 else ("scalar",):
        os.environ["SPARSETRAIN_ISA"] = isa
        if _C.isa() == isa:
            yield isa


@dataclass
class Answer:
    """One result in float64: its value, sum |a b| of its terms, and where Inf and NaN reach."""

    value: torch.Tensor
    size: torch.Tensor
    terms: int
    reached: torch.Tensor | None = None  # a nonzero meets an Inf or a NaN
    open: torch.Tensor | None = None  # a zero may meet one, of the padding or of either operand
    bounds: dict[float, torch.Tensor] = field(default_factory=dict)  # of the error, by roundoff

    def bound(self, dtype, roundoff):
        """What a result may be off by.

        A sum of n products errs by at most n u / (1 - n u) sum |a b| (Higham 2002, section 3.1), in
        any order; each operation by half a denormal more where it underflows; the oracle by the
        same with its own u. The result is rounded to the storage type once.
        """
        if roundoff not in self.bounds:
            info, storage = torch.finfo(sums(dtype)), torch.finfo(dtype)
            n = self.terms + 1
            share = sum(n * u / (1 - n * u) for u in (roundoff, 2.0**-53))
            bound = share * self.size + n * info.smallest_normal * info.eps
            if dtype != sums(dtype):
                bound += ROUNDOFF[dtype] * (self.value.abs() + bound)
                bound += storage.smallest_normal * storage.eps
            self.bounds[roundoff] = bound
        return self.bounds[roundoff]


def sums(dtype):
    """What our kernels add in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _three_passes(convolve, x, w, b, dy, wanted=(True, True, True)):
    """[y, dx, dw, db], None for what is not wanted."""
    leaves = [t if t is None else t.detach().requires_grad_(g)
              for t, g in zip((x, w, b), wanted, strict=True)]  # fmt: skip
    y = convolve(*leaves)
    asked = [t for t in leaves if t is not None and t.requires_grad]
    given = iter(torch.autograd.grad(y, asked, dy) if asked else ())
    return [y.detach(), *(next(given) if t is not None and t.requires_grad else None
                          for t in leaves)]  # fmt: skip


class Oracle:
    """torch's convolution on contiguous, batched float64 copies."""

    def __init__(self, case, operands):
        self.arguments = {name: getattr(case, name) for name in
                          ("stride", "padding", "dilation", "groups")}  # fmt: skip
        x, w, b, dy = operands
        self.batched = x.dim() == 4
        lead = (lambda t: t) if self.batched else (lambda t: t[None])
        self.operands = [None if t is None else t.double().clone(
            memory_format=torch.contiguous_format) for t in (lead(x), w, b, lead(dy))]  # fmt: skip

    def convolve(self, x, w, b):
        return F.conv2d(x, w, b, **self.arguments)

    def passes(self, x, w, b, dy):
        results = _three_passes(self.convolve, x, w, b, dy)
        if self.batched:
            return results
        return [results[0][0], results[1][0], *results[2:]]

    def answers(self):
        """The four Answers, Inf and NaN among the operands taken for zeros."""
        finite = [None if t is None else t.nan_to_num(0, 0, 0) for t in self.operands]
        values = self.passes(*finite)
        sizes = self.passes(*(None if t is None else t.abs() for t in finite))
        x, w, _, dy = finite
        pixels = dy.numel() // dy.shape[1]
        terms = (1 + w[0].numel(), w[:, 0].numel() * x.shape[1], pixels, pixels)
        found = [None if v is None else Answer(v, s, n)
                 for v, s, n in zip(values, sizes, terms, strict=True)]  # fmt: skip
        if not all(t is None or t.isfinite().all() for t in self.operands):
            self._reach(found)
        return found

    def _reach(self, answers):
        """A pass skips the zeros of x (y), of dy (dx) or of the one it chose (dw); all else meets
        every Inf and NaN."""
        _, w, b, _ = self.operands
        full = [t if t is None else torch.ones_like(t) for t in self.operands]
        bad = [t if t is None else (~t.isfinite()).double() for t in self.operands]
        kept = [t if t is None else (t != 0).double() for t in self.operands]
        kept_meets_bad = self.passes(kept[0], bad[1], None, kept[3])[:2]
        bad_meets_all = self.passes(bad[0], full[1], None, bad[3])[:2]
        dw = [
            self.passes(a, w, None, b)[2] + self.passes(c, w, None, d)[2] > 0
            for a, b, c, d in (
                (bad[0], kept[3], full[0], bad[3]),  # the zeros of dy are skipped
                (bad[0], full[3], kept[0], bad[3]),  # those of x
            )
        ]
        reached = [a + c for a, c in zip(kept_meets_bad, bad_meets_all, strict=True)]
        if b is not None:
            reached[0] = reached[0] + bad[2][:, None, None]
        channels = bad[3].sum((0, 2, 3))
        for answer, counts in zip(answers, [*reached, dw[0] & dw[1], channels], strict=True):
            if answer is not None:
                answer.reached = counts > 0
        answers[2].open = (channels > 0)[:, None, None, None] | dw[0] | dw[1]
        if self.arguments["groups"] == 1:
            answers[2].open |= (bad[0].sum((0, 2, 3)) > 0)[None, :, None, None]


def _wrong(ours, answer, dtype, roundoff):
    """What is wrong with one result, or None."""
    if (answer.terms + 1) * roundoff >= 1:
        return None
    value, bound, got = answer.value, answer.bound(dtype, roundoff), ours.double()
    good = (got - value).abs() <= bound
    if answer.reached is None and good.all():
        return None
    # Beyond the range of storage it is Inf, beyond that of sums anything.
    good |= (got == value.sign() * math.inf) & (value.abs() + bound >= torch.finfo(dtype).max)
    good |= ~(answer.size < torch.finfo(sums(dtype)).max * 0.99)
    if answer.reached is not None:
        good = torch.where(answer.reached, ~got.isfinite(), good)
        if answer.open is not None:
            good |= answer.open & ~answer.reached
    if good.all():
        return None
    at = tuple((~good).nonzero()[0].tolist())
    reached = answer.reached is not None and bool(answer.reached[at])
    expected = "Inf or NaN" if reached else f"{value[at]:.9g} +- {bound[at]:.3g}"
    return f"{int((~good).sum())} of {good.numel()} wrong, at {at} {got[at]:.9g} for {expected}"


def _conv(case):
    operands = [None if o is None else tensor(o, case.dtype)
                for o in (case.x, case.w, case.bias, case.dy)]  # fmt: skip
    oracle = Oracle(case, operands)

    def run(**how):
        def convolve(x, w, b):
            return sparsetrain.conv2d(x, w, b, **oracle.arguments, **how)

        return _three_passes(convolve, *operands, case.wanted)

    if not case.valid and (message := _refusal(oracle, run)) is not None:
        return [message] if message else []
    answers = oracle.answers()
    kept = [None if t is None else t.clone() for t in operands]
    runs = [(f"sparse {isa}", run(backend="sparse")) for isa in every_isa(case.dtype)]
    runs += [(backend, run(backend=backend)) for backend in ("auto", "dense")]
    found = []
    for how, results in runs:
        for name, ours, answer, first in zip(NAMES, results, answers, runs[0][1], strict=True):
            if ours is None:
                continue
            message = _unlike(ours, first, answer, case.dtype)
            if not message and (roundoff := _roundoff(case, answers, how, name)):
                message = _wrong(ours, answer, case.dtype, roundoff)
            if message:
                found.append(f"{name} of {how}: {message}")
    found += _checked(case, oracle, run, runs[-1][1])
    if not all(a is None or _same(a, b) for a, b in zip(operands, kept, strict=True)):
        found.append("an operand was changed")
    return found


def _roundoff(case, answers, how, name):
    """The unit roundoff of a backend's sums; None where torch's own arithmetic is not judged.

    That is what its dense path makes of Inf and NaN, and 16-bit storage: it may add in that, and
    take denormals for zeros. The bias gradient is always torch's sum.
    """
    if how.startswith("sparse") and name != "db":
        return ROUNDOFF[sums(case.dtype)]
    scales = {o.scale for o in (case.x, case.w, case.bias, case.dy) if o is not None}
    plain = scales == {"normal"} or case.dtype in (torch.float32, torch.float64)
    judged = plain and all(a is None or a.reached is None for a in answers)
    return ROUNDOFF[case.dtype] if judged else None


def _unlike(ours, first, answer, dtype):
    """What is wrong with a result's form, or None: size, type, and the same order everywhere."""
    if ours.shape != answer.value.shape or ours.dtype != dtype:
        return f"{tuple(ours.shape)} {ours.dtype}, expected {tuple(answer.value.shape)} {dtype}"
    both = zip(ours.shape, ours.stride(), first.stride(), strict=True)
    if ours.numel() and any(n > 1 and a != b for n, a, b in both):
        return f"strides {ours.stride()}, another backend's are {first.stride()}"
    return None


def _refusal(oracle, run):
    """None when torch takes the call, else "" or what is wrong with our refusal.

    Images without channels or pixels are refused whatever torch does: it returns no output channels
    for the first, and takes the second in an empty batch only.
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


def _checked(case, oracle, run, dense):
    """With check_finite, calls that see an Inf or a NaN are the dense ones to the last bit."""
    x, w, _, dy = (t is None or bool(t.isfinite().all()) for t in oracle.operands)
    if x and w and dy:
        return []
    results = run(backend="sparse", check_finite=True)
    compared = slice(0 if not (x and w) else 1, 4)
    pairs = zip(NAMES[compared], results[compared], dense[compared], strict=True)
    return [f"{name} of check_finite is not the dense one" for name, ours, theirs in pairs
            if ours is not None and not _same(ours, theirs)]  # fmt: skip


def _same(a, b):
    """Whether two tensors hold the same numbers, NaN equal to NaN."""
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
    for isa in every_isa(torch.float32):
        out, stats = torch.ops.sparsetrain.prune(grad, threshold, rng)
        flat = out.as_strided((out.numel(),), (1,)) if dense else out.flatten()
        if out.shape != grad.shape or not _same(flat, expected):
            found.append(f"prune, {isa}: not the reference's bits")
        if not _same(stats, torch.tensor([total, *counts], dtype=torch.float64)):
            found.append(f"prune, {isa}: statistics {stats.tolist()}, expected {[total, *counts]}")
        found += [f"prune_step, {isa}: {message}" for message in _step(case, grad, expected, total)]
    return found


def _step(case, grad, expected, total):
    """A pruner whose past means say this threshold prunes the same, and remembers the call."""
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
