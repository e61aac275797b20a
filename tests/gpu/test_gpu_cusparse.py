"""backend="cusparse" on a GPU. test_gpu.py compares its gradients with float64."""

import warnings

import pytest
import torch
from test_gpu import equal, net, plain_step, sparse, trained

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")


def operands(dtype=torch.float32):
    """Random sparse dy, x and w on the GPU."""
    sizes = ((4, 24, 9, 9), (4, 16, 9, 9), (24, 16, 3, 3))
    return [sparse(*size, dtype=dtype, seed=i).cuda() for i, size in enumerate(sizes)]


def gradients(tensors, backend):
    """dx and dw of one backward pass."""
    rest = ([1, 1], [1, 1], [1, 1], 1, [True, True, False], backend)
    return torch.ops.sparsetrain.conv2d_backward(*tensors, *rest)[:2]


def test_a_side_stream_gives_equal_gradients():
    tensors, stream = operands(), torch.cuda.Stream()
    expected = gradients(tensors, "cusparse")
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = gradients(tensors, "cusparse")
    torch.cuda.synchronize()
    assert equal(got, expected)


def test_deterministic_algorithms_change_nothing():
    """Deterministic mode also fills new memory with NaN, which shows unwritten elements."""
    tensors = operands(torch.bfloat16)
    expected = gradients(tensors, "cusparse")
    torch.use_deterministic_algorithms(True)
    try:
        assert equal(gradients(tensors, "cusparse"), expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_backward_waits_for_the_device_once():
    tensors = operands()
    gradients(tensors, "cusparse")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            gradients(tensors, "cusparse")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert ["synchronizing" in str(warning.message) for warning in caught] == [True]


def test_a_graph_captures_the_dense_gradients(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    tensors = operands()
    expected = gradients(tensors, "dense")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = gradients(tensors, "cusparse")
    graph.replay()
    assert equal(got, expected)


def test_a_model_trains():
    model = net(backend="cusparse")
    assert all(t.isfinite().all() for t in trained(model, 4, plain_step) if t.is_floating_point())
