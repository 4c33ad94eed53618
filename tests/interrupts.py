"""Exceptions that come from outside, at any moment."""

import itertools
import sys


def interrupted_at(step, call, *modules, finalizers=("__del__",)):
    """Call, with KeyboardInterrupt at one step of these modules' bytecode; tell whether it came.

    It does not come in finalizers: Python drops what comes there.
    """
    files = {module.__file__ for module in modules}
    steps = itertools.count()

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        if not {frame.f_code.co_name, frame.f_back.f_code.co_name}.isdisjoint(finalizers):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps) == step:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
