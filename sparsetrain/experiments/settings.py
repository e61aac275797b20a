"""Settings of a training run, declared once for the trainer, the commands and all files.

A field of `Settings` is an option of `sparsetrain train` and an entry of `config` in every result.
If all runs of a sweep share it, it is also an option and a TOML key of `sparsetrain sweep`.
"""

import math
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_type_hints

from sparsetrain._checks import check_name
from sparsetrain.experiments.datasets import NAMES as DATASETS
from sparsetrain.experiments.networks import NAMES as NETWORKS
from sparsetrain.ops import CPU_BACKENDS
from sparsetrain.pruning import target


@dataclass(frozen=True)
class Interval:
    """The values that a number may take: from `low` (excluded if `is_open`) to `high`."""

    low: float
    high: float = math.inf
    is_open: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.is_open else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        low = f"above {self.low}" if self.is_open else f"at least {self.low}"
        return low if self.high == math.inf else f"{low} and at most {self.high}"


def _setting(
    default: Any, help_text: str, *, interval: Interval | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """A field of `Settings` with what an option, a check and a document need to know of it."""
    metadata = {"help": help_text, "interval": interval, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Everything that defines a run: equal settings and equal data give equal numbers.

    Exactly one of `rate`, `density` and `dense` says how gradients are pruned. `threads` is a
    setting because torch's kernels add in an order that depends on it. Its default of 1 gives the
    same run on every number of cores.

    Raises:
        ValueError: A value has another type than its field or is out of range, or not exactly one
            of `rate`, `density` and `dense` is given.
    """

    model: str = _setting("resnet8", f"{', '.join(NETWORKS)} or one of torchvision's.")
    dataset: str = _setting("fashion-mnist", "Data set to train on.", choices=DATASETS)
    rate: float | None = _setting(None, "Pruning rate in [0, 1).")
    density: float | None = _setting(None, "Density to prune gradients to, in (0, 1].")
    dense: bool = _setting(False, "Train the model unconverted, for comparison.")
    backend: str = _setting("auto", "Convolutions to use.", choices=CPU_BACKENDS)
    epochs: int = _setting(5, "Epochs to train.", interval=Interval(1))
    batch_size: int = _setting(64, "Images in a training step.", interval=Interval(1))
    learning_rate: float = _setting(
        0.05, "Peak of the one-cycle schedule.", interval=Interval(0, 3e38, is_open=True)
    )
    seed: int = _setting(
        0, "Seed of weights, order, augmentation and pruning.", interval=Interval(0, 2**63 - 1)
    )
    threads: int = _setting(
        1,
        "CPU threads of each process. Results are bit-equal only for equal numbers.",
        interval=Interval(1, 1024),
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, checked(each.name, getattr(self, each.name)))
        if (self.rate is not None) + (self.density is not None) + self.dense != 1:
            raise ValueError(
                f"sparsetrain.{_WHERE}: expected exactly one of rate, density and dense, "
                f"got rate {self.rate}, density {self.density}, dense {self.dense}"
            )
        if not self.dense:
            target(self.rate, self.density, _WHERE)

    @property
    def rule(self) -> str:
        """How gradients are pruned, in one word: dense, rate0.9 or density0.2."""
        if self.dense:
            return "dense"
        return f"rate{self.rate}" if self.rate is not None else f"density{self.density}"


_WHERE = "experiments.settings.Settings"
TYPES: dict[str, Any] = get_type_hints(Settings)
"""Type of each setting by name, in the order of their declaration."""
METADATA = {each.name: each.metadata for each in fields(Settings)}
"""`help`, `interval` (an `Interval` or None) and `choices` of each setting by name."""
SHARED = tuple(name for name in TYPES if name not in ("model", "rate", "density", "dense", "seed"))
"""The settings that all runs of a sweep share."""


def checked(name: str, value: Any) -> Any:
    """`value` if the setting `name` accepts it, with an int converted where it is a float.

    Raises:
        ValueError: `value` is of another type or out of range.
    """
    kind, interval, choices = TYPES[name], METADATA[name]["interval"], METADATA[name]["choices"]
    if choices:
        check_name(_WHERE, name, value, choices)
    if not is_a(value, kind) or (interval is not None and value not in interval):
        kinds = [each.__name__.replace("NoneType", "None") for each in get_args(kind) or (kind,)]
        wanted = " or ".join(kinds) + (f", {interval}" if interval is not None else "")
        raise ValueError(
            f"sparsetrain.{_WHERE}: expected {name} to be of type {wanted}, got {value!r}"
        )
    is_float = kind is float or float in get_args(kind)
    return float(value) if is_float and type(value) is int else value


def is_a(value: object, kind: type | UnionType) -> bool:
    """isinstance() as annotations mean it: an int is a float, and a bool is no int."""
    if type(value) is bool:
        return kind is bool
    return isinstance(value, kind) or (type(value) is int and isinstance(0.0, kind))
