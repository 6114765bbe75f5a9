"""Prints a ROS_DOMAIN_ID that no other participant on this machine uses."""

from __future__ import annotations

import random
import socket

# DDS: the first participant of a domain receives on this UDP port.
PORT_BASE, DOMAIN_GAIN, UNICAST_OFFSET = 7400, 250, 10
LAST_DOMAIN = 100  # above it the ports reach into Linux's range for outgoing connections


def is_free(domain: int) -> bool:
    """Returns whether the port of the domain's first participant can be bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('', PORT_BASE + DOMAIN_GAIN * domain + UNICAST_OFFSET))
        except OSError:
            return False
    return True


def free_domain() -> int:
    """Returns a free domain other than the default one, chosen at random."""
    domains = random.sample(range(1, LAST_DOMAIN + 1), LAST_DOMAIN)
    return next((domain for domain in domains if is_free(domain)), domains[0])


if __name__ == '__main__':
    print(free_domain())
