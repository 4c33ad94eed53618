"""The compiled kernels as for ARM, in an emulator: ``python -m pytest -p tests.kernels.aarch64``.

The plugin lets the kernels be written for a processor with NEON, translates them to its machine
code, and runs that in Unicorn instead of the thread pool. The emulated processor sees this
process's memory, so the tests do not know. What LLVM makes of a kernel is taken after its passes
for x86-64 without AVX: other instructions than on an ARM machine, but of the same tiles.

The pool itself is not part of it: its functions hold instructions of the machine they run on. Nor
are products so large that the emulator takes half a minute for each.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import mmap
import os
import re
import shutil
import struct
import tempfile
import threading
from pathlib import Path
from unittest import mock

# In an empty cache nothing is kept for this machine, which would be loaded as it is.
os.environ.update(NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="")
os.environ.update(NUMBA_CACHE_DIR=tempfile.mkdtemp())

import numpy as np
import unicorn
from llvmlite import binding
from unicorn import arm64_const as arm

atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)

_TRIPLE = "aarch64-unknown-linux-gnu"

# The kernels are written as for this machine.
with mock.patch.object(binding, "get_process_triple", return_value=_TRIPLE):
    from lucid.kernels.numba.machine import _code, _compile, _link, _native, _threads

assert (_native.WIDTH, _native.TILE_ROWS) == (4, 13)

_POOL_TESTS = Path(__file__).with_name("test_numba.py")
_TOO_LARGE = "1280"  # in the names of tests

_RETURN = 0xD65F03C0
_BLOCK = 1 << 20  # bytes of this process's memory that the emulator is shown at once
_STACK, _CODE, _PAGE = 1 << 20, 1 << 24, 1 << 12


def _memory(size: int) -> tuple[mmap.mmap, int]:
    block = mmap.mmap(-1, size)
    return block, ctypes.addressof(ctypes.c_char.from_buffer(block))


class _Machine:
    """An emulated processor, and the code and stack that it has in this process's memory."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.processor = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.processor.hook_add(unicorn.UC_HOOK_MEM_UNMAPPED, self._show)
        self.stack, self.stack_start = _memory(_STACK)
        self.code, self.start = _memory(_CODE)
        self.used = 0
        self.functions: dict[str, int] = {}  # functions of C and the place of their stand-ins
        self.end = self._add(struct.pack("<I", _RETURN))

    def _show(self, processor, access, address, size, value, data) -> bool:
        for block in {address // _BLOCK, (address + size - 1) // _BLOCK}:
            place = block * _BLOCK
            if not any(first <= place <= last for first, last, _ in processor.mem_regions()):
                processor.mem_map_ptr(place, _BLOCK, unicorn.UC_PROT_ALL, place)
        return True

    def _add(self, content: bytes) -> int:
        first = self.used
        self.used += -(-len(content) // _PAGE) * _PAGE
        assert self.used <= _CODE
        self.code[first : first + len(content)] = content
        return self.start + first

    def load(self, code: _code.Code) -> int:
        """Place code in memory, and return where its function starts."""
        start = self._add(bytes(len(code.content)))
        content = _code.resolve(code, start, self._function)
        self.code[start - self.start : start - self.start + len(content)] = content
        return start + code.entry

    def _function(self, name: str) -> int:
        """Return a place that does what a function of C's library does when it is called."""
        if name not in self.functions:
            place = self.functions[name] = self._add(struct.pack("<I", _RETURN))
            act = getattr(self, f"_{name}", functools.partial(self._missing, name))
            self.processor.hook_add(
                unicorn.UC_HOOK_CODE, lambda *args: act(), begin=place, end=place
            )
        return self.functions[name]

    def _missing(self, name: str) -> None:
        raise AssertionError(f"a kernel called {name}")

    def _registers(self) -> list[int]:
        return [
            self.processor.reg_read(register)
            for register in (arm.UC_ARM64_REG_X0, arm.UC_ARM64_REG_X1, arm.UC_ARM64_REG_X2)
        ]

    def _memset(self) -> None:
        place, value, size = self._registers()
        ctypes.memset(place, value & 0xFF, size)

    def _memcpy(self) -> None:
        ctypes.memmove(*self._registers())

    _memmove = _memcpy

    def _logf(self) -> None:
        bits = self.processor.reg_read(arm.UC_ARM64_REG_S0)
        (value,) = struct.unpack("<f", struct.pack("<I", bits))
        with np.errstate(all="ignore"):
            (bits,) = struct.unpack("<I", struct.pack("<f", np.log(np.float32(value))))
        self.processor.reg_write(arm.UC_ARM64_REG_S0, bits)

    # -- running ----------------------------------------------------------------------------

    def call(self, function: int, *args: int) -> None:
        """Call a function of integers."""
        processor = self.processor
        for register, value in enumerate(args):
            processor.reg_write(arm.UC_ARM64_REG_X0 + register, value & (1 << 64) - 1)
        processor.reg_write(arm.UC_ARM64_REG_SP, self.stack_start + _STACK - 64)
        processor.reg_write(arm.UC_ARM64_REG_LR, self.end)
        processor.emu_start(function, self.end)


_machine = _Machine()


@functools.cache
def _translator():
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(_TRIPLE).create_target_machine(
        cpu="generic", features="+neon", opt=3, reloc="pic", codemodel="small"
    )


def _address(native) -> int:
    """Translate a kernel, and return its place in the emulated processor's memory."""
    text = str(_compile.optimised(*native._recipe))
    text = re.sub("^target .*", "", text, flags=re.MULTILINE)
    text = re.sub('"target-(cpu|features)"="[^"]*"', "", text)
    module = binding.parse_assembly(f'target triple = "{_TRIPLE}"\n{text}')
    code = _link.link(_translator().emit_object(module), _compile.ENTRY)
    with _machine.lock:
        return _machine.load(code)


def _run(pool, plan: np.ndarray) -> None:
    """Run a plan as the pool does, its chunks one after the other in the name of all threads."""
    active = int(pool.state[_threads._ACTIVE])
    with _machine.lock:
        for index, (function, chunks, limit) in enumerate(plan[:, : _threads.ARGUMENTS].tolist()):
            threads = max(1, min(active, limit))
            args = _native.address(plan) + 8 * (index * _threads.WORDS + _threads.ARGUMENTS)
            for chunk in range(chunks):
                _machine.call(function, args, chunk, chunk % threads)


_native.Native.address = functools.cached_property(_address)
_native.Native.address.__set_name__(_native.Native, "address")
_threads._Pool.run = _run


def pytest_collection_modifyitems(config, items) -> None:
    """Leave the tests that are not of kernels of this backend, and those that take too long."""
    left, kept = [], []
    for item in items:
        backend = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        fits = backend == "numba" and item.path != _POOL_TESTS and _TOO_LARGE not in item.name
        (kept if fits else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept
