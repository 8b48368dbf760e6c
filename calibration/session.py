"""ONNX Runtime sessions of calibration: networks of any precision on the CPU, any tensor as an output."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from mlzsl.cli.errors import FailureError, reason_of
from mlzsl.cli.optional import import_optional
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import available_cpus
from mlzsl.engines.onnxruntime import library_errors, start_session

Run = Callable[[Images], list[Any]]  # uint8 [n, S, S, 3] -> an array per output


def open_network(model: onnx.ModelProto, outputs: Sequence[str] = (), threads: int | None = None) -> Run:
    """Open a network.

    Args:
        model: any that ONNX Runtime's CPU provider runs.
        outputs: names of float32 tensors to return instead of the scores.
        threads: CPU threads at most; None takes every core.

    Raises:
        UsageError: ONNX Runtime is not installed.
        FailureError: it cannot load the network.
    """
    missing = "calibration needs ONNX Runtime; run `pip install 'mlzsl[calibrate]'`."
    onnxruntime = import_optional("onnxruntime", missing)
    fp8 = any(tensor.data_type == TensorProto.FLOAT8E4M3FN for tensor in model.graph.initializer)
    if outputs:
        extended = onnx.ModelProto()
        extended.CopyFrom(model)
        extended.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
        model = extended
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
