"""Convert a trained model to a `Network`, layer by layer, as traced by torch.fx.

The functional graph of torch.export, which wouldn't require keeping track of storage, doesn't always match the model.
In torch 2.13, torch.export treats dropout in eval mode as a copy, and misses that an in-place operation on the result
also changes the source.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from halobench.core.errors import Found, RefusedError, SpecError, describe_error
from halobench.models.piecewise import maps
from halobench.models.piecewise.network import Network
from halobench.models.preprocessing import Normalise, Resize

KINDS = (
    "linear layers, convolutions, batch norm, ReLU, average and max pooling, resizing, flatten, addition and dropout"
)
VIEWS = ("view", "reshape", torch.reshape)
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
# Functions and methods, mapped to the equivalent layers.
FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys((F.relu, torch.relu, "relu"), nn.ReLU),
    **dict.fromkeys((F.relu_, torch.relu_, "relu_"), lambda: nn.ReLU(inplace=True)),
    **dict.fromkeys((torch.flatten, "flatten"), lambda start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim)),
    F.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.dropout: lambda p=0.5, training=True, inplace=False: nn.Dropout().train(training),
}


def network_of(model: nn.Module, shape: Sequence[int]) -> Network:
    """Return a model in eval mode as a `Network` for samples of `shape`; meta tensors may stand in for its weights."""
    model = nn.Sequential(model) if type(model) in LAYERS else model  # else torch.fx would trace into a single layer
    try:
        graph = _Tracer(model, shape).trace(model)
    except Exception as error:  # a forward pass may raise anything for stand-ins
        what = f"torch.fx can't trace {type(model).__name__} ({describe_error(error)}); it must consist of {KINDS} only"
        raise RefusedError("model", what) from None
    with torch.no_grad():
        return _Writer(model, shape).write(graph)


class _Tracer(fx.Tracer):
    """A tracer that doesn't trace into known layers, and that knows the shapes of values for one sample.

    Shapes must be known because many networks check their input's shape, or flatten it by ``x.view(x.size(0), -1)``.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int]):
        super().__init__()
        self.sample = torch.empty(1, *shape, device="meta")
        self.shapes = _output_shapes(model, shape)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in LAYERS or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Shaped(node, self)

    def create_proxy(self, *arguments: Any, **keywords: Any) -> fx.Proxy:
        proxy = super().create_proxy(*arguments, **keywords)
        # A value that can't be computed stays unknown, as do values computed from it.
        with contextlib.suppress(Exception):
            proxy.node.meta["value"] = self._value(proxy.node)
        return proxy

    def _value(self, node: fx.Node) -> Any:
        """Return the value of a node for one sample, as a tensor without data."""
        if node.op == "placeholder":
            return self.sample
        if node.op == "call_module":
            return torch.empty(next(self.shapes[str(node.target)]), device="meta")
        if node.op == "get_attr":
            return dict([*self.root.named_parameters(), *self.root.named_buffers()])[str(node.target)].to("meta")
        first, *others = fx.node.map_arg(node.args, lambda each: each.meta["value"])
        call = getattr(first, node.target) if isinstance(node.target, str) else functools.partial(node.target, first)
        return call(*others, **fx.node.map_arg(node.kwargs, lambda each: each.meta["value"]))


class _Shaped(fx.Proxy):
    """A stand-in for a tensor, which knows its shape for one sample if the tracer does."""

    @property
    def shape(self) -> Any:
        return self.node.meta["value"].shape if "value" in self.node.meta else self.__getattr__("shape")

    def size(self, *axis: int) -> Any:
        return self.node.meta["value"].size(*axis) if "value" in self.node.meta else self.__getattr__("size")(*axis)


def _output_shapes(model: nn.Module, shape: Sequence[int]) -> dict[str, Iterator[Sequence[int]]]:
    """Return the shapes of the outputs that each module returns for one sample, in the order of its calls."""
    shapes: dict[str, list[Sequence[int]]] = {name: [] for name, _ in model.named_modules()}
    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: shapes[name].append(output.shape))
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            model(torch.zeros(1, *shape, device=next((p.device for p in model.parameters()), None)))
    except Exception:  # the shapes recorded before the error remain
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return {name: iter(each) for name, each in shapes.items()}


