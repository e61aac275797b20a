"""PruneGrad: an identity whose backward prunes the gradient with the threshold it predicts."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, fx, nn
from torch.compiler import is_compiling

from sparsetrain import ops
from sparsetrain._checks import check_count, check_number
from sparsetrain.distributed import grouped, rank_and_world

DEFAULT_RATE = 0.9
DEFAULT_HISTORY = 4

# Slots of a pruner's state tensor; the FIFO of mean|g| starts at HEADER.
SEED, OFFSET, PUSHES, THRESHOLD, ABS_SUM, ELEMENTS, NONZEROS_BEFORE, NONZEROS = range(8)
LAYOUT, SMALLEST, LARGEST, RESUMED, FACTOR, RATE, DENSITY = range(8, 15)
HEADER = 15

_SEEDS = 2**53  # a seed is an exact integer in float64
_RANK_STRIDE = 0x13198A2E037073  # odd, so that every rank below 2^53 gets its own shift of the seed
_unnamed = itertools.count()


class Target(NamedTuple):
    """How hard to prune: exactly one of rate and density, and threshold = factor * mean|g|."""

    rate: float | None
    density: float | None
    factor: float


def target(rate: float | None, density: float | None, where: str) -> Target:
    """The factor for a rate in [0, 1) or a density in (0, 1]; rate 0.9 when neither is given.

    rate p: for g ~ N(0, s^2), t = s * Phi^-1((1+p)/2) and s = sqrt(pi/2) * mean|g| (ECCV 2020).
    density d: t = mean|g| / d, as the expected density is at most mean|g| / t, however g is
    distributed.
    Raises TypeError or ValueError, in the name of `where`.
    """
    if rate is not None and density is not None:
        raise ValueError(
            f"sparsetrain.{where}: expected one of rate and density, "
            f"got rate {rate!r} and density {density!r}"
        )
    if density is not None:
        # Below 1e-300 the factor 1 / density would not be finite.
        if check_number(where, "density", density, "(0, 1]") < 1e-300 or not density <= 1:
            raise ValueError(
                f"sparsetrain.{where}: expected density to be in (0, 1], got {density!r}"
            )
        return Target(None, float(density), 1 / float(density))
    rate = DEFAULT_RATE if rate is None else rate
    if not 0 <= check_number(where, "rate", rate, "[0, 1)") < 1:
        raise ValueError(f"sparsetrain.{where}: expected rate to be in [0, 1), got {rate!r}")
    # -Phi^-1((1-p)/2) is Phi^-1((1+p)/2), and does not round to Phi^-1(1) for p close to 1.
    quantile = -NormalDist().inv_cdf((1 - float(rate)) / 2)
    return Target(float(rate), None, math.sqrt(math.pi / 2) * quantile + 0.0)


def derive_seed(name: str) -> int:
    """A seed below 2^53 from torch.initial_seed() and a name; consumes no random numbers."""
    text = f"{torch.initial_seed()} {name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") % _SEEDS


def one_node(module: nn.Module, input: fx.Proxy) -> Any:
    """The call of `module` in a graph that torch.fx records, as one node like any of torch.nn."""
    tracer: Any = input.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input,), {})


class StateModule(nn.Module):
    """A module whose only state is one float64 tensor, `state`, kept out of buffers on purpose.

    As a buffer it would enter the state_dict, and DDP would overwrite every rank's with rank 0's.
    It moves with the module between devices and keeps its dtype and its values whatever is done.

    Attributes:
        state: The state.
        _density_slot: Where operators store densities, see ops.density_slot. Every copy of a module
            gets a slot of its own.
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
        """Restores a copy or a pickled module, with a slot of its own."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._density_slot = ops.density_slot(self.state)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StateModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.move(fn(self.state).device)
        return self

    def move(self, device: torch.device) -> None:
        """Brings the state to `device`; a state is never meta, its values could not come back."""
        if device != self.state.device and device.type != "meta":
            self.state = self.state.to(device)
            self._density_slot = None if is_compiling() else ops.density_slot(self.state)


class PruneGrad(StateModule):
    """An identity whose backward prunes the gradient that flows through it, at random and unbiased.

    An element g with |g| below the threshold t becomes sign(g) t with probability |g|/t and 0
    otherwise, so that its expectation stays g. The threshold is factor * (mean of mean|g| over the
    last `history` backward passes); until there are that many, nothing is pruned. With history 0 it
    is this gradient's own mean, at the cost of a second pass.

    rate: in [0, 1), the fraction of a normally distributed gradient that falls below the threshold
        (the density that remains is larger: .46 at rate .9). Default 0.9.
    density: in (0, 1], instead of rate: an upper bound of the expected density that remains.
    history: int >= 0, the length of the FIFO.
    seed: int in [0, 2^53); by default from torch.initial_seed() and the number of pruners made
        before this one, without consuming random numbers. Each distributed rank shifts it by an
        amount of its own.

    Input: any floating-point tensor; returned as it is in eval mode, under torch.no_grad(), or when
    it needs no gradient. The result shares the input's memory, so an activation may work in place
    on it; autograd does not see that in the input, which must then not be used again. `state` is
    one float64 tensor of 15 + history slots outside the state_dict; pruning_state() saves it.
    Raises TypeError or ValueError for arguments out of range.
    """

    def __init__(
        self,
        rate: float | None = None,
        history: int = DEFAULT_HISTORY,
        *,
        density: float | None = None,
        seed: int | None = None,
    ) -> None:
        self_target = target(rate, density, "PruneGrad")
        check_count("PruneGrad", "history", history)
        if seed is None:
            seed = derive_seed(f"PruneGrad {next(_unnamed)}")
        super().__init__(HEADER + history)
        self.state[SEED] = check_count("PruneGrad", "seed", seed, _SEEDS)
        self._aim_at(self_target)
        self.rank = 0
        self._draw_as_rank(rank_and_world()[0])

    @property
    def rate(self) -> float | None:
        """The pruning rate in [0, 1), None when a density was given instead."""
        return None if self.state[DENSITY] else self.state[RATE].item()

    @property
    def density(self) -> float | None:
        """The bound of the expected density, None when a rate was given instead."""
        return self.state[DENSITY].item() or None

    @property
    def factor(self) -> float:
        """Threshold / mean|g|, which follows from the rate or the density."""
        return self.state[FACTOR].item()

    @property
    def history(self) -> int:
        """The length of the FIFO of mean|g|."""
        return self.state.numel() - HEADER

    def set_rate(self, rate: float | None = None, *, density: float | None = None) -> None:
        """Prunes to another rate or density from the next backward on; the FIFO holds mean|g|.

        Only values in `state` change, so that compiled code stays as it is.
        """
        self._aim_at(target(rate, density, "PruneGrad.set_rate"))

    def _aim_at(self, goal: Target) -> None:
        with torch.no_grad():
            self.state[FACTOR] = goal.factor
            self.state[RATE] = goal.rate or 0.0
            self.state[DENSITY] = goal.density or 0.0

    def forward(self, input: Tensor) -> Tensor:
        """The input; its gradient will be pruned."""
        if isinstance(input, fx.Proxy):
            return one_node(self, input)
        if not (self.training and torch.is_grad_enabled() and input.requires_grad):
            return input
        if input.device != self.state.device:
            self.move(input.device)
        if grouped() and dist.get_rank() != self.rank:
            self._draw_as_rank(dist.get_rank())
        return ops.prune_grad(input, self.state, self._density_slot)

    def _draw_as_rank(self, rank: int) -> None:
        """Shifts the seed from this pruner's rank to another, modulo 2^53, exactly and invertibly.

        Done late, because a model may be converted before the process group exists, and by tensor
        arithmetic, because torch.compile has to trace it. s - (2^53 - k) and what remainder adds to
        it stay in (-2^53, 2^53), where float64 holds every integer.
        """
        shift = (rank - self.rank) * _RANK_STRIDE % _SEEDS
        with torch.no_grad():
            seed = self.state[SEED]
            seed.copy_(torch.remainder(seed - float(_SEEDS - shift), float(_SEEDS)))
        self.rank = rank

    def extra_repr(self) -> str:
        """Rate or density, and history."""
        how = f"rate={self.rate}" if self.density is None else f"density={self.density}"
        return f"{how}, history={self.history}"
