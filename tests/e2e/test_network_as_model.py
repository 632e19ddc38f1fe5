"""The code of docs/mlflow.md that logs and registers an exported network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

PAGE = Path(__file__).parents[2] / "docs" / "mlflow.md"
SERVE = """
import json
served = mlflow.pyfunc.load_model("models:/crack-segmenter/1")
ports = served.metadata.signature.inputs, served.metadata.signature.outputs
answer = served.predict(numpy.zeros((2, 3, 32, 48), "float32"))["logits"]
print(json.dumps([[[port.input_names()[0], port.inputs[0].shape] for port in ports], answer.shape]))
"""


@pytest.mark.slow
def test_the_documented_code_registers_the_network_with_its_signature(tmp_path: Path) -> None:
    shape = ["n", 3, "height", "width"]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["logits"])], "network", ports[:1], ports[1:])
    export = tmp_path / "reports" / "STUDY" / "export"
    export.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, export / "model.onnx")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code + SERVE], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    any_size = [-1, 3, -1, -1]
    signature = [["images", any_size], ["logits", any_size]]
    assert json.loads(done.stdout.splitlines()[-1]) == [signature, [2, 3, 32, 48]]
