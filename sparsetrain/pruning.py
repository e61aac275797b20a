"""PruneGrad, an identity whose backward pass prunes the gradient; SparseConv2d contains one."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, fx, nn
from torch.compiler import is_compiling

from sparsetrain import ops
from sparsetrain._checks import check_count, check_number
from sparsetrain.distributed import has_process_group, rank_and_world

DEFAULT_RATE = 0.9
DEFAULT_HISTORY = 4

# Slots of a pruner's state tensor, as in csrc/kernels/common/state_slots.h. The FIFO of the means
# of |g| starts at HEADER.
SEED, OFFSET, PUSHES, THRESHOLD, ABS_SUM, ELEMENTS, NONZEROS_BEFORE, NONZEROS = range(8)
LAYOUT, SMALLEST, LARGEST, RESUMED, FACTOR, RATE, DENSITY = range(8, 15)
HEADER = 15

_SEEDS = 2**53  # float64, the type of the state, holds every integer below
_RANK_STRIDE = 0x13198A2E037073  # odd, so that every rank below 2^53 shifts the seed differently
_pruner_numbers = itertools.count()


class Target(NamedTuple):
    """How hard to prune.

    Attributes:
        rate: Pruning rate in [0, 1), or None if a density was given.
        density: Upper bound of the expected density in (0, 1], or None if a rate was given.
        factor: Threshold / mean of |g|, which follows from either.
    """

    rate: float | None
    density: float | None
    factor: float


def target(rate: float | None, density: float | None, function: str) -> Target:
    """Checks a rate or a density and computes the factor between threshold and mean of ``|g|``.

    For a rate p and g ~ N(0, s^2), the threshold is t = s * Phi^-1((1 + p) / 2), with s estimated
    as sqrt(pi / 2) * mean|g| (arXiv 1908.00173). For a density d it is t = mean|g| / d: the
    expected density is E[min(1, |g| / t)], at most mean|g| / t for every distribution of g.

    Args:
        rate: In [0, 1); 0.9 if neither it nor a density is given.
        density: In (0, 1].
        function: Name of the function that messages start with.

    Raises:
        TypeError: A value that is not a number.
        ValueError: Rate and density together, or a value out of range.
    """
    if rate is not None and density is not None:
        raise ValueError(
            f"sparsetrain.{function}: expected one of rate and density, "
            f"got rate {rate!r} and density {density!r}"
        )
    if density is not None:
        # Below 1e-300 the factor 1 / density can overflow.
        if check_number(function, "density", density, "(0, 1]") < 1e-300 or not density <= 1:
            raise ValueError(
                f"sparsetrain.{function}: expected density to be in (0, 1], got {density!r}"
            )
        return Target(None, float(density), 1 / float(density))
    rate = DEFAULT_RATE if rate is None else rate
    if not 0 <= check_number(function, "rate", rate, "[0, 1)") < 1:
        raise ValueError(f"sparsetrain.{function}: expected rate to be in [0, 1), got {rate!r}")
    # -Phi^-1((1 - p) / 2) equals Phi^-1((1 + p) / 2), but for p close to 1 the argument of the
    # latter rounds to 1, where Phi^-1 is infinite.
    quantile = -NormalDist().inv_cdf((1 - float(rate)) / 2)
    return Target(float(rate), None, math.sqrt(math.pi / 2) * quantile + 0.0)


def derive_seed(name: str) -> int:
    """A seed in [0, 2^53) from torch.initial_seed() and a name; consumes no random numbers."""
    text = f"{torch.initial_seed()} {name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") % _SEEDS


def record_as_node(module: nn.Module, input: fx.Proxy) -> Any:
    """Records a call of `module` in the graph that torch.fx traces, as one `call_module` node."""
    tracer: Any = input.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input,), {})


def with_new_names(attributes: Mapping[str, Any], new_names: Mapping[str, str]) -> dict[str, Any]:
    """A copy of a pickled module's attributes, with those of older versions under new names."""
    return {new_names.get(name, name): value for name, value in attributes.items()}


class StateModule(nn.Module):
    """A module whose only state is one float64 tensor, which is deliberately not a buffer.

    As a buffer it would enter the ``state_dict``, and DDP would overwrite every rank's tensor with
    that of rank 0. The tensor follows the module to its device, and keeps its data type and values
    when the module is cast.

    Attributes:
        state: float64 [slots].
        _density_slot: ``ops.density_slot(state)``: where operators store densities for ``auto``.
    """

    state: Tensor
    _density_slot: Tensor | None

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.state = torch.zeros(slots, dtype=torch.float64, device="cpu")
        self._density_slot = ops.density_slot(self.state)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the slot: a copy of a slot is no slot."""
        return {**self.__dict__, "_density_slot": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a copied or pickled module, also one that an older version pickled.

        The copy gets a density slot of its own, because operators write to the slot's address.
        """
        state = {name: value for name, value in state.items() if name != "lagged"}  # the old name
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._density_slot = ops.density_slot(self.state)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StateModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.move(fn(self.state).device)
        return self

    def move(self, device: torch.device) -> None:
        """Moves the state to `device`; not to the meta device, where it would lose its values."""
        if device != self.state.device and device.type != "meta":
            self.state = self.state.to(device)
            self._density_slot = None if is_compiling() else ops.density_slot(self.state)


