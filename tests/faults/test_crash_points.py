"""Killed anywhere, by whatever dies: the right image on every host, one record, and never nothing running."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest

from guard.demo.fleet import Fleet
from playbooks.parts import points as names_of_steps
from playbooks.parts import preparing, swap

from . import matrix
from .crash import Ground, Survived, survive
from .points import GUARD, MODULE, POINTS, SHIM, Cell, Same, Victim

Ask = Callable[[Cell], Survived]


def test_every_step_that_the_module_writes_down_is_a_point() -> None:
    nodes = [node for part in (preparing, swap) for node in ast.walk(ast.parse(Path(part.__file__).read_text()))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    named = [call.args[0] for call in calls if call.func.attr == "step"]  # type: ignore[attr-defined]
    named += [call.args[-1] for call in calls if call.func.attr == "create"]  # type: ignore[attr-defined]
    names = {getattr(names_of_steps, node.id) for node in named if isinstance(node, ast.Name) and node.id != "step"}
    assert len(names) > 15
    assert names == set(MODULE)


def test_every_crossing_is_run_or_is_the_same_as_one_that_is_run() -> None:
    run = set(matrix.cells())
    for point, victim in itertools.product(POINTS, Victim):
        what = matrix.crossing(point, victim)
        if isinstance(what, Same):
            assert what.cell in run, (point, victim, what)
    for point in (*GUARD, *SHIM, *MODULE):
        assert any(cell.point == point for cell in run), f"nobody is killed at {point}"


@pytest.fixture(scope="module")
def ask(
    fleet: Fleet, registry: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Ask]:
    """Runs every wanted cell, two at a time on different hosts, and hands out their ends."""
    folder = tmp_path_factory.mktemp("crash")
    pairs: SimpleQueue[Ground] = SimpleQueue()
    for two in (fleet.hosts[:2], fleet.hosts[2:]):
        pairs.put(Ground(tuple(two), fleet.inventory, folder, registry))

    def on_a_free_pair(cell: Cell) -> Survived:
        pair = pairs.get()
        try:
            return survive(cell, pair)
        finally:
            pairs.put(pair)

    wanted = [item.callspec.params["cell"] for item in request.session.items if "cell" in _parameters(item)]
    ends: dict[Cell, Future[Survived]] = {}
    pool = ThreadPoolExecutor(2)
    try:
        ends = {cell: pool.submit(on_a_free_pair, cell) for cell in wanted}
        yield lambda cell: ends[cell].result()
    finally:
        pool.shutdown(cancel_futures=True)
        done = {c: e for c, e in ends.items() if e.done() and not e.cancelled()}
        lines = matrix.table({c: None if e.exception() else e.result() for c, e in done.items()})
        folder.mkdir(parents=True, exist_ok=True)  # pytest clears old folders away, also those of a run beside it
        (folder / "matrix.txt").write_text("\n".join(lines) + "\n")
        request.config.stash[matrix.MATRIX] = [*lines, f"also in {folder / 'matrix.txt'}"]


def _parameters(item: pytest.Item) -> dict[str, object]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        found = matrix.cells(metafunc.config.getoption("crash_points") == "all")
        metafunc.parametrize("cell", found, ids=str)


def test_it_is_survived(cell: Cell, ask: Ask) -> None:
    ask(cell)
