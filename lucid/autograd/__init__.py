"""The tape: recording operations, and walking back over them."""

from lucid.autograd._function import Function as Function
from lucid.autograd._function import once_differentiable as once_differentiable
from lucid.autograd._grad_mode import enable_grad as enable_grad
from lucid.autograd._grad_mode import inference_mode as inference_mode
from lucid.autograd._grad_mode import is_grad_enabled as is_grad_enabled
from lucid.autograd._grad_mode import no_grad as no_grad
from lucid.autograd._grad_mode import set_grad_enabled as set_grad_enabled
from lucid.autograd._gradcheck import backward as backward
from lucid.autograd._gradcheck import grad as grad
from lucid.autograd._gradcheck import gradcheck as gradcheck
from lucid.autograd._gradcheck import gradgradcheck as gradgradcheck
from lucid.autograd._graph import Node as Node
from lucid.autograd._tensor import Tensor as Tensor
