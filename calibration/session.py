"""ONNX Runtime sessions of calibration: networks of any precision on the CPU, any tensor as an output."""

from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import available_cpus

ONLY_ERRORS = 3  # log severity
Run = Callable[[Images], list[Any]]  # uint8 [n, S, S, 3] -> an array per output


def open_network(model: onnx.ModelProto, outputs: Sequence[str] = (), threads: int | None = None) -> Run:
    """Open a network.

    Args:
        model: any that ONNX Runtime's CPU provider runs.
        outputs: names of float32 tensors to return instead of the scores.
        threads: CPU threads at most; None takes every core.

    Raises:
        UsageError: ONNX Runtime is not installed.
        FailureError: it refuses the network.
    """
    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_ERRORS
    options.intra_op_num_threads = threads or available_cpus()
    if any(tensor.data_type == TensorProto.FLOAT8E4M3FN for tensor in model.graph.initializer):
        # ONNX Runtime 1.32 drops a Relu before an FP8 QuantizeLinear, as if FP8 had no negative values.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if outputs:
        extended = onnx.ModelProto()
        extended.CopyFrom(model)
        extended.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
        model = extended
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # the library's exceptions have no common ancestor
        raise FailureError(f"ONNX Runtime cannot load the network: {reason_of(error)}") from error
    names = list(outputs) or [output.name for output in model.graph.output]
    source = model.graph.input[0].name
    return lambda images: list(session.run(names, {source: images}))


def scores_of(run: Run, batches: Iterable[Images]) -> Scores:
    """The scores of all batches; float32 [n, L]."""
    return np.concatenate([run(images)[0] for images in batches])


def _import_onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise UsageError("calibration needs ONNX Runtime; run `pip install 'mlzsl[calibrate]'`.") from error
    module: ModuleType = onnxruntime
    return module
