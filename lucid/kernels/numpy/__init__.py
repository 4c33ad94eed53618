"""The NumPy backend: always there, and the specification of the others."""

from lucid.kernels.numpy._activation import clip as clip
from lucid.kernels.numpy._activation import clip_grad as clip_grad
from lucid.kernels.numpy._batch_norm import batch_norm_grad as batch_norm_grad
from lucid.kernels.numpy._batch_norm import batch_norm_stats as batch_norm_stats
from lucid.kernels.numpy._batch_norm import scale_shift as scale_shift
from lucid.kernels.numpy._conv import conv2d as conv2d
from lucid.kernels.numpy._conv import conv2d_input_grad as conv2d_input_grad
from lucid.kernels.numpy._conv import conv2d_weight_grad as conv2d_weight_grad
from lucid.kernels.numpy._pool import max_pool2d as max_pool2d
from lucid.kernels.numpy._pool import max_pool2d_grad as max_pool2d_grad
from lucid.kernels.numpy._pool import max_pool2d_take as max_pool2d_take
from lucid.kernels.numpy._pool import sum_pool2d as sum_pool2d
from lucid.kernels.numpy._pool import sum_pool2d_grad as sum_pool2d_grad
from lucid.kernels.numpy._optim import adagrad_step as adagrad_step
from lucid.kernels.numpy._optim import adam_step as adam_step
from lucid.kernels.numpy._optim import rmsprop_step as rmsprop_step
from lucid.kernels.numpy._optim import sgd_step as sgd_step
