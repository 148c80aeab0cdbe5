# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run one ONNX file with several engines, on one thread of the CPU.

Each engine has a function that takes an ONNX file of fixed sizes and a folder for its own files. It
returns a function from the input, (1, C, H, W) float32, to the list of the outputs in the order of
the file, or raises ImportError if a package is missing.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from mmface.deploy.runtime.session import open_session
from mmface.weights.onnx_repair import free_sides, load_onnx, repair

Array = NDArray[np.float32]
Run = Callable[[Array], list[Array]]


def fix_size(path: Path, out: Path, size: Sequence[int] | None = None) -> tuple[int, ...]:
    """Write the file with fixed sizes, so that all engines get the same one.

    Old files are repaired as our runtime repairs them.

    Args:
        path: ONNX file with one input (N, C, H, W).
        out: File to write.
        size: Height and width. Default: those of the file.

    Returns:
        Shape of the input.

    Raises:
        FileNotFoundError: ``path`` does not exist.
        ValueError: It is not an ONNX file, or its size is dynamic and ``size`` is missing, or the
            operators need another size.
    """
    model = repair(load_onnx(path))
    sides = model.graph.input[0].type.tensor_type.shape.dim
    shape = [side.dim_value for side in sides]
    if size is not None and list(size) != shape[2:]:
        obstacle = free_sides(model)
        if obstacle:
            raise ValueError(f'{path}: size {list(size)}: {obstacle} needs the sides {shape[2:]}')
        shape[2:] = size
    if min(shape[1:]) < 1:
        raise ValueError(f'{path} takes any size: give one, expected height and width')
    shape[0] = 1
    for side, value in zip(sides, shape, strict=True):
        side.dim_value = value
    onnx.save(model, str(out))
    return tuple(shape)


def _onnxruntime(path: Path, folder: Path) -> Run:
    session = open_session(path, ['CPUExecutionProvider'], threads=1)
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})


def _openvino(path: Path, folder: Path) -> Run:
    import openvino

    # Without the hint, some processors compute in bfloat16.
    options = {'INFERENCE_NUM_THREADS': 1, 'INFERENCE_PRECISION_HINT': 'f32'}
    network = openvino.Core().compile_model(str(path), 'CPU', options)
    return lambda x: [np.asarray(value) for value in network(x).values()]


def _opencv(path: Path, folder: Path) -> Run:
    network = cv2.dnn.readNetFromONNX(str(path))
    names = [output.name for output in onnx.load(str(path)).graph.output]

    def run(x: Array) -> list[Array]:
        network.setInput(x)
        return list(network.forward(names))

    return run


def _ncnn(path: Path, folder: Path) -> Run:
    import ncnn

    found = importlib.util.find_spec('pnnx')
    if found is None or not found.submodule_search_locations:
        raise ImportError("No module named 'pnnx'")
    copy = folder / 'ncnn.onnx'
    copy.write_bytes(path.read_bytes())
    # Its command of that name only starts this program, after it has imported torch.
    converter = Path(found.submodule_search_locations[0]) / 'pnnx'
    sides = onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim
    shape = ','.join(str(side.dim_value) for side in sides)
    _convert([str(converter), copy.name, f'inputshape=[{shape}]', 'fp16=0'], folder)
    network = ncnn.Net()
    network.opt.num_threads = 1
    network.load_param(str(folder / 'ncnn.ncnn.param'))
    network.load_model(str(folder / 'ncnn.ncnn.bin'))
    count = len(network.output_names())

    def run(x: Array) -> list[Array]:
        with network.create_extractor() as extractor:
            extractor.input('in0', ncnn.Mat(x[0]).clone())  # the matrix does not keep x alive
            return [np.array(extractor.extract(f'out{i}')[1])[None] for i in range(count)]

    return run


def _mnn(path: Path, folder: Path) -> Run:
    import MNN

    target = folder / 'mnn.mnn'
    # Not MNN.tools.mnnconvert: importing that runs pip in this environment.
    code = 'import sys, MNN, _tools; _tools.mnnconvert(sys.argv)'
    options = ['-f', 'ONNX', '--modelFile', str(path), '--MNNModel', str(target), '--bizCode', 'x']
    _convert([sys.executable, '-c', code, *options], folder)
    names = [output.name for output in onnx.load(str(path)).graph.output]
    network = MNN.Interpreter(str(target))
    session = network.createSession({'numThread': 1, 'backend': 'CPU'})
    source = network.getSessionInput(session)
    outputs = [network.getSessionOutput(session, name) for name in names]

    def run(x: Array) -> list[Array]:
        source.copyFrom(
            MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe)
        )
        network.runSession(session)
        return [_mnn_array(MNN, output) for output in outputs]

    return run


def _mnn_array(package: Any, output: Any) -> Array:
    host = package.Tensor(
        output.getShape(),
        package.Halide_Type_Float,
        np.empty(output.getShape(), np.float32),
        package.Tensor_DimensionType_Caffe,
    )
    output.copyToHostTensor(host)
    return np.array(host.getNumpyData(), np.float32)


def _convert(command: list[str], folder: Path) -> None:
    """Run the converter of an engine.

    Raises:
        ValueError: It failed.
    """
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        last = ' '.join(done.stdout.split()[-40:])
        raise ValueError(f'{command[0]} ended with status {done.returncode}: {last}')


#: Each engine with its distribution and the function that opens a file.
ENGINES: dict[str, tuple[str, Callable[[Path, Path], Run]]] = {
    'onnxruntime': ('onnxruntime', _onnxruntime),
    'openvino': ('openvino', _openvino),
    'opencv': ('opencv-python', _opencv),
    'ncnn': ('ncnn', _ncnn),
    'mnn': ('MNN', _mnn),
}


def open_engine(name: str, path: Path, folder: Path) -> Run:
    """Open an ONNX file of fixed sizes with an engine.

    Args:
        name: A key of ``ENGINES``.
        path: The file.
        folder: Folder for the files of the engine.

    Returns:
        A function from the input to the list of the outputs.

    Raises:
        ValueError: A package of the engine is missing, or it does not take the file.
    """
    try:
        return ENGINES[name][1](path, folder)
    except ImportError as error:
        raise ValueError(f'{name}: {error}; pip install "mmface[peers]"') from error


def engine_version(name: str) -> str:
    """Return the version of an engine's package."""
    return cv2.__version__ if name == 'opencv' else version(ENGINES[name][0])
