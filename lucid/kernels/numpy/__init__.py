"""The NumPy backend: always there, and the specification of the others."""

from lucid.kernels.numpy._activation import clip as clip
from lucid.kernels.numpy._activation import clip_grad as clip_grad
from lucid.kernels.numpy._activation import elu_grad as elu_grad
from lucid.kernels.numpy._activation import gelu as gelu
from lucid.kernels.numpy._activation import gelu_grad as gelu_grad
from lucid.kernels.numpy._activation import hardswish as hardswish
from lucid.kernels.numpy._activation import hardswish_grad as hardswish_grad
from lucid.kernels.numpy._activation import sigmoid as sigmoid
from lucid.kernels.numpy._activation import silu as silu
from lucid.kernels.numpy._activation import silu_grad as silu_grad
from lucid.kernels.numpy._attention import keep_attention as keep_attention
from lucid.kernels.numpy._attention import prepare_attention as prepare_attention
from lucid.kernels.numpy._batch_norm import batch_norm_grad as batch_norm_grad
from lucid.kernels.numpy._batch_norm import batch_norm_stats as batch_norm_stats
from lucid.kernels.numpy._batch_norm import keep_affine as keep_affine
from lucid.kernels.numpy._batch_norm import scale_shift as scale_shift
from lucid.kernels.numpy._chains import join as join
from lucid.kernels.numpy._chains import keep_row as keep_row
from lucid.kernels.numpy._conv import conv2d as conv2d
from lucid.kernels.numpy._conv import conv2d_input_grad as conv2d_input_grad
from lucid.kernels.numpy._conv import conv2d_weight_grad as conv2d_weight_grad
from lucid.kernels.numpy._conv_norm_act import conv_norm_act_train as conv_norm_act_train
from lucid.kernels.numpy._conv_norm_act import (
    conv_norm_act_train_grad as conv_norm_act_train_grad,
)
from lucid.kernels.numpy._erf import erf as erf
from lucid.kernels.numpy._loss import cross_entropy as cross_entropy
from lucid.kernels.numpy._loss import cross_entropy_grad as cross_entropy_grad
from lucid.kernels.numpy._optim import optimizer_step as optimizer_step
from lucid.kernels.numpy._pool import max_pool2d as max_pool2d
from lucid.kernels.numpy._pool import max_pool2d_grad as max_pool2d_grad
from lucid.kernels.numpy._pool import max_pool2d_take as max_pool2d_take
from lucid.kernels.numpy._pool import sum_pool2d as sum_pool2d
from lucid.kernels.numpy._pool import sum_pool2d_grad as sum_pool2d_grad
from lucid.kernels.numpy._prepared import keep_conv as keep_conv
from lucid.kernels.numpy._prepared import pack_conv as pack_conv
from lucid.kernels.numpy._prepared import prepare_conv as prepare_conv
from lucid.kernels.numpy._product import linear as linear
from lucid.kernels.numpy._product import matmul as matmul
from lucid.kernels.numpy._softmax import log_softmax as log_softmax
from lucid.kernels.numpy._softmax import log_softmax_grad as log_softmax_grad
from lucid.kernels.numpy._softmax import softmax as softmax
from lucid.kernels.numpy._softmax import softmax_grad as softmax_grad
from lucid.kernels.numpy._steps import divide_images as divide_images
from lucid.kernels.numpy._steps import join_lanes as join_lanes
from lucid.kernels.numpy._steps import prepare_affine as prepare_affine
from lucid.kernels.numpy._steps import prepare_average as prepare_average
from lucid.kernels.numpy._steps import prepare_images as prepare_images
from lucid.kernels.numpy._sums import sums as sums
from lucid.kernels.numpy._threads import divide as divide
from lucid.kernels.numpy._threads import get_num_threads as get_num_threads
from lucid.kernels.numpy._threads import in_parts as in_parts
from lucid.kernels.numpy._threads import is_ready as is_ready
from lucid.kernels.numpy._threads import set_num_threads as set_num_threads
from lucid.kernels.numpy._threads import warm_up as warm_up
from lucid.kernels.numpy._variance import variance as variance
