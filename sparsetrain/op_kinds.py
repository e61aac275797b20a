"""What each operation does to the zeros of a gradient: the vocabulary of placement.py."""

from __future__ import annotations

from torch import fx, nn

from sparsetrain.pruning import StateModule

# Activations with derivative 0 over much of what a convolution yields, so that they hand back a
# sparse gradient. Not so LeakyReLU, GELU or SiLU, nor Hardswish and Hardsigmoid, which are flat
# beyond 3 only.
RELU_MODULES = (
    nn.ReLU,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Hardshrink,
    nn.Softshrink,
    nn.Threshold,
)
# Their backward subtracts a mean of the gradient, which makes all of it nonzero.
NORM_MODULES = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
)
# Modules that hand the zeros of a gradient on; what comes behind them decides.
_OPEN_FILES = (
    "channelshuffle",
    "dropout",
    "flatten",
    "padding",
    "pixelshuffle",
    "pooling",
    "upsampling",
)

# The same for functions and methods, by name: torch.add, operator.add and Tensor.add are one.
_NAMES = {
    "relu": """
        relu relu_ relu6 hardtanh hardtanh_ hardshrink softshrink threshold threshold_
        clamp clamp_ clamp_min clamp_min_ clip clip_""",
    "norm": """
        batch_norm instance_norm group_norm layer_norm rms_norm local_response_norm""",
    "open": """
        add add_ iadd sub sub_ isub neg mul mul_ imul div div_ truediv itruediv
        cat concat concatenate stack chunk split tensor_split unbind getitem narrow
        flatten unflatten reshape view permute transpose movedim unsqueeze squeeze expand roll
        contiguous clone to type float half bfloat16 double
        dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout
        stochastic_depth drop_path max_pool2d avg_pool2d adaptive_max_pool2d adaptive_avg_pool2d
        lp_pool2d fractional_max_pool2d mean
        pad interpolate upsample channel_shuffle native_channel_shuffle
        pixel_shuffle pixel_unshuffle""",
    # Uses that carry no gradient back.
    "dead": """
        getattr size dim ndimension numel nelement stride is_contiguous is_floating_point detach
        new_empty new_zeros new_ones new_full new_tensor empty_like zeros_like ones_like full_like
        rand_like randn_like _assert eq ne lt le gt ge""",
}
_ROLE_OF_NAME = {name: role for role, names in _NAMES.items() for name in names.split()}


def node_role(modules: dict[str, nn.Module], node: fx.Node) -> tuple[str, str]:
    """("norm" | "relu" | "open" | "dead" | "other", a name to show) of a node of a traced model."""
    if node.op == "call_module":
        return module_role(modules[str(node.target)])
    if node.op == "output":
        return "other", "the model's output"
    name = str(getattr(node.target, "__name__", node.target))
    return _ROLE_OF_NAME.get(name, "other"), name


def module_role(module: nn.Module) -> tuple[str, str]:
    """The same of a module that is not opened."""
    name = type(module).__name__
    if isinstance(module, NORM_MODULES):
        return "norm", name
    if isinstance(module, RELU_MODULES):
        return "relu", name
    if isinstance(module, (nn.Identity, StateModule)):
        return "open", name
    where, _, file = type(module).__module__.rpartition(".")
    return ("open" if where == "torch.nn.modules" and file in _OPEN_FILES else "other"), name


def guessed_role(module: nn.Module) -> tuple[str, str]:
    """The same where nothing can be traced: of a user's own class only the name is known."""
    role, name = module_role(module)
    return ("norm", name) if role == "other" and "norm" in name.lower() else (role, name)
