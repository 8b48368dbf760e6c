"""The ONNX network that calibration edits: loaded from a model file, rebuilt with other nodes, run, written."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.optional import import_optional
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores, read_model_file, write_model_file
from mlzsl.engines.engine import available_cpus
from mlzsl.engines.onnxruntime import library_errors, start_session

Node = onnx.NodeProto
Array = npt.NDArray[np.generic]
Run = Callable[[Images], list[Any]]  # uint8 [n, S, S, 3] -> an array per output


class Network:
    """A read-only view of a model's graph; `rebuilt` makes a new model from it.

    Attributes:
        model: the ONNX model, every node with a unique name.
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
        """The nodes in topological order."""
        return list(self.model.graph.node)

    def array(self, name: str) -> Array:
        """The value of an initializer."""
        return numpy_helper.to_array(self.constants[name])

    def past_activation(self, tensor: str) -> str:
        """What a fused kernel writes: the output of the Relu or Clip that alone reads the tensor, else the tensor."""
        readers = self.readers[tensor]
        return readers[0].output[0] if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip") else tensor


def load_network(path: Path) -> Network:
    """Parse a model file that `read_manifest` has accepted.

    Raises:
        UsageError: the onnx package cannot parse it.
    """
    try:
        return Network(onnx.load(path, load_external_data=False))
    except Exception as error:  # protobuf's own errors have no common ancestor
        raise UsageError(
            f"{path}: cannot be parsed as ONNX ({reason_of(error)}); re-export it with mlzsl-export."
        ) from error


def write_network(
    path: Path,
    made: onnx.ModelProto,
    model: Path,
    precision: str,
    quantized_for: str | None,
    sources: dict[str, str],
) -> Manifest:
    """Check a network and write it with the labels, preprocessing and golden sample of the fp32 model file.

    Args:
        path: the model file to write.
        made: the network.
        model: the fp32 model file; the manifest names it by its `network_sha256`, which certificates do not change.
        precision, quantized_for: fields of the manifest.
        sources: SHA-256 by name, added to the manifest's.
    """
    onnx.checker.check_model(made, full_check=True)
    manifest, golden = read_model_file(model)
    changed = replace(
        manifest,
        precision=precision,
        quantized_for=quantized_for,
        sources=manifest.sources | {"fp32": manifest.network_sha256} | sources,
    )
    return write_model_file(path, made.SerializeToString(), changed, golden.images, golden.scores)


def open_network(model: onnx.ModelProto, outputs: Sequence[str] = (), threads: int | None = None) -> Run:
    """Open a network with ONNX Runtime on the CPU.

    Args:
        model: any that ONNX Runtime's CPU provider runs.
        outputs: names of float32 tensors to return instead of the scores.
        threads: CPU threads at most; None takes every core.

    Raises:
        UsageError: ONNX Runtime is not installed.
        FailureError: it cannot load the network.
    """
    onnxruntime = import_optional(
        "onnxruntime", "calibration needs ONNX Runtime; run `pip install 'mlzsl[calibrate]'`."
    )
    fp8 = any(tensor.data_type == TensorProto.FLOAT8E4M3FN for tensor in model.graph.initializer)
    if outputs:
        model = deepcopy(model)
        model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    try:
        session = start_session(onnxruntime, model.SerializeToString(), threads or available_cpus(), fp8=fp8)
    except library_errors(onnxruntime) as error:
        raise FailureError(f"ONNX Runtime cannot load the network: {reason_of(error)}.") from error
    names = list(outputs) or [output.name for output in model.graph.output]
    source = model.graph.input[0].name
    return lambda images: list(session.run(names, {source: images}))


def scores_of(run: Run, batches: Iterable[Images]) -> Scores:
    """The scores of all batches; float32 [n, L]."""
    return np.concatenate([run(images)[0] for images in batches])


def rebuilt(network: Network, nodes: Iterable[Node], constants: Iterable[onnx.TensorProto]) -> onnx.ModelProto:
    """The model with other nodes and initializers, unused initializers left out.

    Recorded shapes and types of intermediate tensors are dropped, as they may have changed.
    """
    model = deepcopy(network.model)
    nodes = list(nodes)
    read = {name for node in nodes for name in node.input}
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(tensor for tensor in constants if tensor.name in read)
    return model


def reading(node: Node, names: Sequence[str]) -> Node:
    """A copy of a node with other inputs."""
    copy = deepcopy(node)
    copy.input[:] = names
    return copy


def _with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a unique name: its own, or that of its output where it is missing or shared."""
    named = deepcopy(model)
    known = Counter(node.name for node in named.graph.node)
    for node in named.graph.node:
        if not node.name or known[node.name] > 1:
            node.name = node.output[0]
    return named
