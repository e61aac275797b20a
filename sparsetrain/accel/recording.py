"""Recording what the convolutions of an ordinary step really saw, at operator level."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sparsetrain.accel.layers import Layer, Workload, link_neighbours
from sparsetrain.accel.observing import Observed, maps_of, observe_tensor, trace_of

# Below autograd every convolution of a model is one of these; what they call in turn (cuDNN,
# oneDNN) is not seen again.
_FORWARD = {"aten::convolution", "aten::convolution_overrideable", "sparsetrain::conv2d"}
_BACKWARD = {
    "aten::convolution_backward",
    "aten::convolution_backward_overrideable",
    "sparsetrain::conv2d_backward",
}


def _arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """A call's arguments by name; a dispatch mode is not given those that equal their default."""
    schema = func._schema.arguments
    given = {argument.name: argument.default_value for argument in schema}
    given.update(zip(given, args, strict=False))
    return given | (kwargs or {})


@dataclass
class _Call:
    """One convolution of the step; no tensor of it is kept."""

    weight: int  # identity
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    geometry: dict[str, Any]  # stride, padding, dilation: pairs
    groups: int
    x: Callable[[], Observed] | None  # None on the meta device
    dy: Callable[[], Observed] | None = None
    output_mask: tuple[bool, bool] | None = None  # (grad_input, grad_weight); None: no backward


def _pair(value: Any) -> tuple[int, int]:
    numbers = [int(v) for v in value]
    return (numbers[0], numbers[-1])


def _is_compiled(model: nn.Module) -> bool:
    compiled: type = torch._dynamo.eval_frame.OptimizedModule
    return any(
        isinstance(m, compiled) or m._compiled_call_impl is not None for m in model.modules()
    )


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager around a forward and backward; see `record`."""

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
        if name in _FORWARD:  # before the call: x and dy were just written and are in the caches
            self._forward(_arguments(func, args, kwargs))
        elif name in _BACKWARD:
            self._backward(_arguments(func, args, kwargs))
        out = func(*args, **(kwargs or {}))
        if name == "aten::_to_copy" and _identity(args[0]) in self._names:
            self._renamed[_identity(out)] = _identity(args[0])
        return out

    def _weight(self, weight: Tensor) -> int:
        return self._renamed.get(_identity(weight), _identity(weight))

    def _observe(self, tensor: Tensor) -> Callable[[], Observed] | None:
        return None if tensor.is_meta else observe_tensor(tensor, self._images)

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
                x=self._observe(x),
            )
        )

    def _linear_call(self, module: nn.Linear, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        # [N, features] is [N, C, 1, 1]; [N, tokens, features] is [N, C, 1, tokens]. Nothing prunes
        # inside a linear layer, so its output's gradient is what its kernels see.
        def as_image(tensor: Tensor) -> Tensor:
            columns = tensor.detach().reshape(tensor.shape[0], -1, tensor.shape[-1])
            return columns.transpose(1, 2).unsqueeze(2)

        x = as_image(inputs[0])
        one = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
        weight_shape = (module.out_features, module.in_features, 1, 1)
        identity = self._weight(module.weight)
        call = _Call(identity, tuple(x.shape), weight_shape, one, 1, self._observe(x))
        self._calls.append(call)
        if out.requires_grad:
            mask = (inputs[0].requires_grad, module.weight.requires_grad)

            def backward(grad: Tensor) -> None:
                call.dy, call.output_mask = self._observe(as_image(grad)), mask

            out.register_hook(backward)  # type: ignore[no-untyped-call]

    def _backward(self, a: dict[str, Any]) -> None:
        weight, shape = self._weight(a["weight"]), tuple(a["input"].shape[-3:])
        for call in reversed(self._calls):
            open_call = call.weight == weight and call.output_mask is None
            if open_call and call.input_shape[1:] == shape:
                call.dy = self._observe(a["grad_output"].reshape(-1, *a["grad_output"].shape[-3:]))
                call.output_mask = (bool(a["output_mask"][0]), bool(a["output_mask"][1]))
                return

    def _in_forward_order(self) -> list[_Call]:
        # Activation checkpointing runs a forward twice. The first run of a trained layer meets no
        # backward, but its place is the layer's.
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
        """What was recorded: shapes and the densities each kernel really met.

        The gradient mask is taken as x != 0, which holds where x comes out of a ReLU (or of pooling
        or dropout after one); elsewhere x has no zeros. By default the layers have the recorded
        batch with its maps, and the traces of its first images. `batch` asks for another number of
        images: exactly those kept as bits when it is their number, else the maps stand for all.

        Raises:
            ValueError: nothing was recorded, or no backward ran inside the recording.
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
        work = Workload(link_neighbours(tuple(layers)))
        return work if batch is None else work.with_batch(batch)


def _weights(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    named = model.named_parameters()
    return [(name.removesuffix(".weight"), p) for name, p in named if p.dim() in (2, 4)]


def _identity(weight: Tensor) -> int:
    # Saved tensors may come back as another Python object over the same memory; meta tensors have
    # none, but come back as they were.
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
    """Records the convolutions of an ordinary forward and backward of `model`.

    It watches operators (`aten::convolution`, `sparsetrain::conv2d` and their backwards), so it
    sees dy as the kernels do, after pruning, in converted and unconverted models alike. Kept are,
    per operand, 4 bytes a pixel (nonzero channels), 8 a channel and, for the first `images` images,
    a bit an element: what `simulate` needs. No tensor is kept alive; outside the block nothing is
    slower.

        with accel.record(model) as rec:
            loss(model(x), y).backward()
        print(accel.compare(rec.workload()))

    Convolutions of other ranks, transposed and complex ones (which torch makes of real ones that
    are recorded) are left out. `linear` also records linear layers, as 1 x 1 convolutions; the
    paper's figures are without.

    Raises:
        ValueError: `model` is compiled: its operators cannot be seen.
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
    """The convolutions of a step of `model` on `batch` inputs of `input_shape`, at given densities.

    Nothing is computed or allocated: forward and backward run on the meta device. Densities are one
    number for all layers or a mapping by layer name; the default is 1. `loss` maps the model's
    output to a scalar; by default all its floating point tensors are summed. `linear` adds linear
    layers as 1 x 1 convolutions.

    Raises:
        ValueError: no convolution, no gradient, or a density outside [0, 1] or missing.
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
        _total(out, loss).backward()  # type: ignore[no-untyped-call]
    work = recorder.workload()
    return work.with_densities(x_density, dy_density)


def _total(out: Any, loss: Callable[[Any], Tensor] | None) -> Tensor:
    if loss is not None:
        return loss(out)
    leaves = torch.utils._pytree.tree_leaves(out)
    wanted = [t for t in leaves if isinstance(t, Tensor) and t.is_floating_point()]
    total = sum((t.sum() for t in wanted), torch.zeros((), device="meta"))
    if not total.requires_grad:
        raise ValueError(
            "sparsetrain.accel.workload: expected the model to have parameters that need a "
            "gradient, got none"
        )
    return total
