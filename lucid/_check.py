"""What values that come from a file or a caller may be, and how errors about them read."""

from __future__ import annotations

import dis
import functools
import inspect
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

# The largest float32: larger numbers are infinite once an array takes them.
LARGEST = float.fromhex("0x1.fffffep127")

_LARGEST_SIZE = np.iinfo(np.int32).max

# What is expected, in words, and whether a value is that.
Check = tuple[str, Callable[[Any], bool]]


def is_integer(value: Any, low: float = -LARGEST, high: float = LARGEST) -> bool:
    """Return whether ``value`` is an integer within bounds; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: Any, low: float = -LARGEST, high: float = LARGEST) -> bool:
    """Return whether ``value`` is a finite number within bounds; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def is_whole(value: Any) -> bool:
    """Return whether an argument is an integer, of NumPy's too; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_list(
    value: Any, is_right: Callable[[Any], bool], lengths: tuple[int, ...] | None = None
) -> bool:
    """Return whether ``value`` is a list, of one of ``lengths``, of entries that are all right."""
    fits = isinstance(value, list) and (lengths is None or len(value) in lengths)
    return fits and all(map(is_right, value))


class _Repr(reprlib.Repr):
    def repr1(self, x: Any, level: int) -> str:
        if isinstance(shape := getattr(x, "shape", None), tuple) and shape:  # a number is told
            return f"{type(x).__name__} of shape {shape}"
        return super().repr1(x, level)


_repr = _Repr()
_repr.maxlevel, _repr.maxstring, _repr.maxother, _repr.maxlong = 4, 80, 80, 60
_repr.maxlist = _repr.maxtuple = _repr.maxdict = 12


def short(value: Any) -> str:
    """Return a value as text for a message, which it may not flood; of arrays their shapes."""
    try:
        return _repr.repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return f"a huge {type(value).__name__}"


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # str(KeyError("x")) is "'x'".
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def printable(text: str, blank: str = "\ufffd") -> str:
    """Return a text without signs that no file, page or terminal takes: a name may hold any.

    Args:
        text: the text.
        blank: what stands for the end of a line and the like; the rest becomes U+FFFD.
    """
    return "".join(
        sign if sign.isprintable() or sign == "\u00a0" else blank if sign.isspace() else "\ufffd"
        for sign in text
    )


def nearest(name: Any, known: Iterable[str], count: int = 1, likeness: float = 0.6) -> list[str]:
    """Return the names most like one that is unknown, the most alike first; maybe none."""
    import difflib  # for errors alone: not while lucid is imported

    return difflib.get_close_matches(str(name), list(known), n=count, cutoff=likeness)


def check_entries(document: Any, checks: Mapping[str, Check], where: str = "") -> None:
    """Raise unless ``document`` is a mapping in which each entry is as it should be.

    Args:
        document: what was read.
        checks: by key; a key that is missing is wrong, others are not looked at.
        where: the name of ``document`` in its file, for messages.

    Raises:
        ValueError: naming the key, what was expected and what was given.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"{where or 'its content'}: expected an object, got {short(document)}")
    for key, (expected, is_right) in checks.items():
        name = f"{where}.{key}" if where else key
        if key not in document:
            raise ValueError(f"{name!r} is missing")
        if not is_right(document[key]):
            raise ValueError(f"{name!r}: expected {expected}, got {short(document[key])}")


def count(value: Any, name: str, who: str, minimum: int = 1) -> int:
    """Return ``value`` as an integer of at least ``minimum``.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is smaller.
    """
    if not is_whole(value):
        raise TypeError(f"{who}: {name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{who}: {name} must be at least {minimum}, got {value}")
    return int(value)


_HOW_MANY = {1: "an integer or one in a tuple", 2: "an integer or two of them"}


def sizes(value: Any, axes: int, name: str, who: str, minimum: int = 0) -> tuple[int, ...]:
    """Return an integer for each axis, from an integer, one in a tuple, or as many as axes.

    Raises:
        TypeError: if ``value`` is something else.
        ValueError: if one of them is smaller than ``minimum``.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    values *= axes if len(values) == 1 else 1
    if len(values) != axes or not all(map(is_whole, values)):
        expected = _HOW_MANY.get(axes, f"an integer or {axes} of them")
        raise TypeError(f"{who}: {name} must be {expected}, got {value!r}")
    if min(values) < minimum:
        raise ValueError(f"{who}: {name} must be at least {minimum}, got {value!r}")
    if max(values) > _LARGEST_SIZE:
        raise ValueError(f"{who}: {name} is larger than any image, got {value!r}")
    return tuple(map(int, values))


def pair(value: Any, name: str, who: str, minimum: int = 0) -> tuple[int, int]:
    """Return ``(vertical, horizontal)``; see :func:`sizes`."""
    vertical, horizontal = sizes(value, 2, name, who, minimum)
    return vertical, horizontal


def probability(value: Any, name: str, who: str) -> float:
    """Return ``value``, a number from 0 to 1.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is outside.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"{who}: {name} must be a number, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{who}: {name} must be between 0 and 1, got {value}")
    return value  # type: ignore[return-value]  # as given: it is printed


def one_of(value: Any, options: tuple[str, ...], name: str, who: str) -> Any:
    """Return ``value``, one of ``options``.

    Raises:
        ValueError: if it is something else.
    """
    if value not in options:
        raise ValueError(f"{who}: {name} must be one of {options}, got {value!r}")
    return value


