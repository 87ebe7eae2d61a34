"""pytest hooks of the gate. They parse and delegate; nothing is decided here."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.cells import MODES
from pillsnap.core.errors import PillsnapError
from pillsnap.gate.ledger import Ledger
from pillsnap.plugin.clustering import on_cluster
from pillsnap.plugin.collecting import FIXTURE, holds_gate_items
from pillsnap.plugin.ending import ending
from pillsnap.plugin.exitguard import noticed_exit
from pillsnap.plugin.item import GateItem
from pillsnap.plugin.options import named_modes
from pillsnap.plugin.reporter import Reporter
from pillsnap.plugin.scoreboard import Scoreboard
from pillsnap.plugin.spreading import auto_workers, deal, encodable, hand_out_one_by_one
from pillsnap.plugin.state import PROPERTY, STATE, begin, is_asked, is_worker, make_state
from pillsnap.plugin.stdout import keep_stdout
from pillsnap.plugin.verdicts import VerdictReport
from pillsnap.plugin.warnfilters import drop_errors, warnings_stay_warnings


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pillsnap", "export gate (each of the first four repeats)")
    add = group.addoption
    add(
        "--engine",
        action="append",
        help="of candidates: onnx (default), tensorrt, openvino, torch",
    )
    add("--provider", action="append", help="auto (default; may fall back), cpu, cuda, tensorrt")
    add("--precision", action="append", help="fp32 (default), fp16, int8")
    add("--int8-method", help="how int8 files are made: static, dynamic, auto, nncf")
    add("--stage", action="append", help="detection, classification (default: both)")
    # A path outside the project needs "=": pytest looks for its ini file beside separate paths.
    add("--config", metavar="PATH", help="--config=PATH, config file (also: PILLSNAP_CONFIG)")
    add(
        "--candidate",
        action="append",
        metavar="STAGE=PATH",
        help="verify this .onnx file instead of an export",
    )
    add("--layout", action="append", metavar="STAGE=NAME", help="how --candidate's file is read")
    add("--fresh-export", action="store_true", help="export again even if a matching file exists")
    add("--gate-strict", action="store_true", help="the sample must also certify the tolerance")
    add("--resume", action="store_true", help="go on with the same run where it was cut off")
    add(
        "--no-reference-cache",
        action="store_true",
        help="ask the reference again even where its answers are known",
    )
    add("--diagnose", action="store_true", help="diagnose every cell, not only breaches")
    add("--sensitivity", action="store_true", help="which layers to keep in float, fp16 and int8")
    add("--compare-calibration", action="store_true", help="with it: minmax, entropy, percentile")
    add(
        "--perf-budget",
        action="append",
        metavar="KEY=VALUE",
        help="the most that a figure may be, such as latency_p95_ms=40 (repeats; without workers)",
    )
    add("--against", metavar="PATH", help="compare with an earlier report, or a folder of them")
    add("--fail-on-regression", action="store_true", help="what got worse since then is exit 1")
    # Not --html: pytest-html has that.
    add("--no-html", action="store_true", help="write no page beside the report")
    add("--save-reference", metavar="DIR", help="write a golden bundle: inputs, outputs, manifest")
    add("--reference", metavar="DIR", help="verify --candidate against a golden bundle alone")
    add("--ray", metavar="ADDRESS", help="run shards on this Ray cluster; local: this machine")
    add("--threads", type=int, metavar="N", help="threads per process (default: cores / workers)")


@pytest.hookimpl(tryfirst=True)  # before pytest applies its filters, and so before pytest_configure
def pytest_cmdline_main(config: pytest.Config) -> None:
    if is_asked(config):
        drop_errors(config)


def pytest_configure(config: pytest.Config) -> None:
    for mode, samples in zip(MODES, ("a few", "class-balanced", "all"), strict=True):
        config.addinivalue_line("markers", f"{mode}: export gate over {samples} samples")
    config.addinivalue_line("markers", "proof: the gate's own mutation score (slow)")
    config.addinivalue_line("markers", "slow: takes minutes; not part of a plain run")
    if config.option.help or config.option.version:
        return
    try:
        state = make_state(config)
    except PillsnapError as error:
        raise pytest.UsageError(str(error)) from None
    if state is None:
        return
    config.stash[STATE] = state
    if not is_worker(config):
        keep_stdout(config)
        config.pluginmanager.register(Scoreboard(state.run.config), "pillsnap-scoreboard")
    if state.asked:
        hand_out_one_by_one(config)


@pytest.hookimpl(tryfirst=True)  # before xdist starts its workers, which must find the data
def pytest_sessionstart(session: pytest.Session) -> None:
    state = session.config.stash.get(STATE, None)
    if state is None or not state.run.config.demo or is_worker(session.config):
        return
    if state.run.selection.reference is not None:  # which needs no images
        return
    from pillsnap.demo.dataset import install

    try:
        install(state.run.config.exp_dir)
    except PillsnapError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker what must be the same in all of them."""
    state = node.config.stash.get(STATE, None)
    if state is not None:
        node.workerinput[PROPERTY] = {
            "tag": state.tag,
            "threads": state.run.threads,
            "run_dir": str(state.run.run_dir),
            "contended": state.run.contended,
            "resume": state.run.resume,
        }


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, Any]:
    """xdist's pipe refuses names that are not UTF-8, and any text of a report may show some."""
    return encodable((yield))


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """No more workers than the machine bears."""
    return auto_workers(config, (yield))


