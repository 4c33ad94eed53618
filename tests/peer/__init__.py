"""Everything that lucid has, run on the samples that PyTorch ships for its own tests.

``python -m tests.peer`` runs a part of them in a minute, ``python -m tests.peer --all`` the whole.
"""
