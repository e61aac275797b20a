"""Laws that every operator keeps as a citizen of PyTorch."""

import pytest
import torch

import sparsetrain  # noqa: F401  registers the operators


def samples():
    """Arguments for every operator, by its name."""
    g = torch.Generator().manual_seed(0)

    def leaf(*size):
        return torch.randn(size, generator=g).requires_grad_()

    geometry = ((1, 1), (1, 1), (1, 1), 1)
    state = torch.zeros(17, dtype=torch.float64)
    state[12] = 1.0  # the factor
    return {
        "conv2d": [
            (leaf(2, 4, 8, 8), leaf(8, 4, 3, 3), leaf(8), *geometry, backend)
            for backend in ("sparse", "dense")
        ],
        "conv2d_backward": [
            (leaf(2, 8, 8, 8), leaf(2, 4, 8, 8), leaf(8, 4, 3, 3), *geometry, mask, "sparse")
            for mask in ([True, True, True], [False, True, False])
        ],
        "prune": [(leaf(100), torch.tensor(1.0), torch.tensor([1, 2]))],
        "prune_step": [
            (leaf(100), state.clone()),
            (leaf(4, 6, 9)[1:, :, 2:].permute(2, 0, 1), state.clone()),
        ],
        "prune_grad": [(leaf(100), state.clone())],
        "observe": [(leaf(100), torch.zeros(3, dtype=torch.float64), 1)],
        "observe_grad": [(leaf(100), torch.zeros(3, dtype=torch.float64), 1)],
    }


def test_every_operator_has_samples():
    registered = torch._C._dispatch_get_all_op_names()
    ours = {name.split("::")[1] for name in registered if name.startswith("sparsetrain::")}
    assert ours == set(samples())


@pytest.mark.parametrize("name", samples())
def test_operators_pass_opcheck(name):
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if name != "conv2d_backward" or torch.__version__ >= "2.15":
        # torch 2.11's own double backward of a convolution asks symbolic sizes for a number.
        checks.append("test_aot_dispatch_dynamic")
    for arguments in samples()[name]:
        operator = getattr(torch.ops.sparsetrain, name).default
        torch.library.opcheck(operator, arguments, test_utils=checks)
