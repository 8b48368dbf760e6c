"""An ONNX network read for surgery: who writes each tensor, who reads it, and what it is worth where it is constant."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from mlzsl.cli.errors import UsageError

Node = onnx.NodeProto
Array = npt.NDArray[np.generic]


class Network:
    """A view of a model's graph; it is never changed, new models are made from it.

    Attributes:
        model: the ONNX model.
        constants: its initializers by name.
        writer: the node that writes a tensor; graph inputs and initializers have none.
        readers: the nodes that read a tensor, in the graph's order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = _with_names(model)
        self.constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.writer = {output: node for node in self.model.graph.node for output in node.output}
        self.readers: dict[str, list[Node]] = defaultdict(list)
        for node in self.model.graph.node:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)

    @property
    def nodes(self) -> list[Node]:
        """The nodes, each after those that write what it reads."""
        return list(self.model.graph.node)

    def array(self, name: str) -> Array:
        """The value of an initializer."""
        value: Array = numpy_helper.to_array(self.constants[name])
        return value

    def past_relu(self, tensor: str) -> str:
        """The tensor itself, or the output of the Relu that alone reads it: what a kernel of both would write."""
        readers = self.readers[tensor]
        return readers[0].output[0] if len(readers) == 1 and readers[0].op_type == "Relu" else tensor

    def before_relu(self, tensor: str) -> Node | None:
        """The node that computes a tensor, seen through a Relu that alone reads it."""
        node = self.writer.get(tensor)
        if node is not None and node.op_type == "Relu" and len(self.readers[node.input[0]]) == 1:
            return self.writer.get(node.input[0])
        return node

    def scores_are_written_by(self) -> Node:
        """The node that writes the network's one output."""
        return self.writer[self.model.graph.output[0].name]


def load_network(path: Path) -> Network:
    """Parse a model file that `read_manifest` has accepted.

    Raises:
        UsageError: the onnx package cannot parse it.
    """
    try:
        return Network(onnx.load(path, load_external_data=False))
    except Exception as error:  # protobuf's own errors have no common ancestor
        raise UsageError(f"{path}: cannot be parsed as ONNX ({error}); re-export it with mlzsl-export.") from error


def _with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy where every node has a name of its own, as ONNX does not ask for: the name of what it writes."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    known = Counter(node.name for node in named.graph.node)
    for node in named.graph.node:
        if not node.name or known[node.name] > 1:
            node.name = node.output[0]
    return named


def rebuilt(network: Network, nodes: Iterable[Node], constants: Iterable[onnx.TensorProto]) -> onnx.ModelProto:
    """The model with other nodes and initializers, those of the old ones dropped that nothing reads.

    What is known of the shapes of tensors inside is dropped with them: they may have another type now.
    """
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    nodes = list(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in constants if tensor.name in read]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    return model


def reading(node: Node, names: Sequence[str]) -> Node:
    """A copy of a node that reads other tensors."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = names
    return copy
