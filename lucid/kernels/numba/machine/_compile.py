"""A function becomes machine code that can be kept: translated here, optimised by LLVM."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from lucid.kernels.numba.machine import _code
from lucid.kernels.numba.machine._code import Code
from lucid.kernels.numba.machine._link import UnknownObjectError, link
from lucid.kernels.numba.machine._translate import translate

ENTRY = "lucid_entry"

_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child must not begin in the middle of a compilation
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


@functools.cache
def _llvm() -> Any:
    """Load LLVM: 0.05 s and 42 MB, which a process that finds its kernels compiled does without."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()  # for the instruction that tells of a loop that waits
    return binding


def _processor() -> tuple[str, str]:
    """Return the processor's name and its features, which two variables can give."""
    name, features = (os.environ.get(f"NUMBA_CPU_{what}") for what in ("NAME", "FEATURES"))
    if features is None and name != "generic":
        try:
            features = _llvm().get_host_cpu_features().flatten()
        except RuntimeError:  # LLVM cannot tell of this processor: those that its name stands for
            features = ""
    return name or _llvm().get_host_cpu_name(), features or ""


def features() -> str:
    """Return for which machine, processor and features code is generated, joined by commas."""
    return ",".join((_llvm().get_process_triple(), *_processor()))


@functools.cache
def _machine() -> Any:
    """Return what makes machine code for this processor, which is to go to an object file.

    Where that is not left to LLVM to load, it is position-independent.
    """
    binding, (name, features) = _llvm(), _processor()
    target = binding.Target.from_triple(binding.get_process_triple())
    if _code.ALONE:
        options: dict[str, Any] = {"reloc": "pic", "codemodel": "small"}
    else:
        options = {"reloc": "static" if target.name.startswith("x86") else "default", "jit": True}
    return target.create_target_machine(cpu=name, features=features, opt=3, **options)


def optimised(
    function: Callable[..., Any], sig: Any, unpack: Callable[..., Any] | None = None
) -> Any:
    """Return a function's optimised instructions as a module of LLVM's, with an entry for C.

    ``sig`` is its signature, or that of ``unpack``, which writes from a kernel's arguments what the
    function's are.
    """
    binding, written = _llvm(), ir.Module("kernel")
    written.triple = binding.get_process_triple()
    written.data_layout = str(_machine().target_data)
    entry = ir.Function(written, sig, ENTRY)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    translate(function, builder, unpack(builder, *entry.args) if unpack else list(entry.args))
    with _lock:
        module = binding.parse_assembly(str(written))
        module.verify()
        options = binding.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization, options.slp_vectorization = True, False
        options.loop_unrolling = False  # more code, which ran slower; loops can ask for it
        passes = binding.create_pass_builder(_machine(), options)
        passes.getModulePassManager().run(module, passes)
    return module


def compile_object(*recipe: Any) -> bytes:
    """Return a function's machine code for this processor as an object file."""
    with _lock:
        return bytes(_machine().emit_object(optimised(*recipe)))


def compile_code(*recipe: Any) -> Code:
    """Return a function's machine code for this processor; see :func:`optimised`."""
    data = compile_object(*recipe)
    if _code.ALONE:
        try:
            return link(data, ENTRY)
        except UnknownObjectError:
            pass
    return Code(data, -1, [])


_engines: list[Any] = []  # they hold the memory of the code


def load_object(code: Code) -> int:
    """Let LLVM put an object file into memory, and return the address of its function."""
    binding = _llvm()
    with _lock:
        machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine()
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        engine.add_object_file(binding.ObjectFileRef.from_data(code.content))
        engine.finalize_object()
        _engines.append(engine)
        return int(engine.get_function_address(ENTRY))
