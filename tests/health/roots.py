"""What the kernels of some machines show under /, as far as health reads it."""

from __future__ import annotations

from typing import Dict, Sequence, Tuple

from tests.health.sysfs_files import XAVIER_NX as XAVIER_NX_BASE
from tests.health.sysfs_files import sensor

Files = Dict[str, str]

_MEMORY = "MemTotal: {total} kB\nMemFree: 100 kB\n{nvmap}SwapTotal: 0 kB\n"


def zones(temperatures: Dict[str, str]) -> Files:
    """Thermal zones: millidegrees by type."""
    files: Files = {}
    for number, (kind, millidegrees) in enumerate(temperatures.items()):
        files[f"sys/class/thermal/thermal_zone{number}/type"] = f"{kind}\n"
        files[f"sys/class/thermal/thermal_zone{number}/temp"] = f"{millidegrees}\n"
    return files


def cooling(states: Dict[str, str]) -> Files:
    """Cooling devices: state by type."""
    files: Files = {}
    for number, (kind, state) in enumerate(states.items()):
        files[f"sys/class/thermal/cooling_device{number}/type"] = f"{kind}\n"
        files[f"sys/class/thermal/cooling_device{number}/cur_state"] = f"{state}\n"
    return files


def gpu(node: str, mhz: Tuple[int, int, int], load: str) -> Files:
    """A GPU whose clock lies between the first two."""
    folder = f"sys/class/devfreq/{node}"
    files = {
        f"{folder}/{name}_freq": f"{value * 1_000_000}\n"
        for name, value in zip(("min", "max", "cur"), mhz)
    }
    return {**files, f"{folder}/device/load": f"{load}\n"} if load else files


def cores(policies: Dict[str, Tuple[int, int, int]], ticks: Sequence[str]) -> Files:
    """Clocks in MHz (lowest, highest, current) by the cores that share them, and /proc/stat."""
    files: Files = {"proc/stat": "cpu  0 0 0 0 0 0 0 0 0 0\n" + "\n".join(ticks) + "\nintr 1 2\n"}
    for policy_cores, (lowest, highest, current) in policies.items():
        folder = f"sys/devices/system/cpu/cpufreq/policy{policy_cores.split()[0]}"
        files[f"{folder}/affected_cpus"] = f"{policy_cores}\n"
        files[f"{folder}/scaling_min_freq"] = f"{lowest * 1000}\n"
        files[f"{folder}/scaling_max_freq"] = f"{highest * 1000}\n"
        files[f"{folder}/scaling_cur_freq"] = f"{current * 1000}\n"
    return files


def memory(total_kb: int, nvmap_kb: int = 0) -> Files:
    nvmap = f"NvMapMemUsed: {nvmap_kb} kB\n" if nvmap_kb else ""
    return {
        "proc/meminfo": _MEMORY.format(total=total_kb, nvmap=nvmap),
        "proc/buddyinfo": (
            "Node 0, zone      DMA      1      0      0      1      2      1      1      0      1"
            "      1      3\n"
            "Node 0, zone   Normal   1306    511    228    121     60     31     17      9      5"
            "      2      4\n"
        ),
    }


XAVIER_NX: Files = {
    **XAVIER_NX_BASE,
    **zones(
        {
            "CPU-therm": "46500",
            "GPU-therm": "45500",
            "AUX-therm": "45000",
            "AO-therm": "45000",
            "PMIC-Die": "50000",
            "thermal-fan-est": "45600",
        }
    ),
    **cooling({"cpufreq-cpu0": "0", "17000000.gv11b": "0", "pwm-fan": "2"}),
    **memory(7_015_424, nvmap_kb=1_253_376),
    **cores(
        {"0 1": (115, 1420, 1190), "2 3": (115, 1420, 1397), "4 5": (115, 1420, 1190)},
        [f"cpu{n} 100 0 50 850 0 0 0 0 0 0" for n in range(6)],
    ),
    "sys/class/devfreq/17000000.gv11b/device/load": "873\n",
    "sys/class/hwmon/hwmon3/curr1_crit_alarm": "0\n",
    "sys/class/hwmon/hwmon3/curr1_max_alarm": "0\n",
    "sys/class/hwmon/hwmon0/name": "pwmfan\n",
    "sys/class/hwmon/hwmon0/pwm1": "77\n",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate": "1600000000\n",
    "sys/kernel/debug/cactmon/mc_all": "320000\n",
}

