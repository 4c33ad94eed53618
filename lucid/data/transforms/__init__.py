"""Changes of images, for one or for a batch, composable.

Each transform takes a Pillow image, or an array or tensor ``(C, H, W)`` or ``(N, C, H, W)``, and
returns the same kind. The random ones draw from lucid's generator, anew for each image of a
batch. Results are channels-last in memory.
"""

from lucid.data.transforms._base import Compose as Compose
from lucid.data.transforms._base import Transform as Transform
from lucid.data.transforms._geometry import CenterCrop as CenterCrop
from lucid.data.transforms._geometry import RandomAffine as RandomAffine
from lucid.data.transforms._geometry import RandomCrop as RandomCrop
from lucid.data.transforms._geometry import RandomHorizontalFlip as RandomHorizontalFlip
from lucid.data.transforms._geometry import Resize as Resize
from lucid.data.transforms._presets import for_model as for_model
from lucid.data.transforms._values import Convert as Convert
from lucid.data.transforms._values import Normalize as Normalize
from lucid.data.transforms._values import ToTensor as ToTensor
