"""The plugin: `pytest_plugins = ["pillsnap.plugin"]`, or `-p pillsnap.plugin`."""

from __future__ import annotations

from pillsnap.plugin.header import pytest_report_header
from pillsnap.plugin.hooks import (
    gate_item,
    pytest_addoption,
    pytest_cmdline_main,
    pytest_collection_finish,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_configure_node,
    pytest_generate_tests,
    pytest_ignore_collect,
    pytest_report_teststatus,
    pytest_report_to_serializable,
    pytest_runtestloop,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_xdist_auto_num_workers,
    pytest_xdist_node_collection_finished,
)

__all__ = [
    "gate_item",
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_generate_tests",
    "pytest_ignore_collect",
    "pytest_report_header",
    "pytest_report_teststatus",
    "pytest_report_to_serializable",
    "pytest_runtestloop",
    "pytest_sessionfinish",
    "pytest_sessionstart",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_node_collection_finished",
]
