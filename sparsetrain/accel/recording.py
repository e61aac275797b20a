"""Recorder, record and workload: the convolutions of a training step, seen at operator level."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sparsetrain.accel.layers import Layer, Workload, link_neighbors
from sparsetrain.accel.nonzero_maps import NonzeroMaps, begin_nonzero_maps, maps_of, trace_of

# Below autograd every convolution of a model is one of these operators. A dispatch mode does not
# see the operators that they call in turn (cuDNN, oneDNN), so no convolution is counted twice.
_FORWARD = {"aten::convolution", "aten::convolution_overrideable", "sparsetrain::conv2d"}
_BACKWARD = {
    "aten::convolution_backward",
    "aten::convolution_backward_overrideable",
    "sparsetrain::conv2d_backward",
}


def _arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the arguments of a call by name.

    A dispatch mode does not get arguments that equal their default; they come from the schema.
    """
    schema = func._schema.arguments
    given = {argument.name: argument.default_value for argument in schema}
    given.update(zip(given, args, strict=False))
    return given | (kwargs or {})


@dataclass
class _Call:
    """One convolution of the step, without its tensors.

    Attributes:
        weight: The identity of the weight.
        input_shape: [N,C,H,W].
        weight_shape: [K,C/groups,R,S].
        geometry: Stride, padding and dilation as pairs.
        groups: Groups of the convolution.
        x: Returns the nonzeros of x; None on the meta device.
        dy: Returns the nonzeros of dy; None on the meta device and before the backward.
        output_mask: Whether the backward computes (grad_input, grad_weight); None before it.
    """

    weight: int
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    geometry: dict[str, Any]
    groups: int
    x: Callable[[], NonzeroMaps] | None
    dy: Callable[[], NonzeroMaps] | None = None
    output_mask: tuple[bool, bool] | None = None


def _pair(value: Any) -> tuple[int, int]:
    numbers = [int(v) for v in value]
    return (numbers[0], numbers[-1])


