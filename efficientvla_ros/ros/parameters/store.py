"""Declares a parameter table on a node and keeps an immutable snapshot of its values.

On-set only checks; the new values are taken over after they were stored, and whoever works in
ticks reads `settings` once at the start of a tick, so a change never meets a running tick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.node import Node
from rclpy.parameter import Parameter

from efficientvla_ros.ros.parameters.table import Changes, ParameterTable, Settings, Spec
from efficientvla_ros.types import InputError

# Declared by rclpy and others on every node: not ours to judge.
_FOREIGN = ('use_sim_time', 'qos_overrides.', 'start_type_description_service')


class ParameterRefused(ParameterNotDeclaredException):
    """A change that rclpy itself would refuse without saying which parameter it is about."""

    def __init__(self, name: str, reason: str) -> None:
        """`reason` is what the caller of the service reads."""
        super().__init__(name)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class ParameterStore:
    """The parameters of one node.

    Attributes:
        settings: the values in force; replaced as a whole, never changed.
        unknown: lines that name parameters given at start which the table does not have.
    """

    def __init__(
        self,
        node: Node,
        table: ParameterTable,
        *,
        configured: Callable[[], bool] = lambda: False,
        check: Callable[[Settings], None] = lambda settings: None,
        on_change: Callable[[Settings], None] = lambda settings: None,
    ) -> None:
        """Declares all parameters, taking the values given at start.

        Args:
            node: the node.
            table: its parameters.
            configured: whether parameters that act at configure are in use now.
            check: raises InputError for values that the table allows but the node cannot use
                as it is now; without side effects.
            on_change: called after a change was taken over.

        Raises:
            InputError: a value given at start cannot be used.
        """
        self._node = node
        self._table = table
        self._configured = configured
        self._check = check
        self._on_change = on_change
        self._timer = None
        # Given by a parameter file or on the command line; rclpy has no public getter.
        given = {name: p.value for name, p in node._parameter_overrides.items()}
        self.unknown = _unknown_lines(given, table)
        self.settings: Settings = table.settings(
            {name: value for name, value in given.items() if name in table.specs}
        )
        for spec in table.specs.values():
            node.declare_parameter(
                spec.name, self.settings[spec.name], descriptor(spec), ignore_override=True
            )
        node.add_on_set_parameters_callback(self._validate)
        if hasattr(node, 'add_pre_set_parameters_callback'):  # not on Humble
            node.add_pre_set_parameters_callback(self._named)
        # Humble has no post-set callbacks.
        self._has_post_set = hasattr(node, 'add_post_set_parameters_callback')
        if self._has_post_set:
            node.add_post_set_parameters_callback(lambda parameters: self._take_over())

    def _named(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """Takes whole numbers for doubles, and names what rclpy would refuse without a name."""
        return [self._typed(parameter) for parameter in parameters]

    def _typed(self, parameter: Parameter) -> Parameter:
        name, spec = parameter.name, self._table.specs.get(parameter.name)
        if spec is None:
            if self._node.has_parameter(name):
                return parameter
            raise ParameterRefused(name, f'parameter "{name}" is unknown{self._table.hint(name)}')
        typed = parameter
        if parameter.type_ is Parameter.Type.INTEGER and isinstance(spec.default, float):
            typed = Parameter(name, value=float(parameter.value))
        if typed.type_ is not Parameter.Type.from_parameter_value(spec.default):
            raise ParameterRefused(name, str(spec.error(parameter.value)))
        return typed

    def _validate(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        changed = {p.name: p.value for p in parameters if p.name in self._table.specs}
        if not changed:
            return SetParametersResult(successful=True)
        try:
            for name in changed:
                self._check_time(name)
            self._check(self.settings.replaced(changed))
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if not self._has_post_set:
            self._take_over_soon()
        return SetParametersResult(successful=True)

    def _check_time(self, name: str) -> None:
        changes = self._table.specs[name].changes
        if changes is Changes.CONFIGURE and self._configured():
            raise InputError(
                f'parameter {name} takes effect when the node is configured: '
                'deactivate and clean up the node first'
            )

    def _take_over_soon(self) -> None:
        # Parameter services are in the default callback group, which excludes itself: a timer
        # in that group fires after the service has stored the new values.
        if self._timer is None:
            self._timer = self._node.create_timer(
                0.0, self._take_over_once, callback_group=self._node.default_callback_group
            )

    def _take_over_once(self) -> None:
        self._node.destroy_timer(self._timer)
        self._timer = None
        self._take_over()

    def _take_over(self) -> None:
        stored = self._node.get_parameters(list(self._table.specs))
        settings = self.settings.replaced({p.name: p.value for p in stored})
        if dict(settings) != dict(self.settings):
            self.settings = settings
            self._on_change(settings)


def descriptor(spec: Spec) -> ParameterDescriptor:
    """Returns the ROS description of a parameter: text, unit, range, read-only."""
    unit = f' [{spec.unit}]' if spec.unit else ''
    result = ParameterDescriptor(
        name=spec.name,
        description=spec.text + unit,
        additional_constraints=f'{spec.constraint}; takes effect {spec.changes.value}'.lstrip(
            '; '
        ),
        read_only=spec.changes is Changes.NEVER,
    )
    # Ranges are for single numbers only; lists are checked by the table.
    if spec.low is not None and spec.high is not None and not isinstance(spec.default, list):
        if isinstance(spec.default, int):
            bounds = IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=0)
            result.integer_range = [bounds]
        else:
            bounds = FloatingPointRange(from_value=spec.low, to_value=spec.high, step=0.0)
            result.floating_point_range = [bounds]
    return result


def _unknown_lines(given: Sequence[str], table: ParameterTable) -> list[str]:
    lines = []
    for name in sorted(given):
        if name in table.specs or name.startswith(_FOREIGN):
            continue
        lines.append(f'parameter "{name}" is unknown{table.hint(name)}')
    return lines
