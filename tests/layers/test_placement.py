"""Laws of placement: small networks for each rule, and torchvision's models counted by hand."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from sparsetrain.placement import decide


class Net(nn.Module):
    """A trained layer, the convolution `c`, and the operations that a test appends."""

    def __init__(self, rest, **modules):
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.c = nn.Conv2d(8, 8, 1)
        self.rest = rest
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        x = self.stem(x)
        return self.rest(self, x, self.c(x))


def decided(rest, **modules):
    """The decision for a convolution with output y, after which `rest(net, x, y)` runs."""
    return decide(Net(rest, **modules))["c"]


RELUS = [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Threshold(0, 0), nn.Hardshrink(), nn.Softshrink()]
NORMS = [
    nn.BatchNorm2d(8),
    nn.SyncBatchNorm(8),
    nn.InstanceNorm2d(8),
    nn.GroupNorm(2, 8),
    nn.LayerNorm(8),
    nn.LocalResponseNorm(2),
]
DENSE = [
    nn.LeakyReLU(),
    nn.GELU(),
    nn.SiLU(),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.Sigmoid(),
    nn.ELU(),
]


@pytest.mark.parametrize("module", RELUS, ids=lambda m: type(m).__name__)
def test_before_a_relu_the_gradient_of_the_input_is_pruned(module):
    assert decided(lambda s, x, y: s.m(y), m=module) == (
        "input",
        f"next is {type(module).__name__}",
    )


@pytest.mark.parametrize("module", NORMS + DENSE, ids=lambda m: type(m).__name__)
def test_before_a_norm_or_a_smooth_activation_the_gradient_of_the_output_is_pruned(module):
    assert decided(lambda s, x, y: s.m(y), m=module) == (
        "output",
        f"next is {type(module).__name__}",
    )


FUNCTIONS = [
    (F.relu, "input", "relu"),
    (torch.relu, "input", "relu"),
    (lambda y: y.relu_(), "input", "relu_"),
    (lambda y: y.relu(), "input", "relu"),
    (F.relu6, "input", "relu6"),
    (lambda y: y.clamp(min=0), "input", "clamp"),
    (lambda y: F.batch_norm(y, None, None, training=True), "output", "batch_norm"),
    (lambda y: F.group_norm(y, 2), "output", "group_norm"),
    (lambda y: F.layer_norm(y, [8]), "output", "layer_norm"),
    (F.instance_norm, "output", "instance_norm"),
    (F.gelu, "output", "gelu"),
    (lambda y: y.exp(), "output", "exp"),
    (lambda y: y, "output", "the model's output"),
]


@pytest.mark.parametrize("function, placement, name", FUNCTIONS)
def test_functions_and_methods_count_like_modules(function, placement, name):
    assert decided(lambda s, x, y: function(y)) == (placement, f"next is {name}")


PASSTHROUGH = [
    lambda s, x, y: y + x,
    lambda s, x, y: torch.add(x, y),
    lambda s, x, y: x.add_(y),
    lambda s, x, y: x - y,
    lambda s, x, y: y * 0.5,
    lambda s, x, y: y / x,
    lambda s, x, y: torch.cat([x, y], 1),
    lambda s, x, y: torch.cat([x, y], 1).chunk(2, 1)[1],
    lambda s, x, y: F.max_pool2d(y, 2),
    lambda s, x, y: F.avg_pool2d(y, 2),
    lambda s, x, y: F.adaptive_avg_pool2d(y, 1),
    lambda s, x, y: F.dropout(y, 0.5, s.training),
    lambda s, x, y: F.interpolate(y, scale_factor=2),
    lambda s, x, y: F.pad(y, (1, 1)),
    lambda s, x, y: y.flatten(1),
    lambda s, x, y: y.view(y.size(0), -1),
    lambda s, x, y: y.permute(0, 2, 3, 1).contiguous(),
    lambda s, x, y: y.mean((2, 3)),
    lambda s, x, y: s.m(y),
    lambda s, x, y: s.m(s.m(y) + x),
]


@pytest.mark.parametrize("through", PASSTHROUGH)
@pytest.mark.parametrize("end, placement", [(F.relu, "input"), (F.silu, "output")])
@pytest.mark.parametrize("module", [nn.MaxPool2d(2), nn.Dropout(), nn.Identity(), nn.Upsample(2)])
def test_the_operation_after_a_passthrough_operation_decides(through, end, placement, module):
    decision = decided(lambda s, x, y: end(through(s, x, y)), m=module)
    assert decision == (placement, f"next is {end.__name__}")


def test_one_dense_branch_makes_the_gradient_dense():
    norm = nn.BatchNorm2d(8)
    for rest in (
        lambda s, x, y: s.norm(y) + F.relu(y),
        lambda s, x, y: F.relu(y) + s.norm(y),
    ):
        assert decided(rest, norm=norm) == ("output", "next is BatchNorm2d")
    assert decided(lambda s, x, y: F.relu(y) + F.gelu(y)) == ("output", "next is gelu")
    assert decided(lambda s, x, y: (y, F.relu(y))) == ("output", "next is the model's output")


def test_relus_on_all_branches_count_as_one():
    assert decided(lambda s, x, y: F.relu(y) + F.relu(y + x)).placement == "input"


def test_uses_without_gradient_do_not_count():
    def rest(_, x, y):
        shaped = F.relu(y).view(y.shape[0], y.size(1), -1)
        return shaped + y.detach().exp().sum()

    assert decided(rest) == ("input", "next is relu")


def test_hand_written_stochastic_depth_is_passthrough():
    def rest(_, x, y):
        keep = y.new_empty((y.shape[0],) + (1,) * (y.ndim - 1)).bernoulli_(0.9)
        return F.relu(x + y * keep)

    assert decided(rest) == ("input", "next is relu")


def test_before_an_unused_result_the_gradient_of_the_output_is_pruned():
    assert decided(lambda s, x, y: x) == ("output", "nothing follows")


def first_then(*rest):
    """The decision for a first convolution before some modules."""
    return decide(nn.Sequential(nn.Conv2d(3, 6, 3), *rest))["0"]


def test_a_first_convolution_has_no_input_gradient_to_prune():
    assert first_then(nn.ReLU()) == ("none", "first convolution, next is ReLU")
    assert first_then(nn.BatchNorm2d(6)) == ("output", "next is BatchNorm2d")


def test_a_convolution_is_first_if_no_parameter_precedes_it():
    class Prepared(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Buffer(torch.zeros(1))
            self.pool, self.a, self.b = nn.MaxPool2d(2), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            plain = self.pool(x - self.mean)
            return F.relu(self.a(plain)) + F.relu(self.b(plain * self.scale))

    decisions = decide(Prepared())
    assert decisions["a"].placement == "none" and decisions["b"].placement == "input"


def test_depthwise_convolutions_are_not_pruned():
    model = nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6))
    assert decide(model)["0"] == ("none", "depthwise")
    model = nn.Sequential(nn.Conv2d(6, 6, 3, groups=3), nn.BatchNorm2d(6))
    assert decide(model)["0"].placement == "output"
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6))  # one group of one channel
    assert decide(model)["0"].placement == "output"


class Shared(nn.Module):
    """Calls one convolution several times, each time before another module."""

    def __init__(self, *ends):
        super().__init__()
        self.c, self.ends = nn.Conv2d(3, 3, 1), nn.ModuleList(ends)

    def forward(self, x):
        for end in self.ends:
            x = end(self.c(x))
        return x


def test_a_shared_convolution_gets_a_placement_that_suits_all_its_calls():
    relu, norm = nn.ReLU(), nn.BatchNorm2d(3)
    assert decide(Shared(norm, norm))["c"] == ("output", "next is BatchNorm2d")
    assert decide(Shared(norm, relu))["c"] == (
        "output",
        "next is BatchNorm2d; called 2 times, elsewhere next is ReLU",
    )
    assert decide(Shared(relu, relu))["c"] == (
        "input",
        "next is ReLU; called 2 times, elsewhere first convolution, next is ReLU",
    )


def test_a_single_convolution_is_a_model():
    assert decide(nn.Conv2d(3, 3, 1)) == {"": ("output", "the model is this convolution")}


class Untraceable(nn.Module):
    """Branches on values, so that torch.fx cannot trace it."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x) if x.sum() > 0 else x