_ORIN_COOLING = {
    "cpufreq-cpu0": "0",
    "devfreq-17000000.gpu": "0",
    "cpu-throttle-alert": "0",
    "gpu-throttle-alert": "0",
    "hot-surface-alert": "1",
    "pwm-fan": "1",
}
_ORIN_EVENTS = {
    "sys/class/hwmon/hwmon4/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon4/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon4/oc2_event_cnt": "15\n",
    "sys/class/hwmon/hwmon4/oc3_event_cnt": "37\n",
    "sys/class/hwmon/hwmon4/oc1_throt_en": "1\n",
}


def _orin(model: str, load: str, mhz: Tuple[int, int, int], total_kb: int) -> Files:
    return {
        "proc/device-tree/model": f"{model}\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n",
        "var/lib/nvpmodel/status": "pmode:0000 fmode:fanNull\n",
        **gpu("17000000.gpu", mhz, load),
        **zones(
            {
                "cpu-thermal": "53968",
                "gpu-thermal": "53343",
                "soc0-thermal": "50750",
                "cv0-thermal": "-256000",
                "tj-thermal": "53968",
            }
        ),
        **cooling(_ORIN_COOLING),
        **_ORIN_EVENTS,
        **memory(total_kb, nvmap_kb=524_288),
        **cores(
            {"0 1 2 3": (729, 1510, 729), "4 5": (729, 1510, 1420)},
            [f"cpu{n} 10 0 10 80 0 0 0 0 0 0" for n in (0, 1, 2, 3, 4, 5)],
        ),
        "sys/class/hwmon/hwmon2/name": "pwmfan\n",
        "sys/class/hwmon/hwmon2/pwm1": "255\n",
        "sys/class/hwmon/hwmon3/name": "pwm_tach\n",
        "sys/class/hwmon/hwmon3/rpm": "2140\n",
    }


ORIN_NANO: Files = {
    **_orin("NVIDIA Jetson Orin Nano Developer Kit", "630", (306, 625, 621), 7_802_880),
    **sensor(
        1,
        [("VDD_IN", "5000", "2496"), ("VDD_CPU_GPU_CV", "5000", "933"), ("VDD_SOC", "5000", "563")],
    ),
}

ORIN_NX: Files = {
    **_orin("NVIDIA Orin NX Developer Kit", "0", (918, 918, 918), 16_032_768),
    **sensor(
        1,
        [("VDD_IN", "4984", "1228"), ("VDD_CPU_GPU_CV", "4984", "87"), ("VDD_SOC", "4984", "494")],
    ),
    # jetson_clocks: nothing is left to choose.
    **cores(
        {"0 1 2 3": (1984, 1984, 1984)}, [f"cpu{n} 1 0 1 98 0 0 0 0 0 0" for n in (0, 1, 2, 3)]
    ),
    "sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq": "1984000\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq": "1984000\n",
}

THOR: Files = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, GCID: 1, BOARD: generic\n",
    **gpu("gpu-gpc-0", (300, 1575, 1000), ""),
    **zones({"cpu-thermal": "41000", "gpu-thermal": "40500", "tj-thermal": "42125"}),
    **cooling({"devfreq-gpu-gpc-0": "3", "pwm-fan": "0"}),
    **memory(128_000_000),
    **sensor(
        1, [("VDD_GPU", "12000", "500"), ("VDD_CPU_SOC_MSS", "12000", "700"), ("NC", "0", "0")]
    ),
    "sys/class/hwmon/hwmon5/name": "ina238\n",
    "sys/class/hwmon/hwmon5/power1_input": "31250000\n",
    "sys/class/devfreq/bwmgr/cur_freq": "4266000000\n",
}

LAPTOP: Files = {
    **zones({"acpitz": "50000", "x86_pkg_temp": "63000"}),
    **cooling({"Processor": "0", "intel_powerclamp": "-1", "LCD": "7", "Fan": "1"}),
    **memory(16_000_000),
    **cores({"0": (400, 4200, 800), "1": (400, 4200, 2600)}, ["cpu0 1 0 1 98 0 0 0 0 0 0"]),
    "sys/class/hwmon/hwmon0/name": "thinkpad\n",
    "sys/class/hwmon/hwmon0/fan1_input": "2900\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel Core\n",
}

ROOTS: Dict[str, Files] = {
    "xavier nx": XAVIER_NX,
    "orin nx": ORIN_NX,
    "orin nano": ORIN_NANO,
    "thor": THOR,
    "laptop": LAPTOP,
}
