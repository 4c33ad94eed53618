"""Training: the loop over epochs, and runs that can be interrupted and gone on with."""

from lucid._files import HeldElsewhereError as HeldElsewhereError
from lucid.training._class_weights import class_weights as class_weights
from lucid.training._decay_groups import decay_groups as decay_groups
from lucid.training._description import Description as Description
from lucid.training._distillation import DistillationLoss as DistillationLoss
from lucid.training._distillation import Taught as Taught
from lucid.training._evaluation import ClassScore as ClassScore
from lucid.training._evaluation import Confusion as Confusion
from lucid.training._evaluation import Evaluation as Evaluation
from lucid.training._evaluation import ReliabilityBin as ReliabilityBin
from lucid.training._evaluation import Suspect as Suspect
from lucid.training._freeze import freeze as freeze
from lucid.training._freeze import unfreeze as unfreeze
from lucid.training._loop import DivergedError as DivergedError
from lucid.training._loop import Epoch as Epoch
from lucid.training._loop import Score as Score
from lucid.training._loop import evaluate as evaluate
from lucid.training._loop import fit as fit
from lucid.training._loop import train_epoch as train_epoch
from lucid.training._loop import warmup_cosine as warmup_cosine
from lucid.training._recipe import Recipe as Recipe
from lucid.training._recipe import list_recipes as list_recipes
from lucid.training._run import Run as Run
from lucid.training._run_files import FinishedError as FinishedError
from lucid.training._run_files import RunFiles as RunFiles
