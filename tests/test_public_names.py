"""What `import lucid` gives, and what it must not bring along."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import lucid

_OPERATIONS = """
abs add allclose amax amin any all arange argmax argmin argsort astype bitwise_and bitwise_not
bitwise_or bitwise_xor bmm broadcast_to cat ceil chunk clamp clone contiguous cos count_nonzero
cumsum div dot einsum empty empty_like eq equal erf exp expand expand_as expm1 eye flatten flip
floor floor_divide from_dlpack from_numpy full full_like gather ge gt index_select isclose isfinite
isinf isnan le linspace log log1p log_softmax logical_and logical_not logical_or logical_xor
logsumexp lt masked_fill matmul max maximum mean min minimum mm movedim mul ne neg norm numel ones
ones_like outer pad permute pow prod rand rand_like randint randn randn_like randperm reciprocal
relu remainder repeat reshape roll round rsqrt scatter scatter_add sigmoid sign sin softmax sort
split sqrt square squeeze stack std sub sum swapaxes t take_along_dim tan tanh tensor tile topk
transpose tril triu unbind unflatten unsqueeze var where zeros zeros_like
"""

# Element by element: what is more than arithmetic, and further names.
_ELEMENTWISE = """
absolute acos acosh addcdiv addcmul arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh
atan atan2 atanh bitwise_left_shift bitwise_right_shift clamp_max clamp_min clip copysign cosh
deg2rad digamma divide erfc erfinv exp2 fix float_power fmax fmin fmod frac frexp gcd greater
greater_equal heaviside hypot i0 isneginf isposinf isreal lcm ldexp lerp less less_equal lgamma
log10 log2 logaddexp logaddexp2 logit multiply nan_to_num negative nextafter not_equal polygamma
positive rad2deg sgn signbit sinc sinh subtract true_divide trunc xlogy
"""

# By index: taking, writing, sorting, searching and counting.
_BY_INDEX = """
diagonal_scatter index_add index_copy index_fill index_put index_reduce masked_scatter
masked_select narrow narrow_copy put repeat_interleave scatter_reduce select select_scatter
slice_scatter take
argwhere bincount bucketize histc histogram isin kthvalue median mode msort nanmedian nanquantile
nonzero quantile searchsorted unique unique_consecutive
"""

# Shapes: views, joining, splitting, diagonals.
_SHAPES = """
adjoint as_strided diag diag_embed diagflat diagonal dsplit fliplr flipud hsplit moveaxis ravel
rot90 split_with_sizes swapdims tensor_split trace vsplit
"""

# Scans and reductions.
_ALONG_AXES = """
aminmax corrcoef cov cummax cummin cumprod diff dist logcumsumexp nanmean nansum renorm
"""
_OF_SEVERAL = """
atleast_1d atleast_2d atleast_3d block_diag broadcast_shapes broadcast_tensors cartesian_prod
column_stack combinations concat concatenate cumulative_trapezoid dstack hstack meshgrid row_stack
std_mean trapezoid trapz vander var_mean vstack
"""

# What a tensor says of itself.
_ATTRIBUTES = """
is_complex is_floating_point is_nonzero is_same_size is_signed
"""

_OTHERS = """
channels_last contiguous_format
Tensor accelerator available_backends enable_grad get_backend is_grad_enabled load manual_seed
no_grad save set_backend set_num_threads get_num_threads compile set_grad_enabled summary bool
float16 float32 float64 int16 int32 int64 int8 uint8 half float
double short int long dtype e inf nan pi newaxis
autograd cuda data device distributed kernels models nn onnx ops optim quantization quantize
report sklearn special training utils visual
"""

# Operations that are found in lucid.ops and lucid.nn.functional only.
_OF_NETWORKS = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d affine_grid alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm
binary_cross_entropy binary_cross_entropy_with_logits celu channel_shuffle conv1d conv2d conv3d
conv_transpose1d conv_transpose2d conv_transpose3d cross_entropy dropout dropout1d dropout2d
dropout3d elu embedding feature_alpha_dropout fold gelu glu grid_sample group_norm hardsigmoid
hardswish hardtanh huber_loss instance_norm interpolate kl_div l1_loss layer_norm leaky_relu linear
local_response_norm logsigmoid lp_pool1d lp_pool2d lp_pool3d max_pool1d max_pool2d max_pool3d
max_unpool1d max_unpool2d max_unpool3d mish mse_loss nll_loss one_hot pixel_shuffle pixel_unshuffle
prelu relu6 scaled_dot_product_attention selu silu size smooth_l1_loss softmin softplus softsign
unfold upsample upsample_bilinear upsample_nearest view_as
"""

