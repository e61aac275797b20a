"""Layer and Workload: the convolutions of one training step, as immutable values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from sparsetrain.accel.core import ConvShape, CoreLayer, CoreWorkload, Maps, Trace

Density = float | Mapping[str, float]


@dataclass(frozen=True)
class Layer:
    """One convolution of a step: x [N,C,H,W] * w [K,C/groups,R,S] -> y [N,K,P,Q].

    Densities are nonzeros / elements.

    Attributes:
        name: The layer's name.
        N: Images of the batch.
        C: Channels of x.
        H: Height of x.
        W: Width of x.
        K: Filters, which are the channels of y.
        R: Height of the kernel.
        S: Width of the kernel.
        stride: Vertical and horizontal stride.
        padding: Zeros on each vertical and horizontal side.
        dilation: Vertical and horizontal dilation.
        groups: Groups of the convolution.
        needs_grad_input: False if the step does not compute dx, as for a first layer.
        needs_grad_weight: False if the step does not compute dw, as for a frozen layer.
        x_density: Density of x.
        dy_density: Density of dy, after pruning.
        mask_density: Density of the gradient mask: the elements of x whose gradient may be nonzero.
        y_density: Density of y as the chip writes it.
        dx_density: Density of dx as the chip writes it.
        maps: Counts of nonzeros for `estimate`, if they were recorded.
        trace: Bits of nonzeros for `simulate`, if they were recorded.
    """

    name: str
    N: int
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    needs_grad_input: bool = True
    needs_grad_weight: bool = True
    x_density: float = 1.0
    dy_density: float = 1.0
    mask_density: float = 1.0
    y_density: float = 1.0
    dx_density: float = 1.0
    maps: Maps | None = None
    trace: Trace | None = None

    @property
    def shape(self) -> ConvShape:
        """The shape as a value of the C++ library."""
        return ConvShape(
            self.N, self.C, self.H, self.W, self.K, self.R, self.S,
            *self.stride, *self.padding, *self.dilation, self.groups,
        )  # fmt: skip

    @property
    def P(self) -> int:
        """Output height."""
        return self.shape.P

    @property
    def Q(self) -> int:
        """Output width."""
        return self.shape.Q

    @property
    def x_elements(self) -> int:
        """Number of elements of x, for the whole batch."""
        return self.N * self.C * self.H * self.W

    @property
    def dy_elements(self) -> int:
        """Number of elements of dy, for the whole batch."""
        return self.N * self.K * self.P * self.Q

    def core(self) -> CoreLayer:
        """Returns the layer as a value of the C++ library."""
        return CoreLayer(
            name=self.name,
            shape=self.shape,
            needs_grad_input=self.needs_grad_input,
            needs_grad_weight=self.needs_grad_weight,
            x_density=self.x_density,
            dy_density=self.dy_density,
            mask_density=self.mask_density,
            y_density=self.y_density,
            dx_density=self.dx_density,
            maps=self.maps,
            trace=self.trace,
        )


@dataclass(frozen=True)
class Workload:
    """The convolutions of one training step, in forward order.

    Attributes:
        layers: The convolutions.

    Raises:
        ValueError: No layers, a shape without output, a density outside [0, 1], or maps or a trace
            that disagree with their layer.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        _ = self.core  # C++ checks shapes, densities, maps and traces

    @cached_property
    def core(self) -> CoreWorkload:
        """The workload as a value of the C++ library."""
        return CoreWorkload([layer.core() for layer in self.layers])

    @property
    def batch(self) -> int:
        """Number of images of the step."""
        return self.layers[0].N

    @property
    def x_density(self) -> float:
        """Nonzeros / elements over the x of all layers together."""
        nonzeros = sum(layer.x_density * layer.x_elements for layer in self.layers)
        return nonzeros / sum(layer.x_elements for layer in self.layers)

    @property
    def dy_density(self) -> float:
        """Nonzeros / elements over the dy of all layers that compute dw, after pruning."""
        trained = [layer for layer in self.layers if layer.needs_grad_weight]
        elements = sum(layer.dy_elements for layer in trained)
        nonzeros = sum(layer.dy_density * layer.dy_elements for layer in trained)
        return nonzeros / elements if elements else 0.0

    def with_batch(self, batch: int) -> "Workload":
        """Returns a copy with another number of images, with equal densities."""
        return Workload(tuple(replace(layer, N=batch) for layer in self.layers))

    def with_densities(
        self, x_density: Density | None = None, dy_density: Density | None = None
    ) -> "Workload":
        """Returns a copy with other densities, without maps and traces.

        The gradient mask gets the density of x. The densities of y and dx follow those of the
        neighboring layers (see `link_neighbors`).

        Args:
            x_density: One density for all layers, or one for each layer by name. None keeps the
                current densities.
            dy_density: Likewise for dy.

        Raises:
            ValueError: A density outside [0, 1], a layer without a density, or an unknown layer.
        """
        names = [layer.name for layer in self.layers]
        x, dy = _pick("x_density", x_density, names), _pick("dy_density", dy_density, names)
        layers = []
        for layer in self.layers:
            x_here, dy_here = x(layer.name, layer.x_density), dy(layer.name, layer.dy_density)
            mask = layer.mask_density if x_density is None else x_here
            layers.append(
                replace(
                    layer,
                    x_density=x_here,
                    dy_density=dy_here,
                    mask_density=mask,
                    maps=None,
                    trace=None,
                )
            )
        return Workload(link_neighbors(tuple(layers)))


def _pick(what: str, density: Density | None, names: list[str]) -> Callable[[str, float], float]:
    """Returns a function from a layer's name and current density to its new density."""
    if density is None:
        return lambda _name, current: current
    if not isinstance(density, Mapping):
        value = float(density)
        return lambda _name, _current: value
    given = dict(density)
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    if missing or unknown:
        problem = f"none for {missing[0]!r}" if missing else f"one for {unknown[0]!r}"
        raise ValueError(
            f"sparsetrain.accel: expected {what} to be given for every layer and no other, "
            f"got {problem}; layers are {', '.join(names)}"
        )
    return lambda name, _current: float(given[name])


def link_neighbors(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Returns the layers with the densities of y and dx taken from the neighboring layers.

    The PPU applies norms, additions and pooling before it writes. So y has the density of the next
    layer's x, and dx that of the previous layer's dy. The next layer is the first later one with as
    many channels as this layer has filters, and the previous layer is found likewise. If there is
    none, the layer's own density of x or dy is used.
    """
    linked = []
    for i, layer in enumerate(layers):
        after = (other.x_density for other in layers[i + 1 :] if other.C == layer.K)
        before = (other.dy_density for other in reversed(layers[:i]) if other.K == layer.C)
        linked.append(
            replace(
                layer,
                y_density=next(after, layer.x_density),
                dx_density=next(before, layer.dy_density),
            )
        )
    return tuple(linked)