class MyNorm(nn.Module):
    def forward(self, x):
        return x


def test_registration_order_replaces_a_failed_trace_and_the_reason_says_so():
    layers = [
        nn.Conv2d(3, 4, 1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1),
        MyNorm(),
        nn.Conv2d(4, 4, 1, groups=4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
    ]
    decisions = decide(Untraceable(*layers))
    reasons = {
        name.removeprefix("layers."): d.reason.split("; ")[0] for name, d in decisions.items()
    }
    assert reasons == {
        "0": "first convolution, next is ReLU",
        "2": "next is ReLU",
        "5": "next is BatchNorm2d",
        "7": "next is MyNorm",
        "9": "depthwise",
        "11": "nothing follows",
    }
    placements = [d.placement for d in decisions.values()]
    assert placements == ["none", "input", "output", "output", "none", "output"]
    assert decisions["layers.2"].reason.startswith(
        "next is ReLU; registration order, as torch.fx cannot trace the model (TraceError: "
    )


def test_registration_order_decides_for_a_convolution_that_is_never_called():
    model = Net(
        lambda s, x, y: F.relu(y), spare=nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    )
    decisions = decide(model)
    assert decisions["c"] == ("input", "next is relu")
    assert decisions["spare.0"] == (
        "output",
        "next is BatchNorm2d; registration order, as the traced model does not call it",
    )


def test_a_model_is_traced_in_training_mode_and_not_changed():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.relu = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU()

        def train(self, mode=True):
            raise AssertionError("a model's own train() may do more than set flags")

        def forward(self, x):
            y = self.a(x)
            return self.relu(self.b(y)) if self.training else y

    model = Branches()
    model.training = False
    model.relu.eval()
    before = {name: dict(vars(m)) for name, m in model.named_modules()}
    assert decide(model)["b"] == ("input", "next is ReLU")
    assert {name: dict(vars(m)) for name, m in model.named_modules()} == before


def torchvision_model(name):
    """A model without storage, except for regnet, which computes its widths from tensor values."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return torchvision.models.get_model(name, **options)


# Numbers of convolutions by (placement, reason), counted by hand in the papers' tables or in
# torchvision's source.
BY_HAND = {
    # 8 basic blocks of 2, 3 projections and the stem, each with a BatchNorm of its own.
    "resnet18": {("output", "next is BatchNorm2d"): 20},
    "vgg11_bn": {("output", "next is BatchNorm2d"): 8},
    "vgg11": {("none", "first convolution, next is ReLU"): 1, ("input", "next is ReLU"): 7},
    "alexnet": {("none", "first convolution, next is ReLU"): 1, ("input", "next is ReLU"): 4},
    # Stem, 8 fire modules of 3, classifier.
    "squeezenet1_1": {
        ("none", "first convolution, next is ReLU"): 1,
        ("input", "next is ReLU"): 25,
    },
    # 17 blocks with one depthwise each; the first block does not expand; stem and head.
    "mobilenet_v2": {("output", "next is BatchNorm2d"): 35, ("none", "depthwise"): 17},
    # Pre-activation: the second convolution of a layer reaches a norm through concatenation.
    "densenet121": {("output", "next is BatchNorm2d"): 120},
    # 18 blocks of one depthwise convolution and linear layers; stem and 3 for downsampling.
    "convnext_tiny": {("none", "depthwise"): 18, ("output", "next is LayerNorm2d"): 4},
    "googlenet": {("output", "next is BatchNorm2d"): 59},
    "inception_v3": {("output", "next is BatchNorm2d"): 96},
    # 16 squeeze-and-excitation pairs, each reduce -> SiLU, expand -> Sigmoid.
    "efficientnet_b0": {
        ("output", "next is BatchNorm2d"): 33,
        ("none", "depthwise"): 16,
        ("output", "next is SiLU"): 16,
        ("output", "next is Sigmoid"): 16,
    },
    "regnet_y_400mf": {
        ("output", "next is BatchNorm2d"): 53,
        ("input", "next is ReLU"): 16,
        ("output", "next is Sigmoid"): 16,
    },
}


@pytest.mark.parametrize("name", BY_HAND)
def test_placements_of_torchvision_models_are_those_counted_by_hand(name):
    decisions = decide(torchvision_model(name))
    assert Counter(tuple(d) for d in decisions.values()) == BY_HAND[name]
