"""Slots keep what stays where it is, take what is new, and write nothing else."""

from __future__ import annotations

import pytest
import torch
from compact_helpers import DEVICES, choice
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.acceleration.layer_pruning import PruningError
from efficientvla_ros.acceleration.slot_buffers import SlotBuffers, slot_deltas

TOTAL, SLOTS = 48, 36


def sources(dtype: torch.dtype = torch.float32, device: str = 'cpu') -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(TOTAL, 1, 16), (TOTAL, 4, 8)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def naive_update(held: list[int], wanted: set[int]) -> list[int]:
    new = iter(sorted(wanted - set(held)))
    return [item if item in wanted else next(new) for item in held]


def churned(held: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """The same choice with up to `count` items exchanged."""
    held = held.cpu()
    others = torch.tensor(sorted(set(range(TOTAL)) - set(held.tolist())))
    count = min(count, len(others))
    new = others[torch.randperm(len(others), generator=generator)[:count]]
    wanted = held[torch.randperm(len(held), generator=generator)]
    wanted[:count] = new
    return wanted


@given(data=st.data())
def test_what_stays_keeps_its_slot_and_new_items_come_in_ascending_order(data):
    total = data.draw(st.integers(1, 12))
    count = data.draw(st.integers(1, total))
    held, wanted = (
        torch.tensor(data.draw(st.permutations(range(total)))[:count]) for _ in range(2)
    )
    delta = slot_deltas(held[None], wanted[None], total)[0]
    expected = naive_update(held.tolist(), set(wanted.tolist()))
    changed = [slot for slot in range(count) if expected[slot] != held[slot]]
    assert delta.slots.tolist() == changed
    assert delta.items.tolist() == [expected[slot] for slot in changed]


def test_several_layers_at_once_are_each_layer_alone():
    generator = torch.Generator().manual_seed(1)
    held, wanted = (
        torch.stack([choice(TOTAL, SLOTS, generator) for _ in range(5)]) for _ in range(2)
    )
    wanted[2] = held[2].flip(0)
    for row, delta in enumerate(slot_deltas(held, wanted, TOTAL)):
        alone = slot_deltas(held[row : row + 1], wanted[row : row + 1], TOTAL)[0]
        assert delta.slots.tolist() == alone.slots.tolist()
        assert delta.items.tolist() == alone.items.tolist()
        assert len(delta) == (
            0 if row == 2 else len(set(wanted[row].tolist()) - set(held[row].tolist()))
        )


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_slots_after_a_thousand_random_updates_equal_fresh_packing_to_the_last_bit(dtype, device):
    generator = torch.Generator().manual_seed(2)
    weights = sources(dtype, device)
    slots = SlotBuffers(weights, choice(TOTAL, SLOTS, generator).to(device))
    addresses = [buffer.data_ptr() for buffer in slots.buffers]
    expected = slots.held.tolist()
    for _ in range(1000):
        churn = int(torch.randint(0, TOTAL - SLOTS + 1, (), generator=generator))
        wanted = churned(slots.held, churn, generator)
        expected = naive_update(expected, set(wanted.tolist()))
        slots.apply(slots.delta(wanted.to(device)))
    assert slots.held.tolist() == expected
    fresh = SlotBuffers(weights, slots.held.clone())
    in_order = SlotBuffers(weights, slots.held.sort().values)
    place = slots.held.argsort()
    for updated, packed, ascending in zip(slots.buffers, fresh.buffers, in_order.buffers):
        assert torch.equal(updated, packed)
        assert torch.equal(updated[place], ascending)
    assert [buffer.data_ptr() for buffer in slots.buffers] == addresses


def test_only_slots_that_change_are_written():
    generator = torch.Generator().manual_seed(3)
    weights = sources()
    slots = SlotBuffers(weights, choice(TOTAL, SLOTS, generator))
    delta = slots.delta(churned(slots.held, 4, generator))
    for buffer in slots.buffers:
        buffer.fill_(float('nan'))
    slots.apply(delta)
    for source, buffer in zip(weights, slots.buffers):
        assert torch.equal(buffer[delta.slots], source[delta.items])
        written = ~buffer.isnan().flatten(1).any(1)
        assert written.nonzero().squeeze(1).tolist() == delta.slots.tolist()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_an_update_writes_bytes_in_proportion_to_what_changes(dtype):
    generator = torch.Generator().manual_seed(4)
    slots = SlotBuffers(sources(dtype), choice(TOTAL, SLOTS, generator))
    row = (16 + 4 * 8) * dtype.itemsize
    assert slots.num_bytes == SLOTS * row == slots.pack(slots.held.clone())
    assert slots.apply(slots.delta(churned(slots.held, 3, generator))) == 3 * row
    assert slots.apply(slots.delta(slots.held.flip(0))) == 0


def test_slots_can_be_filled_from_weights_of_any_strides():
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(16, TOTAL, generator=generator)
    items = choice(TOTAL, SLOTS, generator)
    slots = SlotBuffers([weight.t().unsqueeze(1)], items)
    assert slots.buffers[0].is_contiguous()
    slots.apply(slots.delta(churned(items, 5, generator)))
    assert torch.equal(slots.buffers[0][:, 0], weight.t()[slots.held])


@pytest.mark.parametrize(
    ('wanted', 'message'),
    [
        (torch.tensor([0, 1, 1]), 'an item twice, expected each once'),
        (torch.tensor([0, 1, 6]), r'out of range, expected 0 \.\. 5'),
        (torch.tensor([0, 1, -1]), r'out of range, expected 0 \.\. 5'),
        (torch.tensor([0, 1]), r'torch.int64 \(1, 2\), expected torch.int64 \(1, 3\)'),
        (torch.tensor([0.0, 1.0, 2.0]), r'torch.float32 \(1, 3\), expected torch.int64'),
    ],
)
def test_a_choice_that_does_not_fit_the_slots_changes_nothing(wanted, message):
    slots = SlotBuffers([torch.arange(6.0).view(6, 1, 1)], torch.tensor([5, 3, 0]))
    with pytest.raises(PruningError, match=message):
        slots.apply(slots.delta(wanted))
    assert slots.held.tolist() == [5, 3, 0]
    assert slots.buffers[0].flatten().tolist() == [5.0, 3.0, 0.0]


@pytest.mark.parametrize(
    ('items', 'message'),
    [
        (torch.tensor([], dtype=torch.int64), r'0 items for slots, expected 1 \.\. 6'),
        (torch.arange(7), r'7 items for slots, expected 1 \.\. 6'),
        (torch.tensor([0, 6]), r'out of range or repeated, expected 0 \.\. 5, each once'),
        (torch.tensor([2, 2]), r'out of range or repeated, expected 0 \.\. 5, each once'),
        (torch.tensor([0.0, 1.0]), 'torch.float32'),
    ],
)
def test_slots_for_items_that_do_not_exist_are_refused(items, message):
    with pytest.raises(PruningError, match=message):
        SlotBuffers([torch.zeros(6, 1, 1)], items)