class PruneGrad(StateModule):
    """An identity whose backward pass prunes the gradient: randomly, without changing its mean.

    With a threshold t, an element g with ``|g| < t`` becomes ``sign(g) * t`` with probability
    ``|g| / t`` and 0 otherwise; its expectation is g. Elements with ``|g| >= t``, NaN and Inf stay
    unchanged.

    The threshold is a factor, which follows from ``rate`` or ``density``, times a mean of ``|g|``.
    ``history`` selects the mean:

    - ``history`` = n > 0 predicts it: the mean over the gradients of the last n backward passes.
      Pruning then reads the gradient once. The first n backward passes prune nothing, and the
      threshold follows a change of the gradients' scale with a delay of n passes.
    - ``history`` = 0 takes the mean of the gradient that is being pruned. Pruning then reads the
      gradient twice. It starts with the first backward pass, and no threshold depends on earlier
      gradients.

    Input: any floating-point tensor, which is returned unchanged in eval mode, under
    ``torch.no_grad()`` and if it needs no gradient. Otherwise the result shares the input's memory.
    An activation may overwrite the result in place; autograd does not notice this in the input,
    which must not be used afterwards.

    Args:
        rate: In [0, 1): the fraction of a normally distributed gradient that is below the
            threshold. The density that remains is larger than 1 - rate: 0.46 at rate 0.9. Default:
            0.9.
        history: Number of past backward passes whose gradients predict the threshold, at least 0.
        density: In (0, 1], instead of a rate: an upper bound of the expected density that remains,
            for gradients of any distribution.
        seed: In [0, 2^53). By default derived from ``torch.initial_seed()`` and the number of
            pruners made before; no random numbers are consumed. Every distributed rank shifts the
            seed, so that ranks draw different numbers.

    Attributes:
        state: float64 [15 + history]. It is not in the ``state_dict``; ``pruning_state`` saves it.

    Raises:
        TypeError, ValueError: An argument has the wrong type or is out of range.

    Example:
        >>> pruner = PruneGrad(density=0.25, history=0, seed=1)
        >>> x = torch.randn(10000, requires_grad=True)
        >>> pruner(x).backward(torch.randn(10000))
        >>> (x.grad != 0).double().mean() < 0.26
        tensor(True)
    """

    def __init__(
        self,
        rate: float | None = None,
        history: int = DEFAULT_HISTORY,
        *,
        density: float | None = None,
        seed: int | None = None,
    ) -> None:
        goal = target(rate, density, "PruneGrad")
        check_count("PruneGrad", "history", history)
        if seed is None:
            seed = derive_seed(f"PruneGrad {next(_pruner_numbers)}")
        super().__init__(HEADER + history)
        self.state[SEED] = check_count("PruneGrad", "seed", seed, _SEEDS)
        self._set_target(goal)
        self.rank = 0
        self._shift_seed(rank_and_world()[0])

    @property
    def rate(self) -> float | None:
        """The pruning rate in [0, 1); None if a density was given instead."""
        return None if self.state[DENSITY] else self.state[RATE].item()

    @property
    def density(self) -> float | None:
        """The bound of the expected density in (0, 1]; None if a rate was given instead."""
        return self.state[DENSITY].item() or None

    @property
    def factor(self) -> float:
        """Threshold / mean of ``|g|``; follows from the rate or the density."""
        return self.state[FACTOR].item()

    @property
    def history(self) -> int:
        """Number of past backward passes that predict the threshold: the length of the FIFO."""
        return self.state.numel() - HEADER

    def set_rate(self, rate: float | None = None, *, density: float | None = None) -> None:
        """Prunes to another rate or density from the next backward pass on.

        The new threshold applies at once, because the FIFO holds means of ``|g|``, not thresholds.
        Only values in ``state`` change, so that torch.compile does not compile again.

        Args:
            rate: In [0, 1); 0.9 if neither it nor a density is given.
            density: In (0, 1], instead of a rate.

        Raises:
            TypeError, ValueError: A value has the wrong type or is out of range.
        """
        self._set_target(target(rate, density, "PruneGrad.set_rate"))

    def _set_target(self, goal: Target) -> None:
        with torch.no_grad():
            self.state[FACTOR] = goal.factor
            self.state[RATE] = goal.rate or 0.0
            self.state[DENSITY] = goal.density or 0.0

    def forward(self, input: Tensor) -> Tensor:
        """Returns the input; its backward pass prunes the gradient."""
        if isinstance(input, fx.Proxy):
            return record_as_node(self, input)
        if not (self.training and torch.is_grad_enabled() and input.requires_grad):
            return input
        if input.device != self.state.device:
            self.move(input.device)
        if has_process_group() and dist.get_rank() != self.rank:
            self._shift_seed(dist.get_rank())
        return ops.prune_grad(input, self.state, self._density_slot)

    def _shift_seed(self, rank: int) -> None:
        """Replaces the seed of this pruner's rank by that of another rank.

        Runs in the forward pass, because a model may be converted before the process group exists.
        Uses tensor operations only, because torch.compile traces it. The shift is exact and
        invertible: seed - (2^53 - shift) and the result of the remainder lie in (-2^53, 2^53),
        where float64 holds every integer.
        """
        shift = (rank - self.rank) * _RANK_STRIDE % _SEEDS
        with torch.no_grad():
            seed = self.state[SEED]
            seed.copy_(torch.remainder(seed - float(_SEEDS - shift), float(_SEEDS)))
        self.rank = rank

    def extra_repr(self) -> str:
        """Rate or density, then history."""
        how = f"rate={self.rate}" if self.density is None else f"density={self.density}"
        return f"{how}, history={self.history}"
