"""Runs a node as a process: signals end it in order, and errors are one line."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Protocol

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from efficientvla_ros.types import InputError

_THREADS = 4  # a transition, the inputs, the timers and one service at a time


class ClosableNode(Protocol):
    """A node that can bring its robot to rest before the process ends.

    Attributes:
        brief: whether no callback takes long at present, so that one thread is enough for all.
    """

    brief: bool

    def close(self) -> bool:
        """Ends everything in order; False when something cannot be ended in time."""


def run(factory: Callable[[], Node], args: list[str] | None = None) -> int:
    """Spins a node until SIGINT, SIGTERM or an external shutdown; returns the exit code.

    rclpy's own signal handlers invalidate all publishers at once, too early for a last command
    to the robot: they are replaced. A second signal ends the process at once.
    """
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, _handler(stop)) for number in signals]
    try:
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except Exception as error:  # arguments or parameter files that rcl cannot parse
            print(f'error: ROS cannot be initialised: {_one_line(error)}', file=sys.stderr)
            return 1
        try:
            node = factory()
        except InputError as error:
            print(f'error: {error}', file=sys.stderr)
            return 1
        _spin(node, stop)
        return 0
    finally:
        if rclpy.ok():
            rclpy.shutdown()
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _handler(stop: threading.Event) -> Callable[[int, object], None]:
    def on_signal(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    return on_signal


def _spin(node: Node, stop: threading.Event) -> None:
    executors = _Executors(node)
    thread = threading.Thread(target=_spin_executors, args=(executors, node, stop), daemon=True)
    thread.start()
    # The main thread only waits: Python runs signal handlers there, and this wait lets it.
    stop.wait()
    ended = node.close() if rclpy.ok() else True
    if not ended:
        node.get_logger().info('a transition is still under way, leaving without its end')
        sys.stderr.flush()
        os._exit(0)
    executors.shutdown()
    thread.join(timeout=2.0)
    node.destroy_node()


class _Executors:
    """A node's executor: one for callbacks of any length, and a cheap one while all are brief.

    rclpy builds a wait set anew for each callback, which takes a third of a core with a camera
    and joint states; its EventsExecutor takes a fifth of that, and has one thread.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._brief = _events_executor()
        self._spent: Executor | None = None
        self._current = _any_executor()
        self._current.add_node(node)

    def spin_once(self, timeout_sec: float) -> None:
        if self._brief is not None and self._node.brief != (self._current is self._brief):
            self._change()
        self._current.spin_once(timeout_sec=timeout_sec)

    def _change(self) -> None:
        before = self._current
        before.remove_node(self._node)
        if before is self._brief:
            # A new one: one that was used before goes on with the wait set that it had then.
            self._current = _any_executor()
            if self._spent is not None:
                self._spent.shutdown(timeout_sec=2.0)
        else:
            # What it began, such as the answer to `activate`, it still brings to its end.
            self._spent, self._current = before, self._brief
        self._current.add_node(self._node)

    def shutdown(self) -> None:
        for executor in {self._current, self._brief, self._spent} - {None}:
            executor.shutdown(timeout_sec=2.0)


def _any_executor() -> Executor:
    return MultiThreadedExecutor(num_threads=_THREADS)


def _events_executor() -> Executor | None:
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:  # Humble
        return None
    return EventsExecutor()


def _spin_executors(executors: _Executors, node: Node, stop: threading.Event) -> None:
    while not stop.is_set() and node.context.ok():
        try:
            executors.spin_once(timeout_sec=0.5)
        except ExternalShutdownException:
            break
        except InvalidHandle:
            continue  # what was about to run was destroyed by another thread, as at cleanup
        except Exception as error:
            # E.g. Humble raises when a lifecycle transition is asked for that is not possible.
            node.get_logger().error(f'callback failed: {type(error).__name__}: {_one_line(error)}')
    stop.set()


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())[:300]
