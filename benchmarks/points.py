"""What `benchmarks.throughput` measured of one network at one batch size."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Sequence

from benchmarks.streams import HostTimes
from benchmarks.timing import paired_ratio, percentile
from edge.records import StageTimes

# What takes this share of the time from one batch to the next is what it waits for.
_MOST_OF_IT = 0.9

_HEADER = (
    f"  {'network':<10} {'batch':>5} {'compute':>8} {'serial':>8} {'overlap':>8} {'objects':>8} "
    f"{'/compute':>8} {'/serial':>7} {'latency':>8} {'overlap':>8} {'up':>7} {'compute':>8} "
    f"{'down':>6} {'launch':>7} {'wait':>7}"
)
_UNITS = (
    f"  {'':<10} {'':>5} {'img/s':>8} {'img/s':>8} {'img/s':>8} {'img/s':>8} "
    f"{'':>8} {'':>7} {'p50 ms':>8} {'p50 ms':>8} {'gpu ms':>7} {'gpu ms':>8} "
    f"{'gpu ms':>6} {'host ms':>7} {'host ms':>7}"
)


@dataclass(frozen=True)
class Point:
    """`ms_per_frame` has one value a round for each way; `host` the host's medians of a batch.

    `stages` are those of a batch that has the GPU to itself.
    """

    network: str
    batch: int
    ms_per_frame: Mapping[str, Sequence[float]]
    host: Mapping[str, HostTimes]
    stages: StageTimes

    def fps(self, way: str) -> float:
        """Frames per second, the median of the rounds."""
        return 1e3 / percentile(self.ms_per_frame[way], 50)

    def ratio(self, way: str, other: str) -> float:
        """Throughput of a way over another's, round by round."""
        return paired_ratio(self.ms_per_frame[other], self.ms_per_frame[way])

    @property
    def copy_over_compute(self) -> float:
        """Time of the upload over that of the compute."""
        return self.stages.upload_ms / self.stages.compute_ms

    @property
    def batch_ms(self) -> float:
        """From one batch to the next, overlapped."""
        return self.batch * 1e3 / self.fps("overlapped")

    @property
    def where_the_time_goes(self) -> str:
        """What one batch costs, and who is waited for."""
        stages, launch_ms = self.stages, self.host["serial"].launch_ms
        return (
            f"{self.network}, batch {self.batch}: a batch each {self.batch_ms:.2f} ms; alone its "
            f"upload takes {stages.upload_ms:.2f}, its compute {stages.compute_ms:.2f}, its "
            f"download {stages.download_ms:.2f} ms of the GPU, its launch() {launch_ms:.2f} ms of "
            f"the host: {waited_for(stages, launch_ms, self.batch_ms)}"
        )

    def as_json(self) -> Dict[str, Any]:
        """All of it, medians for the rounds."""
        return {
            "network": self.network,
            "batch": self.batch,
            "fps": {way: round(self.fps(way), 2) for way in self.ms_per_frame},
            "overlap_over_compute": round(self.ratio("overlapped", "compute"), 4),
            "overlap_over_serial": round(self.ratio("overlapped", "serial"), 4),
            "host_ms": {
                way: {name: round(ms, 4) for name, ms in times._asdict().items()}
                for way, times in self.host.items()
            },
            "gpu_ms": {
                name: round(ms, 4) for name, ms in asdict(self.stages).items() if name != "rows"
            },
        }

    def row(self) -> str:
        """Its line in the table."""
        ways = ("compute", "serial", "overlapped", "detected")
        fps = " ".join(f"{self.fps(way):>8.0f}" for way in ways)
        serial, overlapped = self.host["serial"], self.host["overlapped"]
        stages = self.stages
        return (
            f"  {self.network:<10} {self.batch:>5} {fps} "
            f"{self.ratio('overlapped', 'compute'):>8.3f} "
            f"{self.ratio('overlapped', 'serial'):>7.3f} "
            f"{serial.latency_ms:>8.2f} {overlapped.latency_ms:>8.2f} "
            f"{stages.upload_ms:>7.3f} {stages.compute_ms:>8.3f} {stages.download_ms:>6.3f} "
            f"{serial.launch_ms:>7.3f} {serial.wait_ms:>7.3f}"
        )


def waited_for(stages: StageTimes, launch_ms: float, batch_ms: float) -> str:
    """What takes nearly all the time from one batch to the next; the host where several do."""
    candidates = {
        "the GPU waits for the host": launch_ms,
        "the GPU computes all the time": stages.compute_ms,
        "the frames' way to the GPU is full": stages.upload_ms,
    }
    for words, took_ms in candidates.items():
        if took_ms >= _MOST_OF_IT * batch_ms:
            return words
    return "nothing alone explains it: two of them are in each other's way"


def table(points: Sequence[Point]) -> List[str]:
    """All of them, for people."""
    return [_HEADER, _UNITS, *(point.row() for point in points)]
