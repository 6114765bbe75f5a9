"""Parameters of the model reach the engine, and a long load says how far it is."""

from __future__ import annotations

import inspect

import pytest

from efficientvla_ros.ros.loading_log import LoadingLog
from efficientvla_ros.ros.parameters.policy import TABLE, engine_options
from efficientvla_ros.ros.runner import tick_period


class Clock:
    """A clock that is set by the test, s."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def loaded(fractions: list[float], seconds_each: float, total: int = 2_000_000_000) -> list[str]:
    """Lines of a load that reports these fractions, with time passing before each report."""
    lines, clock = [], Clock()
    log = LoadingLog(lines.append, clock)
    for fraction in fractions:
        clock.now += seconds_each
        log(int(fraction * total), total)
    return lines


def test_a_long_load_gives_a_line_for_every_tenth():
    lines = loaded([i / 700 for i in range(1, 701)], seconds_each=0.2)
    assert lines == [f'loading: {percent} % of 2.0 GB' for percent in range(10, 101, 10)]


def test_a_load_within_a_second_gives_no_line():
    assert loaded([i / 100 for i in range(1, 101)], seconds_each=0.009) == []


def test_one_large_step_gives_one_line():
    assert loaded([0.05, 0.57, 0.6, 1.0], seconds_each=5.0) == [
        'loading: 57 % of 2.0 GB',
        'loading: 100 % of 2.0 GB',
    ]


def test_nothing_to_load_is_no_error():
    assert loaded([1.0], seconds_each=5.0, total=0) == []


def test_empty_strings_and_zeros_leave_the_choice_to_the_model():
    options = engine_options(TABLE.settings())
    for name in ('tokenizer', 'unnorm_key', 'num_ddim_steps', 'guidance'):
        assert options[name] is None
    assert options['dtype'] == 'auto'
    assert options['random_weights'] is options['use_ema'] is False


def test_every_parameter_of_the_model_is_handed_to_the_engine():
    given = {
        'model.path': '/models/cogact', 'model.device': 'cuda:1', 'model.dtype': 'bfloat16',
        'model.tokenizer': '/models/llama', 'model.unnorm_key': 'bridge_orig',
        'model.use_ema': True, 'model.random_weights': True, 'model.threads': 3,
        'model.ddim_steps': 5, 'model.guidance': 2.5,
    }  # fmt: skip
    assert set(given) == {name for name in TABLE.specs if name.startswith('model.')}
    options = engine_options(TABLE.settings(given))
    for name in ('acceleration', 'profile', 'only_kept_layers'):
        del options[name]
    assert sorted(map(str, options.values())) == sorted(map(str, given.values()))


def test_the_engine_takes_these_options():
    from efficientvla_ros.runtime.engine import load_engine

    inspect.signature(load_engine).bind(**engine_options(TABLE.settings()), progress=print)


@pytest.mark.parametrize(
    ('given', 'horizon', 'period'),
    [
        ({}, 16, 0.6),
        ({'control.execute_steps': 5}, 16, 1.0),
        ({'control.execute_steps': 5}, 1, 0.2),  # OpenVLA plans one action at a time
        ({'control.execute_steps': 5, 'control.rate': 4.0}, 1, 0.25),
    ],
)
def test_a_plan_is_followed_no_longer_than_it_lasts(given, horizon, period):
    assert tick_period(TABLE.settings(given), horizon, 0.2) == pytest.approx(period)
