"""A function becomes machine code that can be kept: by Numba, but for no process in particular."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import njit, types
from numba.core import compiler, cpu, imputils, typed_passes, typing, untyped_passes
from numba.core.codegen import AOTCodeLibrary, AOTCPUCodegen, JITCodeLibrary, JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.typing import builtins, collections, mathdecl, templates  # noqa: F401
from numba.cpython import mathimpl, numbers, rangeobj, tupleobj  # noqa: F401

from lucid.kernels.numba.machine import _code
from lucid.kernels.numba.machine._code import Code
from lucid.kernels.numba.machine._link import UnknownObjectError, link

ENTRY = "lucid_entry"
_KERNEL = types.void(types.CPointer(types.int64), types.int64, types.int64)

if hasattr(os, "register_at_fork"):  # a child must not begin in the middle of a compilation
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


class _Code(JITCodeLibrary):
    """The instructions of a piece: what they become is found out within each kernel."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


# What compiled code can call besides what Numba knows of numbers and tuples, which the modules that
# are imported above and not used register.
_functions, _lowered = templates.Registry(), imputils.Registry("lucid")


def provide(function: Callable[..., Any], sig: Any, write: Callable[..., Any]) -> None:
    """Let compiled code call a function: ``write(builder, *args)`` emits its instructions."""

    @_lowered.lower(function, *sig.args)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = write(builder, *args)
        return context.get_dummy_value() if result is None else result

    made = templates.make_concrete_template(function.__name__, function, [sig])
    made.unsafe_casting = False  # no float becomes an integer
    _functions.register_global(function, types.Function(made))


def _extreme(function: Any, sign: str) -> None:
    """Let compiled code call ``min`` or ``max``, which Numba would compile anew for each call."""

    def of_kind(kind: Any, compare: str) -> None:
        def write(builder: Any, a: Any, b: Any) -> Any:  # as in Python, where one is NaN: the first
            return builder.select(getattr(builder, compare)(sign, b, a), b, a)

        provide(function, kind(kind, kind), write)

    of_kind(types.int64, "icmp_signed")
    of_kind(types.float64, "fcmp_ordered")


_extreme(min, "<")
_extreme(max, ">")


class _Typing(typing.BaseContext):
    """What Numba knows of Python's functions; NumPy's, asked too, would take a second."""

    def __init__(self) -> None:
        self._resolved: dict[Any, Any] = {}  # signatures by function and kinds of arguments
        super().__init__()

    def refresh(self) -> None:
        self.install_registry(_functions)  # first, so that these are found first
        self.install_registry(mathdecl.registry)
        self.install_registry(_builtins)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """Return what Numba finds. It would go through all kinds of ``+`` again at each of them."""
        if kws:
            return super().resolve_function_type(func, args, kws)
        key = func, tuple(args)
        if key not in self._resolved:
            self._resolved[key] = super().resolve_function_type(func, args, kws)
        return self._resolved[key]


_builtins = templates.Registry()  # those of strings and arrays, which have metadata, load slowly
_builtins.functions = templates.builtin_registry.functions
_builtins.globals = templates.builtin_registry.globals
_builtins.attributes = [
    kind for kind in templates.builtin_registry.attributes if not hasattr(kind, "metadata")
]
_typing = _Typing()


class _Compiler(compiler.CompilerBase):
    """Numba's steps for functions of numbers, without those that find nothing to do in them."""

    def define_pipelines(self) -> list[Any]:
        manager = PassManager("lucid")
        for step in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.ReconstructSSA,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.NativeLowering,
            typed_passes.NoPythonBackend,
        ):
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


class _PieceCompiler(_Compiler):
    def __init__(self, typing: Any, target: Any, library: Any, *rest: Any) -> None:
        super().__init__(_typing, _context(), _Code(_context().codegen(), "piece"), *rest)
        # Numba knows a function by what Python would call, a builtin function, one for each.
        self.state.targetctx.get_executable = lambda *args: {}.__getitem__


# Decorate a function to be a piece of kernels. Numba would optimise and translate it, and a wrapper
# for Python, for itself, and then again within all that call it.
piece = njit(
    error_model="numpy",
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
    pipeline_class=_PieceCompiler,
)


