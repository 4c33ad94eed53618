"""Saving and loading arrays by name, so that nothing is ever half-written and nothing runs code.

A flat mapping of names to arrays becomes a plain file of its format, which other tools read. What
else is in a mapping (nested mappings, lists, numbers, strings) is kept as JSON beside the arrays,
and so are texts about them, their metadata.

Every file that lucid writes goes through :func:`atomic_path`. Nothing of a file that it reads is
unpacked, and no memory is taken, before the header was checked against the file's size.
"""

from lucid._files._atomic import atomic_path as atomic_path
from lucid._files._atomic import is_replaced as is_replaced
from lucid._files._hold import HeldElsewhereError as HeldElsewhereError
from lucid._files._hold import hold as hold
from lucid._files._hold import sweep as sweep
from lucid._files._json import parse_json as parse_json
from lucid._files._json import read_json as read_json
from lucid._files._parts import FORMATS as FORMATS
from lucid._files._parts import Columns as Columns
from lucid._files._parts import OtherPartsError as OtherPartsError
from lucid._files._parts import Parts as Parts
from lucid._files._save_load import READABLE as READABLE
from lucid._files._save_load import SUFFIXES as SUFFIXES
from lucid._files._save_load import Contents as Contents
from lucid._files._save_load import endings as endings
from lucid._files._save_load import load as load
from lucid._files._save_load import read as read
from lucid._files._save_load import read_metadata as read_metadata
from lucid._files._save_load import save as save
