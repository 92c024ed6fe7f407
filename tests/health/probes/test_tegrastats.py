from __future__ import annotations

import math
from typing import Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.health.probes.tegrastats import parse
from tests.health.probes import tegrastats_lines as said
from tests.health.probes.tegrastats_lines import LINES


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_no_word_of_a_real_line_is_unknown(line: str) -> None:
    parsed = parse(line)
    assert parsed.unknown == 0
    assert {"ram_used_mb", "cpu_load_pct", "temp_cpu_c", "power_total_mw"} & set(parsed.numbers)


def test_all_that_root_is_told_on_a_xavier_nx() -> None:
    cores_pct, cores_mhz = (23, 17, 16, 13, 23, 10), (1397, 1192, 1190, 1190, 1190, 1190)
    assert parse(said.XAVIER_NX_R35_ROOT).numbers == {
        "ram_used_mb": 3168,
        "ram_total_mb": 6851,
        "ram_lfb_mb": 4,
        "ram_lfb_blocks": 2,
        "swap_used_mb": 161,
        "swap_total_mb": 3426,
        **{f"cpu_{n}_load_pct": pct for n, pct in enumerate(cores_pct)},
        **{f"cpu_{n}_freq_mhz": mhz for n, mhz in enumerate(cores_mhz)},
        "cpu_load_pct": 17,
        "emc_load_pct": 2,
        "emc_freq_mhz": 204,
        "gpu_load_pct": 0,
        "gpu_freq_mhz": 114,
        "vic_freq_mhz": 115,
        "ape_freq_mhz": 150,
        "temp_aux_c": 45,
        "temp_cpu_c": 46.5,
        "temp_thermal_c": 45.6,
        "temp_ao_c": 45,
        "temp_gpu_c": 45.5,
        "power_vdd_in_mw": 2763,
        "power_vdd_cpu_gpu_cv_mw": 650,
        "power_vdd_soc_mw": 650,
        "power_total_mw": 2763,
    }


SOME: Dict[str, Tuple[str, Dict[str, float]]] = {
    "rails without unit": (said.XAVIER_NX_R32, {"power_vdd_in_mw": 6140, "power_total_mw": 6140}),
    "cores that are off": (said.AGX_XAVIER_R35_USER, {"cpu_load_pct": 58.2}),
    "a load alone": (said.AGX_XAVIER_R35_USER, {"gpu_load_pct": 39, "emc_load_pct": 0}),
    "boards' own sensors": (said.AGX_XAVIER_R35_USER, {"temp_tdiode_c": 37.8, "temp_tboard_c": 35}),
    "a load and a clock": (said.ORIN_NANO_R36_ROOT, {"gpu_load_pct": 63, "gpu_freq_mhz": 621}),
    "a clock of a unit that is on": (said.ORIN_NANO_R36_ROOT, {"ape_freq_mhz": 200}),
    "smaller free blocks": (said.ORIN_NANO_R36_ROOT, {"ram_lfb_mb": 2, "ram_lfb_blocks": 8}),
    "free blocks in kB": (said.AGX_ORIN_R39, {"ram_lfb_mb": 0.125}),
    "a second GPU": (said.ORIN_R35, {"gpu_freq_mhz": 305, "gpu2_load_pct": 0, "gpu2_freq_mhz": 0}),
    "upper case": (said.ORIN_R35, {"temp_cpu_c": 46.1, "temp_soc2_c": 43}),
    "with the highest so far": (said.ORIN_NANO_R39, {"temp_cpu_c": 50, "power_vdd_in_mw": 9761}),
    "several clusters": (said.AGX_ORIN_R39, {"gpu_load_pct": 12, "gpu_freq_mhz": 1305}),
    "rails side by side": (said.AGX_ORIN_R39, {"power_total_mw": 10139}),
    "clocks without a load": (said.THOR, {"gpu_freq_mhz": 1001}),
}


@pytest.mark.parametrize(("line", "expected"), SOME.values(), ids=SOME)
def test_what_releases_say_differently(line: str, expected: Dict[str, float]) -> None:
    numbers = parse(line).numbers
    assert {key: round(numbers[key], 3) for key in expected} == pytest.approx(expected, abs=0.06)


ABSENT = {
    "a sensor that is off": (said.ORIN_R35, "temp_cv0_c"),
    "a constant of the device tree": (said.XAVIER_NX_R32, "temp_pmic_c"),
    "a core that is off": (said.ORIN_NX_R36, "cpu_4_load_pct"),
    "a unit that is off": (said.ORIN_NANO_R36_ROOT, "nvdec_freq_mhz"),
    "a GPU's load that is not told": (said.THOR, "gpu_load_pct"),
    "rails for root only": (said.AGX_XAVIER_R35_USER, "power_total_mw"),
    "a load over 100": ("GR3D_FREQ 101%@5", "gpu_load_pct"),
    "a core's load over 100": ("CPU [101%@5]", "cpu_0_load_pct"),
}


@pytest.mark.parametrize(("line", "key"), ABSENT.values(), ids=ABSENT)
def test_what_is_unknown_is_absent(line: str, key: str) -> None:
    assert key not in parse(line).numbers


UNKNOWN = {
    "nothing": ("", 0),
    "blanks": ("   ", 0),
    "one word": ("HELLO", 1),
    "a new unit between known ones": ("APE 150 NPU ~3~ GPU@31.5C", 2),
    "a temperature cut off": ("APE 150 GPU@31.", 1),
    "a number beyond all sense": ("APE 1234567", 2),
    "other digits": ("APE ٣٤", 2),
    "an error": ("bash: tegrastats: command not found", 5),
}


@pytest.mark.parametrize(("line", "unknown"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_understood_is_counted(line: str, unknown: int) -> None:
    assert parse(line).unknown == unknown


@given(st.text())
def test_no_text_crashes_it(line: str) -> None:
    check_numbers(line)


PIECES = sorted({word for line in LINES.values() for word in line.split()})


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=40))
def test_no_shuffling_of_real_words_crashes_it(words: List[str]) -> None:
    check_numbers(" ".join(words))


@given(st.sampled_from(sorted(LINES.values())), st.data())
def test_no_damage_to_a_real_line_crashes_it(line: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, len(line)))
    check_numbers(line[:start] + data.draw(st.text(max_size=8)) + line[end:])


@given(st.sampled_from(sorted(LINES.values())), st.integers(0, 60))
def test_what_is_cut_off_takes_nothing_else_along(line: str, words: int) -> None:
    kept = " ".join(line.split()[:words])
    whole = parse(line).numbers
    # The total changes with the rails that are left, the last number may have been cut.
    for key, number in list(parse(kept).numbers.items())[:-3]:
        if key != "power_total_mw":
            assert whole[key] == number


def check_numbers(line: str) -> None:
    for key, number in parse(line).numbers.items():
        assert key == key.lower()
        assert math.isfinite(number)
