"""Changes of images, for one or for a batch, composable.

Each transform takes a Pillow image, or an array or tensor ``(C, H, W)`` or ``(N, C, H, W)``, and
returns the same kind; a few take one of the two, and say so. The random ones draw from lucid's
generator, anew for each image of a batch. Results are channels-last in memory.

:class:`MixUp` and :class:`CutMix` take images and labels of a batch.
"""

from lucid.data.transforms._auto_augment import RandAugment as RandAugment
from lucid.data.transforms._auto_augment import TrivialAugmentWide as TrivialAugmentWide
from lucid.data.transforms._base import Transform as Transform
from lucid.data.transforms._colour import ColorJitter as ColorJitter
from lucid.data.transforms._compose import Compose as Compose
from lucid.data.transforms._compose import RandomApply as RandomApply
from lucid.data.transforms._compose import RandomChoice as RandomChoice
from lucid.data.transforms._erasing import RandomErasing as RandomErasing
from lucid.data.transforms._geometry import CenterCrop as CenterCrop
from lucid.data.transforms._geometry import RandomAffine as RandomAffine
from lucid.data.transforms._geometry import RandomCrop as RandomCrop
from lucid.data.transforms._geometry import RandomHorizontalFlip as RandomHorizontalFlip
from lucid.data.transforms._geometry import RandomResizedCrop as RandomResizedCrop
from lucid.data.transforms._geometry import RandomVerticalFlip as RandomVerticalFlip
from lucid.data.transforms._geometry import Resize as Resize
from lucid.data.transforms._mix import CutMix as CutMix
from lucid.data.transforms._mix import MixUp as MixUp
from lucid.data.transforms._presets import evaluation as evaluation
from lucid.data.transforms._presets import for_model as for_model
from lucid.data.transforms._presets import training as training
from lucid.data.transforms._values import Convert as Convert
from lucid.data.transforms._values import Normalize as Normalize
from lucid.data.transforms._values import ToTensor as ToTensor
