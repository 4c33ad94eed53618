"""Optimisers, and schedules of their learning rate."""

from lucid._check import name_errors as _name_errors
from lucid.optim import lr_scheduler as lr_scheduler
from lucid.optim import swa_utils as swa_utils
from lucid.optim._adadelta import Adadelta as Adadelta
from lucid.optim._adagrad import Adagrad as Adagrad
from lucid.optim._adam import Adam as Adam
from lucid.optim._adam import AdamW as AdamW
from lucid.optim._adam_kin import Adamax as Adamax
from lucid.optim._adam_kin import Lion as Lion
from lucid.optim._adam_kin import NAdam as NAdam
from lucid.optim._adam_kin import RAdam as RAdam
from lucid.optim._lbfgs import LBFGS as LBFGS
from lucid.optim._optimizer import Optimizer as Optimizer
from lucid.optim._rmsprop import RMSprop as RMSprop
from lucid.optim._sgd import SGD as SGD

_name_errors(globals())
