"""The compiled kernels as for ARM, in an emulator: ``python -m pytest -p tests.kernels.aarch64``.

The plugin lets the kernels be written for a processor with NEON, translates them to its machine
code, and runs that in Unicorn instead of the thread pool. The emulated processor sees this
process's memory, so the tests do not know. What Numba makes of a kernel is taken after its passes
for x86-64 without AVX: other instructions than on an ARM machine, but of the same tiles.

The pool itself is not part of it: its functions hold instructions of the machine they run on. Nor
are products so large that the emulator takes half a minute for each.
"""

from __future__ import annotations

import ctypes
import functools
import io
import mmap
import os
import re
import struct
import threading
from pathlib import Path

os.environ.update(NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="")

import numpy as np
import unicorn
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_RELOC_TYPE_AARCH64 as RELOCATIONS
from elftools.elf.relocation import RelocationSection
from llvmlite import binding
from numba.core.ccallback import CFunc
from numba.core.registry import cpu_target
from unicorn import arm64_const as arm

_TRIPLE = "aarch64-unknown-linux-gnu"
type(cpu_target.target_context.codegen()).magic_tuple = lambda self: (_TRIPLE, "generic", "")

from lucid.kernels.numba.machine import _native, _threads  # noqa: E402

assert (_native.WIDTH, _native.TILE_ROWS) == (4, 13)

_POOL_TESTS = Path(__file__).with_name("test_numba.py")
_TOO_LARGE = "1280"  # in the names of tests

_RETURN = 0xD65F03C0
_BLOCK = 1 << 20  # bytes of this process's memory that the emulator is shown at once
_STACK, _CODE = 1 << 20, 1 << 24

# What a linker writes into instructions: how far to jump, the page of an address, or its low bits
# in units of what is read there; and the last two of the place where an address is to be kept.
# Among data, a whole address.
_JUMPS = ("R_AARCH64_CALL26", "R_AARCH64_JUMP26")
_PAGE = "R_AARCH64_ADR_PREL_PG_HI21"
_ADDRESS = "R_AARCH64_ABS64"
_LOW_BITS = {
    "R_AARCH64_ADD_ABS_LO12_NC": 1,
    "R_AARCH64_LDST8_ABS_LO12_NC": 1,
    "R_AARCH64_LDST16_ABS_LO12_NC": 2,
    "R_AARCH64_LDST32_ABS_LO12_NC": 4,
    "R_AARCH64_LDST64_ABS_LO12_NC": 8,
    "R_AARCH64_LDST128_ABS_LO12_NC": 16,
}
_OF_ENTRY = {
    "R_AARCH64_ADR_GOT_PAGE": _PAGE,
    "R_AARCH64_LD64_GOT_LO12_NC": "R_AARCH64_LDST64_ABS_LO12_NC",
}
_NAMES = {number: name for name, number in RELOCATIONS.items()}
_NAMES[299] = "R_AARCH64_LDST128_ABS_LO12_NC"  # has no name there


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

    def _add(self, content: bytes, alignment: int = 16) -> int:
        first = -(-self.used // alignment) * alignment
        self.used = first + len(content)
        assert self.used <= _CODE
        self.code[first : self.used] = content
        return self.start + first

    # -- loading ----------------------------------------------------------------------------

    def load(self, file: bytes, name: str) -> int:
        """Place an object file in memory, and return where its function ``name`` starts."""
        elf = ELFFile(io.BytesIO(file))
        sections, table = list(elf.iter_sections()), elf.get_section_by_name(".symtab")
        places = {
            index: self._add(section.data(), max(16, section["sh_addralign"]))
            for index, section in enumerate(sections)
            if section.name.startswith((".text", ".rodata", ".data"))
        }

        def value_of(symbol) -> int:
            if symbol["st_shndx"] in places:
                return places[symbol["st_shndx"]] + symbol["st_value"]
            return self._function(symbol.name)

        entries: dict[int, int] = {}
        for section in sections:
            if isinstance(section, RelocationSection) and section["sh_info"] in places:
                for entry in section.iter_relocations():
                    value = value_of(table.get_symbol(entry["r_info_sym"])) + entry["r_addend"]
                    place = places[section["sh_info"]] + entry["r_offset"]
                    self._relocate(_NAMES[entry["r_info_type"]], place, value, entries)
        return value_of(table.get_symbol_by_name(name)[0])

    def _relocate(self, kind: str, place: int, value: int, entries: dict[int, int]) -> None:
        if kind in _OF_ENTRY:
            if value not in entries:
                entries[value] = self._add(struct.pack("<Q", value))
            kind, value = _OF_ENTRY[kind], entries[value]
        if kind == _ADDRESS:
            struct.pack_into("<Q", self.code, place - self.start, value)
            return
        (word,) = struct.unpack_from("<I", self.code, place - self.start)
        if kind in _JUMPS:
            word |= ((value - place) >> 2) & 0x3FFFFFF
        elif kind == _PAGE:
            pages = (value >> 12) - (place >> 12)
            word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
        else:
            word |= (value & 0xFFF) // _LOW_BITS[kind] << 10
        struct.pack_into("<I", self.code, place - self.start, word)

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
        cpu="generic", features="+neon", opt=3, reloc="static", codemodel="small"
    )


def _address(native) -> int:
    """Translate a kernel, and return its place in the emulated processor's memory."""
    # Compiled apart from what the kernel itself would compile, and keep on disk for this processor.
    args = native._sig.args, native._sig.return_type
    function = CFunc(native._function, args, {}, {"error_model": "numpy"})
    function.compile()
    text = re.sub("^target .*", "", function.inspect_llvm(), flags=re.MULTILINE)
    text = re.sub('"target-(cpu|features)"="[^"]*"', "", text)
    module = binding.parse_assembly(f'target triple = "{_TRIPLE}"\n{text}')
    with _machine.lock:
        return _machine.load(_translator().emit_object(module), function._wrapper_name)


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
