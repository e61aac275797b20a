"""MODEL and the options that describe a training step and a chip; estimate, explore and disasm.

Each of these commands takes the options with `@step_options`, and turns them into the accelerator's
workload with `workload(**step)`.
"""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import torch
from torch import nn

from sparsetrain import accel
from sparsetrain._checks import did_you_mean
from sparsetrain.experiments import networks

# Channels, height and width, and classes of the images of each dataset.
DATASETS = {
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "fashion-mnist": (1, 28, 10),
    "imagenet": (3, 224, 1000),
}
# Default density of the input of every layer except the first, which reads an image. It is in the
# middle of what was measured in networks with ReLU: see docs/accelerator.md.
INPUT_DENSITY = 0.45
LARGEST = 2**24  # of a batch size, and of a side or the number of channels of an image

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("model"),
    click.option(
        "--dataset", type=click.Choice(list(DATASETS)), default="cifar10", show_default=True,
        help="Images that MODEL reads: sets their shape and the number of classes. A torchvision "
        "network gets a first layer for small images, except with imagenet.",
    ),
    click.option(
        "--input-shape", metavar="C,H,W",
        help="Channels, height and width of the images, instead of the dataset's.",
    ),
    click.option(
        "--batch-size", default=32, show_default=True, type=click.IntRange(1, LARGEST),
        help="Images in a training step.",
    ),
    click.option(
        "--input-density", metavar="DENSITY",
        help="Nonzeros / elements of the input of every layer: a number, which does not apply to "
        "the first layer, or a JSON file with a number for each layer name.  "
        f"[default: {INPUT_DENSITY}]",
    ),
    click.option(
        "--grad-density", metavar="DENSITY", default="0.2", show_default=True,
        help="Nonzeros / elements of the gradient of every layer's output, after pruning: a "
        "number, or a JSON file with a number for each layer name.",
    ),
    click.option(
        "--linear", is_flag=True, help="Count linear layers too, as 1 x 1 convolutions.",
    ),
)  # fmt: skip

chip_option = click.option(
    "--chip", default="sparsetrain168", show_default=True, metavar="CHIP",
    help="A known chip, file.toml with one chip, or file.toml:name.",
)  # fmt: skip
prices_option = click.option(
    "--prices", default="aladdin_cacti32_14nm", show_default=True, metavar="PRICES",
    help="Energy of each operation: a known table, file.toml with one, or file.toml:name.",
)  # fmt: skip


def step_options(command: F) -> F:
    """Gives a command MODEL and the options that `workload` takes."""
    for option in reversed(_OPTIONS):  # the last decorator applied is the first option in the help
        command = option(command)
    return command


def workload(
    model: str,
    dataset: str,
    input_shape: str | None,
    batch_size: int,
    input_density: str | None,
    grad_density: str,
    linear: bool,
) -> accel.Workload:
    """Builds the workload of the step that the options describe. No weight is allocated.

    Raises:
        ValueError: If an option cannot be read, or the model does not take such images.
    """
    channels, size, classes = DATASETS[dataset]
    shape = _shape(input_shape) if input_shape else (channels, size, size)
    try:
        with torch.device("meta"):
            network = _build(model, shape, classes, dataset)
        step = accel.workload(network, shape, batch_size, linear=linear)
    except Exception as error:  # a model may raise anything for an input that does not fit
        if isinstance(error, ValueError) and str(error).startswith("sparsetrain"):
            raise
        raise ValueError(
            f"sparsetrain: expected {model} to take images of "
            f"{' x '.join(map(str, shape))}, got {_first_line(error)}"
        ) from error
    x = _density("--input-density", input_density) if input_density else INPUT_DENSITY
    if isinstance(x, float):
        first = step.layers[0].name
        x = {layer.name: 1.0 if layer.name == first else x for layer in step.layers}
    return step.with_densities(x, _density("--grad-density", grad_density))


def for_json(step: Mapping[str, Any]) -> dict[str, Any]:
    """The options as JSON stores them: a density that is a number as a number, not as text."""

    def number(value: Any) -> Any:
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value

    densities = ("input_density", "grad_density")
    return {key: number(step[key]) if key in densities else step[key] for key in step}


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _shape(text: str) -> tuple[int, int, int]:
    try:
        c, h, w = (int(part) for part in text.split(","))
        if min(c, h, w) < 1 or max(c, h, w) > LARGEST:
            raise ValueError
    except ValueError:
        raise ValueError(
            "sparsetrain: expected --input-shape to be channels,height,width, each of at least 1 "
            f"and at most 2^24, got {text!r}"
        ) from None
    return c, h, w


def _density(option: str, text: str) -> float | Mapping[str, float]:
    try:
        number = float(text)
    except ValueError:
        if not Path(text).is_file():
            raise ValueError(
                f"sparsetrain: expected {option} to be a number or a JSON file, got {text!r}"
            ) from None
    else:
        if not 0 <= number <= 1:
            raise ValueError(f"sparsetrain: expected {option} to be in [0, 1], got {text}")
        return number
    try:
        content = json.loads(Path(text).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"sparsetrain: expected {text} to be JSON, got: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"sparsetrain: expected {text} to be an object of densities by layer name, got "
            f"{type(content).__name__}"
        )
    return {str(name): float(value) for name, value in content.items()}


def _build(model: str, shape: tuple[int, ...], classes: int, dataset: str) -> nn.Module:
    if ":" in model:
        return _call_function(model)
    if dataset != "imagenet":
        return networks.build(model, channels=shape[0], size=shape[-1], classes=classes)
    import torchvision.models as zoo  # type: ignore[import-untyped]

    known = zoo.list_models(module=zoo)
    if model not in known:
        raise ValueError(
            f"sparsetrain: expected MODEL to be module:function or a torchvision model, got "
            f"{model!r}; {did_you_mean(model, known)}"
        )
    network: nn.Module = zoo.get_model(model, weights=None, num_classes=classes)
    return network


def _call_function(model: str) -> nn.Module:
    """The network that the user's function "module:function" returns."""
    module, _, name = model.partition(":")
    try:
        network = getattr(importlib.import_module(module), name)()
    except (Exception, SystemExit) as error:  # a user's module or function may raise anything
        raise ValueError(
            f"sparsetrain: expected MODEL to be module:function that returns a torch.nn.Module, "
            f"got {model!r}: {_first_line(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"sparsetrain: expected {model} to return a torch.nn.Module, got "
            f"{type(network).__name__}"
        )
    return network
