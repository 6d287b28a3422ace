"""A worker process that loads batches, and its protocol with the training process.

The two talk over a pair of connected sockets. The system closes a socket however its process ends,
so each side always learns that the other is gone.
"""

import faulthandler
import os
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

import torch

from ...errors import SoloFamilyError
from ...lifetime import end_with_parent
from ...stopping import SIGNALS, signals_blocked, unblock_signals
from .shared_slots import SharedSlots
from .wire import pack, places, unpack

# Header of an answer: bytes of the pickled structure, number of buffers, and the slot that holds
# the buffers (-1 if they follow on the socket).
_HEAD = struct.Struct("<QQq")
_SIZE = struct.Struct("<Q")
_STACK_BYTES = 2**16
_SIGNALS = [*SIGNALS, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Failure(NamedTuple):
    """Why a worker could not load a batch.

    Attributes:
        error: the exception if it is one of this package's errors, else None.
        kind: the exception's type, and the file and line that raised it.
        message: the exception's message.
        trace: the formatted traceback.
    """

    error: SoloFamilyError | None
    kind: str
    message: str
    trace: str


class Worker:
    """Start a process that loads batches of a dataset, and talk to it.

    Args:
        context: the multiprocessing context, which determines how the process is started.
        dataset: maps a key to an item.
        slots: shared memory for the batches; None sends all batches through the socket.

    Raises:
        OSError: the system can't start another process.
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
            with signals_blocked(_SIGNALS):
                self.process.start()
        except BaseException:
            self.channel.close()
            os.close(self._stack)
            raise
        finally:
            theirs.close()
            os.close(stack)

    def request(self, keys: list[Any], slot: int | None) -> None:
        """Request the batch with these keys.

        Args:
            keys: of the batch's items.
            slot: the shared-memory slot that the process may write the batch to, or None.

        Raises:
            OSError: the process has ended.
        """
        body = pack((keys, slot)).structure
        self.channel.sendall(_SIZE.pack(len(body)) + body)

    def stack(self, wait: Callable[[], None]) -> str:
        """Return the traceback of what the process is executing; "" if it is not available.

        Args:
            wait: called after the traceback was requested, to give the process time to write it.
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
        """Kill the process; it holds no data that could be lost."""
        self.channel.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        os.close(self._stack)


def read_head(receive: Callable[[int], bytearray]) -> tuple[bytes, list[int], int | None]:
    """Receive the header and the structure of an answer.

    Args:
        receive: returns as many bytes of the answer as it is asked for.

    Returns:
        The pickled structure, the sizes of the buffers in bytes, and the slot that holds the
        buffers; None if they follow on the socket.
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
    """Answer requests until the training process closes its socket: the worker's main function."""
    if inherited is not None:
        parents, stack = inherited
        parents.close()  # while this copy is open, the parent's end would not count as closed
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


def _owner() -> int | None:
    """Return this process's id, or None if the worker can't be tied to the end of this process.

    Linux reports the end of the thread that started the worker as the end of the parent, so only
    the main thread can be relied on.
    """
    is_main = threading.current_thread() is threading.main_thread()
    return os.getpid() if is_main else None


def _prepare(parent: int | None) -> None:
    # A terminal sends its signals to workers, too. Only the training process reacts to them, and
    # ends the workers when it is done.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    unblock_signals(_SIGNALS)
    if parent is not None:
        end_with_parent(parent)
    torch.set_num_threads(1)
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(0)  # OpenCV's threads do not survive a fork


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
