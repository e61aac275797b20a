"""Arguments near 2^63 are refused, and tensors with more than 2^31 elements give right results.

The large tensors are zero except for a few values near their end. The operating system allocates
only the pages that are written, so they fit into memory.
"""

import os

import pytest
import torch
from torch.nn import functional as F

import sparsetrain
from sparsetrain import accel, explain, reference

X, W = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3)
LIMITS = {"stride": 1, "padding": 0, "dilation": 1}


@pytest.mark.parametrize("backend", ["sparse", "dense", "auto"])
@pytest.mark.parametrize("value", [2**31, 2**32 + 1, 2**61, 2**62, 2**63 - 1])
@pytest.mark.parametrize("name", LIMITS)
def test_numbers_that_would_overflow_are_refused(name, value, backend):
    sentence = (
        f"sparsetrain::conv2d: expected {name} to be two integers of at least {LIMITS[name]} and "
        f"below 2^31, got [1, {value}]"
    )
    with pytest.raises(ValueError) as error:
        sparsetrain.conv2d(X, W, **{name: (1, value)}, backend=backend)
    assert str(error.value) == sentence

    pairs = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], name: [1, value]}
    with pytest.raises(ValueError) as error:
        torch.ops.sparsetrain.conv2d_backward(
            X, X, W, *pairs.values(), 1, [True] * 3, backend, False
        )
    assert str(error.value) == sentence.replace("conv2d:", "conv2d_backward:")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**70])
@pytest.mark.parametrize("name", LIMITS)
def test_numbers_beyond_64_bits_are_refused(name, value):
    with pytest.raises(ValueError) as error:
        sparsetrain.conv2d(X, W, **{name: (1, value)})
    assert str(error.value) == (
        f"sparsetrain.conv2d: expected {name} to be integers below 2^31, got (1, {value})"
    )


def test_the_largest_accepted_arguments_give_the_results_of_pytorch():
    most = 2**31 - 1
    for arguments in (
        {"stride": most},
        {"stride": (most, 1), "padding": (most, 1)},
        {"dilation": (2**20, 1), "padding": (2**20, 1), "stride": (2**20, 1)},
    ):
        expected = F.conv2d(X.double(), W.double(), **arguments).float()
        for backend in ("sparse", "auto"):
            ours = sparsetrain.conv2d(X, W, **arguments, backend=backend)
            torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_a_kernel_of_2_to_the_31_rows_is_refused():
    tall = torch.zeros(1, 1, 1, 1).expand(1, 1, 2**31, 1)
    with pytest.raises(
        ValueError, match=r"expected the kernel to be two integers of at least 1 an"
    ):
        sparsetrain.conv2d(torch.zeros(1, 1, 4, 4), tall, dilation=2**30)


def reasons(*arguments, **options):
    return {choice.reason for choice in vars(explain(*arguments, **options)).values()}


def test_calls_whose_lists_need_more_than_32_bits_run_dense():
    """A row of 2^28 pixels of 16 channels has 2^32 elements; one of 2^26 fits."""
    too_large = "too large for lists that count in 32 bits"
    choice = explain((1, 16, 1, 2**28), (16, 16, 1, 1))
    for pass_choice in (choice.forward, choice.grad_input):
        assert (pass_choice.backend, pass_choice.reason) == ("dense", too_large)
    assert too_large not in reasons((1, 16, 1, 2**26), (16, 16, 1, 1))
    # grad_weight with stride 2, 32 x 32 outputs and 2^27 output channels.
    choice = explain((1, 16, 64, 64), (2**27, 16, 2, 2), stride=2).grad_weight
    assert (choice.backend, choice.reason) == ("dense", too_large)


