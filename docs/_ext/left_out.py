"""What lucid leaves out of PyTorch, by group, each with the reason."""

from __future__ import annotations

import re
from typing import NamedTuple


class Group(NamedTuple):
    """Names that are left out for one reason.

    ``names`` are regular expressions for the last part of a name, or for all of it.
    """

    title: str
    reason: str
    names: tuple[str, ...]


GROUPS = (
    Group(
        "What PyTorch has deprecated",
        "The newer name is there.",
        (
            r"torch\.nn\.init\.[a-z_]*[a-z]", "range", "clip_grad_norm",
            r"torch\.nn\.utils\.(remove_)?(weight|spectral)_norm",
            r"torch(\.Tensor)?\.(cholesky|qr|svd)", "chain_matmul", "triangular_solve",
        ),
    ),
    Group(
        "Other devices",
        "All is computed on the processor.",
        (
            "Event", "Stream", "DataParallel", "cudnn_.*", "miopen_.*", "mkldnn_.*", "to_mkldnn",
            "(c?uda|ipu|mtia|xpu)", "is_(ipu|meta|mps|xla|xpu|pinned|vulkan_available)",
            "get_device.*", "pin_memory", "record_stream", "(get|set)_default_device",
            ".*StreamObjType", "DeviceObjType", "AcceleratorError", "OutOfMemoryError",
            "is_distributed", "enforce_grad_layout_policy",
        ),
    ),
    Group(
        "Sparse arrays",
        "Tensors are NumPy arrays, and NumPy has none that are sparse.",
        (
            ".*sparse.*", "Sparse.*", "hs[pm]mm?", "hspmm", "[ds]s?p?mm", "saddmm", "sspaddmm",
            "(c?col|crow|row)_indices(_copy)?", "(indices|values)(_copy)?", "(is_)?coalesced?",
            "dense_dim", "to_dense", "to_padded_tensor",
        ),
    ),
    Group(
        "Complex numbers",
        "Tensors hold real numbers, integers and truth values.",
        (
            "angle", "c(float|double|half)", "chalf", "complex.*", "ComplexType", "conj.*", "imag",
            "is_(conj|neg)", "polar", "real", "resolve_(conj|neg)", "(i?stft)",
            "view_as_(complex|real)(_copy)?", r"torch\.linalg\.eig(vals)?", r"torch\.fft\..*",
        ),
    ),
    Group(
        "Lower precision and mixed precision",
        "NumPy has neither bfloat16 nor numbers of 8 bits and less, and a processor computes "
        "slower with them.",
        (
            ".*autocast.*", "GradScaler", "bfloat16", "float[48]_.*", "u?int[1-7]", r"bits?(\d.*)?",
            "scaled_(grouped_)?mm", "grouped_mm", ".*fp16.*",
        ),
    ),
    Group(
        "Quantised tensors",
        "Networks are quantised as a whole, by `lucid.quantize`.",
        (
            "q_.*", "qu?int.*", "qscheme", "int_repr", "is_quantized", "dequantize", "fbgemm_.*",
            ".*quantize.*", ".*fake_quant.*", "choose_qparams_optimized",
        ),
    ),
    Group(
        "TorchScript, tracing and transformed functions",
        "`lucid.compile` makes a network faster, and `lucid.onnx.export` carries it elsewhere.",
        (
            "sym_.*", "Sym.*", r"torch\..*(Type|Script.*|Graph.*|PyTorchFile.*|Context)",
            "Script.*", "LiteScriptModule", "AliasDb", "AggregationType", "(AVG|SUM)", "Argument.*",
            "Benchmark.*", "ThroughputBenchmark", "Block", "BufferDict", "CallStack", "Capsule",
            "Code", "Comp(ilation|leteArgument).*", "ConcreteModuleTypeBuilder",
            "DeepCopyMemoTable", "DispatchKey(Set)?", "DisableTorchFunction.*", "ErrorReport",
            "ExcludeDispatchKeyGuard", "ExecutionPlan", "FatalError", "FileCheck",
            "FunctionSchema", "Future", "Gradient", "IODescriptor", "JITException", ".*Logger",
            "Node", "OperatorInfo", r"torch\.(ModuleDict|ParameterDict)", "StaticModule", "Tag",
            "TracingState", "Use", "Value", "import_ir_module.*", "parse_.*", "fork", "wait",
            "merge_type_.*", "unify_type_list", "while_loop", r"torch\.cond", "vmap",
            "boolean_dispatch", "has_torch_function.*", "handle_torch_function", "as_subclass",
            "factory_kwargs", "module_load", "NestedIOFunction",
        ),
    ),
    Group(
        "Storage, strides and memory",
        "Tensors hold NumPy arrays, `tensor.data`, and NumPy has a name for each of these.",
        (
            ".*(Storage|Tensor)", ".*storage.*", "as_strided_.*", "(new_)?empty_strided",
            "from_file", "frombuffer", "to_dlpack", "empty_permuted", "dim_order", "layout",
            "memory_format", "convert_conv.d_weight_memory_format", "set_", "resize_.*",
            "is_(set_to|shared)", "share_memory_", "const_data_ptr", "alias_copy",
            "hash_tensor",
        ),
    ),
    Group(
        "Switches of PyTorch's own machinery",
        "They have nothing to switch here. Results are the same in every run; "
        "`numpy.set_printoptions` changes how tensors are printed.",
        (
            ".*determinis.*", ".*num_interop_threads", "init_num_threads", ".*flush_denormal",
            ".*warn_always.*", ".*float32_matmul_precision", "set_printoptions", "has_.*",
            "compiled_with_cxx11_abi", "set_default_tensor_type", "typename", ".*anomaly.*",
            "set_multithreading_enabled", "is_inference.*",
        ),
    ),
    Group(
        "Random numbers as objects",
        "There is one stream of random numbers, and `lucid.manual_seed` starts it.",
        ("Generator", ".*_generator", "(initial_)?seed", "[gs]et_rng_state"),
    ),
    Group(
        "Functions that change their argument",
        "Methods do that, for example `x.exp_()`; activations have `inplace=True`.",
        (r"torch(\.nn\.functional)?\.[a-z_0-9]*_",),
    ),
    Group(
        "What stands behind PyTorch's own functions",
        "The function or the layer itself is there under the name that its documentation has.",
        (
            "(?!.*index_).*_copy", "native_.*", "unsafe_.*", ".*_with_indices", ".*batch_norm_.*",
            "(affine_grid_generator|grid_sampler.*)", "convolution", "constant_pad_nd",
            "feature_dropout", "(gru|lstm|rnn_relu|rnn_tanh)(_cell)?", "embedding_renorm_",
            "(frobenius|nuclear)_norm", "norm_except_dim", "multi_head_attention_forward",
            "conv_tbc", "rsub", "slice_inverse", "RNNBase", r"torch\.fill", "is_storage",
            "segment_reduce", "grad_dtype",
        ),
    ),
    Group(
        "Layers that learn their sizes when first used",
        "The sizes are given.",
        ("Lazy.*", "Uninitialized.*"),
    ),
    Group(
        "Decompositions of matrices that NumPy does not have",
        "SciPy has them.",
        (
            ".*lu_.*", "lu", "ldl_.*", "lobpcg", "(pca|svd)_lowrank", "geqrf",
            "householder_product", "or[gm]qr",
        ),
    ),
    Group(
        "Special functions that NumPy does not have",
        "SciPy has them; none is met in networks.",
        (
            "airy_ai", ".*bessel_.*", ".*_polynomial_.*", "igammac?_?", "gammainc+",
            "multigammaln", "mvlgamma_?", "(log_)?ndtri?", "zeta", "spherical.*", "i[01]e?_?",
            "erfcx",
        ),
    ),
    Group(
        "What a line of other operations does",
        "For example `x[:, 2:5] = y` for `slice_scatter`, and `a @ b @ c` for `multi_dot`.",
        (
            "cartesian_prod", "cholesky_(inverse|solve)", "combinations", "frexp", "histogram",
            "index_reduce_?", "logspace", "multi_dot", "pdist", "put_?", "renorm_?",
            "(diagonal|select|slice)_scatter", "Softmax2d", "tensor(inv|solve)",
            "(cumulative_)?trapezoid", "trapz", "vander",
        ),
    ),
    Group(
        "What networks for images hardly meet",
        "lucid is small enough to be read.",
        (
            "ASGD", "Rprop", "embedding_bag", "EmbeddingBag", ".*_ex", "logcumsumexp", "lp_pool.d",
            "LPPool.d", r"torch\.linalg\.cond", "matrix_exp", "poisson_nll_loss",
            "PoissonNLLLoss", "rrelu_?", "RReLU", "(GRU|LSTM|RNN)Cell",
            "Transformer(Decoder(Layer)?)?",
        ),
    ),
    Group(
        "Windows of signal processing",
        "NumPy has them: `numpy.hanning` and its kin.",
        (".*_window",),
    ),
    Group(
        "Shapes that change, and shapes as objects",
        "A tensor keeps its shape: `x = x.squeeze()`. Shapes are tuples.",
        ("Size", "((un)?squeeze|swapaxes|swapdims|t|transpose)_"),
    ),
    Group(
        "Random in-place fills of rare distributions",
        "`numpy.random` has them; `lucid.tensor` takes what it returns.",
        ("(cauchy|geometric|log_normal|random)_", "binomial"),
    ),
    Group(
        "Losses and optimisers for vocabularies and very large models",
        "lucid is for models that one machine trains.",
        ("AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropy.*", "linear_cross_entropy",
         "Adafactor", "Muon", "swap_in_optimizer_params_and_state"),
    ),
    Group(
        "Data that comes as a stream",
        "A dataset has a length, and its items have numbers; see the tutorial on data.",
        ("ChainDataset", "Iter.*", "MapDataPipe", "default_convert", "get_worker_info"),
    ),
    Group(
        "Fusing of layers",
        "`lucid.compile` does that.",
        ("fuse_.*",),
    ),
    Group(
        "Python functions over elements",
        "They are slow in any library.",
        ("(apply|map)_",),
    ),
    Group(
        "Other models, pictures and collections",
        "lucid has MobileNetV4, and the changes and data that its training takes.",
        (r"timm\..*", r"torchvision\..*"),
    ),
)  # fmt: skip

#: Of what is in no group.
REST = Group("Not there yet", "Nothing speaks against them.", ())

_PATTERNS = tuple((group, re.compile("|".join(group.names))) for group in GROUPS)


def group_of(module: str, name: str) -> Group:
    """Return why a name is left out: the first group that it fits."""
    for group, pattern in _PATTERNS:
        if pattern.fullmatch(name) or pattern.fullmatch(f"{module}.{name}"):
            return group
    return REST