class _Library(AOTCodeLibrary):
    """What an entry calls is nobody else's: so it is inlined, or at least not kept twice."""

    _optimize_functions = _Code._optimize_functions

    def _optimize_final_module(self) -> None:
        defined = list(self.get_defined_functions())
        if any(function.name == ENTRY for function in defined):
            for function in defined:
                if function.name != ENTRY:
                    function.linkage = "internal"
        super()._optimize_final_module()


class _Codegen(AOTCPUCodegen):
    """Numba's for this processor, but its code goes to an object file.

    Where that is not left to LLVM to load, it is position-independent.
    """

    _library_class = _Library

    def _module_pass_manager(self, **options: Any) -> Any:
        options["opt"] = 0 if options.pop("cost", None) == "cheap" else 2
        return super()._module_pass_manager(**options)

    def _customize_tm_options(self, options: dict[str, Any]) -> None:
        JITCPUCodegen._customize_tm_options(self, options)
        if _code.ALONE:
            options.update(reloc="pic", codemodel="small", jit=False)

    _customize_tm_features = JITCPUCodegen._customize_tm_features


class _Context(cpu.CPUContext):
    """What numbers, tuples and ranges become. That of arrays and lists would take 0.4 s to load."""

    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen = _Codegen("lucid")
        self._sizes: dict[Any, int] = {}

    def load_additional_registries(self) -> None:
        self.install_registry(_lowered)
        self.install_registry(mathimpl.registry)

    def get_abi_sizeof(self, ty: Any) -> int:
        """Return the bytes of one of LLVM's types. It would read a module for each variable."""
        if ty not in self._sizes:
            self._sizes[ty] = super().get_abi_sizeof(ty)
        return self._sizes[ty]

    def post_lowering(self, module: Any, library: Any) -> None:
        """Link nothing: Numba's runtime counts references, which numbers have not."""


@functools.cache
def _context() -> Any:
    return _Context(_typing)


def features() -> str:
    """Return for which machine, processor and features Numba generates code, joined by commas."""
    return ",".join(_context().codegen().magic_tuple())


@global_compiler_lock
def library(
    function: Callable[..., Any], sig: Any, unpack: Callable[..., Any] | None = None
) -> Any:
    """Return a function's optimised code as a library of Numba's, with an entry for C.

    Numba's own entries for C want the interpreter to tell of errors. A kernel has none. ``unpack``
    emits the function's arguments from a kernel's.
    """
    context, flags = _context(), compiler.Flags()
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
    flags.error_model = "numpy"
    made = compiler.compile_extra(
        _typing, context, function, sig.args, sig.return_type, flags, {}, pipeline_class=_Compiler
    )
    described, module = made.fndesc, context.create_module("entry")
    kinds = _KERNEL.args if unpack else described.argtypes
    args = [context.get_value_type(kind) for kind in kinds]
    result = context.get_value_type(described.restype)
    inner = context.declare_function(module, described)
    entry = ir.Function(module, ir.FunctionType(result, args), ENTRY)
    builder = ir.IRBuilder(entry.append_basic_block())
    given = unpack(builder, *entry.args) if unpack else entry.args
    _, value = context.call_conv.call_function(
        builder, inner, described.restype, described.argtypes, given
    )
    builder.ret(value)
    made.library.add_ir_module(module)
    made.library.finalize()
    return made.library


@global_compiler_lock
def compile_code(
    function: Callable[..., Any], sig: Any, unpack: Callable[..., Any] | None = None
) -> Code:
    """Return a function's machine code for this processor; ``sig`` is its signature."""
    data = library(function, sig, unpack).emit_native_object()
    if _code.ALONE:
        try:
            return link(data, ENTRY)
        except UnknownObjectError:
            pass
    return Code(data, -1, [])


_engines: list[Any] = []  # they hold the memory of the code


@global_compiler_lock
def load_object(code: Code) -> int:
    """Let LLVM put an object file into memory, and return the address of its function."""
    machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code.content))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(ENTRY)
