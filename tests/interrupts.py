"""Exceptions that come from outside, at any moment."""

import itertools
import sys


def interrupted_at(step, call, *modules):
    """Call, with KeyboardInterrupt at one step of these modules' bytecode; tell whether it came."""
    files = {module.__file__ for module in modules}
    steps = itertools.count()

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        if "__del__" in (frame.f_code.co_name, frame.f_back.f_code.co_name):
            return None  # Python drops what comes there
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