def test_backend_sparse_refuses_a_call_whose_lists_need_more_than_32_bits():
    """The offsets of 2^22 taps for 16 output channels, 4 bytes each, need 17 x 2^28 bytes."""
    wide = torch.zeros(1, 1, 1, 2**22)
    with pytest.raises(ValueError) as error:
        sparsetrain.conv2d(wide, wide, backend="sparse")
    assert str(error.value) == (
        "sparsetrain::conv2d: expected a call on backend 'sparse' to be small enough for lists "
        "that count in 32 bits, got images 4194304 wide, kernels 4194304 wide and dilated by 1, 1. "
        "Use 'auto' or 'dense'"
    )
    assert reasons((1, 16, 1, 2**22), (16, 16, 1, 2**22)) == {"very wide kernels run dense"}


# Tensors past 2^31 elements


def memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


large = pytest.mark.skipif(
    memory() < 20, reason="tensors with more than 2^31 elements need 20 GB of memory"
)


@large
def test_pruning_past_2_to_the_31_elements():
    """The last elements get the random numbers that the reference draws for their positions."""
    n, tail, seed = 2**31 + 4096, 2048, 5
    grad = torch.zeros(n, dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    grad[-tail:] = torch.randn(tail, generator=generator).bfloat16()
    out = sparsetrain.prune(grad, 1.0, seed=seed)
    expected = reference.prune(grad[-tail:].clone(), 1.0, seed, offset=(n - tail) // 4)
    assert torch.equal(out[-tail:], expected) and 0 < expected.count_nonzero() < tail
    assert out[: 2**20].count_nonzero() == 0


@large
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_forward_past_2_to_the_31_elements(channels_last):
    """x has 16 x 16,400 x 8,192 elements, zero except for its last rows; y is small."""
    size, rows, arguments = (1, 16, 16_400, 8_192), 24, {"stride": (64, 64)}
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.zeros(size, dtype=torch.bfloat16)
    if channels_last:
        x = torch.zeros(1, *size[2:], 16, dtype=torch.bfloat16).movedim(-1, 1)
    generator = torch.Generator().manual_seed(0)
    end = torch.randn(1, 16, rows, size[3], generator=generator).bfloat16()
    x[:, :, -rows:] = end
    w = torch.randn(16, 16, 8, 8, generator=generator).bfloat16()
    y = sparsetrain.conv2d(x, w, **arguments, backend="sparse")
    assert x.numel() > 2**31 and y.is_contiguous(memory_format=memory_format)
    first = (size[2] - rows + 63) // 64  # the first output row that begins inside `end`
    skipped = first * 64 - (size[2] - rows)
    expected = F.conv2d(end[:, :, skipped:].double(), w.double(), **arguments)
    torch.testing.assert_close(y[:, :, first:].double(), expected, rtol=1e-2, atol=1e-2)
    assert expected.abs().max() > 1 and y[:, :, :first].count_nonzero() == 0

    run, dy = torch.ops.sparsetrain.conv2d_backward, torch.zeros_like(y)
    dy[:, :, first:] = torch.randn(expected.shape, generator=generator).bfloat16()
    rest = ([64, 64], [0, 0], [1, 1], 1, [True, True, False], "sparse")
    dx, dw, _ = run(dy, x, w, *rest)
    exact_dx, exact_dw, _ = run(
        dy[:, :, first:].double(), end[:, :, skipped:].double(), w.double(), *rest
    )
    torch.testing.assert_close(dw.double(), exact_dw, rtol=1e-2, atol=1e-1)
    assert exact_dw.abs().max() > 10 and exact_dx.abs().max() > 1
    reach = size[2] - rows + skipped
    torch.testing.assert_close(dx[:, :, reach:].double(), exact_dx, rtol=1e-2, atol=1e-2)
    assert dx[:, :, reach - 64 : reach].count_nonzero() == 0


def test_a_complex_convolution_is_recorded_as_the_real_convolutions_that_run():
    conv = torch.nn.Conv2d(3, 4, 3, dtype=torch.complex128)
    x = torch.randn(2, 3, 8, 8, dtype=torch.complex128)
    with accel.record(conv) as recording:
        conv(x).abs().sum().backward()
        with pytest.raises(NotImplementedError):  # PyTorch raises it too
            torch.convolution(x, conv.weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    layers = recording.workload().layers
    assert [(layer.N, layer.C, layer.K) for layer in layers] == [(2, 3, 4)] * 3
