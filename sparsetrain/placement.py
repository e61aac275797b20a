"""Where pruning goes: reads a model's structure and decides on a gradient per convolution."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import fx, nn

from sparsetrain.op_kinds import NORM_MODULES, RELU_MODULES, guessed_role, node_role
from sparsetrain.pruning import StateModule


class Decision(NamedTuple):
    """placement: "output", "input" or "none"; reason: why, in words."""

    placement: str
    reason: str


class _Tracer(fx.Tracer):
    """Records modules with a known role as one node; opens everything else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (nn.modules.conv._ConvNd, StateModule, *RELU_MODULES, *NORM_MODULES)):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def decide(model: nn.Module) -> dict[str, Decision]:
    """A decision for every nn.Conv2d of `model`, subclasses included, by its first name.

    The model is traced with torch.fx as it trains; where that fails, or a convolution is not
    reached, the order in which modules were registered stands in for the order of execution, and
    the reason says so. Neither parameters, modes nor attributes of the model change.
    """
    convs = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if "" in convs:
        return {"": _refine(convs[""], Decision("output", "the model is this convolution"))}
    decisions: dict[str, Decision] = {}
    try:
        with _as_in_training(model):
            graph = _Tracer().trace(model)
    except Exception as error:  # whatever the model's own forward raises when it meets a proxy
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
    """Training mode inside; behind it every module has the attributes that it had before.

    Flags, not train(): a model may override that to keep some layers frozen. Attributes, because a
    forward may note its tensors, which are proxies while it is traced.
    """
    before = [(module, dict(module.__dict__)) for module in model.modules()]
    values = [value for _, attributes in before for value in attributes.values()]
    lists = [(value, list(value)) for value in values if type(value) is list]
    try:
        for module, _ in before:
            module.training = True
        yield
    finally:
        for module, attributes in before:
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for noted, items in lists:
            noted[:] = items


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
            calls.setdefault(str(node.target), []).append(_behind(modules, node, first))
    return {name: _agree(decisions) for name, decisions in calls.items()}


def _has_parameters(model: nn.Module, modules: dict[str, nn.Module], node: fx.Node) -> bool:
    if node.op == "call_module":
        return any(True for _ in modules[str(node.target)].parameters())
    if node.op == "get_attr":
        return isinstance(operator.attrgetter(str(node.target))(model), nn.Parameter)
    return False


def _behind(modules: dict[str, nn.Module], conv: fx.Node, first: bool) -> Decision:
    """Looks from a convolution's call to the next operations that say what its gradient is like."""
    found: list[tuple[str, str]] = []
    queue, seen = list(conv.users), set(conv.users)
    while queue:
        node = queue.pop(0)
        role, name = node_role(modules, node)
        if role == "open":
            fresh = [user for user in node.users if user not in seen]
            seen.update(fresh)
            queue.extend(fresh)
        elif role != "dead":
            found.append((role, name))
    return _judge(found, first)


def _judge(found: list[tuple[str, str]], first: bool) -> Decision:
    """One dense summand makes the gradient dense: a ReLU decides when nothing else is found."""
    for role in ("norm", "other"):
        for name in (name for r, name in found if r == role):
            return Decision("output", f"next is {name}")
    if not found:
        return Decision("output", "nothing behind it")
    if first:
        return Decision("none", f"first convolution, next is {found[0][1]}")
    return Decision("input", f"next is {found[0][1]}")


def _agree(calls: Iterable[Decision]) -> Decision:
    """One decision for a convolution that is called several times.

    "output" serves every surrounding; "input" serves a call as first convolution too, because a
    pruner passes on what needs no gradient.
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
    """The same rules on the sequence of leaf modules, a chain as far as anyone can tell."""
    leaves = [
        (name, m)
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d) or not any(True for _ in m.children())
    ]
    decisions: dict[str, Decision] = {}
    for i, (name, module) in enumerate(leaves):
        if isinstance(module, nn.Conv2d):
            roles = (guessed_role(m) for _, m in leaves[i + 1 :])
            found = next(((role, shown) for role, shown in roles if role != "open"), None)
            decisions[name] = _judge([found] if found else [], first=not decisions)
    return decisions


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
