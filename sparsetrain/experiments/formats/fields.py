"""Base class and types of fields for the models of all file formats in this package."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from sparsetrain.experiments.settings import METADATA, Settings


class Record(BaseModel):
    """A JSON object whose fields are declared in a subclass; other fields are refused.

    The docstring below a field is its description on the page of formats.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


M = TypeVar("M", bound=type[Record])


@dataclass(frozen=True)
class Unit:
    """The unit of a number, for the page of formats."""

    name: str


Density = Annotated[float, Field(ge=0, le=1)]
"""Nonzeros / elements."""
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Ratio = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Cycles = Annotated[int, Field(ge=0), Unit("cycles")]
Bytes = Annotated[int, Field(ge=0), Unit("bytes")]
Images = Annotated[int, Field(ge=1), Unit("images")]
Threads = Annotated[int, Field(ge=1), Unit("threads")]
Picojoules = Annotated[float, Field(ge=0), Unit("pJ")]
Nanoseconds = Annotated[float, Field(ge=0), Unit("ns")]
Milliseconds = Annotated[float, Field(ge=0), Unit("ms")]
Seconds = Annotated[float, Field(ge=0), Unit("seconds")]
Mebibytes = Annotated[float, Unit("MiB")]
Shape = Annotated[list[int], Field(min_length=4, max_length=4)]
PassName = Literal["forward", "grad_input", "grad_weight"]
DtypeName = Literal["float32", "bfloat16", "float16"]
Backend = Literal["sparse", "dense"]

_BY_NAME: tuple[tuple[str, Any], ...] = (
    (r"(.*_)?density(_unpruned)?", Density),
    (r"(.*_)?cycles", Cycles),
    (r".*_pj", Picojoules),
    (r".*_seconds", Seconds),
    (r".*_shape", Shape),
    (r"(test_)?accuracy", Share),
    (r"rate", Rate),
    (r"threshold", NotNegative),
    (r"threads", Threads),
    (r"batch_size", Images),
)
"""Units and bounds of the fields of dataclasses, by patterns of their names."""


def fields_of(source: type) -> Callable[[M], M]:
    """Makes a class decorator that puts the fields of a dataclass before those of a model.

    Types come from the annotations of `source`, units and bounds from the names of the fields, and
    descriptions from its docstring's `Attributes:`. `Settings` has descriptions and bounds in its
    metadata.
    """
    hints, texts = get_type_hints(source), _descriptions(source)
    definitions: dict[str, Any] = {}
    for each in fields(source):
        if source is Settings:
            kind, text = _setting(each.name, hints[each.name])
        else:
            kind, text = _with_unit(each.name, hints[each.name]), texts[each.name]
        definitions[each.name] = (kind, Field(description=text))
    return _decorator(definitions)


def optional_fields(definitions: Mapping[str, tuple[Any, str]]) -> Callable[[M], M]:
    """Makes a class decorator that puts optional fields before those of a model.

    Args:
        definitions: Type and description by the name of the field.
    """
    return _decorator(
        {
            name: (kind, Field(default=None, description=description))
            for name, (kind, description) in definitions.items()
        }
    )


def settings_as_options(names: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """Settings of a run for `optional_fields`."""
    hints = get_type_hints(Settings)
    return {name: _setting(name, hints[name]) for name in names}


def annotation_of(info: FieldInfo) -> Any:
    """The type of a model's field with its unit and its bounds."""
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def _decorator(definitions: Mapping[str, Any]) -> Callable[[M], M]:
    def decorate(model: M) -> M:
        base: type[Record] = model
        declared = {name: (info.annotation, info) for name, info in base.model_fields.items()}
        made = create_model(
            model.__name__, __base__=Record, __doc__=model.__doc__, __module__=model.__module__,
            **{**definitions, **declared},
        )  # fmt: skip
        return made  # type: ignore[return-value]

    return decorate


def _setting(name: str, kind: Any) -> tuple[Any, str]:
    """Type with its bounds, and description, of a field of `Settings`."""
    interval, choices = METADATA[name]["interval"], METADATA[name]["choices"]
    bounds: dict[str, Any] = {}
    if interval is not None:
        bounds["gt" if interval.is_open else "ge"] = interval.low
        if interval.high < 2**63 - 1:  # a larger bound only keeps a number in its C++ type
            bounds["le"] = interval.high
    kind = Literal[choices] if choices else _with_unit(name, kind)
    return Annotated[kind, Field(**bounds)] if bounds else kind, METADATA[name]["help"]


def _with_unit(name: str, kind: Any) -> Any:
    """`kind` with the unit and the bounds that the name of a field stands for."""
    named = next((known for pattern, known in _BY_NAME if re.fullmatch(pattern, name)), kind)
    return named | None if type(None) in get_args(kind) and named is not kind else named


def _descriptions(source: type) -> dict[str, str]:
    """The `Attributes:` of a class's docstring by name."""
    _, _, text = inspect.cleandoc(source.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", text, re.MULTILINE)
    return {
        name: " ".join(description.split()).replace("None", "null") for name, description in found
    }
