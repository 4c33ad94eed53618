"""The layers; use them as ``lucid.nn.Linear`` and so on."""
