"""Modules, layers and losses, with PyTorch's names, arguments and defaults."""

from lucid.nn import init as init
from lucid.nn._parameter import Parameter as Parameter
from lucid.nn.modules._activation import ReLU as ReLU
from lucid.nn.modules._activation import ReLU6 as ReLU6
from lucid.nn.modules._batch_norm import BatchNorm1d as BatchNorm1d
from lucid.nn.modules._batch_norm import BatchNorm2d as BatchNorm2d
from lucid.nn.modules._container import ModuleDict as ModuleDict
from lucid.nn.modules._container import ModuleList as ModuleList
from lucid.nn.modules._container import ParameterList as ParameterList
from lucid.nn.modules._container import Sequential as Sequential
from lucid.nn.modules._conv import Conv2d as Conv2d
from lucid.nn.modules._linear import Flatten as Flatten
from lucid.nn.modules._linear import Identity as Identity
from lucid.nn.modules._linear import Linear as Linear
from lucid.nn.modules._linear import Unflatten as Unflatten
from lucid.nn.modules._module import Module as Module
from lucid.nn.modules._pool import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from lucid.nn.modules._pool import AvgPool2d as AvgPool2d
from lucid.nn.modules._pool import MaxPool2d as MaxPool2d
