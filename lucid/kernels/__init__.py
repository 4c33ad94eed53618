"""Arrays in, arrays out. The one place that chooses a backend."""

from lucid.kernels._dispatch import active as active
from lucid.kernels._dispatch import available_backends as available_backends
from lucid.kernels._dispatch import get_backend as get_backend
from lucid.kernels._dispatch import get_num_threads as get_num_threads
from lucid.kernels._dispatch import is_ready as is_ready
from lucid.kernels._dispatch import set_backend as set_backend
from lucid.kernels._dispatch import set_num_threads as set_num_threads
from lucid.kernels._dispatch import standing_in as standing_in
from lucid.kernels._dispatch import warm_up as warm_up
