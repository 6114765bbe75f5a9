"""A declarative table of ROS parameters: descriptors, checks, YAML and docs from one place.

Imports no ROS: `ros.parameter_store` declares a table on a node.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from efficientvla_ros.types import InputError

Value = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]


class Changes(Enum):
    """When a new value of a parameter takes effect."""

    LIVE = 'at the next tick'
    CONFIGURE = 'when the node is configured; refused while it is configured'
    NEVER = 'read-only: set it at start'


@dataclass(frozen=True)
class Spec:
    """One parameter.

    Attributes:
        name: full name, groups separated by dots.
        default: value when nothing else is given; its type is the parameter's type.
        text: what it does.
        unit: SI unit, empty for none.
        low: smallest value allowed, None for no limit (numbers and lists of numbers).
        high: largest value allowed, None for no limit.
        choices: allowed strings, empty for any.
        length: number of elements of a list, None for any but zero.
        changes: when a new value takes effect.
    """

    name: str
    default: Value
    text: str
    unit: str = ''
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    length: int | None = None
    changes: Changes = Changes.LIVE

    @property
    def type_name(self) -> str:
        """ROS name of the type, e.g. `double array`."""
        if isinstance(self.default, list):
            return f'{_SCALARS[type(self.default[0])]} array'
        return _SCALARS[type(self.default)]

    @property
    def constraint(self) -> str:
        """The allowed values in words, empty when every value of the type is allowed."""
        parts = []
        if self.choices:
            parts.append('one of ' + ', '.join(self.choices))
        if self.low is not None and self.high is not None:
            parts.append(f'{self.low:g} to {self.high:g}')
        if self.length is not None:
            parts.append(f'{self.length} values')
        return ', '.join(parts)

    def checked(self, value: object) -> Value:
        """Returns the value in the parameter's type.

        Raises:
            InputError: the type, the range, the number of elements or the choice is wrong.
        """
        if not isinstance(self.default, list):
            return self._checked_scalar(value, type(self.default))
        if isinstance(value, str) or not hasattr(value, '__iter__'):
            raise self.error(value)
        kind = type(self.default[0])
        values = [self._checked_scalar(element, kind) for element in value]
        if not values or self.length not in (None, len(values)):
            raise self.error(value)
        return values

    def _checked_scalar(self, value: object, kind: type) -> bool | int | float | str:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)  # YAML's `1` for `1.0`
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(value)
        if kind is float and not math.isfinite(value):
            raise self.error(value)
        if kind in (int, float) and not self._in_range(value):
            raise self.error(value)
        if self.choices and value not in self.choices:
            raise self.error(value)
        return value

    def _in_range(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (
            self.high is None or value <= self.high
        )

    def error(self, value: object) -> InputError:
        """What to raise for a value that is not allowed: quotes it and says what was expected."""
        expected = self.type_name + (f', {self.constraint}' if self.constraint else '')
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + '...'
        return InputError(f'parameter {self.name}: got {shown}, expected {expected}')


_SCALARS = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}


class ParameterTable:
    """The parameters of one node.

    Attributes:
        node: name of the executable, for the generated files.
        specs: name -> parameter, in the order of the table.
        yaml_file: generated parameter file, relative to the repository.
        docs_file: generated page, relative to the repository.
    """

    def __init__(
        self,
        node: str,
        specs: Sequence[Spec],
        yaml_file: str,
        docs_file: str,
        check_together: Callable[[Mapping[str, Value]], None] = lambda values: None,
    ) -> None:
        """`check_together` raises InputError for values that contradict each other."""
        self.node = node
        self.specs: Mapping[str, Spec] = {spec.name: spec for spec in specs}
        self.yaml_file = yaml_file
        self.docs_file = docs_file
        self.check_together = check_together

    def hint(self, name: str) -> str:
        """What may have been meant by a name that is not in the table; empty for no idea."""
        close = difflib.get_close_matches(name, self.specs, n=1)
        return f', did you mean "{close[0]}"?' if close else ''

    def settings(self, values: Mapping[str, object] | None = None) -> Settings:
        """Returns checked settings, defaults where no value is given; see `Settings`."""
        return Settings(self, values or {})


class Settings(Mapping[str, Value]):
    """An immutable set of parameter values; a tick works with one from start to end.

    Attributes:
        revision: changes that were taken over before it was made; 0 at start.
    """

    def __init__(
        self, table: ParameterTable, values: Mapping[str, object], revision: int = 0
    ) -> None:
        """Checks the values given and takes the defaults for all others.

        Raises:
            InputError: an unknown name, a value out of range, or values that contradict
                each other.
        """
        unknown = sorted(set(values) - set(table.specs))
        if unknown:
            raise InputError(f'unknown parameter {", ".join(unknown)}')
        self._table = table
        self.revision = revision
        self._values = {
            name: spec.checked(values.get(name, spec.default))
            for name, spec in table.specs.items()
        }
        table.check_together(self._values)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def replaced(self, values: Mapping[str, object]) -> Settings:
        """Returns new settings with some values replaced; raises like the constructor."""
        return Settings(self._table, {**self._values, **values}, self.revision + 1)


def _yaml_value(value: Value) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, list):
        return '[' + ', '.join(_yaml_value(element) for element in value) + ']'
    return str(value) or "''"


def _note(spec: Spec) -> str:
    return ', '.join(part for part in (spec.unit, spec.constraint) if part)


def render_yaml(table: ParameterTable) -> str:
    """Returns the parameter file with all defaults."""
    lines = [
        f'# Parameters of {table.node} with their defaults; what they mean: {table.docs_file}.',
        '# Generated from the parameter table: change the defaults there.',
        '/**:',
        '  ros__parameters:',
    ]
    group = ''
    for spec in table.specs.values():
        prefix, _, leaf = spec.name.rpartition('.')
        if prefix and prefix != group:
            lines.append(f'    {prefix}:')
        group = prefix
        indent = '      ' if prefix else '    '
        comment = f'  # {_note(spec)}' if _note(spec) else ''
        lines.append(f'{indent}{leaf}: {_yaml_value(spec.default)}{comment}')
    return '\n'.join(lines) + '\n'


def render_markdown(table: ParameterTable) -> str:
    """Returns the page that documents every parameter."""
    lines = [
        f'# Parameters of `{table.node}`',
        '',
        f'Generated from the parameter table of the node; `{table.yaml_file}` holds the defaults.',
        'A name in a parameter file that is not listed here is named in an error at start, with',
        'the closest one that is.',
        'QoS can be changed with `qos_overrides.<topic>.*`.',
    ]
    group = None
    for spec in table.specs.values():
        prefix = spec.name.rpartition('.')[0]
        if prefix != group:
            lines += ['', f'## {f"`{prefix}.*`" if prefix else "Node"}', '', _HEAD, _RULE]
            group = prefix
        cells = (
            f'`{spec.name}`',
            spec.type_name,
            f'`{_yaml_value(spec.default)}`',
            _note(spec),
            spec.text,
            spec.changes.value,
        )
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


_HEAD = '| parameter | type | default | unit, allowed | meaning | a change takes effect |'
_RULE = '|---|---|---|---|---|---|'


def check_names(values: Mapping[str, Value], parameter: str) -> None:
    """Raises InputError where a list of names has an empty or a repeated one."""
    names = values[parameter]
    if '' in names or len(set(names)) != len(names):
        raise InputError(f'parameter {parameter}: got {names}, expected names without repetition')
