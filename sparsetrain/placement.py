"""Decides from a model's structure which gradient each convolution prunes; `convert` uses it."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import fx, nn

from sparsetrain.op_kinds import NORM_MODULES, RELU_MODULES, guessed_kind, node_kind
from sparsetrain.pruning import StateModule


class Decision(NamedTuple):
    """The gradient that one convolution prunes.

    Attributes:
        placement: ``"output"``, ``"input"`` or ``"none"``.
        reason: Why, in words that ``describe`` shows.
    """

    placement: str
    reason: str


class _Tracer(fx.Tracer):
    """Records a module whose kind is known as one node, and traces into all others."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (nn.modules.conv._ConvNd, StateModule, *RELU_MODULES, *NORM_MODULES)):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def decide(model: nn.Module) -> dict[str, Decision]:
    """Decides for every nn.Conv2d of the model, subclasses included.

    The operations after a convolution decide. Before a norm, whose backward pass makes the gradient
    dense, the output's gradient is pruned. Before a ReLU the output's gradient is sparse already,
    and the input's gradient is pruned.

    The model is traced with torch.fx in training mode. If that fails, or if the traced model does
    not call a convolution, the order of registration replaces the order of execution, and the
    reason says so. The model does not change.

    Returns:
        Decisions by the first name of each convolution in ``model.named_modules()``.
    """
    convs = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if "" in convs:
        return {"": _refine(convs[""], Decision("output", "the model is this convolution"))}
    decisions: dict[str, Decision] = {}
    try:
        with _as_in_training(model):
            graph = _Tracer().trace(model)
    except Exception as error:  # the model's forward may raise anything when it gets a proxy
        why = f"registration order, as torch.fx cannot trace the model ({_first_line(error)})"
    else:
        why = "registration order, as the traced model does not call it"
        decisions = _by_graph(model, graph)
    if len(decisions) < len(convs):
        ordered = _by_registration(model)
        for name in convs:
            if name not in decisions:
                placement, reason = ordered[name]
                decisions[name] = Decision(placement, f"{reason}; {why}")
    return {name: _refine(conv, decisions[name]) for name, conv in convs.items()}


@contextmanager
def _as_in_training(model: nn.Module) -> Iterator[None]:
    """Sets ``training = True`` in all modules, and restores all their attributes on exit.

    It does not call ``train()``, which a model may override to keep some layers frozen. It restores
    all attributes, because a forward pass may store its tensors, which are proxies during tracing.
    """
    before = [(module, dict(module.__dict__)) for module in model.modules()]
    values = [value for _, attributes in before for value in attributes.values()]
    # Lists also get their items back: a forward pass may append to them.
    lists = [(value, list(value)) for value in values if type(value) is list]
    try:
        for module, _ in before:
            module.training = True
        yield
    finally:
        for module, attributes in before:
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for value, items in lists:
            value[:] = items


def _refine(conv: nn.Conv2d, decision: Decision) -> Decision:
    if conv.groups > 1 and conv.groups == conv.in_channels:
        return Decision("none", "depthwise")
    return decision


def _by_graph(model: nn.Module, graph: fx.Graph) -> dict[str, Decision]:
    modules = dict(model.named_modules())
    calls: dict[str, list[Decision]] = {}
    trained: set[fx.Node] = set()  # nodes whose value depends on a parameter
    for node in graph.nodes:
        if _has_parameters(model, modules, node) or trained.intersection(node.all_input_nodes):
            trained.add(node)
        if node.op == "call_module" and isinstance(modules[str(node.target)], nn.Conv2d):
            first = not trained.intersection(node.all_input_nodes)
            calls.setdefault(str(node.target), []).append(_decide_call(modules, node, first))
    return {name: _merge(decisions) for name, decisions in calls.items()}


def _has_parameters(model: nn.Module, modules: dict[str, nn.Module], node: fx.Node) -> bool:
    if node.op == "call_module":
        return any(True for _ in modules[str(node.target)].parameters())
    if node.op == "get_attr":
        return isinstance(operator.attrgetter(str(node.target))(model), nn.Parameter)
    return False


def _decide_call(modules: dict[str, nn.Module], conv: fx.Node, first: bool) -> Decision:
    """Decides for one call, from the nearest operations after it that are not passthrough.

    Args:
        modules: The modules of the traced model by their names.
        conv: The node that calls the convolution.
        first: No operation before it has parameters, so that its input needs no gradient.
    """
    found: list[tuple[str, str]] = []
    queue, queued = list(conv.users), set(conv.users)
    while queue:
        node = queue.pop(0)
        kind, name = node_kind(modules, node)
        if kind == "passthrough":
            users = [user for user in node.users if user not in queued]
            queued.update(users)
            queue.extend(users)
        elif kind != "no_gradient":
            found.append((kind, name))
    return _decide(found, first)


def _decide(found: list[tuple[str, str]], first: bool) -> Decision:
    """Decides from the kinds and names of the operations after a convolution.

    The gradient of the output is the sum over all operations. One dense summand makes the sum
    dense, so a ReLU only decides if there is no operation of another kind.
    """
    for wanted in ("norm", "other"):
        for name in (name for kind, name in found if kind == wanted):
            return Decision("output", f"next is {name}")
    if not found:
        return Decision("output", "nothing follows")
    if first:
        return Decision("none", f"first convolution, next is {found[0][1]}")
    return Decision("input", f"next is {found[0][1]}")


def _merge(calls: Iterable[Decision]) -> Decision:
    """One decision for a convolution that is called several times.

    "output" is right before every operation. "input" is also right where the convolution is the
    first one, because a pruner returns an input that needs no gradient unchanged.
    """
    calls = list(calls)
    placements = {call.placement for call in calls}
    if len(placements) == 1:
        return calls[0]
    chosen = "output" if "output" in placements else "input"
    reason = next(call.reason for call in calls if call.placement == chosen)
    return Decision(
        chosen, f"{reason}; called {len(calls)} times, elsewhere {_others(calls, chosen)}"
    )


def _others(calls: list[Decision], chosen: str) -> str:
    return " and ".join(sorted({call.reason for call in calls if call.placement != chosen}))


def _by_registration(model: nn.Module) -> dict[str, Decision]:
    """Decides as if the leaf modules were a chain in the order of their registration."""
    leaves = [
        (name, m)
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d) or not any(True for _ in m.children())
    ]
    decisions: dict[str, Decision] = {}
    for i, (name, module) in enumerate(leaves):
        if isinstance(module, nn.Conv2d):
            kinds = (guessed_kind(m) for _, m in leaves[i + 1 :])
            found = next((found for found in kinds if found[0] != "passthrough"), None)
            decisions[name] = _decide([found] if found else [], first=not decisions)
    return decisions


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
