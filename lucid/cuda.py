"""What programs ask of CUDA before they use it: there is none, and the CPU needs no care."""

__all__ = ["device_count", "empty_cache", "is_available", "manual_seed", "manual_seed_all"]
__all__ += ["synchronize"]


def is_available() -> bool:
    """Return False: lucid computes on the CPU."""
    return False


def device_count() -> int:
    """Return 0."""
    return 0


def manual_seed(seed: int) -> None:
    """Do nothing: :func:`lucid.manual_seed` seeds the one generator that there is."""


def manual_seed_all(seed: int) -> None:
    """Do nothing, as :func:`manual_seed` does."""


def empty_cache() -> None:
    """Do nothing."""


def synchronize() -> None:
    """Do nothing: a result is there when its operation returns."""
