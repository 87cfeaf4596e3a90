"""The conditions of IRSA's WHERE that the stand-in understands: a small part of SQL, parsed, never run.

``AND``, ``OR``, ``NOT`` and parentheses; comparisons of a column with numbers or quoted texts by
``=``, ``!=``, ``<>``, ``<``, ``<=``, ``>``, ``>=``, ``IN`` and ``BETWEEN``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

__all__ = ["Condition", "WhereError", "parse_where"]

Value = float | str
Condition = Callable[[Mapping[str, Value | None]], bool | None]
"""Tells whether a row meets it; None where a column has no value, as in SQL."""

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'[^']*')|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<sign><=|>=|<>|!=|[=<>(),]))"
)

_COMPARE: Mapping[str, Callable[[Value, Value], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class WhereError(ValueError):
    """A condition that is not understood."""


def parse_where(text: str) -> Condition:
    """Return the condition that a text describes.

    Raises
    ------
    WhereError
        It is not understood.
    """
    return _Parser(text).parse()


class _Parser:
    """Recursive descent: or, and, not, comparison."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0

    def parse(self) -> Condition:
        condition = self._any()
        if self._next < len(self._tokens):
            raise WhereError(f"{self._text!r}: nothing expected at {self._tokens[self._next]!r}")
        return condition

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._take("OR"):
            parts.append(self._all())
        # three-valued: true wins, then unknown
        return lambda row: _joined([p(row) for p in parts], True)

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._take("AND"):
            parts.append(self._one())
        return lambda row: _joined([p(row) for p in parts], False)

    def _one(self) -> Condition:
        if self._take("NOT"):
            inner = self._one()
            return lambda row: None if (value := inner(row)) is None else not value
        if self._take("("):
            inner = self._any()
            self._require(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        column = self._token().lower()
        if not re.fullmatch(r"[a-z_]\w*", column):
            raise WhereError(f"{self._text!r}: {column!r} is no column")
        if self._take("IN"):
            return self._among(column)
        if self._take("BETWEEN"):
            low = self._value()
            if not self._take("AND"):
                raise WhereError(f"{self._text!r}: BETWEEN without AND")
            high = self._value()
            return _known(column, lambda value: low <= value <= high)
        compare = _COMPARE.get(self._token())
        if compare is None:
            raise WhereError(f"{self._text!r}: no comparison behind {column}")
        wanted = self._value()
        return _known(column, lambda value: compare(value, wanted))

    def _among(self, column: str) -> Condition:
        self._require("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._require(")")
        return _known(column, lambda value: value in values)

    def _value(self) -> Value:
        token = self._token()
        if token.startswith("'"):
            return token[1:-1]
        try:
            return float(token)
        except ValueError as error:
            raise WhereError(f"{self._text!r}: {token!r} is no value") from error

    def _token(self) -> str:
        if self._next >= len(self._tokens):
            raise WhereError(f"{self._text!r} ends too early")
        self._next += 1
        return self._tokens[self._next - 1]

    def _take(self, token: str) -> bool:
        found = self._next < len(self._tokens) and self._tokens[self._next].upper() == token
        self._next += found
        return found

    def _require(self, token: str) -> None:
        if not self._take(token):
            raise WhereError(f"{self._text!r}: {token!r} is missing")


def _tokens(text: str) -> list[str]:
    tokens, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise WhereError(f"{text!r}: not understood from {text[at:]!r} on")
        tokens.append(match.group().strip())
        at = match.end()
    return tokens


def _known(column: str, test: Callable[[Value], bool]) -> Condition:
    def condition(row: Mapping[str, Value | None]) -> bool | None:
        value = row.get(column)
        try:
            return None if value is None else test(value)
        except TypeError as error:
            raise WhereError(f"{column}: a text is compared with a number") from error

    return condition


def _joined(values: list[bool | None], decisive: bool) -> bool | None:
    if decisive in values:
        return decisive
    return None if None in values else not decisive
