"""Whether anything was set on a module: what was found out about some holds as long as not.

It is one number for all modules, because to ask it has to take less time than to look at each.
"""

import itertools

_numbers = itertools.count(1)
_last = [0]


def note_change() -> None:
    """Say that an attribute, a member or a hook of a module is another one now."""
    _last[0] = next(_numbers)


def last_change() -> int:
    """Return the number of the last change."""
    return _last[0]