class _Writer:
    """Converts a traced graph of layers to a `Network`."""

    def __init__(self, model: nn.Module, shape: Sequence[int]):
        self.modules = dict(model.named_modules())
        self.network = Network(shape, next((p.device for p in model.parameters()), torch.device("cpu")))
        self.places: dict[fx.Node, int] = {}
        self.storage: dict[int, int] = {}  # the step whose storage another shares, as a view or in-place result
        self.written: dict[int, int | None] = {}  # the last in-place result by storage (None for a later step)
        self.pending: set[fx.Node] = set()  # rectifiers to be moved behind the max pooling that follows

    def write(self, graph: fx.Graph) -> Network:
        """Return the network with the steps of all nodes; report unknown layers before unknown operations."""
        for node in graph.nodes:
            if node.op == "call_module" and type(self.modules[str(node.target)]) not in LAYERS:
                self._refuse(type(self.modules[str(node.target)]).__name__, node.target)
        for node in graph.nodes:
            if node.op == "placeholder":
                self.places[node] = self._refuse("a second input", node.name) if self.places else 0
            elif node.op != "output":
                self.places[node] = self._step(node)
        result = node.args[0]
        last = self._place(result) if isinstance(result, fx.Node) else -1
        if last != len(self.network.steps) - 1 or len(self.network.steps[last].shape) != 1:
            raise RefusedError(
                "model", f"the last layer, {result}, doesn't return logits (n, k); end the model with a linear layer"
            )
        return self.network

    def _place(self, node: Any) -> int:
        """Return the step that holds the value of a node, which an in-place operation may have changed."""
        place, steps = self.places[node], self.network.steps
        latest = self.written.get(self.storage.get(place, place), place)
        if node in self.pending or (latest is not None and place >= latest):
            return place
        if latest is not None and steps[latest].shape == steps[place].shape:
            return latest
        return self._refuse("a value read after an in-place operation changed its storage", node.name)

    def _write(self, before: int, after: int | None) -> None:
        """Record that an in-place operation replaced the value of step `before` with that of step `after`."""
        root = self.storage.get(before, before)
        self.written[root] = after
        if after is not None:
            self.storage[after] = root

    def _step(self, node: fx.Node) -> int:
        """Append the steps of a node; return the index of the step that holds its value."""
        if node.op in ("call_function", "call_method") and node.target in ADDITIONS:
            return self._add(node)
        layer = self._layer(node)
        if layer._forward_hooks or layer._forward_pre_hooks:
            self._refuse(f"{type(layer).__name__} with a forward hook", node.target)
        if type(layer) not in LAYERS:
            self._refuse(type(layer).__name__, node.target)
        before = self._place(node.args[0])
        if isinstance(layer, nn.ReLU):
            return self._rectify(node, before, layer.inplace)
        place = LAYERS[type(layer)](self.network, before, layer)
        if place is None:
            return self._refuse(str(layer), node.target)
        if isinstance(layer, nn.Flatten) and place != before:
            self.storage[place] = self.storage.get(before, before)
        if node.args[0] in self.pending:
            place = self.network.append("relu", place)
        return place

    def _layer(self, node: fx.Node) -> Any:
        """Return the layer that a node applies to the value of a single other node."""
        one = len(node.all_input_nodes) == 1 and node.args and node.args[0] is node.all_input_nodes[0]
        if one and node.op == "call_module":
            return self.modules[str(node.target)]
        name = getattr(node.target, "__name__", str(node.target))
        if one and node.target in VIEWS and tuple(getattr(node.meta.get("value"), "shape", ()))[:-1] == (1,):
            return nn.Flatten()
        if not one or node.target not in FUNCTIONS:
            self._refuse(name, node.name)
        try:
            return FUNCTIONS[node.target](*node.args[1:], **node.kwargs)
        except TypeError:
            return self._refuse(name, node.name)

    def _add(self, node: fx.Node) -> int:
        """Append the sum of two steps; return its index."""
        if len(node.args) != 2 or node.kwargs or not all(isinstance(each, fx.Node) for each in node.args):
            self._refuse("add", node.name)
        first, second = (self._place(each) for each in node.args)
        if self.network.steps[first].shape != self.network.steps[second].shape:
            self._refuse("addition of different shapes", node.name)
        place = self.network.append("add", first, second)
        if node.target in (operator.iadd, "add_"):
            self._write(first, place)
        return place

    def _rectify(self, node: fx.Node, before: int, in_place: bool) -> int:
        """Append a rectifier, or defer it to the max pooling that follows if nothing else reads it.

        A rectifier commutes with max pooling, since it is monotone, and has fewer inputs after the pooling.
        """
        readers = [*node.users]
        alone = len(readers) == 1 and len(node.all_input_nodes[0].users) == 1
        if alone and readers[0].op == "call_module" and type(self.modules[str(readers[0].target)]) is nn.MaxPool2d:
            self.pending.add(node)
            if in_place:
                self._write(before, None)
            return before
        place = self.network.append("relu", before)
        if in_place:
            self._write(before, place)
        return place

    def _refuse(self, kind: str, where: object) -> Any:
        raise SpecError("model", Found(f"{kind} ({where})"), f"only {KINDS}")


