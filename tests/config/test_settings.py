"""The dataclasses of config.yaml, the file that documents them, and what wins over what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from pillsnap.config.load import ENV_NAMES, find_config, load_config, read_environment
from pillsnap.config.schema import read_comments
from pillsnap.config.settings import Compare, Config, Paths, config_sha256
from pillsnap.config.tolerances import Profiles, Tolerances
from pillsnap.core.errors import ConfigError
from pillsnap.infer.choice import VARIABLES

ROOT = Path(__file__).parents[2]


def load(folder: Path, text: str = "", **environ: str) -> Config:
    path = folder / "config.yaml"
    path.write_text("paths: {exp_dir: out}\n" + text, encoding="utf-8")
    return load_config(path, environ)


def leaves(cls: Any, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(cls)
    for item in fields(cls):
        if item.metadata.get("internal"):
            continue
        hint = hints[item.name]
        nested = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        if nested is None:
            yield prefix + item.name
        else:
            yield from leaves(nested, f"{prefix}{item.name}.")


def test_config_yaml_has_every_key_and_no_other() -> None:
    sections = {key for key, value, _ in read_comments() if not value}
    assert {key for key, _, _ in read_comments()} - sections == set(leaves(Config))


def test_every_key_of_config_yaml_says_its_default() -> None:
    for key, value, comment in read_comments():
        if value and not key.startswith("export.compare.tolerances."):
            assert re.search(r"(Default: [^ ]|Required( within combo)?\.$)", comment), key


def test_documented_defaults_are_the_defaults(tmp_path: Path) -> None:
    lines = ["paths: {exp_dir: out}"]
    for key, value, comment in read_comments():
        if key.startswith(("paths", "data.val.combo")):
            continue
        name = key.rsplit(".", 1)[-1]
        default = comment.partition("Default: ")[2] or value
        lines.append("  " * key.count(".") + f"{name}: {default if value else ''}")
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(lines))
    expected = Config(paths=Paths(exp_dir=tmp_path / "out"), source=path)
    assert load_config(path, {}) == expected
    assert load(tmp_path) == expected


def test_the_demo_config_of_the_repository() -> None:
    config = load_config(ROOT / "config.yaml", {})
    assert config.demo is True
    assert config.exp_dir == ROOT / "exp"
    assert config.out_dir == ROOT / "exp/export"
    assert config.data.val.single == ROOT / "exp/demo_data/val/single"
    assert config.data.val.combo is not None
    assert config.data.val.combo.labels == ROOT / "exp/demo_data/val/combo/labels"
    assert config.compare.per_class_k == 20
    assert config.compare.hard_per_bin == 8
    assert config.compare.tolerances == Profiles()


def test_a_tolerance_profile_in_part_keeps_its_other_limits(tmp_path: Path) -> None:
    config = load(tmp_path, "export: {compare: {tolerances: {strict: {mse_mean: 1e-5}}}}")
    assert config.compare.tolerances.strict == replace(Profiles().strict, mse_mean=1e-5)
    assert config.compare.tolerances.strict != Tolerances(mse_mean=1e-5)


def test_opset_from_environment_over_env_file_over_config(tmp_path: Path) -> None:
    assert load(tmp_path, "export: {opset: 15}").export.opset == 15
    (tmp_path / ".env").write_text("OPSET=16\nOUT=from_file\n")
    assert load(tmp_path, "export: {opset: 15}").export.opset == 16
    assert load(tmp_path, "export: {opset: 15}", OPSET="18").export.opset == 18
    text = "export: {out_dir: '${OUT}'}"
    assert load(tmp_path, text).out_dir == tmp_path / "from_file"
    assert load(tmp_path, text, OUT="from_environment").out_dir == tmp_path / "from_environment"


def test_the_real_environment_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSET", "19")
    path = tmp_path / "config.yaml"
    path.write_text("paths: {exp_dir: out}\n")
    assert load_config(path).export.opset == 19


@pytest.mark.parametrize("text", ["12", "23", "x", "1.7e1", "-17", "²", "1 7"])
def test_a_wrong_opset_in_the_environment(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="environment variable OPSET") as caught:
        load(tmp_path, OPSET=text)
    assert "a whole number from 13 to 22" in str(caught.value)


@pytest.mark.parametrize("form", [" {} ", "{}\n", "{}\r\n", '"{}"', "'{}'\n", ' "{}" # pinned'])
@pytest.mark.parametrize("name", ["OPSET", "MODEL_PATH", "API_KEY", "OUT"])
def test_the_environment_is_read_as_the_env_file_is(tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("paths: {exp_dir: '${OUT:-x}'}")
    given = form.format("18")
    (tmp_path / ".env").write_text(f"{name}={given}")
    from_file = read_environment(path, {})
    assert from_file[name] == "18"
    assert read_environment(path, {name: given, "OTHER": given}) == {**from_file, "OTHER": given}
    assert load_config(path, {"OPSET": given}).export.opset == 18


@pytest.mark.parametrize("value", ['"secret', "'secret\n", '"secret" more'])
def test_broken_quotes_of_the_environment_are_named_without_their_secret(
    tmp_path: Path, value: str
) -> None:
    with pytest.raises(ConfigError, match="quotes are broken") as caught:
        load(tmp_path, API_KEY=value)
    assert "environment variable API_KEY" in str(caught.value)
    assert "secret" not in str(caught.value)
    load(tmp_path, OTHER_PROGRAMS_KEY=value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("export: {compare: {hardness_bins: [0.5]}}", "export.compare.hardness_bins"),
        ("export: {compare: {hardness_bins: [0, 0.5, 0.5]}}", "export.compare.hardness_bins"),
        ("export: {compare: {hardness_bins: [1, 0]}}", "export.compare.hardness_bins"),
        ("export: {input_shape: {detection: [1, 1, 64, 64]}}", "export.input_shape.detection"),
        ("export: {input_shape: {classification: [1, 3, 96, 64]}}", "input_shape.classification"),
    ],
)
def test_rules_between_values(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("key", "good", "wrong"),
    [
        ("hard_per_bin", [0, 1, 8, 100_000], ["-1", "1.5", "null", "all"]),
        ("hard_pool", [1, 5000, 10**7], ["0", "-1", "1.5", "null"]),
        ("runs_kept", [1, 20], ["0", "-1", "null", "1.5"]),
        ("reference_cache_gib", [0, 0.5, 20, 1e4], ["-1", "-0.001", ".inf", ".nan", "null", "20G"]),
        ("min_classes_required", [True, False], ["1", "null", "'true'", "maybe"]),
    ],
)
def test_what_the_keys_of_scale_take(
    tmp_path: Path, key: str, good: list[Any], wrong: list[str]
) -> None:
    for value in good:
        config = load(tmp_path, f"export: {{compare: {{{key}: {str(value).lower()}}}}}")
        assert getattr(config.compare, key) == value
        assert type(getattr(config.compare, key)) is type(getattr(Compare(), key))
    for text in wrong:
        with pytest.raises(ConfigError, match=rf"config\.yaml:2: export\.compare\.{key}"):
            load(tmp_path, f"export: {{compare: {{{key}: {text}}}}}")


def test_the_hash_of_a_config_is_the_same_wherever_it_is_read(tmp_path: Path) -> None:
    text = "export: {compare: {seed: 3}}"
    first, again = load(tmp_path, text), load(tmp_path, text)
    assert re.fullmatch("[0-9a-f]{64}", config_sha256(first))
    assert config_sha256(first) == config_sha256(again)
    # However it is written.
    assert config_sha256(load(tmp_path, f"# a comment\n{text}\nclassification:\n")) == (
        config_sha256(first)
    )


def test_the_same_project_in_two_folders_has_one_hash(tmp_path: Path) -> None:
    text = (
        "data: {val: {single: photos, combo: {images: ../shared/scenes}}, "
        "class_map: /data/map.json}\nexport: {out_dir: ./out}\nserve: {model_dirs: [models]}"
    )
    hashes = set()
    for folder in ("a", "b/c"):
        (tmp_path / folder).mkdir(parents=True)
        hashes.add(config_sha256(load(tmp_path / folder, text)))
    assert len(hashes) == 1
    assert config_sha256(load(tmp_path, text.replace("../shared", "shared"))) not in hashes
    assert config_sha256(load(tmp_path, text.replace("/data/map", "/other/map"))) not in hashes


def test_how_samples_are_cut_is_no_part_of_the_hash_of_a_config(tmp_path: Path) -> None:
    hashes = {
        config_sha256(load(tmp_path, f"export: {{compare: {{shard_size: {size}}}}}"))
        for size in (1, 16, 64, 2000)
    }
    assert hashes == {config_sha256(load(tmp_path))}


OTHER_VALUES: dict[str, Any] = {
    "mode": "full",
    "stratify_by": (),
    "hardness_bins": (0.0, 1.0),
    "min_classes_required": True,
    "reference_device": "cuda",
    "expected_top1": 0.9,
    "expected_map": 0.8,
    "tolerances": Profiles(profile="int8"),
}


@pytest.mark.parametrize(
    "key",
    sorted(
        {item.name for item in fields(Compare)} - {"shard_size", "reference_cache_gib", "runs_kept"}
    ),
)
def test_everything_else_of_the_comparison_is_part_of_the_hash(tmp_path: Path, key: str) -> None:
    config = load(tmp_path)
    value = OTHER_VALUES[key] if key in OTHER_VALUES else getattr(config.compare, key) + 1
    compare = replace(config.compare, **{key: value})
    changed = replace(config, export=replace(config.export, compare=compare))
    assert config_sha256(changed) != config_sha256(config)


def test_models_and_data_are_part_of_the_hash(tmp_path: Path) -> None:
    texts = (
        "",
        "classification: {num_classes: 7}",
        "detection: {model: yolo11n}",
        "export: {opset: 18}",
        "export: {postprocess: {nms: {iou_threshold: 0.7}}}",
        "data: {val: {single: photos}}",
        "export: {compare: {tolerances: {int8: {mse_mean: 0.5}}}}",
    )
    assert len({config_sha256(load(tmp_path, text)) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "text",
    [
        "mean: [127.5, 127.5, 127.5]",
        "mean: [-0.1, 0.5, 0.5]",
        "std: [58.4, 57.1, 57.4]",
        "std: [0, 1, 1]",
        "crop_pct: 87.5",
        "crop_mode: stretch",
    ],
)
def test_preprocessing_off_its_scale_is_refused(tmp_path: Path, text: str) -> None:
    key = text.split(":")[0]
    with pytest.raises(ConfigError, match=f"classification.{key}"):
        load(tmp_path, f"classification: {{{text}}}")


def test_a_detector_may_be_wider_than_high(tmp_path: Path) -> None:
    config = load(tmp_path, "export: {input_shape: {detection: [2, 3, 320, 640]}}")
    assert config.input_shape("detection") == (2, 3, 320, 640)


def test_find_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option, variable = tmp_path / "a.yaml", tmp_path / "b.yaml"
    for path in (option, variable, tmp_path / "config.yaml"):
        path.touch()
    environ = {"PILLSNAP_CONFIG": str(variable)}
    assert find_config(None, {"PILLSNAP_CONFIG": f'"{variable}"\n'}, tmp_path) == variable
    assert find_config(str(option), environ, tmp_path) == option
    assert find_config(None, environ, tmp_path) == variable
    assert find_config(None, {}, tmp_path) == tmp_path / "config.yaml"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_config("~/a.yaml", {}, tmp_path) == option


@pytest.mark.parametrize(
    "key",
    ["export: {out_dir: %s}", "serve: {model_dirs: [%s]}", "data: {val: {combo: {images: %s}}}"],
)
@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 200] * 25)], ids=["name", "path"])
def test_a_path_that_is_too_long_is_named(tmp_path: Path, key: str, name: str) -> None:
    with pytest.raises(ConfigError, match=r"(?s)config\.yaml.*the path is too long"):
        load(tmp_path, key % name)


def test_find_config_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config") as caught:
        find_config("nowhere.yaml", {"PILLSNAP_CONFIG": "x"}, tmp_path)
    assert "nowhere.yaml" in str(caught.value)
    with pytest.raises(ConfigError, match="no such config file"):
        find_config("x" * 300, {}, tmp_path)
    with pytest.raises(ConfigError, match="PILLSNAP_CONFIG"):
        find_config(None, {"PILLSNAP_CONFIG": "~nosuchuser/x.yaml"}, tmp_path)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path))):
        find_config(None, {}, tmp_path)


def test_env_example_names_only_variables_that_are_read() -> None:
    names = set(re.findall(r"^# ([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    models = {*VARIABLES.values(), "MODEL_PATH"}
    assert names == {"PILLSNAP_CONFIG", "OPSET", "CONFIG", "API_KEY", *models}
    assert names == {"PILLSNAP_CONFIG", "CONFIG", *ENV_NAMES}


@pytest.mark.parametrize("name", [*ENV_NAMES, "EXP"])
def test_only_broken_lines_of_variables_that_are_used_stop(tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text('OTHER="1" 2\n')
    text = "export: {out_dir: '${EXP:-x}'}"
    assert load(tmp_path, text).out_dir == tmp_path / "x"
    (tmp_path / ".env").write_text(f'{name}="1" 2\n')
    with pytest.raises(ConfigError, match=r"\.env:1"):
        load(tmp_path, text)


def test_a_path_in_place_of_scenes_is_their_images(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("paths: {exp_dir: x}\ndata: {val: {combo: sub/data.yaml}}\n")
    combo = load_config(path, {}).data.val.combo
    assert combo is not None and combo.images == tmp_path / "sub/data.yaml"
    assert combo.is_data_yaml and combo.is_labelled
    path.write_text(
        "paths: {exp_dir: x}\ndata: {val: {combo: {images: data.yaml, labels: labels}}}\n"
    )
    with pytest.raises(ConfigError, match=r"a data\.yaml says itself where its labels are"):
        load_config(path, {})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("classification: {mean: FILL}", "a list of 3, each a finite number"),
        ("classification: {backbone: FILL}", "text"),
        ("data: {class_map: FILL}", "a path, or null"),
        ("data: {val: {combo: FILL}}", "a mapping with the keys images"),
        ("classification: {mean:\n FILL  # FILL: [0, 0, 0]\n}", "[0, 0, 0]"),
    ],
)
def test_a_value_that_is_still_to_be_written_is_named(
    tmp_path: Path, line: str, expected: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"paths: {{exp_dir: x}}\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    text = " ".join(str(caught.value).split())
    row = 2 + line.partition("FILL")[0].count("\n")
    assert f"config.yaml:{row}: {line.partition(':')[0]}." in text
    assert "is to be filled in" in text and f"expected: {expected}" in text
