"""Parameters of the policy node from a ROS 2 parameter file, read without ROS 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from efficientvla_ros.types import InputError

_NODES = ('policy_node', '*', '**')


def read_parameters(path: Path) -> dict[str, Any]:
    """Returns the parameters for `policy_node` in any namespace, by full name.

    Wildcards (`/**`) count; what is further down in the file overrides what is above.

    Raises:
        InputError: there is no such file, or it is no ROS 2 parameter file.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror})') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = ' '.join(str(error).split())
        raise InputError(f'{path} is no YAML file ({text[:160]})') from error
    found: dict[str, Any] = {}
    if not isinstance(content, Mapping) or not _collect(content, (), found):
        raise InputError(
            f'{path}: found no parameters, expected "/**:" or "policy_node:" with '
            '"ros__parameters:" below it'
        )
    return found


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Returns parameters given as `name:=value`, the value in YAML.

    Raises:
        InputError: one is not of that form.
    """
    import yaml

    found = {}
    for text in texts:
        name, separator, value = text.partition(':=')
        if not separator or not name:
            raise InputError(f'--param {text!r}: expected name:=value')
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f'--param {text!r}: the value is no YAML') from None
    return found


def _collect(content: Mapping, names: tuple[str, ...], found: dict[str, Any]) -> bool:
    """Fills in the parameters; returns whether there were any, of whichever node."""
    any_node = False
    for key, value in content.items():
        if not isinstance(value, Mapping):
            continue
        if key != 'ros__parameters':
            any_node |= _collect(value, (*names, str(key)), found)
            continue
        any_node = True
        if '/'.join(names).split('/')[-1] in _NODES:
            found.update(_flat(value, ''))
    return any_node


def _flat(values: Mapping, prefix: str) -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        name = f'{prefix}{key}'
        flat.update(_flat(value, f'{name}.') if isinstance(value, Mapping) else {name: value})
    return flat