def _convolution(network: Network, place: int, layer: nn.Conv2d) -> int | None:
    images = len(network.steps[place].shape) == 3
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str) or not images:
        return None
    return network.append("affine", place, affine=maps.convolution(layer, network.steps[place].shape))


def _normalise(network: Network, place: int, layer: Normalise) -> int:
    channels, outputs = network.steps[place].shape[0], layer.scale.numel()
    same = nn.Conv2d(channels, outputs, 1, groups=channels, device=layer.scale.device)
    same.weight, same.bias = nn.Parameter(layer.scale.view(-1, 1, 1, 1)), nn.Parameter(layer.offset.flatten())
    return network.append("affine", place, affine=maps.convolution(same, network.steps[place].shape))


def _norm(network: Network, place: int, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> int | None:
    if layer.running_mean is None or layer.training:
        return None
    return network.append("affine", place, affine=maps.normalisation(layer, network.steps[place].shape))


def _flatten(network: Network, place: int, layer: nn.Flatten) -> int | None:
    shape = network.steps[place].shape
    if layer.start_dim != 1 or layer.end_dim not in (-1, len(shape)):
        return None
    if len(shape) == 1:
        return place
    return network.append("affine", place, affine=maps.reshaped(shape))


def _identity(network: Network, place: int, layer: nn.Module) -> int | None:
    return None if layer.training else place


def _average(network: Network, place: int, layer: nn.AvgPool2d | nn.AdaptiveAvgPool2d | nn.ZeroPad2d) -> int:
    return network.append("affine", place, affine=maps.without_weights(layer, network.steps[place].shape))


def _maximum(network: Network, place: int, layer: nn.MaxPool2d) -> int | None:
    size, stride, padding, dilation = (
        tuple(each) if isinstance(each, Sequence) else (each, each)
        for each in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    if dilation != (1, 1) or layer.ceil_mode or layer.return_indices or len(network.steps[place].shape) != 3:
        return None
    if padding != (0, 0):
        # A window at the border contains the outermost pixel, so padding with copies of it doesn't change the maximum.
        (rows, columns), shape = padding, network.steps[place].shape
        copied = maps.without_weights(lambda x: F.pad(x, (columns, columns, rows, rows), mode="replicate"), shape)
        place = network.append("affine", place, affine=copied)
    for axis in (2, 1):
        place = network.maximum(place, axis, size[axis - 1], stride[axis - 1])
    return place


LAYERS: dict[type, Callable[[Network, int, Any], int | None]] = {
    nn.Linear: lambda network, place, layer: network.append("affine", place, affine=maps.dense(layer)),
    nn.Conv2d: _convolution,
    Normalise: _normalise,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), _norm),
    nn.ReLU: _identity,  # appended by _Writer itself
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d), _identity),
    nn.Flatten: _flatten,
    **dict.fromkeys((nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.ZeroPad2d), _average),
    Resize: lambda network, place, layer: network.append(
        "affine", place, affine=maps.resized(layer, network.steps[place].shape)
    ),
    nn.MaxPool2d: _maximum,
}
