"""The MODEL argument and its options, shared by the subcommands: a network as a workload."""

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
from sparsetrain.accel.plots import check_plot
from sparsetrain.experiments import networks
from sparsetrain.experiments.files import check_writable

# What a dataset's images are: channels, size, classes.
DATASETS = {
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "fashion-mnist": (1, 28, 10),
    "imagenet": (3, 224, 1000),
}
# Density of x where nothing is given, in the middle of what ReLU networks show (the first layer
# reads an image); docs/accelerator.md has measurements.
INPUT_DENSITY = 0.45

F = TypeVar("F", bound=Callable[..., Any])


def options(command: F) -> F:
    """MODEL and what turns it into a workload; the command gets `model` and these options."""
    for decorate in reversed(
        (
            click.argument("model"),
            click.option(
                "--dataset", type=click.Choice(list(DATASETS)), default="cifar10",
                show_default=True, help="Shape of the images (a small stem below 224 pixels).",
            ),
            click.option("--input-shape", help="Channels,height,width instead of a dataset's."),
            click.option(
                "--batch-size", default=32, show_default=True, type=click.IntRange(1, 2**24),
            ),
            click.option(
                "--input-density", help="Of x in every layer but the first: a number, or a JSON "
                f"file with one for each layer's name.  [default: {INPUT_DENSITY}]",
            ),
            click.option(
                "--grad-density", default="0.2", show_default=True,
                help="Of dy after pruning: a number, or a JSON file.",
            ),
            click.option(
                "--linear", is_flag=True, help="Count linear layers as 1 x 1 convolutions.",
            ),
        )
    ):  # fmt: skip
        command = decorate(command)
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
    """The step that the options describe. Raises ValueError with one sentence."""
    channels, size, classes = DATASETS[dataset]
    shape = _shape(input_shape) if input_shape else (channels, size, size)
    try:
        with torch.device("meta"):
            network = _network(model, shape, classes, dataset)
        work = accel.workload(network, shape, batch_size, linear=linear)
    except Exception as error:  # whatever the model says of an input that does not fit
        if isinstance(error, ValueError) and str(error).startswith("sparsetrain"):
            raise
        raise ValueError(
            f"sparsetrain: expected {model} to take images of "
            f"{' x '.join(map(str, shape))}, got {_first_line(error)}"
        ) from error
    x = _density("--input-density", input_density) if input_density else None
    if x is None or isinstance(x, float):
        first = work.layers[0].name
        value = INPUT_DENSITY if x is None else x
        x = {layer.name: 1.0 if layer.name == first else value for layer in work.layers}
    return work.with_densities(x, _density("--grad-density", grad_density))


def check_outputs(json_file: Path | None, csv_file: Path | None, plot_file: Path | None) -> None:
    """Finds out before any work whether what is asked for can be written.

    Raises ValueError or OSError with one sentence: two outputs in one file, a folder that cannot be
    written, a picture that is neither PNG nor SVG.
    """
    paths = [path.resolve() for path in (json_file, csv_file, plot_file) if path]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(
                f"sparsetrain: expected each output to be a file of its own, got {path} twice"
            )
        check_writable(path)
    if plot_file:
        check_plot(plot_file)


def as_numbers(step: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they go into a file: densities that are numbers as numbers."""

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
        if min(c, h, w) < 1 or max(c, h, w) > 2**24:
            raise ValueError
    except ValueError:
        raise ValueError(
            "sparsetrain: expected --input-shape to be channels,height,width, each of at least 1 "
            f"and at most 2^24, got {text!r}"
        ) from None
    return c, h, w


def _density(option: str, text: str) -> float | Mapping[str, float]:
    try:
        return float(text)
    except ValueError:
        if not Path(text).is_file():
            raise ValueError(
                f"sparsetrain: expected {option} to be a number or a JSON file, got {text!r}"
            ) from None
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


def _network(model: str, shape: tuple[int, ...], classes: int, dataset: str) -> nn.Module:
    if ":" in model:
        return _own(model)
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


def _own(model: str) -> nn.Module:
    module, _, name = model.partition(":")
    try:
        network = getattr(importlib.import_module(module), name)()
    except (Exception, SystemExit) as error:  # whatever a user's module or function does
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
