"""Several processes and machines: training over MPI (extra ``mpi``), pictures by Ray (``ray``)."""

from lucid._ranks import abort as abort
from lucid._ranks import all_gather as all_gather
from lucid._ranks import all_reduce as all_reduce
from lucid._ranks import barrier as barrier
from lucid._ranks import broadcast as broadcast
from lucid._ranks import gather as gather
from lucid._ranks import is_initialized as is_initialized
from lucid._ranks import local_rank as local_rank
from lucid._ranks import local_size as local_size
from lucid._ranks import rank as rank
from lucid._ranks import size as size
from lucid.distributed._map_images import map_images as map_images
from lucid.distributed._optimizer import DistributedOptimizer as DistributedOptimizer
from lucid.distributed._optimizer import broadcast_module as broadcast_module
from lucid.distributed._plan import Plan as Plan
from lucid.distributed._plan import PlannedStep as PlannedStep
from lucid.distributed._plan import plan as plan
from lucid.distributed._start import init as init
from lucid.distributed._step_times import StepTimes as StepTimes
from lucid.distributed._step_times import measure_step as measure_step
from lucid.distributed._timeline import timeline as timeline
from lucid.distributed._wire import Wire as Wire
