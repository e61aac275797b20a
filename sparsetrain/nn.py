"""SparseConv2d: nn.Conv2d with a pruner of its gradient and a backward that skips zeros."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sparsetrain import ops
from sparsetrain._checks import check_count, check_name
from sparsetrain.pruning import DEFAULT_HISTORY, PruneGrad, StateModule, one_node

PLACEMENTS = ("output", "input", "none")


class LastCall(NamedTuple):
    """What the convolution was last given in training, outside torch.compile."""

    shape: torch.Size
    dtype: torch.dtype  # that it computed in: autocast's under autocast
    padding: str | tuple[int, ...]


class NonzeroCounter(StateModule):
    """Counts nonzeros of every n-th tensor (`forward`) or of every n-th gradient (`gradient`).

    state: float64 [calls, elements, nonzeros]. A forward that non-reentrant checkpointing repeats
    is a call of its own: the same tensor is then counted again, so the density stays what it is.
    """

    def __init__(self, every: int) -> None:
        super().__init__(3)
        self.every = every

    def forward(self, input: Tensor) -> Tensor:
        """The input, counted now."""
        if input.device != self.state.device:
            self.move(input.device)
        ops.count_nonzeros(input, self.state, self.every, self._density_slot)
        return input

    def gradient(self, input: Tensor) -> Tensor:
        """The input, whose gradient will be counted."""
        if input.device != self.state.device:
            self.move(input.device)
        return ops.count_grad_nonzeros(input, self.state, self.every, self._density_slot)

    def density(self) -> float | None:
        """Nonzeros / elements of the last counted tensor; None before the first. Synchronises."""
        _, elements, nonzeros = self.state.tolist()
        return nonzeros / elements if elements else None

    def extra_repr(self) -> str:
        """How often it counts."""
        return f"every={self.every}"


class SparseConv2d(nn.Conv2d):
    """nn.Conv2d whose backward prunes one gradient and skips the zeros of whatever it is given.

    Takes what nn.Conv2d takes, has the same parameters and the same state_dict, and keyword-only:
    backend: "auto" (the faster one, by sparsetrain.explain), "sparse" or "dense"; on CUDA also
        "cusparse", as for conv2d.
    rate, density, history, seed: as for PruneGrad.
    placement: prune the gradient of this convolution's "output" or "input", or "none".
    measure_every: n > 0 counts the nonzeros of x, and of the output's gradient unless the pruner
        does it anyway, in every n-th training step, without a host synchronisation; 0 never does.
    check_finite: calls with an Inf or a NaN among their operands run dense, as in conv2d.

    Input [N, C, H, W] or [C, H, W]. In eval mode and under torch.no_grad() it only convolves.
    Raises TypeError or ValueError for arguments out of range.
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
        """Sets everything a SparseConv2d has beyond nn.Conv2d; `reason` says who chose the placement.

        With placement "none" the pruner is dropped.
        """
        check_name("SparseConv2d", "placement", placement, PLACEMENTS)
        check_name("SparseConv2d", "backend", backend, ops.BACKENDS)
        check_count("SparseConv2d", "measure_every", measure_every)
        self.backend, self.placement, self.reason = backend, placement, reason
        self.check_finite = bool(check_finite)
        self._set_child("pruner", pruner if placement != "none" else None)
        for name, wanted in (("input_counter", True), ("grad_counter", placement != "output")):
            old = getattr(self, name, None)
            if not (wanted and measure_every):
                self._set_child(name, None)
            elif old is None or old.every != measure_every:
                self._set_child(name, NonzeroCounter(measure_every))

    def _set_child(self, name: str, child: StateModule | None) -> None:
        # Absent rather than None where not needed: the model's modules list only what there is.
        self._modules.pop(name, None)
        if child is not None:
            child.move(self.weight.device)
            child.train(self.training)
            self.add_module(name, child)

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of `input`; see the class."""
        if isinstance(input, fx.Proxy):
            return one_node(self, input)
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
            # What stats() asks about. Not through nn.Module's setter, which looks for more than
            # it is told to set, at a tenth of a small layer's time.
            self.__dict__["_last_call"] = LastCall(input.shape, output.dtype, padding)
        return output

    def _density_slots(self, input: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Where operators store the densities of x and of the output's gradient, or None.

        On CUDA a density may come from an earlier step. On the CPU only that of a gradient which
        this call's own pruner prunes is passed on: it is stored in the same backward pass, directly
        before the convolution reads it, so that a resumed run reads the same.
        """
        children = self._modules
        prunes_output = self.placement == "output"
        if not input.is_cuda:
            fresh = prunes_output and self.training and self.pruner.training
            return None, self.pruner._density_slot if fresh else None
        x, dy = (
            getattr(self, name)._density_slot if name in children else None
            for name in ("input_counter", "pruner" if prunes_output else "grad_counter")
        )
        return x, dy

    def extra_repr(self) -> str:
        """nn.Conv2d's, then the backend and where pruning goes."""
        conv: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{conv}, backend={self.backend}, placement={self.placement}"
