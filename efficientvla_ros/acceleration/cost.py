"""What a tick costs, part by part: MACs, bytes, memory, and the time that hardware allows.

The floor of a pass is the roofline (Williams et al. 2009): the larger of arithmetic over peak
rate and bytes over bandwidth. Passes run one after the other, so their floors add up.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientvla_ros.acceleration.network_work import Work


@dataclass(frozen=True)
class Pass:
    """Equal runs through (part of) a component.

    Attributes:
        name: what is run.
        work: MACs and weights of one run.
        weight_bytes: bytes of weights that one run reads.
        cache_bytes: bytes of kept keys and values that one run reads.
        times: runs in a tick.
    """

    name: str
    work: Work
    weight_bytes: int
    cache_bytes: int = 0
    times: int = 1

    @property
    def macs(self) -> int:
        """MACs of all runs."""
        return self.times * self.work.macs

    @property
    def bytes_read(self) -> int:
        """Bytes of all runs. What a cache keeps from one run to the next is not subtracted."""
        return self.times * (self.weight_bytes + self.cache_bytes)

    def floor_seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """Time that hardware of these peak rates needs at least."""
        return max(2 * self.macs / flops_per_second, self.bytes_read / bytes_per_second)


@dataclass(frozen=True)
class Component:
    """One network of the policy.

    Attributes:
        name: `dino`, `siglip`, `projector`, `embedding`, `llm`, `lm_head` or `action_head`.
        parameters: parameters that have to be held to run it.
        parameter_bytes: bytes of one of them.
        activation_bytes: estimate of the largest sum of intermediate tensors alive at once.
        passes: what a tick runs, in order.
    """

    name: str
    parameters: int
    parameter_bytes: int
    activation_bytes: int
    passes: tuple[Pass, ...]

    @property
    def macs(self) -> int:
        """MACs of a tick."""
        return sum(part.macs for part in self.passes)

    @property
    def bytes_read(self) -> int:
        """Bytes of weights and cache that a tick reads."""
        return sum(part.bytes_read for part in self.passes)

    def floor_seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """Sum of the passes' floors."""
        return sum(part.floor_seconds(flops_per_second, bytes_per_second) for part in self.passes)


@dataclass(frozen=True)
class Cost:
    """What a tick takes.

    Attributes:
        components: in the order in which they run.
        cache_bytes: keys and values that are kept from pass to pass; 0 for policies that run
            the decoder once.
    """

    components: tuple[Component, ...]
    cache_bytes: int

    def __getitem__(self, name: str) -> Component:
        """The component of that name."""
        return next(part for part in self.components if part.name == name)

    @property
    def parameters(self) -> int:
        """Parameters that have to be held."""
        return sum(part.parameters for part in self.components)

    @property
    def macs(self) -> int:
        """MACs of a tick."""
        return sum(part.macs for part in self.components)

    @property
    def flops(self) -> int:
        """Two for each MAC."""
        return 2 * self.macs

    @property
    def bytes_read(self) -> int:
        """Bytes of weights and cache that a tick reads."""
        return sum(part.bytes_read for part in self.components)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights."""
        return sum(part.parameters * part.parameter_bytes for part in self.components)

    @property
    def activation_bytes(self) -> int:
        """Memory of the intermediate tensors: the largest component's, see `Component`."""
        return max(part.activation_bytes for part in self.components)

    def floor_seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """Sum of the components' floors."""
        return sum(
            part.floor_seconds(flops_per_second, bytes_per_second) for part in self.components
        )
