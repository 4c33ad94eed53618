"""Object files become code that can lie anywhere: what a linker does, once, before code is kept.

LLVM is asked for position-independent code, so nearly all that is left to fill in are distances
between places of one file. Functions of C's library are called by way of a stub, a jump to the
address in a slot beside it, which is filled in when the code is taken up.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from lucid.kernels.numba.machine._code import Code, address_in_c

_X86, _ARM = 62, 183  # machines, as ELF numbers them
_FILE, _SECTION, _SYMBOL, _RELOCATION = (
    struct.Struct(f"<{fields}") for fields in ("16s2HI3QI6H", "2I4Q2I2Q", "I2BH2Q", "2Qq")
)
_CONTENT, _RELOCATIONS, _ALLOCATED, _WRITABLE = 1, 4, 2, 1
_SLOT = 8  # where in a stub its slot is
# jmp *[next + 2], or ldr x16, [pc + 8]; br x16.
_STUBS = {_X86: bytes.fromhex("ff25020000006690"), _ARM: bytes.fromhex("5000005800021fd6")}

# Kinds of relocations, by machine and number. "slot": the address of the slot is wanted.
_DISTANCE, _ADDRESS, _JUMP, _PAGE, _LOW, _SLOT_DISTANCE, _SLOT_PAGE, _SLOT_LOW = range(8)
_KINDS = {
    (_X86, 1): (_ADDRESS, 0),
    (_X86, 2): (_DISTANCE, 0),
    (_X86, 4): (_DISTANCE, 0),  # of a function's stub
    (_X86, 9): (_SLOT_DISTANCE, 0),
    (_X86, 41): (_SLOT_DISTANCE, 0),
    (_X86, 42): (_SLOT_DISTANCE, 0),
    (_ARM, 257): (_ADDRESS, 0),
    (_ARM, 261): (_DISTANCE, 0),
    (_ARM, 275): (_PAGE, 0),
    # The low bits of an address, in units of so many bits' shift.
    (_ARM, 277): (_LOW, 0),
    (_ARM, 278): (_LOW, 0),
    (_ARM, 284): (_LOW, 1),
    (_ARM, 285): (_LOW, 2),
    (_ARM, 286): (_LOW, 3),
    (_ARM, 299): (_LOW, 4),
    (_ARM, 282): (_JUMP, 0),
    (_ARM, 283): (_JUMP, 0),
    (_ARM, 311): (_SLOT_PAGE, 0),
    (_ARM, 312): (_SLOT_LOW, 3),
}


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class UnknownObjectError(Exception):
    """An object file of a kind that is not understood here."""


class _Linker:
    """The image that an object file's sections become."""

    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\2\1":
            raise UnknownObjectError("no ELF file of 64 bits")
        head = _FILE.unpack_from(data)
        self.data, self.machine = data, head[2]
        table, count, names = head[6], head[12], head[13]
        if self.machine not in _STUBS:
            raise UnknownObjectError(f"machine {self.machine}")
        sections = [_Section(*_SECTION.unpack_from(data, table + 64 * i)) for i in range(count)]
        self.sections, self.names = sections, sections[names]
        self.image, self.slots = bytearray(), list[tuple[int, str]]()
        self.places: dict[int, int] = {}
        self.stubs: dict[str, int] = {}
        for index, section in enumerate(sections):
            name = self._text(self.names, section.name)
            # What only serves to unwind stacks is left out: no kernel throws.
            if not section.flags & _ALLOCATED or not section.size or name == ".eh_frame":
                continue
            if section.kind != _CONTENT or (section.flags & _WRITABLE and ".rel.ro" not in name):
                raise UnknownObjectError(f"section {name}")
            content = data[section.offset : section.offset + section.size]
            self.places[index] = self._add(content, section.alignment)

    def _add(self, content: bytes, alignment: int) -> int:
        self.image += bytes(-len(self.image) % max(alignment, 1)) + content
        return len(self.image) - len(content)

    def _text(self, section: _Section, at: int) -> str:
        start = section.offset + at
        return self.data[start : self.data.index(b"\0", start)].decode()

    def code(self, name: str) -> Code:
        """Return the code, of which the symbol ``name`` is the function."""
        for section in self.sections:
            if section.kind == _RELOCATIONS and section.info in self.places:
                end = section.offset + section.size
                for at in range(section.offset, end, _RELOCATION.size):
                    offset, info, addend = _RELOCATION.unpack_from(self.data, at)
                    place = self.places[section.info] + offset
                    symbol = self._symbol(self.sections[section.link], info >> 32)
                    self._relocate(info & 0xFFFFFFFF, place, symbol, addend)
        (table,) = [section for section in self.sections if section.kind == 2]
        for index in range(table.size // _SYMBOL.size):
            if self._symbol_name(table, index) == name:
                entry = self._symbol(table, index)
                assert isinstance(entry, int)
                return Code(bytes(self.image), entry, self.slots)
        raise UnknownObjectError(f"no function {name}")

    def _symbol_name(self, table: _Section, index: int) -> str:
        (at,) = struct.unpack_from("<I", self.data, table.offset + _SYMBOL.size * index)
        return self._text(self.sections[table.link], at)

    def _symbol(self, table: _Section, index: int) -> int | str:
        """Return a symbol's place in the image, or its name if it is not in this file."""
        fields = _SYMBOL.unpack_from(self.data, table.offset + _SYMBOL.size * index)
        section, value = fields[3], fields[4]
        if section in self.places:
            return self.places[section] + value
        name = self._symbol_name(table, index)
        try:
            address_in_c(name)
        except AttributeError:
            raise UnknownObjectError(f"symbol {name}") from None
        if section:
            raise UnknownObjectError(f"symbol {name} in section {section}")
        return name

    def _stub(self, name: str) -> int:
        if name not in self.stubs:
            self.stubs[name] = self._add(_STUBS[self.machine] + bytes(8), 16)
            self.slots.append((self.stubs[name] + _SLOT, name))
        return self.stubs[name]

    def _relocate(self, number: int, place: int, symbol: int | str, addend: int) -> None:
        kind, shift = _KINDS.get((self.machine, number), (None, 0))
        of_slot = kind in (_SLOT_DISTANCE, _SLOT_PAGE, _SLOT_LOW)
        if kind is None or (of_slot and isinstance(symbol, int)):
            raise UnknownObjectError(f"relocation {number} to {symbol}")
        target = self._stub(symbol) + _SLOT * of_slot if isinstance(symbol, str) else symbol
        target += addend
        if kind == _ADDRESS:
            struct.pack_into("<Q", self.image, place, target)
            self.slots.append((place, ""))
        elif kind in (_DISTANCE, _SLOT_DISTANCE):
            struct.pack_into("<i", self.image, place, target - place)
        else:
            (word,) = struct.unpack_from("<I", self.image, place)
            if kind == _JUMP:
                word |= (target - place) >> 2 & 0x3FFFFFF
            elif kind in (_PAGE, _SLOT_PAGE):  # the image starts at a page
                pages = (target >> 12) - (place >> 12)
                word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
            else:
                word |= (target & 0xFFF) >> shift << 10
            struct.pack_into("<I", self.image, place, word)


def link(data: bytes, name: str) -> Code:
    """Return the code of an ELF object file whose function is called ``name``.

    Raises:
        UnknownObjectError: if the file holds what is not understood here.
    """
    return _Linker(data).code(name)
