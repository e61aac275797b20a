"""What one training step must do: immutable values, and how to derive them from a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from sparsetrain.accel.core import ConvShape, CoreLayer, CoreWorkload, Maps, Trace

Density = float | Mapping[str, float]


@dataclass(frozen=True)
class Layer:
    """One convolution of a step: x [N,C,H,W] * w [K,C/groups,R,S] -> y [N,K,P,Q].

    Densities are nonzeros / elements: of x, of dy, of the gradient mask (x's elements whose
    gradient is wanted), and of the rows the chip writes (y, dx). `maps` and `trace` say where the
    zeros are, if that was recorded.
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
        """The C++ ConvShape."""
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
        """Elements of x, whole batch."""
        return self.N * self.C * self.H * self.W

    @property
    def dy_elements(self) -> int:
        """Elements of dy, whole batch."""
        return self.N * self.K * self.P * self.Q

    def core(self) -> CoreLayer:
        """The C++ Layer."""
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
    """The convolutions of one training step, in forward order."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        _ = self.core  # the C++ room checks shapes, densities and maps

    @cached_property
    def core(self) -> CoreWorkload:
        """The C++ Workload. Raises ValueError when something is impossible."""
        return CoreWorkload([layer.core() for layer in self.layers])

    @property
    def batch(self) -> int:
        """Images of the step."""
        return self.layers[0].N

    @property
    def x_density(self) -> float:
        """Nonzeros over elements of all layers' x together (large layers weigh more)."""
        nonzeros = sum(layer.x_density * layer.x_elements for layer in self.layers)
        return nonzeros / sum(layer.x_elements for layer in self.layers)

    @property
    def dy_density(self) -> float:
        """Nonzeros over elements of all trained layers' dy together, as the kernels see it."""
        trained = [layer for layer in self.layers if layer.needs_grad_weight]
        elements = sum(layer.dy_elements for layer in trained)
        nonzeros = sum(layer.dy_density * layer.dy_elements for layer in trained)
        return nonzeros / elements if elements else 0.0

    def with_batch(self, batch: int) -> "Workload":
        """The same layers and densities for another number of images."""
        return Workload(tuple(replace(layer, N=batch) for layer in self.layers))

    def with_densities(
        self, x_density: Density | None = None, dy_density: Density | None = None
    ) -> "Workload":
        """Other densities, one for all layers or by layer name; None keeps them.

        The mask follows x, what the chip writes follows the neighbours' operands (see
        `link_neighbours`). Maps are dropped: they would disagree.

        Raises:
            ValueError: a density outside [0, 1], missing for a layer, or of an unknown layer.
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
        return Workload(link_neighbours(tuple(layers)))


def _pick(what: str, density: Density | None, names: list[str]) -> Callable[[str, float], float]:
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


def link_neighbours(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Densities of what the chip writes: y becomes the next layer's x, dx the previous one's dy.

    The next layer is the first later one with as many channels as this one has filters; without one
    the layer's own density stands in. (Norms, additions and pooling between layers are the PPU's.)
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
