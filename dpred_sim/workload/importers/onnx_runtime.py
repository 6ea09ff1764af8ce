"""onnxruntime sessions: load a model, run it, take tensors and shapes out. Needs the extra [onnx]."""

from __future__ import annotations

import ctypes
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dpred_sim.errors import InputError, MissingExtra

SHAPE = ".shape_of"
"""Ending of the tensor that holds the shape of another."""

LARGEST = 1 << 31
"""Bytes that a model has not: protobuf counts them with 31 bits."""

Feeds = Mapping[str, NDArray[Any]]


class RefusedByRuntime(InputError):
    """onnxruntime does not load a model, or does not run it on the given input."""


def import_onnx() -> tuple[Any, Any]:
    """The modules (onnx, onnxruntime); raises MissingExtra."""
    try:
        import onnx
        import onnx.inliner
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnx", "reading an ONNX model") from error
    return onnx, onnxruntime


class Runner:
    """A folded model in a session that gives the tensors `outputs` of the graph, without optimisations.

    `shapes_of` are tensors whose shapes it gives: they are gone from memory as soon as the model has no use
    for them, where onnxruntime keeps an output to the end. `types` are the element types of the outputs as
    onnxruntime writes them. Raises InputError when onnxruntime cannot load the model.
    """

    def __init__(
        self, path: Path, proto: Any, outputs: Collection[str], shapes_of: Sequence[str] = ()
    ) -> None:
        onnx, _ = import_onnx()
        self.path = path
        nodes, before = len(proto.graph.node), list(proto.graph.output)
        before = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in before]
        del proto.graph.output[:]
        # Inferred shapes are not always those that onnxruntime computes (ceil_mode), nor always known.
        proto.graph.node.extend(
            onnx.helper.make_node("Shape", [name], [f"{name}{SHAPE}"]) for name in shapes_of
        )
        if not any(opset.domain in ("", "ai.onnx") for opset in proto.opset_import):
            proto.opset_import.append(onnx.helper.make_opsetid("", 17))
        proto.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name)
            for name in (*outputs, *(f"{name}{SHAPE}" for name in shapes_of))
        )
        self._shapes_of = shapes_of
        try:
            self._session = plain_session(path, proto)
        finally:
            del proto.graph.node[nodes:]
            del proto.graph.output[:]
            proto.graph.output.extend(before)
        self.types = {output.name: output.type for output in self._session.get_outputs()}
        self.inputs = {value.name for value in self._session.get_inputs()}

    def run(self, outputs: Sequence[str], feed: Feeds) -> list[NDArray[Any]]:
        """Values of the tensors `outputs`; raises InputError when the model fails."""
        return run_session(self.path, self._session, outputs, feed, self.inputs)

    def shapes(self, feed: Feeds) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors `shapes_of`."""
        found = self.run([f"{name}{SHAPE}" for name in self._shapes_of], feed)
        return {name: tuple(map(int, shape)) for name, shape in zip(self._shapes_of, found, strict=True)}


def run_session(
    path: Path, session: Any, outputs: Sequence[str], feed: Feeds, inputs: Collection[str] | None = None
) -> list[NDArray[Any]]:
    """One run of a session; a tensor that is fed can be asked for as well.

    `inputs` are the names that the session reads, where `feed` has others besides.
    """
    wanted = [name for name in dict.fromkeys(outputs) if name not in feed]
    try:
        fed = {name: array for name, array in feed.items() if inputs is None or name in inputs}
        found = dict(zip(wanted, session.run(wanted, fed), strict=True)) if wanted else {}
    except Exception as error:
        raise RefusedByRuntime(f"onnxruntime cannot run the model: {first_line(error)}", file=path) from error
    return [feed[name] if name in feed else found[name] for name in outputs]


def plain_session(path: Path, proto: Any) -> Any:
    """A session without optimisations: every tensor of the graph keeps its meaning."""
    _, ort = import_onnx()
    with tempfile.TemporaryDirectory() as folder:
        # Through a file: onnxruntime would keep a second copy of the bytes.
        file = Path(folder) / "model.onnx"
        write_model(path, proto, file)
        session = open_session(path, file, ort.GraphOptimizationLevel.ORT_DISABLE_ALL, None)
    trim()
    return session


def write_model(path: Path, proto: Any, file: Path) -> None:
    """Write a model for onnxruntime; raises InputError for one that is too large for a file.

    Constants are written one by one: messages that follow each other in a file are read as one, and
    protobuf needs three times the memory of what it writes.
    """
    try:
        with file.open("wb") as stream:
            stream.write(without_constants(proto).SerializeToString())
            for tensor in proto.graph.initializer:
                part = type(proto)()
                part.graph.initializer.append(tensor)
                stream.write(part.SerializeToString())
            size = stream.tell()
    except Exception as error:
        # protobuf has an EncodeError of its own, whose class depends on its version.
        raise InputError(
            f"the model cannot be handed to onnxruntime: {first_line(error)}", file=path
        ) from error
    if size >= LARGEST:
        raise InputError(
            "the model is too large for onnxruntime", file=path, found=f"{size} bytes", allowed="2 GiB"
        )


def without_constants(proto: Any) -> Any:
    """A copy of a model without its initialisers."""
    copy = type(proto)()
    for source, target in ((proto, copy), (proto.graph, copy.graph)):
        for field, value in source.ListFields():
            if field.name in ("graph", "initializer"):
                continue
            if isinstance(value, str | bytes | int):
                setattr(target, field.name, value)
            else:
                getattr(target, field.name).MergeFrom(value)
    return copy


def open_session(path: Path, file: Path, level: Any, save_to: Path | None) -> Any:
    """A session of a model file that writes what it optimised to `save_to`. Raises InputError."""
    _, ort = import_onnx()
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    # Shapes as soon as they are known, so that their tensors can go.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.use_deterministic_compute = True
    # Returns memory as tensors are done with; it costs no time that can be measured.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Else weights between quantised activations are quantised as well.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    trim()
    try:
        return ort.InferenceSession(
            str(file),
            options,
            providers=["CPUExecutionProvider"],
            # Two layers that compute the same are two layers.
            disabled_optimizers=["CommonSubexpressionElimination"],
            # It would print, and try the same again.
            enable_fallback=0,
        )
    except Exception as error:
        raise RefusedByRuntime(
            f"onnxruntime cannot load the model: {first_line(error)}", file=path
        ) from error


def trim() -> None:
    """Give freed memory back: glibc keeps the megabytes that loading the model before left behind."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed:|Non-zero status code returned while |"
    r"/onnxruntime_src/\S+ \S+ "
)
"""What onnxruntime's messages hold besides what is wrong: codes, temporary files, places in its source."""


def first_line(error: Exception) -> str:
    """What an error of onnxruntime or protobuf says, on one line."""
    text = " ".join(_NOISE.sub("", " ".join(str(error).split())).split())
    return text if len(text) <= 240 else text[:237] + "..."
