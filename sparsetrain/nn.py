"""SparseConv2d, the layer that `convert` puts in place of nn.Conv2d, and its NonzeroCounter."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sparsetrain import ops
from sparsetrain._checks import check_count, check_name
from sparsetrain.pruning import (
    DEFAULT_HISTORY,
    PruneGrad,
    StateModule,
    record_as_node,
    with_new_names,
)

PLACEMENTS = ("output", "input", "none")


class LastCall(NamedTuple):
    """The last training call of a layer outside torch.compile; `stats` explains the backends of it.

    Attributes:
        shape: Shape of the input.
        dtype: Data type of the convolution: under autocast, the one that autocast chose.
        padding: ``padding`` of the call to ``conv2d``.
    """

    shape: torch.Size
    dtype: torch.dtype
    padding: str | tuple[int, ...]


class NonzeroCounter(StateModule):
    """Counts the nonzeros of every n-th tensor (``forward``) or n-th gradient (``gradient``).

    Non-reentrant activation checkpointing runs a forward pass twice, which makes two calls. The
    density does not depend on it, because both calls get the same tensor.

    Args:
        every: Number of calls of which one is counted, at least 1.

    Attributes:
        state: float64 [3]: calls so far; elements and nonzeros of the last counted tensor.
    """

    def __init__(self, every: int) -> None:
        super().__init__(3)
        self.every = every

    def forward(self, input: Tensor) -> Tensor:
        """Counts the nonzeros of the input and returns it."""
        if input.device != self.state.device:
            self.move(input.device)
        ops.count_nonzeros(input, self.state, self.every, self._density_slot)
        return input

    def gradient(self, input: Tensor) -> Tensor:
        """Returns the input; its backward pass counts the nonzeros of the gradient."""
        if input.device != self.state.device:
            self.move(input.device)
        return ops.count_grad_nonzeros(input, self.state, self.every, self._density_slot)

    def density(self) -> float | None:
        """Nonzeros / elements of the last counted tensor; None before the first.

        Synchronizes with the device.
        """
        _, elements, nonzeros = self.state.tolist()
        return nonzeros / elements if elements else None

    def extra_repr(self) -> str:
        """How often it counts."""
        return f"every={self.every}"


# Names of the two classes above in pickles of older versions.
Observer = NonzeroCounter
Seen = LastCall

# Attributes and children of SparseConv2d in pickles of older versions, and their names of today.
_NEW_NAMES = {"rule": "reason", "seen": "_last_call"}
_NEW_CHILDREN = {"input_observer": "input_counter", "grad_observer": "grad_counter"}


class SparseConv2d(nn.Conv2d):
    """``nn.Conv2d`` whose backward pass prunes one gradient and skips zeros in its operands.

    Pruning and skipping are separate: ``rate``, ``density``, ``history``, ``placement`` and
    ``seed`` say which gradient gets zeros and how many; ``backend`` says whether the three
    convolutions of a training step skip zeros. It has the parameters and the ``state_dict`` of
    ``nn.Conv2d``. In eval mode and under ``torch.no_grad()`` it only convolves.

    Input: [N, C, H, W] or [C, H, W], any floating-point data type.

    Args:
        *args: Positional arguments of ``nn.Conv2d``.
        backend: What runs each pass: ``"auto"`` (the faster one for the densities at hand, see
            ``explain``), ``"sparse"``, ``"dense"`` or, on CUDA, ``"cusparse"``.
        rate: Pruning rate in [0, 1), see ``PruneGrad``; 0.9 if neither it nor a density is given.
        density: Upper bound of the expected density after pruning, in (0, 1], instead of a rate.
        placement: The gradient to prune: that of this layer's ``"output"``, that of its
            ``"input"``, or ``"none"``.
        history: Number of past backward passes that predict the threshold, see ``PruneGrad``.
        measure_every: n > 0 counts, in every n-th training step, the nonzeros of the input, and
            those of the output's gradient where no pruner counts them. ``stats`` reports both.
            Without counts, ``"auto"`` on CUDA assumes that the input has no zeros. Counting does
            not synchronize with the device. 0 counts nothing.
        check_finite: Run calls with Inf or NaN among their operands on the dense backend, so that
            0 * Inf gives NaN as in PyTorch. On CUDA all calls then run dense.
        seed: Seed of the pruner's random numbers in [0, 2^53), see ``PruneGrad``.
        **kwargs: Keyword arguments of ``nn.Conv2d``.

    Raises:
        TypeError, ValueError: An argument has the wrong type or is out of range.

    Example:
        >>> conv = SparseConv2d(16, 32, 3, padding=1, rate=0.9)
        >>> conv(torch.randn(8, 16, 14, 14)).sum().backward()
        >>> conv.pruner.history
        4
    """

    backend: str
    check_finite: bool
    placement: str
    reason: str
    _last_call: LastCall | None
    pruner: PruneGrad
    input_counter: NonzeroCounter
    grad_counter: NonzeroCounter

    def __init__(
        self,
        *args: Any,
        backend: str = "auto",
        rate: float | None = None,
        density: float | None = None,
        placement: str = "output",
        history: int = DEFAULT_HISTORY,
        measure_every: int = 0,
        check_finite: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        pruner = PruneGrad(rate, history, density=density, seed=seed)
        self._last_call = None
        self.configure(pruner, placement, "constructor", backend, measure_every, check_finite)

    def configure(
        self,
        pruner: PruneGrad,
        placement: str,
        reason: str,
        backend: str,
        measure_every: int,
        check_finite: bool,
    ) -> None:
        """Sets what a SparseConv2d has in addition to nn.Conv2d; ``convert`` and __init__ call it.

        Args:
            pruner: Prunes from the next backward pass on; dropped if ``placement`` is ``"none"``.
            placement: ``"output"``, ``"input"`` or ``"none"``.
            reason: Why this placement was chosen, for ``describe``.
            backend: As for the class.
            measure_every: As for the class. A counter that exists and counts as often is kept.
            check_finite: As for the class.

        Raises:
            TypeError, ValueError: An argument has the wrong type or is out of range.
        """
        check_name("SparseConv2d", "placement", placement, PLACEMENTS)
        check_name("SparseConv2d", "backend", backend, ops.BACKENDS)
        check_count("SparseConv2d", "measure_every", measure_every)
        self.backend, self.placement, self.reason = backend, placement, reason
        self.check_finite = bool(check_finite)
        self._set_child("pruner", pruner if placement != "none" else None)
        # A pruner of the output's gradient counts that gradient's nonzeros itself.
        for name, needed in (("input_counter", True), ("grad_counter", placement != "output")):
            old = getattr(self, name, None)
            if not (needed and measure_every):
                self._set_child(name, None)
            elif old is None or old.every != measure_every:
                self._set_child(name, NonzeroCounter(measure_every))

    def _set_child(self, name: str, child: StateModule | None) -> None:
        # A child that is not needed is absent, not None: named_modules() and repr() then list
        # only what exists.
        self._modules.pop(name, None)
        if child is not None:
            child.move(self.weight.device)
            child.train(self.training)
            self.add_module(name, child)

    def forward(self, input: Tensor) -> Tensor:
        """Convolves the input, [N, C, H, W] or [C, H, W]."""
        if isinstance(input, fx.Proxy):
            return record_as_node(self, input)
        if not (self.training and torch.is_grad_enabled()):
            return self._convolve(input)
        children = self._modules
        if "input_counter" in children:
            self.input_counter(input)
        if self.placement == "input":
            input = self.pruner(input)
        output = self._convolve(input)
        if "grad_counter" in children:
            output = self.grad_counter.gradient(output)
        if self.placement == "output":
            output = self.pruner(output)
        return output

    def _convolve(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0, 0)
        input_density, grad_density = self._density_slots(input)
        output = ops.conv2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            backend=self.backend,
            check_finite=self.check_finite,
            input_density=input_density,
            grad_density=grad_density,
        )
        if self.training and not torch.compiler.is_compiling():
            # Read by stats(). Written to __dict__, because nn.Module.__setattr__ first searches
            # parameters, buffers and modules, which takes a tenth of a small layer's time.
            self.__dict__["_last_call"] = LastCall(input.shape, output.dtype, padding)
        return output

    def _density_slots(self, input: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Where operators store the densities of x and of the output's gradient, or None.

        On CUDA a density may come from an earlier step. On the CPU only that of a gradient which
        this call's own pruner prunes is passed on: it is stored in the same backward pass, directly
        before the convolution reads it, so that a resumed run reads the same.
        """
        prunes_output = self.placement == "output"
        if input.is_cuda:
            return self._slot("input_counter"), self._slot(
                "pruner" if prunes_output else "grad_counter"
            )
        pruner = self._modules.get("pruner") if prunes_output and self.training else None
        return None, self._slot("pruner") if pruner is not None and pruner.training else None

    def _slot(self, name: str) -> Tensor | None:
        # _modules is faster than nn.Module's __getattr__.
        child = self._modules.get(name)
        return child._density_slot if isinstance(child, StateModule) else None

    def extra_repr(self) -> str:
        """That of nn.Conv2d, then backend and placement."""
        conv: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{conv}, backend={self.backend}, placement={self.placement}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a copied or pickled layer, also one that an older version pickled."""
        state = with_new_names(state, _NEW_NAMES)
        state["_modules"] = with_new_names(state["_modules"], _NEW_CHILDREN)
        super().__setstate__(state)  # type: ignore[no-untyped-call]