# Errors that keep their type when they are raised anew; others become TypeErrors, or ValueErrors
# if a number was beyond what can be computed with.
_KINDS = (IndexError, TypeError, ValueError, NotImplementedError, RuntimeError)
# These are no fault of an argument.
_PASSED = (MemoryError, RecursionError, OSError, ImportError, Warning)
_RAISE = dis.opmap["RAISE_VARARGS"]
_LIBRARIES = {"lucid", "numpy", "llvmlite", *sys.stdlib_module_names}
# NumPy's names of arguments, which PyTorch takes too.
_NUMPYS = {
    **dict.fromkeys(("x", "a", "x1"), "input"),
    **dict.fromkeys(("b", "x2"), "other"),
    "axis": "dim",
    "keepdims": "keepdim",
}
# Arguments that PyTorch's functions have and lucid's do without, and the values that ask for
# nothing: what makes a tensor lies on the CPU, and a step of an optimiser is one kernel anyway.
_NEUTRAL = {
    "device": ("None", "cpu", "cpu:0"),
    "dtype": ("None",),
    "generator": ("None",),
    "out": ("None",),
    **dict.fromkeys(("pin_memory", "non_blocking", "sparse"), ("False",)),
    "layout": ("None",),
    "memory_format": ("None", "channels_last", "contiguous_format"),
    **dict.fromkeys(("foreach", "fused", "capturable"), ("None", "False", "True")),
    "differentiable": ("False",),
}


@functools.cache
def named(function: Callable[..., Any], who: str = "") -> Callable[..., Any]:
    """Return ``function`` with errors that begin with its name.

    What NumPy or Python says of arguments of a wrong kind does not tell which function was
    called. Such errors also tell what was given. Errors from functions of the caller's own, such
    as an ``__array__``, remain as they are. An argument may also bear NumPy's name (``axis``), or
    be one of PyTorch's that asks for nothing here (``device="cpu"``).

    Args:
        function: a public function, or the ``__init__`` of a public class.
        who: its name, or the class's.
    """
    skipped = int(function.__name__ == "__init__")  # the object that is made
    who = who or function.__name__

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            renamed = _renamed(error, kwargs, who)
            if renamed is not None:
                return call(*args, **renamed)
            text = _explained(error, who, args[skipped:], kwargs)
            if text is None:
                raise
            limit = ValueError if isinstance(error, ArithmeticError) else TypeError
            kind = next((kind for kind in _KINDS if isinstance(error, kind)), limit)
            raise kind(text) from error

    # What functools.wraps does, which takes longer: lucid has five hundred of these.
    call.__module__, call.__doc__ = function.__module__, function.__doc__
    call.__name__, call.__qualname__ = function.__name__, function.__qualname__
    call.__dict__.update(function.__dict__, __wrapped__=function)
    return call


def name_errors(namespace: dict[str, Any], origin: str = "") -> None:
    """Replace the public functions of a module, given as its ``globals()``, by :func:`named` ones.

    They count as that module's own afterwards, unless they are public elsewhere. Classes of the
    module, and of those below it, get a named ``__init__``. What was defined outside the package
    ``origin`` stays as it is.
    """
    own = f"{namespace['__name__']}."
    for key, value in list(namespace.items()):
        home = getattr(value, "__module__", None) or ""
        if key.startswith("_") or not home.startswith(origin):
            continue
        if inspect.isfunction(value):
            call = namespace[key] = named(inspect.unwrap(value))
            if "._" in call.__module__:
                call.__module__ = namespace["__name__"]
        elif inspect.isclass(value) and f"{home}.".startswith(own):
            value.__init__ = named(value.__init__, key)  # type: ignore[method-assign]


def _renamed(error: Exception, kwargs: Mapping[str, Any], who: str) -> dict[str, Any] | None:
    """Return the arguments by PyTorch's names, or without one that asks for nothing.

    None if it was something else that led to the error. Looked for only now, so that a call by
    PyTorch's names costs nothing.
    """
    if not isinstance(error, TypeError) or "unexpected keyword argument" not in str(error):
        return None
    name = str(error).rpartition("argument ")[2].strip("'")
    if name not in kwargs:
        return None
    if str(kwargs[name]) in _NEUTRAL.get(name, ()):
        return {key: value for key, value in kwargs.items() if key != name}
    if name == "device":
        raise ValueError(f"{who}: lucid computes on the CPU, got device={str(kwargs[name])!r}")
    if _NUMPYS.get(name, name) in kwargs:
        return None
    return {_NUMPYS[name] if key == name else key: value for key, value in kwargs.items()}


def _explained(
    error: Exception, who: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str | None:
    """Return the message that names the function called, or None if the error is to remain."""
    text = str(error)
    if text.startswith((f"{who}:", f"{who}(", f"{who} ")) or isinstance(error, _PASSED):
        return None
    trace, called = error.__traceback__, {who.removesuffix("_")}
    while trace is not None:
        frame, place = trace.tb_frame, trace.tb_lasti
        called.add(frame.f_code.co_name)
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in _LIBRARIES:
            return None
        trace = trace.tb_next
    if module.startswith("lucid.") and frame.f_code.co_code[place] == _RAISE:  # words of our own
        inner, _, rest = text.partition(": ")  # an operation that this one is made of
        return f"{who}: {rest if inner in called else text}" if type(error) in _KINDS else None
    given = [*map(_brief, args), *(f"{key}={_brief(value)}" for key, value in kwargs.items())]
    return f"{who}: {text or type(error).__name__}, got {who}({', '.join(given)})"


def _brief(value: Any) -> str:
    """Return an argument as text: of what has a shape, that and the dtype."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__}(shape={value.shape}, dtype={value.dtype})"
    return short(value)
