"""What each operation does to the zeros of a gradient that flows back; placement.py uses it.

Every operation has one of five kinds:

- "norm": its backward pass makes the gradient dense.
- "relu": its backward pass makes the gradient sparse.
- "passthrough": zeros of the gradient stay zeros; the operations after it decide.
- "no_gradient": no gradient flows back through it.
- "other": everything else; it is assumed to make the gradient dense.
"""

from __future__ import annotations

from torch import fx, nn

from sparsetrain.pruning import StateModule

# Activations whose derivative is 0 for a large part of a convolution's outputs. LeakyReLU, GELU and
# SiLU have no such part. Hardswish and Hardsigmoid are flat only beyond 3, where few outputs lie.
RELU_MODULES = (
    nn.ReLU,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Hardshrink,
    nn.Softshrink,
    nn.Threshold,
)
# Their backward pass subtracts a mean of the gradient, which makes all elements nonzero.
NORM_MODULES = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
)
# The files of torch.nn.modules whose modules are of kind "passthrough".
_PASSTHROUGH_FILES = (
    "channelshuffle",
    "dropout",
    "flatten",
    "padding",
    "pixelshuffle",
    "pooling",
    "upsampling",
)

# Kinds of functions and methods by name: torch.add, operator.add and Tensor.add share an entry.
_NAMES = {
    "relu": """
        relu relu_ relu6 hardtanh hardtanh_ hardshrink softshrink threshold threshold_
        clamp clamp_ clamp_min clamp_min_ clip clip_""",
    "norm": """
        batch_norm instance_norm group_norm layer_norm rms_norm local_response_norm""",
    "passthrough": """
        add add_ iadd sub sub_ isub neg mul mul_ imul div div_ truediv itruediv
        cat concat concatenate stack chunk split tensor_split unbind getitem narrow
        flatten unflatten reshape view permute transpose movedim unsqueeze squeeze expand roll
        contiguous clone to type float half bfloat16 double
        dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout
        stochastic_depth drop_path max_pool2d avg_pool2d adaptive_max_pool2d adaptive_avg_pool2d
        lp_pool2d fractional_max_pool2d mean
        pad interpolate upsample channel_shuffle native_channel_shuffle
        pixel_shuffle pixel_unshuffle""",
    "no_gradient": """
        getattr size dim ndimension numel nelement stride is_contiguous is_floating_point detach
        new_empty new_zeros new_ones new_full new_tensor empty_like zeros_like ones_like full_like
        rand_like randn_like _assert eq ne lt le gt ge""",
}
_KIND_OF_NAME = {name: kind for kind, names in _NAMES.items() for name in names.split()}


def node_kind(modules: dict[str, nn.Module], node: fx.Node) -> tuple[str, str]:
    """The kind of a node in a traced model, and its name for messages.

    Args:
        modules: The modules of the traced model by their names.
        node: A node that is not a placeholder.
    """
    if node.op == "call_module":
        return module_kind(modules[str(node.target)])
    if node.op == "output":
        return "other", "the model's output"
    name = str(getattr(node.target, "__name__", node.target))
    return _KIND_OF_NAME.get(name, "other"), name


def module_kind(module: nn.Module) -> tuple[str, str]:
    """The kind of a module that is traced as one node, and its name for messages."""
    name = type(module).__name__
    if isinstance(module, NORM_MODULES):
        return "norm", name
    if isinstance(module, RELU_MODULES):
        return "relu", name
    if isinstance(module, (nn.Identity, StateModule)):
        return "passthrough", name
    package, _, file = type(module).__module__.rpartition(".")
    passes = package == "torch.nn.modules" and file in _PASSTHROUGH_FILES
    return "passthrough" if passes else "other", name


def guessed_kind(module: nn.Module) -> tuple[str, str]:
    """``module_kind`` for untraceable models: a class with "norm" in its name counts as a norm.

    A traced model needs no guess, because tracing shows the operations inside of such a class.
    """
    kind, name = module_kind(module)
    return ("norm", name) if kind == "other" and "norm" in name.lower() else (kind, name)
