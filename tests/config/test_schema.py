"""config.schema.json says of a config file what the parser says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import pillsnap.config
from pillsnap.config.figures import FIGURES
from pillsnap.config.load import load_config
from pillsnap.config.schema import build_schema, read_comments
from pillsnap.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
PATH = Path(pillsnap.config.__file__).with_name("config.schema.json")
SCHEMA = json.loads(PATH.read_text(encoding="utf-8"))


def takes(text: str) -> bool:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    content = yaml.safe_load(text)
    return not list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(content))


def test_the_committed_schema_is_the_one_of_the_models() -> None:
    assert build_schema() == SCHEMA, (
        "python -m pillsnap.config.schema > pillsnap/config/config.schema.json"
    )


def test_config_yaml_names_the_schema_for_editors_and_follows_it() -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    found = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert found is not None and (ROOT / found[1]).samefile(PATH)
    assert takes(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "export:\nserve:\nclassification: {mean: null}\n",
        "export: {opset: '${OP:-17}', dynamic_axes: '${YES}', out_dir: '${OUT}/x'}",
        "export: {compare: {mode: '${MODE}', tolerances: {strict: {mse_mean: '${OP}'}}}}",
        "runtime: {cuda: {cudnn_conv_use_max_workspace: 0}}",
        "runtime: {disabled_optimizers: [Pad_Fusion, ConvBNFusion]}",
        "classification: {std: [1, '${ONE}', 0.5]}",
        "export: {compare: {stratify_by: [], tolerances: {profile: int8, int8: {mse_mean: 3}}}}",
        "data: {val: {combo: {images: x, labels: null}}}",
        "data: {val: {combo: data.yaml}}",
        "detection: {checkpoint: runs/best.pt}",
    ],
)
def test_what_the_parser_takes_the_schema_takes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("paths: {exp_dir: out}\n" + text)
    load_config(path, {"YES": "true", "OUT": "o", "OP": "17", "MODE": "full", "ONE": "1"})
    assert takes(path.read_text())


BAD = (
    "[]",
    "paths: {exp_dir: ''}",
    "paths: {exp_dir: 3}",
    "paths: {}",
    "paths: null",
    "demo: 1",
    "demo: 'true'",
    "demmo: true",
    "source: x",
    "data: {val: {combo: {labels: x}}}",
    "data: {val: {combo: [x]}}",
    "data: {val: {combo: 3}}",
    "data: {val: {combo: ''}}",
    "detection: {model: 11}",
    "detection: {model: null}",
    "detection: {num_classes: 0}",
    "detection: {num_classes: 1.5}",
    "detection: {num_classes: '7'}",
    "classification: {num_classes: 1000001}",
    "classification: {mean: [0.5, 0.5]}",
    "classification: {mean: [0.5, 0.5, 127]}",
    "classification: {std: 1}",
    "classification: {interpolation: cubic}",
    "classification: {crop_pct: true}",
    "export: {opset: 23}",
    "export: {exporter: onnx}",
    "export: {input_shape: {detection: [1, 3, 640]}}",
    "export: {input_shape: {detection: [1, 3, 640, 640, 1]}}",
    "export: {postprocess: {nms: {conf_threshold: 1.1}}}",
    "export: {quantize: {nodes_to_exclude: [1]}}",
    "export: {compare: {stratify_by: [classes]}}",
    "export: {compare: {hardness_bins: [0, x]}}",
    "export: {compare: {tolerances: {profile: loose}}}",
    "export: {compare: {tolerances: {strict: {mse_mean: -1}}}}",
    "export: {compare: {tolerances: {strict: {mse: 1}}}}",
    "export: {compare: {tolerances: {int8: {map_delta: 1.5}}}}",
    "runtime: {graph_optimization_level: ALL}",
    "runtime: {disabled_optimizers: [Pad_Fusions]}",
    "runtime: {disabled_optimizers: Pad_Fusion}",
    "runtime: {cuda: {cudnn_conv_use_max_workspace: true}}",
    "runtime: {cuda: {use_tf32: 1}}",
    "runtime: {tensorrt: {trt_fp16_enable: 1}}",
    "pipeline: {mode: both}",
    "serve: {provider: vulkan}",
    "serve: {model_dirs: models}",
    "serve: {load_timeout_s: 0.5}",
)


@pytest.mark.parametrize("text", BAD)
def test_what_the_parser_refuses_the_schema_refuses(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text if text.startswith(("paths", "[")) else f"paths: {{exp_dir: x}}\n{text}")
    with pytest.raises(ConfigError):
        load_config(path, {})
    assert not takes(path.read_text())


def test_every_key_is_described_and_has_its_default() -> None:
    def keys(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        for name, field in section["properties"].items():
            yield above + name, field
            inner = field.get("anyOf", [field])[0].get("$ref", "").rpartition("/")[2]
            if inner:
                yield from keys(SCHEMA["$defs"][inner], f"{above}{name}.")

    found = dict(keys(SCHEMA))
    for key, _, comment in read_comments():
        limit = re.match(r"export\.compare\.tolerances\.\w+\.\w+", key)
        assert limit or found[key].get("description", "") == comment, key
        assert not limit or "null: not judged" in found[key]["description"]
        default = comment.partition("Default: ")[2]
        assert not default or "default" in found[key], key
    assert found.keys() == {key for key, _, _ in read_comments()}


def test_figures_that_share_a_tolerance_share_its_limits() -> None:
    limits = {figure.limited_by: (figure.most, figure.limits) for figure in FIGURES}
    assert all(limits[each.limited_by] == (each.most, each.limits) for each in FIGURES)


def test_a_figure_that_is_added_is_a_key_with_its_limits(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("paths: {exp_dir: x}\nexport: {compare: {tolerances: {int8: {blur: 0.5}}}}\n")
    code = f"""
import json
from pathlib import Path
from pillsnap.config import figures
figures.FIGURES += (
    figures.Figure("blur", "detection", "how blurred", most=1.0, limits={{"strict": 0.25}}),
)
from pillsnap.config.load import load_config
from pillsnap.config.schema import build_schema
found = load_config(Path({str(path)!r}), {{}}).compare.tolerances
schema = build_schema()["$defs"]["Tolerances"]["properties"]["blur"]
print(json.dumps([found.strict.blur, found.fp16.blur, found.int8.blur, schema]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    strict, fp16, int8, schema = json.loads(done.stdout)
    assert (strict, fp16, int8) == (0.25, None, 0.5)
    assert schema["anyOf"][0] == {"maximum": 1.0, "minimum": 0.0, "type": "number"}
    assert schema["description"] == "how blurred. null: not judged"
