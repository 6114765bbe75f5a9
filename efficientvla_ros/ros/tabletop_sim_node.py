"""The executable of the simulator node: start, signals, end."""

from __future__ import annotations

import signal
import sys

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from efficientvla_ros.ros.transport import make_room_for_images
from efficientvla_ros.types import InputError


def main(args: list[str] | None = None) -> int:
    """Runs the node until SIGINT or SIGTERM; returns the exit code."""
    stopped: list[bool] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    make_room_for_images()
    # Our own handlers let a slot finish before anything is torn down.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        # Loads MuJoCo, which says here if it cannot render on this machine.
        from efficientvla_ros.ros.simulator.tabletop_sim import TabletopSimNode

        node = TabletopSimNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.run(executor, lambda: not stopped)
        executor.shutdown()
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    finally:
        if node is not None:
            node.close()
        rclpy.shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
