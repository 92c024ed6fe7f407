"""Small files as the kernel shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Sequence, Tuple


def write_files(root: Path, files: Dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def sensor(
    number: int, rails: Sequence[Tuple[str, str, str]], name: str = "ina3221"
) -> Dict[str, str]:
    """An INA3221 with label, millivolts and milliamperes of each channel."""
    folder = f"sys/class/hwmon/hwmon{number}"
    files = {f"{folder}/name": f"{name}\n"}
    for channel, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files[f"{folder}/in{channel}_label"] = f"{label}\n"
        files[f"{folder}/in{channel}_input"] = f"{millivolts}\n"
        files[f"{folder}/curr{channel}_input"] = f"{milliamperes}\n"
    return files


XAVIER_NX = {
    **sensor(
        3,
        [("VDD_IN", "4968", "560"), ("VDD_CPU_GPU_CV", "4968", "136"), ("VDD_SOC", "4968", "136")],
    ),
    "sys/class/hwmon/hwmon3/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon3/in7_input": "4\n",
    "sys/class/devfreq/17000000.gv11b/cur_freq": "318750000\n",
    "sys/class/devfreq/17000000.gv11b/min_freq": "114750000\n",
    "sys/class/devfreq/17000000.gv11b/max_freq": "1109250000\n",
    "sys/class/devfreq/17000000.gv11b/device/load": "873\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "115200\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1420800\n",
    "sys/devices/system/cpu/cpufreq/policy2/scaling_min_freq": "115200\n",
    "sys/devices/system/cpu/cpufreq/policy2/scaling_max_freq": "1420800\n",
    "proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0",
    "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
    "etc/nvpmodel.conf": (
        "# < POWER_MODEL ID=2 NAME=COMMENTED >\n"
        "< POWER_MODEL ID=0 NAME=MODE_15W_2CORE >\nCPU_ONLINE CORE_0 1\n"
        "< POWER_MODEL ID=2 NAME=MODE_15W_6CORE >\nCPU_ONLINE CORE_0 1\n"
        "< PM_CONFIG DEFAULT=2 >\n"
    ),
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x4e\n",
}
