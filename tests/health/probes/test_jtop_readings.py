from __future__ import annotations

import json
import math
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_S
from edge.errors import ProbeError
from edge.health.probes.jtop_readings import JtopReader, explain, numbers_of

# What `jtop_service.readings` are, in our names and units.
XAVIER_NX_NUMBERS = {
    **{f"cpu_{core}_load_pct": 25.0 for core in range(4)},
    **{f"cpu_{core}_freq_mhz": 1190.4 for core in range(4)},
    "ram_used_mb": 3168.0,
    "ram_total_mb": 6851.0,
    "ram_lfb_mb": 4.0,
    "ram_lfb_blocks": 2.0,
    "gpu_mem_used_mb": 1224.0,
    "swap_used_mb": 161.0,
    "swap_total_mb": 3426.0,
    "emc_load_pct": 20.0,
    "emc_freq_mhz": 1600.0,
    "gpu_load_pct": 87.3,
    "gpu_freq_mhz": 318.75,
    "nvdec_freq_mhz": 601.6,
    "fan_pct": 30.2,
    "fan_rpm": 2140.0,
    "nvpmodel_id": 2.0,
    "jetson_clocks": 0,
    "temp_cpu_c": 46.5,
    "temp_gpu_c": 45.5,
    "power_vdd_cpu_gpu_cv_mw": 675.0,
    "power_vdd_soc_mw": 680.0,
    "power_vdd_in_mw": 2782.0,
    "power_total_mw": 2782.0,
}

ODD: Dict[str, Any] = {
    "nothing": ({}, {}),
    "unknown": ({"nvpmodel_id": None, "jetson_clocks": None, "power": {}}, {}),
    "not what it was": ({"cpu": [1], "memory": "OFF", "gpu": 3, "fan": None}, {}),
    "a core that is off": ({"cpu": {"cpu": [{"online": False, "idle": 3}]}}, {}),
    "a core without a clock": (
        {"cpu": {"cpu": [{"online": True, "idle": 30}]}},
        {"cpu_0_load_pct": 70.0},
    ),
    "words for numbers": ({"gpu": {"a": {"status": {"load": "OFF"}}}}, {}),
    "beyond numbers": ({"gpu": {"a": {"status": {"load": math.inf}}}}, {}),
    "beyond floats": ({"gpu": {"a": {"status": {"load": 10**400}}}}, {}),
    "a truth for a number": ({"gpu": {"a": {"status": {"load": True}}}}, {}),
    "two GPUs": (
        {"gpu": {"a": {"status": {"load": 1}}, "b": {"status": {"load": 2}}}},
        {"gpu_load_pct": 1, "gpu2_load_pct": 2},
    ),
    "rails without a total": (
        {"power": {"rail": {"GPU": {"power": 5}, "CPU": {"power": 7}}, "tot": {}}},
        {"power_gpu_mw": 5, "power_cpu_mw": 7, "power_total_mw": 12},
    ),
    "a total that is a sum": (
        {"power": {"rail": {"GPU": {"power": 5}}, "tot": {"power": 5, "avg": 5}}},
        {"power_gpu_mw": 5, "power_total_mw": 5},
    ),
    "no free block of the largest": (
        {"memory": {"RAM": {"lfb": 0, "tot": 1024}}},
        {"ram_total_mb": 1},
    ),
    "two fans": ({"fan": {"a": {"speed": [10.0, 30.0]}, "b": {"speed": []}}}, {"fan_pct": 30.0}),
    "an engine that is off": ({"engine": {"VIC": {"VIC": {"online": False, "cur": 5}}}}, {}),
    "a sensor that is off": ({"temperature": {"A": {"temp": 40, "online": False}}}, {}),
    "a sensor without a flag": ({"temperature": {"A": {"temp": 40}}}, {"temp_a_c": 40}),
    "a label of two words": (
        {"temperature": {"nvme Composite": {"temp": 40, "online": True}}},
        {"temp_nvme_composite_c": 40},
    ),
    "clocks locked": ({"jetson_clocks": True}, {"jetson_clocks": 1}),
}  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), ODD.values(), ids=ODD)
def test_whatever_is_no_number_is_absent(said: Any, expected: Dict[str, float]) -> None:
    assert numbers_of(said) == expected


KEYS = st.sampled_from(
    ["cpu", "memory", "RAM", "gpu", "status", "load", "freq", "cur", "power", "rail", "tot", "temp",
     "temperature", "fan", "speed", "engine", "online", "lfb", "uptime_s", "name", "idle"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)


@given(ANYTHING)
def test_nothing_it_may_say_crashes_us(said: Any) -> None:
    try:
        numbers = JtopReader(5)(0, json.dumps(said))
    except ProbeError:
        return
    assert all(math.isfinite(number) for number in numbers.values())


@given(st.text())
def test_no_line_crashes_us(line: str) -> None:
    assert JtopReader(5)(0, line) == {}


# --- standing still ----------------------------------------------------------------------------


def line(uptime_s: float) -> str:
    return json.dumps({"uptime_s": uptime_s, "nvpmodel_id": 2})


def test_readings_that_move_on_are_fresh() -> None:
    reader = JtopReader(patience_s=5)
    for second in range(60):
        assert reader(second * NS_PER_S, line(float(second))) == {"nvpmodel_id": 2}


def test_the_same_reading_again_is_none_and_too_often_is_trouble() -> None:
    reader = JtopReader(patience_s=5)
    assert reader(0, line(7.0))
    assert reader(1 * NS_PER_S, line(7.0)) == {}
    assert reader(5 * NS_PER_S, line(7.0)) == {}
    with pytest.raises(ProbeError, match="the same over and over: restart it on the host"):
        reader(5 * NS_PER_S + 1, line(7.0))
    # A client that is started again hears the same.
    with pytest.raises(ProbeError):
        reader(9 * NS_PER_S, line(7.0))
    assert reader(10 * NS_PER_S, line(8.0))


def test_a_service_without_an_uptime_is_believed() -> None:
    reader = JtopReader(patience_s=5)
    for second in range(10):
        assert reader(second * NS_PER_S, json.dumps({"nvpmodel_id": 2}))


TROUBLES = {
    "version": (
        "Mismatch version jtop service: [4.3.2] and client: [7.2.2]. Please run:\n\nsudo jtop",
        "the service is version 4.3.2, the library here 7.2.2",
    ),
    "python": ("Mismatch of Python versions between library and service", "version of Python"),
    "access": ("I can't access jtop.service.\nPlease logout", "group jtop"),
    "not active": ("The jtop.service is not active. Please run:\nsudo jtop", "systemctl restart"),
    "lost": ("Lost connection with jtop server", "the connection to the service broke"),
    "empty": ("Error connection", "the connection to the service broke"),
    "other": ("Something new\nin two lines", "Something new"),
    "no words": ("", "does not say why"),
}


@pytest.mark.parametrize(("said", "told"), TROUBLES.values(), ids=TROUBLES)
def test_troubles_come_with_what_to_do(said: str, told: str) -> None:
    assert told in explain(said)
    assert "\n" not in explain(said)
    with pytest.raises(ProbeError) as caught:
        JtopReader(5)(0, json.dumps({"trouble": said}))
    assert str(caught.value) == explain(said)
