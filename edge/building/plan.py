"""What engines are made from, as one record that a child process can be given."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from pydantic import BaseModel, ConfigDict

from edge.building.engine_store import EngineStore
from edge.building.make import Maker
from edge.building.onnxruntime_toolchain import OnnxRuntimeToolchain
from edge.building.tensorrt_toolchain import TensorRtToolchain
from edge.building.toolchain import Toolchain, backend_of
from edge.config.schema import (
    Backend,
    CalibrationConfig,
    Config,
    EngineConfig,
    GateConfig,
    ModelConfig,
)
from edge.inference.batch_cap import batch_cap
from edge.records import DeployedGraph, Lane

STORE_NAME = "engines"

# More frames at once gain little on the GPUs an engine is built for; who wants them says so.
_LARGEST_BY_ITSELF = 32


class BuildPlan(BaseModel):
    """All that decides what is built: `max_batch` is the largest batch of one engine call, `lane`
    whose frames the engine is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Backend
    model: ModelConfig
    engine: EngineConfig
    calibration: CalibrationConfig
    gate: GateConfig
    state_dir: Path
    max_batch: int
    lane: Lane = Lane.BATCH

    @classmethod
    def of(cls, config: Config, module: Optional[str]) -> BuildPlan:
        """The plan of a configuration; `module` is the Jetson's name, None elsewhere."""
        configured = config.engine.max_batch
        max_batch, _ = batch_cap(max(_LARGEST_BY_ITSELF, configured or 0), configured, module)
        return cls(
            backend=backend_of(config.engine),
            model=config.model,
            engine=config.engine,
            calibration=config.calibration,
            gate=config.gate,
            state_dir=config.device.state_dir,
            max_batch=max_batch,
        )

    def toolchain(self, graph: DeployedGraph) -> Toolchain:
        """What makes and loads the engines; ConfigError where the backend is not installed."""
        if self.backend is Backend.TENSORRT:
            folder = self.store_folder
            return TensorRtToolchain(graph, self.engine, self.max_batch, folder, self.lane)
        return OnnxRuntimeToolchain(graph, self.engine, self.max_batch, self.lane)

    def maker(self, graph: DeployedGraph, toolchain: Toolchain) -> Maker:
        """What makes, judges and keeps the engines."""
        store = EngineStore(self.store_folder)
        return Maker(graph, toolchain, store, self.calibration, self.gate)

    def of_at_most(self, max_batch: int) -> BuildPlan:
        """The same with smaller batches."""
        return self.model_copy(update={"max_batch": max_batch})

    def for_priority(self) -> BuildPlan:
        """The plan of the engine that takes priority frames, each as it comes."""
        return self.model_copy(update={"max_batch": 1, "lane": Lane.PRIORITY})

    @property
    def store_folder(self) -> Path:
        """Where the engines are kept."""
        return self.state_dir / STORE_NAME
