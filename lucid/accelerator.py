"""What programs ask of accelerators before they use one: there is none."""

from lucid.autograd._device import device

__all__ = ["current_accelerator", "device_count", "is_available"]


def is_available() -> bool:
    """Return False: lucid computes on the CPU."""
    return False


def device_count() -> int:
    """Return 0."""
    return 0


def current_accelerator(check_available: bool = False) -> device | None:
    """Return None."""
    return None