@pytest.hookimpl(trylast=True)  # what pytest leaves out need not be searched
def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a project's other tests where the gate alone was asked for."""
    state = config.stash.get(STATE, None)
    if state is None or not state.asked or holds_gate_items(collection_path, config):
        return None
    return True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if FIXTURE not in metafunc.fixturenames:
        return
    config = metafunc.config
    state = config.stash.get(STATE, None)
    items = [arg.partition("[")[2] for arg in config.args]  # of ids what says which shard
    modes = named_modes(config.option.markexpr, *items)
    with warnings_stay_warnings():
        shards = state.run.plan.shards() if state is not None else []
    shards = [shard for shard in shards if shard.cell.mode in modes]
    params = [
        pytest.param(shard, id=shard.id, marks=getattr(pytest.mark, shard.cell.mode))
        for shard in shards
    ]
    metafunc.parametrize(FIXTURE, params, indirect=True)


@pytest.fixture
def gate_item(request: pytest.FixtureRequest) -> GateItem:
    """One shard of one cell, parametrised by the options and the configuration."""
    state = request.config.stash[STATE]
    return GateItem(request.param, state.cluster or state.run, request.node)


@pytest.hookimpl(trylast=True)  # after -m has chosen the mode
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash.get(STATE, None)
    if state is None or not state.asked:
        return
    others = [item for item in items if FIXTURE not in getattr(item, "fixturenames", ())]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if FIXTURE in getattr(item, "fixturenames", ())]
    if is_worker(config):
        deal(items, config.workerinput["workercount"])  # type: ignore[attr-defined]


def pytest_collection_finish(session: pytest.Session) -> None:
    _expect(session.config, [item.nodeid for item in session.items])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    _expect(node.config, ids)


def _expect(config: pytest.Config, nodeids: Sequence[str]) -> None:
    state = config.stash.get(STATE, None)
    if state is None or is_worker(config) or config.option.collectonly or not nodeids:
        return
    if state.ledger is None:
        state.ledger = Ledger(state.run)
        config.pluginmanager.register(Reporter(state.ledger), "pillsnap-reporter")
    state.ledger.expect(nodeids)
    begin(state, config.option.markexpr)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    config = session.config
    state = config.stash.get(STATE, None)
    if state is not None and not is_worker(config) and not config.option.collectonly:
        state.running = True
        begin(state, config.option.markexpr)
        with on_cluster(session, state), noticed_exit(config):
            return (yield)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Judge before everybody else's sessionfinish, so that the terminal and --junitxml see the
    verdicts; conclude after it, when nobody changes the exit code any more."""
    config = session.config
    state = config.stash.get(STATE, None)
    if state is None or not state.running:
        return (yield)
    with ending(session, state):
        return (yield)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    return ("failed", "", report.word) if isinstance(report, VerdictReport) else None
