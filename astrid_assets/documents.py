"""YAML documents, and models that are made of them; every error names the line of the option."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

import pydantic
import yaml

from astrid_assets.errors import ConfigurationError

__all__ = ["Document", "describe", "validated"]

Model = TypeVar("Model", bound=pydantic.BaseModel)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2 scalars: ``14:03:05.8`` is a text, dates stay as written, only true and false are booleans."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}


_NUMBER_START = list("-+0123456789.")
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", _NUMBER_START),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", _NUMBER_START),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


class Document:
    """A YAML document as plain values, with the line of every key.

    Parameters
    ----------
    text
        The document.

    path
        File to name in errors.

    Raises
    ------
    ConfigurationError
        It is no YAML, or a key is given twice; the message names file and line.
    """

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self.lines: dict[tuple[str, ...], int] = {}
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            self.value = {} if node is None else self._build(loader, node, ())
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            self.fail(f"not valid YAML: {error.problem}", line=line)
        finally:
            loader.dispose()

    def _build(self, loader: _Loader, node: yaml.Node, at: tuple[str, ...]) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, at)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._build(loader, child, (*at, str(i))) for i, child in enumerate(node.value))
        if node.tag.endswith(":int"):
            return int(node.value)  # base 10 also with leading zeros, unlike YAML 1.1
        if node.tag.endswith(":float"):
            return float(node.value)
        return loader.construct_object(node)

    def _mapping(self, loader: _Loader, node: yaml.MappingNode, at: tuple[str, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in values:
                first = self.lines[(*at, key)]
                self.fail(f"{key!r} is given twice, first in line {first}", line=line)
            self.lines[(*at, key)] = line
            values[key] = self._build(loader, value_node, (*at, key))
        return values

    def line(self, at: tuple[str, ...]) -> int:
        """Return the line of a key, or of the innermost block around it."""
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)

    def fail(self, message: str, *, at: tuple[str, ...] = (), line: int | None = None) -> NoReturn:
        """Raise the error of a key, or of a line."""
        msg = f"{self.path}:{line or self.line(at)}: {message}"
        raise ConfigurationError(msg)


def validated(
    document: Document, model: type[Model], values: Mapping[str, Any], *, at: tuple[str, ...], what: str
) -> Model:
    """Return a model made of a block of a document.

    Parameters
    ----------
    document
        The document, for the line of what is wrong.

    model
        Class of the model.

    values
        Options of the block.

    at
        Keys that lead to the block.

    what
        Words for the block in errors.

    Raises
    ------
    ConfigurationError
        An option is unknown, missing or wrong; the first is told, the others are counted.
    """
    try:
        return model.model_validate(dict(values))
    except pydantic.ValidationError as error:
        # what is missing comes last: it may be what was misspelt
        (_, _, place, message), *others = sorted(
            (e["type"] == "missing", document.line(place), place, describe(e, model))
            for e in error.errors()
            for place in [(*at, *map(str, _location(e)))]
        )
        more = f" (and {len(others)} more)" if others else ""
        document.fail(f"{what}: {message}{more}", at=place)


def _location(error: Mapping[str, Any]) -> tuple[str | int, ...]:
    option = error.get("ctx", {}).get("option")
    return (*error["loc"], option) if option else tuple(error["loc"])


def describe(error: Mapping[str, Any], model: type[pydantic.BaseModel]) -> str:
    """Return what one error of a model says, with the option that may have been meant."""
    option = ".".join(str(part) for part in _location(error))
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(error["loc"][-1]), _options(model, error["loc"][:-1]), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"unknown option {option!r}{hint}"
    if error["type"] == "missing":
        return f"option {option!r} is missing"
    return f"{option}: {error['msg'].removeprefix('Value error, ')}"


def _options(model: type[pydantic.BaseModel], block: Sequence[str | int]) -> list[str]:
    """Return the names of the options of a block inside a model."""
    for part in block:
        field = model.model_fields.get(str(part))
        parts = () if field is None else (field.annotation, *typing.get_args(field.annotation))
        inner = [p for p in parts if isinstance(p, type) and issubclass(p, pydantic.BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
