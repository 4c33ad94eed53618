"""Processes that call a function, and give back what it returns without copying large arrays.

A process is a new interpreter, not a fork: threads, BLAS and MPI are none that it could break, and
the script that runs is not run again. So the function has to come from modules that can be
imported: what a script or a notebook defines itself cannot be brought there.

The function goes there as a pickle, and results come back as one. Large arrays of a result lie in
memory that both processes have mapped; it belongs to this one until they are gone here, and then
the other one uses it again. Everything goes through a socket, the descriptors of memory too. A
process ends when its socket is closed, so also when this one is killed.
"""

from __future__ import annotations

import atexit
import errno
import functools
import io
import math
import os
import pickle
import queue
import signal
import socket
import struct
import subprocess
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from lucid import _interpreter
from lucid.data._shared import SharedMemory
from lucid.kernels import _dispatch
from lucid.kernels._memory import SMALLEST, empty

Array = np.ndarray

# Windows passes no memory through sockets.
AVAILABLE = hasattr(socket, "send_fds") and _interpreter.AVAILABLE

_LARGEST = 1 << 28  # bytes of a pickled function: each process has a copy of what is in it
_LENT = 32  # arrays of a process that this one has mapped; each takes one of its descriptors
_PASSED = 64  # descriptors that come with a message

_HEAD = struct.Struct("<QB")  # the length of a message, and what it is:
_FUNCTION, _CALL, _RESULT, _UNABLE = range(4)

# The processes share the cores; what computes in one has no threads of its own.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


class StaysHere:
    """The base of what is not copied to other processes: a reference goes there and comes back."""


class _Reference(StaysHere):
    def __init__(self, number: int) -> None:
        self.number = number


class WorkerEndedError(RuntimeError):
    """A process ended, or was killed, in the middle of its work."""


# -- messages ----------------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    def __init__(self, message: bytearray, load: Callable[[Any], Any]) -> None:
        super().__init__(io.BytesIO(message))
        self._load = load

    def persistent_load(self, what: Any) -> Any:
        return self._load(what)


def _send(to: socket.socket, kind: int, message: bytes, descriptors: Sequence[int] = ()) -> None:
    head = _HEAD.pack(len(message), kind)
    if descriptors:
        socket.send_fds(to, [head], descriptors)
    else:
        to.sendall(head)
    to.sendall(message)


def _receive(connection: socket.socket) -> tuple[int, bytearray, list[int]]:
    """Return a message, behind what it is; EOFError if the other side is gone."""
    head, descriptors, _, _ = socket.recv_fds(connection, _HEAD.size, _PASSED)
    size, kind = _HEAD.unpack(head + _exactly(connection, _HEAD.size - len(head)))
    return kind, _exactly(connection, size), descriptors


