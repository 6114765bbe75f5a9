"""What changing slots costs is measured on real slots, and what is written is what changed."""

from __future__ import annotations

import json

import pytest

from efficientvla_ros.evaluation.channel_tables import slot_table
from efficientvla_ros.evaluation.slot_benchmark import measure_slots
from efficientvla_ros.runtime.engine import load_engine


@pytest.fixture(scope='module')
def engine():
    return load_engine('tabletop-pick', random_weights=True)


@pytest.mark.parametrize('ratio', [0.25, 0.1])
def test_as_much_is_written_as_changes(engine, ratio):
    found = measure_slots(engine, ratio, changes=(0.0, 0.05, 0.5), repeats=3)
    llm = engine.config.llm
    nothing, little, much = found['changes']
    assert nothing['bytes'] == 0 and nothing['heads'] == 0
    # 0.25 of four heads is one: at half, that one comes back; below, heads are whole.
    assert much['heads'] == (1 if ratio == 0.25 else 0)
    kept = {0.25: 264, 0.1: 320}[ratio]
    channel = 3 * llm.width * 4
    assert little['bytes'] == llm.layers * channel * round(0.05 * kept)
    assert little['bytes'] < much['bytes'] < found['slots_bytes']
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    table = slot_table(found)
    assert '| 5% |' in table and len(table.strip().splitlines()) == 7


def test_parts_of_a_repack_are_of_the_medians(engine):
    found = measure_slots(engine, changes=(0.1,), repeats=3)
    (row,) = found['changes']
    whole = found['repack_s']['p50']
    assert row['part_of_repack']['write'] == pytest.approx(row['write_s']['p50'] / whole)
    both = row['write_s']['p50'] + row['compare_s']['p50']
    assert row['part_of_repack']['update'] == pytest.approx(both / whole)
