"""The fast backend: kernels compiled for this machine by LLVM, through Numba's llvmlite.

Where it has no kernel for a dtype or a layout, the NumPy backend's computes.
"""

from lucid.kernels.numba._activation import clip as clip
from lucid.kernels.numba._activation import clip_grad as clip_grad
from lucid.kernels.numba._activation import erf as erf
from lucid.kernels.numba._activation import gelu as gelu
from lucid.kernels.numba._activation import gelu_grad as gelu_grad
from lucid.kernels.numba._activation import hardswish as hardswish
from lucid.kernels.numba._activation import hardswish_grad as hardswish_grad
from lucid.kernels.numba._activation import sigmoid as sigmoid
from lucid.kernels.numba._activation import silu as silu
from lucid.kernels.numba._activation import silu_grad as silu_grad
from lucid.kernels.numba._attention import prepare_attention as prepare_attention
from lucid.kernels.numba._batch_norm import batch_norm_grad as batch_norm_grad
from lucid.kernels.numba._batch_norm import batch_norm_stats as batch_norm_stats
from lucid.kernels.numba._batch_norm import scale_shift as scale_shift
from lucid.kernels.numba._conv import conv2d as conv2d
from lucid.kernels.numba._conv import conv2d_input_grad as conv2d_input_grad
from lucid.kernels.numba._conv import conv2d_weight_grad as conv2d_weight_grad
from lucid.kernels.numba._conv_norm_act import conv_norm_act_train as conv_norm_act_train
from lucid.kernels.numba._conv_norm_act import (
    conv_norm_act_train_grad as conv_norm_act_train_grad,
)
from lucid.kernels.numba._kept import keep_affine as keep_affine
from lucid.kernels.numba._kept import keep_attention as keep_attention
from lucid.kernels.numba._kept import keep_conv as keep_conv
from lucid.kernels.numba._kept import keep_row as keep_row
from lucid.kernels.numba._loss import cross_entropy as cross_entropy
from lucid.kernels.numba._loss import cross_entropy_grad as cross_entropy_grad
from lucid.kernels.numba._optim import optimizer_step as optimizer_step
from lucid.kernels.numba._pool import max_pool2d as max_pool2d
from lucid.kernels.numba._pool import max_pool2d_grad as max_pool2d_grad
from lucid.kernels.numba._pool import max_pool2d_take as max_pool2d_take
from lucid.kernels.numba._pool import sum_pool2d as sum_pool2d
from lucid.kernels.numba._pool import sum_pool2d_grad as sum_pool2d_grad
from lucid.kernels.numba._prepared import divide_images as divide_images
from lucid.kernels.numba._prepared import join as join
from lucid.kernels.numba._prepared import join_lanes as join_lanes
from lucid.kernels.numba._prepared import pack_conv as pack_conv
from lucid.kernels.numba._prepared import prepare_affine as prepare_affine
from lucid.kernels.numba._prepared import prepare_average as prepare_average
from lucid.kernels.numba._prepared import prepare_conv as prepare_conv
from lucid.kernels.numba._prepared import prepare_images as prepare_images
from lucid.kernels.numba._product import linear as linear
from lucid.kernels.numba._product import matmul as matmul
from lucid.kernels.numba._softmax import log_softmax as log_softmax
from lucid.kernels.numba._softmax import log_softmax_grad as log_softmax_grad
from lucid.kernels.numba._softmax import softmax as softmax
from lucid.kernels.numba._softmax import softmax_grad as softmax_grad
from lucid.kernels.numba.machine._compiler import is_ready as is_ready
from lucid.kernels.numba.machine._compiler import warm_up as warm_up
from lucid.kernels.numba.machine._threads import divide as divide
from lucid.kernels.numba.machine._threads import get_num_threads as get_num_threads
from lucid.kernels.numba.machine._threads import in_parts as in_parts
from lucid.kernels.numba.machine._threads import set_num_threads as set_num_threads
from lucid.kernels.numpy._activation import elu_grad as elu_grad
from lucid.kernels.numpy._sums import sums as sums
from lucid.kernels.numpy._variance import variance as variance