def _exactly(connection: socket.socket, size: int) -> bytearray:
    result = bytearray(size)
    rest = memoryview(result)
    while rest:
        count = connection.recv_into(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return result


# -- the process that calls --------------------------------------------------------------------


class Function:
    """A function as other processes are given it.

    Args:
        function: is called there with an argument ``empty`` beside the others: that makes arrays
            in which results come back without a copy.

    Raises:
        ValueError: if it cannot be brought there.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        file = _Bounded()
        pickler = _FunctionPickler(file, 5)
        try:
            pickler.dump(function)
        except Exception as error:  # of any class: what is pickled says it in its own way
            raise ValueError(f"it cannot be pickled: {error}") from error
        self.pickle = file.getvalue()
        self.staying, self.memories = pickler.staying, pickler.memories
        if b"__main__" in self.pickle:
            raise ValueError("it is of the script that runs, which is not run again")

    def is_same(self, other: Function | None) -> bool:
        """Return whether a process that knows the other one need not be told this one."""
        return (
            other is not None
            and self.pickle == other.pickle
            and self.staying == other.staying
            and self.memories == other.memories
        )


class _FunctionPickler(pickle.Pickler):
    def __init__(self, file: Any, protocol: int) -> None:
        super().__init__(file, protocol)
        self.staying: list[StaysHere] = []
        self.memories: list[SharedMemory] = []

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, StaysHere):
            self.staying.append(value)
            return len(self.staying) - 1
        if isinstance(value, SharedMemory):
            self.memories.append(value)
            return len(self.memories) - 1, value.size
        return None


class _Bounded(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _LARGEST:
            raise ValueError(f"it takes more than {_LARGEST >> 20} MiB")
        return super().write(data)


class Workers:
    """Processes that wait for calls; each is started by the first call that it is needed for.

    Args:
        count: how many there are at most.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._workers: list[_Worker] = []
        self._closed = False
        self._lock = threading.Lock()  # no process starts after the end of all
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(None)

    def call(self, function: Function, *arguments: Any) -> Any:
        """Return what the function returns; as many threads may call as there are processes.

        What a process is unable to do is done here. So an error is the function's own.

        Raises:
            WorkerEndedError: if the process ended meanwhile.
        """
        worker = self._idle.get()
        try:
            if worker is None:
                worker = self._start()
            return worker.call(function, arguments)
        except _UnableError as error:
            reason = str(error)
        except WorkerEndedError:
            worker = None
            raise
        finally:
            self._idle.put(worker)
        result = function.function(*arguments)
        warnings.warn(
            f"DataLoader: a worker process could not load a batch, which was loaded here then: "
            f"{reason}",
            RuntimeWarning,
            stacklevel=2,
        )
        return result

    def _start(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise WorkerEndedError("DataLoader: the worker processes were ended")
            self._workers.append(_Worker())
            return self._workers[-1]

    def close(self) -> None:
        """End the processes at once, whatever they do."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.close()


class _UnableError(Exception):
    """A process was unable to do what it was asked for."""


class _Lent(np.ndarray):
    """Memory of another process in use here: the base of one array, which dies with its views."""


class _Worker:
    """Another process."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        self._known: Function | None = None
        self._lent: dict[int, Callable[[], _Lent | None]] = {}  # by the number it has there
        program = f"from lucid.data._workers import serve; serve({theirs.fileno()})"
        # The same kernels, on one thread.
        backend = {"LUCID_BACKEND": _dispatch._name} if _dispatch._name else {}
        with theirs:
            self._process = subprocess.Popen(
                _interpreter.command(program),
                stdin=subprocess.DEVNULL,
                env=_interpreter.environment(**_ONE_THREAD, **backend),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a terminal's Ctrl-C is for this process
            )
        self.close = weakref.finalize(self, _end, os.getpid(), self._process, self._connection)
        _started.add(self)
        _watch_the_end()

    def call(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """Return what the function returns there.

        Raises:
            _UnableError: if it raised an error, or returned what cannot be brought here.
            WorkerEndedError: if the process ended.
        """
        back = [number for number, lent in self._lent.items() if lent() is None]
        for number in back:
            del self._lent[number]
        try:
            if not function.is_same(self._known):
                descriptors = [memory.descriptor for memory in function.memories]
                _send(self._connection, _FUNCTION, function.pickle, descriptors)
                self._known = function
            _send(self._connection, _CALL, pickle.dumps((back, arguments)))
            kind, message, descriptors = _receive(self._connection)
        except (EOFError, OSError) as error:
            raise WorkerEndedError(self._how_it_ended()) from error
        if kind == _UNABLE:
            raise _UnableError(message.decode())
        memories = iter(descriptors)
        arrays: dict[int, Array] = {}

        def load(what: Any) -> Any:
            if isinstance(what, int):
                return function.staying[what]
            number, size = what
            if number not in arrays:
                if (descriptor := next(memories, None)) is None:  # the system had none left
                    raise OSError(errno.EMFILE, f"DataLoader: {os.strerror(errno.EMFILE)}")
                arrays[number] = self._array(number, SharedMemory(size, descriptor))
            return arrays[number]

        return _Unpickler(message, load).load()

    def _array(self, number: int, memory: SharedMemory) -> Array:
        """Return the bytes of memory that is lent; a copy if very much is lent already."""
        lent = _Lent(memory.size, np.uint8, memory.memory)
        self._lent[number] = weakref.ref(lent)
        if len(self._lent) <= _LENT:
            return lent
        copy = empty(memory.size, np.uint8)
        copy[...] = lent
        return copy

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            how = "does not answer any more"
        else:
            how = f"ended with exit status {status}"
            if status < 0:
                how = f"was killed by {signal.Signals(-status).name}"
        self.close()
        return (
            f"DataLoader: worker process {self._process.pid} {how} while it loaded a batch; "
            "if memory was short, fewer workers (num_workers) need less"
        )


_started: weakref.WeakSet[_Worker] = weakref.WeakSet()


@functools.cache
def _watch_the_end() -> None:
    """Have Python end the processes before it waits for the threads that wait for them.

    What ``atexit`` calls, finalisers too, would come after those threads.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    register(lambda: [worker.close() for worker in list(_started)])


def _end(owner: int, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    if os.getpid() == owner:  # and not its fork
        process.kill()
        process.wait()
    connection.close()  # last: a thread that waits there is told the end by the other side


# -- the process that is called ----------------------------------------------------------------


class _Memory:
    """Where arrays of results lie. What is lent to the process that called is not used here."""

    def __init__(self) -> None:
        self._free: list[SharedMemory] = []
        self._taken: dict[int, SharedMemory] = {}  # by this call; by the address
        self._lent: dict[int, SharedMemory] = {}  # by the descriptor, which is their number

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array; of memory that was used before, if some is large enough."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        fitting = [memory for memory in self._free if memory.size >= size]
        if fitting:
            memory = min(fitting, key=lambda memory: memory.size)
            self._free.remove(memory)
        else:
            self._free.clear()  # too small today, so probably tomorrow
            memory = SharedMemory(size)
        array: Array = np.ndarray(shape, dtype, memory.memory)
        self._taken[array.ctypes.data] = memory
        return array

    def find(self, array: Array) -> tuple[SharedMemory, int] | None:
        """Return what a C-contiguous array lies in, and where in it."""
        first = array.ctypes.data
        for start, memory in self._taken.items():
            if start <= first and first + array.nbytes <= start + memory.size:
                return memory, first - start
        return None

    def lend(self, memories: list[SharedMemory]) -> None:
        """Note what was lent of the memory of this call; the rest is free."""
        for memory in self._taken.values():
            if memory in memories:
                self._lent[memory.descriptor] = memory
            else:
                self._free.append(memory)
        self._taken = {}

    def take_back(self, numbers: list[int]) -> None:
        """Note what is used no more by the process that called."""
        self._free += [self._lent.pop(number) for number in numbers]


class _ResultPickler(pickle.Pickler):
    """Leaves large arrays in shared memory, or copies them there."""

    def __init__(self, file: Any, memory: _Memory) -> None:
        super().__init__(file, 5)
        self.sent: list[SharedMemory] = []
        self._memory = memory

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, SharedMemory):
            if value not in self.sent:
                self.sent.append(value)
            return value.descriptor, value.size
        return value.number if isinstance(value, _Reference) else None

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not Array or value.nbytes < SMALLEST or value.dtype.hasobject:
            return NotImplemented
        if len(self.sent) == _PASSED:
            return NotImplemented  # it goes with the message
        order = sorted(range(value.ndim), key=lambda axis: -abs(value.strides[axis]))
        ordered = value.transpose(order)
        place = self._memory.find(ordered) if ordered.flags.c_contiguous else None
        if place is None:
            copy = self._memory.empty(ordered.shape, ordered.dtype)
            copy[...] = ordered
            place = self._memory.find(copy)
            assert place is not None
        axes = np.argsort(order).tolist()
        return _array_in, (*place, ordered.shape, ordered.dtype, axes)


def _array_in(
    whole: Array, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], axes: list[int]
) -> Array:
    return np.ndarray(shape, dtype, whole, offset).transpose(axes)


def serve(descriptor: int) -> NoReturn:
    """Do what the process at the other end of a socket asks for, until it closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptor)
    messages: queue.SimpleQueue[tuple[int, bytearray, list[int]]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, messages), daemon=True).start()
    memory = _Memory()
    function: Callable[..., Any] = functools.partial(_raise, RuntimeError("no function came"))
    while True:
        kind, message, descriptors = messages.get()
        if kind == _FUNCTION:
            try:
                function = _Unpickler(message, functools.partial(_loaded, descriptors)).load()
            except Exception as error:
                function = functools.partial(_raise, error)
            continue
        back, arguments = pickle.loads(message)
        memory.take_back(back)
        file = io.BytesIO()
        pickler = _ResultPickler(file, memory)
        try:
            pickler.dump(function(*arguments, empty=memory.empty))
        except BaseException as error:  # also what ends a program: there it does
            memory.lend([])
            _answer(connection, _UNABLE, f"{type(error).__name__}: {error}".encode())
        else:
            memory.lend(pickler.sent)
            passed = [memory.descriptor for memory in pickler.sent]
            _answer(connection, _RESULT, file.getvalue(), passed)


def _answer(connection: socket.socket, *message: Any) -> None:
    """Send a message, and end this process if the other one is gone."""
    try:
        _send(connection, *message)
    except OSError:
        os._exit(0)


def _listen(connection: socket.socket, messages: queue.SimpleQueue[Any]) -> None:
    """Take messages, and end this process when the other one is gone, whatever it does then."""
    while True:
        try:
            messages.put(_receive(connection))
        except (EOFError, OSError):
            os._exit(0)


def _loaded(descriptors: list[int], what: Any) -> Any:
    """Return what stands for something of the process that calls."""
    if isinstance(what, int):
        return _Reference(what)
    number, size = what
    return SharedMemory(size, descriptors[number])


def _raise(error: Exception, *_: Any, **__: Any) -> NoReturn:
    raise error