def _is_compiled(model: nn.Module) -> bool:
    compiled: type = torch._dynamo.eval_frame.OptimizedModule
    return any(
        isinstance(m, compiled) or m._compiled_call_impl is not None for m in model.modules()
    )


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager that records the convolutions of one forward and backward.

    Use `record` to make one.

    Args:
        model: The model that runs inside the context. Its parameters name the layers.
        images: The number of images whose nonzeros are kept as bits.
        linear: Whether linear layers are recorded as 1 x 1 convolutions.

    Raises:
        ValueError: The model is compiled.
    """

    def __init__(self, model: nn.Module, images: int = 4, *, linear: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if _is_compiled(model):
            raise ValueError(
                "sparsetrain.accel.record: expected a model to be uncompiled, got a compiled one, "
                "whose operators cannot be seen. Record the original model"
            )
        self._names = {_identity(p): name for name, p in _weights(model)}
        self._linear = [m for m in model.modules() if linear and type(m) is nn.Linear]
        self._hooks: list[Any] = []
        self._images = images
        self._calls: list[_Call] = []
        self._renamed: dict[int, int] = {}  # identity of an autocast copy -> of the parameter

    def __enter__(self) -> "Recorder":
        super().__enter__()  # type: ignore[no-untyped-call]
        self._hooks = [m.register_forward_hook(self._linear_call) for m in self._linear]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._renamed.clear()
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = func._schema.name
        if name in _FORWARD:  # counted before the call, while x and dy are still in the caches
            self._forward(_arguments(func, args, kwargs))
        elif name in _BACKWARD:
            self._backward(_arguments(func, args, kwargs))
        out = func(*args, **(kwargs or {}))
        if name == "aten::_to_copy" and _identity(args[0]) in self._names:
            self._renamed[_identity(out)] = _identity(args[0])
        return out

    def _weight(self, weight: Tensor) -> int:
        return self._renamed.get(_identity(weight), _identity(weight))

    def _begin(self, tensor: Tensor) -> Callable[[], NonzeroMaps] | None:
        return None if tensor.is_meta else begin_nonzero_maps(tensor, self._images)

    def _forward(self, a: dict[str, Any]) -> None:
        x, weight = a["input"], a["weight"]
        if weight.dim() != 4 or a.get("transposed", False) or weight.is_complex():
            return
        x = x if x.dim() == 4 else x.unsqueeze(0)
        self._calls.append(
            _Call(
                weight=self._weight(weight),
                input_shape=tuple(x.shape),
                weight_shape=tuple(weight.shape),
                geometry={key: _pair(a[key]) for key in ("stride", "padding", "dilation")},
                groups=int(a["groups"]),
                x=self._begin(x),
            )
        )

    def _linear_call(self, module: nn.Linear, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        # [N, features] becomes [N, C, 1, 1], and [N, tokens, features] becomes [N, C, 1, tokens].
        # Nothing prunes inside a linear layer, so its kernels read the gradient of its output.
        def as_image(tensor: Tensor) -> Tensor:
            columns = tensor.detach().reshape(tensor.shape[0], -1, tensor.shape[-1])
            return columns.transpose(1, 2).unsqueeze(2)

        x = as_image(inputs[0])
        geometry = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
        weight_shape = (module.out_features, module.in_features, 1, 1)
        identity = self._weight(module.weight)
        call = _Call(identity, tuple(x.shape), weight_shape, geometry, 1, self._begin(x))
        self._calls.append(call)
        if out.requires_grad:
            mask = (inputs[0].requires_grad, module.weight.requires_grad)

            def backward(grad: Tensor) -> None:
                call.dy, call.output_mask = self._begin(as_image(grad)), mask

            out.register_hook(backward)  # type: ignore[no-untyped-call]

    def _backward(self, a: dict[str, Any]) -> None:
        weight, shape = self._weight(a["weight"]), tuple(a["input"].shape[-3:])
        for call in reversed(self._calls):
            without_backward = call.weight == weight and call.output_mask is None
            if without_backward and call.input_shape[1:] == shape:
                call.dy = self._begin(a["grad_output"].reshape(-1, *a["grad_output"].shape[-3:]))
                call.output_mask = (bool(a["output_mask"][0]), bool(a["output_mask"][1]))
                return

    def _in_forward_order(self) -> list[_Call]:
        # Activation checkpointing runs a forward twice, and the backward belongs to the second run.
        # The second run replaces the first one, whose position is the layer's place in the order.
        trained = {call.weight for call in self._calls if call.output_mask is not None}
        calls: list[_Call] = []
        places: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for call in self._calls:
            waiting = places.setdefault((call.weight, call.input_shape), [])
            if call.output_mask is None and call.weight in trained:
                waiting.append(len(calls))
            elif waiting:
                calls[waiting.pop(0)] = call
                continue
            calls.append(call)
        return [c for c in calls if c.output_mask is not None or c.weight not in trained]

    def workload(self, batch: int | None = None) -> Workload:
        """Returns the recorded step: shapes, and the nonzeros that the kernels read.

        The gradient mask is taken to be x != 0. This holds if x is the output of a ReLU, or of
        pooling or dropout after a ReLU. Other inputs have almost no zeros.

        Args:
            batch: The number of images of the workload. None is the recorded batch. If `batch` is
                the number of images kept as bits, the workload has exactly these images. For any
                other number, the maps of the recorded batch stand for all images.

        Raises:
            ValueError: No convolution was recorded, or no backward ran inside the recording.
        """
        if not self._calls:
            raise ValueError(
                "sparsetrain.accel.record: expected the step to have at least one convolution of "
                "rank 4, got none"
            )
        if all(call.output_mask is None for call in self._calls):
            raise ValueError(
                "sparsetrain.accel.record: expected backward to run inside the recording, got a "
                "forward only"
            )
        layers: list[Layer] = []
        uses: Counter[str] = Counter()
        for i, call in enumerate(self._in_forward_order()):
            name = self._names.get(call.weight, f"convolution{i}")
            uses[name] += 1
            layers.append(_layer(call, name if uses[name] == 1 else f"{name}#{uses[name]}", batch))
        work = Workload(link_neighbors(tuple(layers)))
        return work if batch is None else work.with_batch(batch)


def _weights(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    named = model.named_parameters()
    return [(name.removesuffix(".weight"), p) for name, p in named if p.dim() in (2, 4)]


def _identity(weight: Tensor) -> int:
    # The backward may get a weight as another Python object with equal memory. Meta tensors have no
    # memory, but the backward gets the original object.
    return id(weight) if weight.is_meta else weight.data_ptr()


def _layer(call: _Call, name: str, batch: int | None) -> Layer:
    n, c, h, w = call.input_shape
    k, _, r, s = call.weight_shape
    mask = call.output_mask or (False, False)
    layer = Layer(
        name, n, c, h, w, k, r, s, **call.geometry, groups=call.groups,
        needs_grad_input=mask[0], needs_grad_weight=mask[1],
    )  # fmt: skip
    if call.x is None:
        return layer
    x = call.x()
    if call.dy is None:
        density = x.nonzeros / layer.x_elements
        return replace(layer, x_density=density, mask_density=density)
    dy = call.dy()
    trace = trace_of(x, dy)
    if batch == x.bits.images and batch != n:
        layer = replace(layer, N=batch, maps=trace.maps(layer.shape))
        nonzeros = x.bits.nonzeros, dy.bits.nonzeros
    else:
        layer = replace(layer, maps=maps_of(x, dy, n, layer.shape))
        nonzeros = x.nonzeros, dy.nonzeros
    x_density, dy_density = nonzeros[0] / layer.x_elements, nonzeros[1] / layer.dy_elements
    return replace(
        layer,
        x_density=x_density,
        mask_density=x_density,
        dy_density=dy_density,
        trace=trace,
    )


def record(model: nn.Module, images: int = 4, *, linear: bool = False) -> Recorder:
    """Returns a context manager that records the convolutions of a forward and backward.

    It watches operators (`aten::convolution`, `sparsetrain::conv2d` and their backwards), so it
    sees dy as the kernels do, after pruning. The model may be converted or not. No tensor is kept:
    an operand takes 4 bytes for each pixel, 8 for each channel and one bit for each element of the
    first `images` images. Steps outside the context are not slower.

    Not recorded are convolutions with other than 4 dimensions, transposed ones, and complex ones,
    which PyTorch computes by real ones that are recorded.

    Example::

        with accel.record(model) as recording:
            loss(model(x), y).backward()
        print(accel.compare(recording.workload()))

    Args:
        model: The model that runs inside the context. Its parameters name the layers.
        images: The number of images whose nonzeros are kept as bits, for `simulate`.
        linear: Whether linear layers are recorded as 1 x 1 convolutions. The paper's figures do not
            include them.

    Raises:
        ValueError: `model` is compiled, so that its operators cannot be seen.
    """
    return Recorder(model, images, linear=linear)


def workload(
    model: nn.Module,
    input_shape: tuple[int, ...],
    batch: int = 1,
    *,
    x_density: Any = None,
    dy_density: Any = None,
    loss: Callable[[Any], Tensor] | None = None,
    linear: bool = False,
) -> Workload:
    """Returns the convolutions of a training step of `model`, with given densities.

    Forward and backward run on the meta device, so nothing is computed or allocated.

    Args:
        model: The model.
        input_shape: The shape of one input, such as (3, 32, 32).
        batch: The number of inputs.
        x_density: The density of x: one number for all layers, or one for each layer by name. None
            is 1.
        dy_density: Likewise the density of dy after pruning.
        loss: Maps the model's output to a scalar. By default its floating point tensors are summed.
        linear: Whether linear layers are included as 1 x 1 convolutions.

    Raises:
        ValueError: The model has no convolution or no parameter that needs a gradient, or a density
            is missing or outside [0, 1].
    """
    parameters = {
        name: torch.empty_like(p, device="meta").requires_grad_(p.requires_grad)
        for name, p in model.named_parameters()
    }
    buffers = {name: torch.empty_like(b, device="meta") for name, b in model.named_buffers()}
    recorder = Recorder(model, linear=linear)
    recorder._names = {
        id(p): name.removesuffix(".weight") for name, p in parameters.items() if p.dim() in (2, 4)
    }
    images = torch.empty((batch, *input_shape), device="meta")
    with recorder:
        out = torch.func.functional_call(model, (parameters, buffers), (images,))
        _scalar(out, loss).backward()  # type: ignore[no-untyped-call]
    work = recorder.workload()
    return work.with_densities(x_density, dy_density)


def _scalar(out: Any, loss: Callable[[Any], Tensor] | None) -> Tensor:
    if loss is not None:
        return loss(out)
    leaves = torch.utils._pytree.tree_leaves(out)
    floating = [t for t in leaves if isinstance(t, Tensor) and t.is_floating_point()]
    total = sum((t.sum() for t in floating), torch.zeros((), device="meta"))
    if not total.requires_grad:
        raise ValueError(
            "sparsetrain.accel.workload: expected the model to have parameters that need a "
            "gradient, got none"
        )
    return total
