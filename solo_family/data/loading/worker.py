"""A process that loads batches, and what passes between it and the process that trains.

Both ends are a pair of sockets: it is closed, and so the other end knows, however a process ends.
"""

import faulthandler
import os
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

import torch

from ...errors import SoloFamilyError
from ...lifetime import end_with_parent
from .shared_slots import SharedSlots
from .wire import pack, places, unpack

# How long what follows is; which slot the buffers lie in, or -1 where they follow, too.
_HEAD = struct.Struct("<QQq")
_SIZE = struct.Struct("<Q")
_STACK_BYTES = 2**16
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
]


class Failure(NamedTuple):
    """What a batch could not be loaded for.

    Attributes:
        error: one of our errors, or None.
        kind: the type of another error, and where it was raised.
        message: what it says.
        trace: its traceback.
    """

    error: SoloFamilyError | None
    kind: str
    message: str
    trace: str


class Worker:
    """Starts a process that loads batches of `dataset`, and is its other end.

    Args:
        context: how processes are started.
        dataset: maps a key to an item.
        slots: the shared memory, or None.
    """

    def __init__(self, context: BaseContext, dataset: Any, slots: SharedSlots | None) -> None:
        self.channel, theirs = socket.socketpair()
        try:
            self._stack, stack = os.pipe()
        except OSError:
            self.channel.close()
            theirs.close()
            raise
        os.set_blocking(self._stack, False)
        self._forked = context.get_start_method() == "fork"
        inherited = (self.channel, stack) if self._forked else None
        self.process = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(theirs, inherited, dataset, slots, _owner()), daemon=True
        )
        try:
            with _without_signals():
                self.process.start()
        except BaseException:
            self.channel.close()
            os.close(self._stack)
            raise
        finally:
            theirs.close()
            os.close(stack)

    def request(self, keys: list[Any], slot: int | None) -> None:
        """Ask for a batch, which it may write to a slot.

        Raises:
            OSError: the process is gone.
        """
        body = pack((keys, slot)).structure
        self.channel.sendall(_SIZE.pack(len(body)) + body)

    def stack(self, wait: Callable[[], None]) -> str:
        """Return what the process is doing, as a traceback; "" where it can't be told.

        Args:
            wait: gives it the time to write.
        """
        if not self._forked or self.process.pid is None:
            return ""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGUSR2)
        wait()
        try:
            return os.read(self._stack, _STACK_BYTES).decode(errors="replace").strip()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        """End the process at once; it holds nothing that could be lost."""
        self.channel.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        os.close(self._stack)


def read_head(receive: Callable[[int], bytearray]) -> tuple[bytes, list[int], int | None]:
    """Receive the first part of an answer.

    Returns:
        The structure, the sizes of the buffers, and the slot that they lie in, or None.
    """
    length, count, slot = _HEAD.unpack(receive(_HEAD.size))
    sizes = [size for (size,) in _SIZE.iter_unpack(receive(count * _SIZE.size))] if count else []
    return bytes(receive(length)), sizes, slot if slot >= 0 else None


def _serve(
    channel: socket.socket,
    inherited: tuple[socket.socket, int] | None,
    dataset: Any,
    slots: SharedSlots | None,
    parent: int | None,
) -> None:
    """Is the process: answers requests until the other end is closed."""
    if inherited is not None:
        parents, stack = inherited
        parents.close()  # else it would not be closed when the parent ends
        if hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR2, stack, all_threads=True)
    _prepare(parent)
    while True:
        try:
            (size,) = _SIZE.unpack(_receive(channel, _SIZE.size))
            keys, slot = unpack(_receive(channel, size))
        except (EOFError, OSError):
            return
        try:
            value: Any = [dataset[key] for key in keys]
            packed = pack(value)
        except Exception as error:
            packed = pack(_failure(error))
        sizes = [buffer.nbytes for buffer in packed.buffers]
        starts, end = places(sizes)
        used, follow = -1, packed.buffers
        if slots is not None and slot is not None and end <= slots.size:
            slots.write(slot, packed.buffers, starts)
            used, follow = slot, ()
        head = _HEAD.pack(len(packed.structure), len(sizes), used)
        try:
            channel.sendall(head + b"".join(map(_SIZE.pack, sizes)) + packed.structure)
            for buffer in follow:
                channel.sendall(buffer)
        except OSError:
            return


@contextmanager
def _without_signals() -> Iterator[None]:
    """Within it signals wait; a process that is started in it has none until it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _owner() -> int | None:
    """Return this process, or None where its end can't be waited for by those it starts.

    Linux takes the end of the thread that started a process for that of its parent.
    """
    is_main = threading.current_thread() is threading.main_thread()
    return os.getpid() if is_main else None


def _prepare(parent: int | None) -> None:
    # The run decides when it ends, whoever is sent its signals; then it ends this process.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if parent is not None:
        end_with_parent(parent)
    torch.set_num_threads(1)
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(0)  # its threads are not there after a fork


def _receive(channel: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = channel.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data


def _failure(error: Exception) -> Failure:
    ours = error if isinstance(error, SoloFamilyError) else None
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    text = "".join(traceback.format_exception(error))
    if ours is not None:
        ours = type(ours)(str(ours))
    return Failure(ours, f"{type(error).__name__}{place}", str(error), text)