# Methods that write the result of an operation into the tensor.
_IN_PLACE = """
abs absolute acos acosh add addcdiv addcmul arccos arccosh arcsin arcsinh arctan arctan2 arctanh
asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or
bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min clip copy copysign cos cosh cumsum
deg2rad digamma div divide eq erf erfc erfinv exp exp2 expm1 fill fix floor floor_divide fmod frac
gcd ge greater greater_equal gt heaviside hypot i0 index_add index_copy index_fill index_put
index_reduce lcm ldexp le lerp less less_equal lgamma log log10 log1p log2 logical_and logical_not
logical_or logical_xor logit lt masked_fill masked_scatter mul multiply nan_to_num ne neg negative
nextafter not_equal pow put rad2deg reciprocal relu remainder round rsqrt scatter scatter_add
scatter_reduce sgn sigmoid sign sin sinc sinh sqrt square sub subtract tan tanh tril triu
true_divide trunc xlogy zero
"""

# Operations that are no methods of Tensor, and what else a Tensor has.
_NO_METHODS = """
arange cat einsum empty empty_like eye from_dlpack
from_numpy full full_like linspace ones ones_like pad rand rand_like randint randn randn_like
randperm stack tensor where zeros zeros_like
bucketize isin searchsorted
"""
_MEMBERS = """
H T __abs__ __add__ __and__ __annotations__ __array__ __array_function__ __array_ufunc__ __bool__
__contains__ __copy__ __deepcopy__ __dlpack__ __dlpack_device__ __float__ __floordiv__ __getitem__
__iadd__ __iand__ __ifloordiv__ __ilshift__ __imod__ __imul__ __index__ __int__ __invert__ __ior__
__ipow__ __irshift__ __isub__ __iter__ __itruediv__ __ixor__ __len__ __lshift__ __matmul__ __mod__
__module__ __mul__ __neg__ __or__ __pos__ __pow__ __radd__ __rand__ __rfloordiv__ __rlshift__
__rmatmul__ __rmod__ __rmul__ __ror__ __rpow__ __rrshift__ __rshift__ __rsub__ __rtruediv__ __rxor__
__setitem__ __slots__ __sub__ __truediv__ __weakref__ __xor__ backward bool byte char cpu data
data_ptr detach detach_ device dim double dtype element_size float get_device grad grad_fn half int
is_contiguous is_cpu is_cuda is_leaf item itemsize long mH mT nbytes ndim ndimension nelement
new_empty new_full new_ones new_tensor new_zeros numpy register_hook
register_post_accumulate_grad_hook requires_grad requires_grad_ reshape_as retain_grad retains_grad
shape short size storage_offset stride sum_to_size to tolist type type_as unfold view view_as
"""

_EXTRAS = """
numba torch PIL sklearn tqdm rich safetensors huggingface_hub matplotlib onnx scipy
"""

OPERATIONS = [
    *_ATTRIBUTES.split(),
    *_OPERATIONS.split(),
    *_ELEMENTWISE.split(),
    *_BY_INDEX.split(),
    *_SHAPES.split(),
    *_ALONG_AXES.split(),
    *_OF_SEVERAL.split(),
]
OTHERS, EXTRAS = _OTHERS.split(), _EXTRAS.split()


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def test_public_names() -> None:
    public = _python("import lucid; print(*[n for n in dir(lucid) if not n.startswith('_')])")
    assert sorted(public.split()) == sorted(OPERATIONS + OTHERS)


def test_public_names_of_operations() -> None:
    public = [name for name in dir(lucid.ops) if not name.startswith("_")]
    assert public == sorted(OPERATIONS + _OF_NETWORKS.split())


def test_public_names_of_tensors() -> None:
    own = {
        name
        for name in {*dir(lucid.Tensor)} - {*dir(object)}
        if not name.startswith("_") or name.startswith("__")
    }
    in_place = {f"{name}_" for name in _IN_PLACE.split()}
    assert in_place <= own
    assert own - in_place == {*OPERATIONS, *_MEMBERS.split()} - {
        *_NO_METHODS.split(),
        *_OF_SEVERAL.split(),
    }


@pytest.mark.parametrize("name", OPERATIONS + OTHERS)
def test_every_name_is_there(name: str) -> None:
    assert hasattr(lucid, name)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'lucid' has no attribute 'nonsense'"):
        _ = lucid.nonsense  # type: ignore[attr-defined]


def test_import_brings_no_extra() -> None:
    loaded = _python(
        "import sys, lucid, lucid.nn, lucid.optim, lucid.models, lucid.data, lucid.visual\n"
        f"print(*[name for name in {EXTRAS!r} if name in sys.modules])"
    )
    assert loaded.split() == []


def test_dtypes_are_numpys() -> None:
    for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"):
        assert getattr(lucid, name) == np.dtype(name)
    assert lucid.bool == np.dtype(bool)
    assert isinstance(lucid.zeros(1).dtype, lucid.dtype)


def test_other_names_of_dtypes_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    for name in ("half", "float", "double", "short", "int", "long"):
        assert f"torch.{getattr(lucid, name)}" == str(getattr(torch, name))
    for name in ("e", "inf", "nan", "pi", "newaxis"):
        np.testing.assert_equal(getattr(lucid, name), getattr(torch, name))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_documented(name: str) -> None:
    assert getattr(lucid, name).__doc__
