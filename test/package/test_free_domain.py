"""Tests and demo take a ROS domain that nothing else on the machine uses."""

from __future__ import annotations

import socket

import free_domain


def test_domain_of_a_running_participant_is_not_free():
    domain = free_domain.free_domain()
    port = free_domain.PORT_BASE + free_domain.DOMAIN_GAIN * domain + free_domain.UNICAST_OFFSET
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(('', port))
        assert not free_domain.is_free(domain)
    assert free_domain.is_free(domain)


def test_domain_is_neither_the_default_nor_out_of_range():
    assert all(1 <= free_domain.free_domain() <= free_domain.LAST_DOMAIN for _ in range(50))
