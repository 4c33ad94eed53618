"""An attack on lucid: hostile files, pictures, states and arguments, kills and races.

    python -m tests.hostile                       # all of it, on each backend
    python -m tests.hostile files images --count 200 --seed 7
    python -m tests.hostile files --only 4711     # one trial again, with its traceback

A part is a module with ``trial(rng, folder, backend)``, which makes one hostile input from ``rng``
and tries it. The number of a trial and the seed say all about it. A trial fails if lucid ends the
process, takes too long or too much memory, raises what is no error of its own, or answers wrongly.
"""
