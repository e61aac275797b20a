"""Pruning gives equal bits with every instruction set, for any bits of the gradient."""

import pytest
import torch
from helpers.instruction_sets import instruction_set

import sparsetrain  # noqa: F401  registers the operators

CHUNK = 2048  # elements that the vector versions process at a time
PATTERNS = {
    torch.float32: (torch.int32, 2**31),
    torch.bfloat16: (torch.int16, 2**15),
    torch.float16: (torch.int16, 2**15),
}


@pytest.mark.parametrize("dtype", PATTERNS)
@pytest.mark.parametrize(
    "offset", [0, 2**32 - 300, 2**40 + 7]
)  # the second wraps the lower half of the counter
@pytest.mark.parametrize("scale", [0.0, 0.5, 1e30, 3e-39])
def test_pruning_gives_equal_bits_with_every_instruction_set(dtype, offset, scale):
    integer, most = PATTERNS[dtype]
    generator = torch.Generator().manual_seed(offset % 1000)
    bits = torch.randint(-most, most, (3 * CHUNK + 77,), generator=generator).to(integer)
    grad = torch.cat([bits.view(dtype), torch.randn(2 * CHUNK, generator=generator).to(dtype)])
    threshold = torch.tensor(scale, dtype=torch.float64)
    rng = torch.tensor([12345678901, offset])
    results = {}
    for isa in ("scalar", "avx2", "avx512"):
        with instruction_set(isa):  # the best available one instead of one that is missing
            finite = grad.where(grad.isfinite(), torch.zeros_like(grad))
            results[isa] = [
                part.view(kind).clone()
                for given in (grad, finite)
                for part, kind in zip(
                    torch.ops.sparsetrain.prune(given, threshold, rng),
                    (integer, torch.int64),
                    strict=True,
                )
            ]
    for isa in ("avx2", "avx512"):
        out, stats, finite_out, finite_stats = results[isa]
        assert torch.equal(out, results["scalar"][0])
        assert torch.equal(
            stats[1:], results["scalar"][1][1:]
        )  # the counts; the sum of |g| is not finite
        assert torch.equal(finite_out, results["scalar"][2])
        assert torch.equal(finite_stats, results["scalar"][3])
