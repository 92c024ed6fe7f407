"""Rules: the module, its JetPack, and how fast it may run."""

from __future__ import annotations

from typing import Iterator, Tuple

from edge.doctor.finding import Finding, absent, fault, ok, warning
from edge.health.board import Board

# The first whose TensorRT has what the engines need (8.5).
_OLDEST_L4T = (35, 2)
# Xavier's last; newer ones are for Orin and Thor.
_LAST_XAVIER_MAJOR = 35


def judge_board(board: Board, is_jetson: bool) -> Iterator[Finding]:
    """Of the files alone."""
    if not is_jetson:
        yield absent("module", f"no Jetson{f' ({board.cpu})' if board.cpu else ''}")
        return
    yield _module(board)
    yield _jetpack(board)
    yield _power_mode(board)
    yield _clocks(board)


def l4t_release(board: Board) -> Tuple[int, int]:
    """Major and minor number of L4T; zeros where it is unknown."""
    numbers = [int(part) for part in (board.l4t or "").split(".")[:2] if part.isdecimal()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _module(board: Board) -> Finding:
    if board.module is not None:
        return ok("module", board.module)
    return warning(
        "module",
        "a Jetson that does not say which: limits known of its module are not kept",
        "in a container: -v /tmp/nv_jetson_model:/tmp/nv_jetson_model, a copy of "
        "/proc/device-tree/model (edge's own unit brings it)",
    )


def _jetpack(board: Board) -> Finding:
    if board.l4t is None:
        return warning(
            "JetPack",
            "no /etc/nv_tegra_release",
            "in a container: -v /etc/nv_tegra_release:/etc/nv_tegra_release",
        )
    name = f"L4T {board.l4t}"
    release = l4t_release(board)
    if release < _OLDEST_L4T:
        return fault("JetPack", f"{name} is older than JetPack 5.1", "flash JetPack 5.1 or newer")
    if "Xavier" in (board.module or "") and release[0] > _LAST_XAVIER_MAJOR:
        return fault("JetPack", f"{name} is not for Xavier", "flash JetPack 5.1, its last")
    if board.jetpack is None:
        return ok("JetPack", f"{name}, of a JetPack that is not known here")
    return ok("JetPack", f"{board.jetpack} ({name})")


def _power_mode(board: Board) -> Finding:
    if board.power_mode is None:
        return absent("power mode", "nvpmodel keeps none that can be read (containers: normal)")
    if "2CORE" in board.power_mode:
        return warning(
            "power mode",
            f"{board.power_mode} leaves two CPU cores on, few for decoding and drawing",
            "sudo nvpmodel -m 8 on a Xavier NX (20 W, six cores); nvpmodel -p --verbose lists all",
        )
    return ok("power mode", board.power_mode)


def _clocks(board: Board) -> Finding:
    gpu, cpu = board.gpu_clocks, board.cpu_clocks
    if gpu is None or cpu is None:
        return absent("jetson_clocks", "the clocks' limits cannot be read")
    if gpu.is_locked and cpu.is_locked:
        return ok("jetson_clocks", f"on: GPU at {gpu.highest_mhz} MHz, CPU at {cpu.highest_mhz}")
    return ok(
        "jetson_clocks",
        f"off: GPU {gpu.lowest_mhz} to {gpu.highest_mhz} MHz by its load (`sudo jetson_clocks`: "
        "steadier latency, more heat)",
    )
