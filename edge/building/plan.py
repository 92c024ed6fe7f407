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
from edge.inference.chunks import batch_cap
from edge.records import DeployedGraph

STORE_NAME = "engines"

# More frames at once than this gain nothing on the GPUs an engine is built for.
_LARGEST_BUILT_BATCH = 32


class BuildPlan(BaseModel):
    """All that decides what is built; `max_batch` is the largest batch of one engine call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Backend
    model: ModelConfig
    engine: EngineConfig
    calibration: CalibrationConfig
    gate: GateConfig
    state_dir: Path
    max_batch: int

    @classmethod
    def of(cls, config: Config, module: Optional[str]) -> BuildPlan:
        """The plan of a configuration; `module` is the Jetson's name, None elsewhere."""
        max_batch, _ = batch_cap(_LARGEST_BUILT_BATCH, config.engine.max_batch, module)
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
            return TensorRtToolchain(graph, self.engine, self.max_batch, self._store_folder)
        return OnnxRuntimeToolchain(graph, self.engine)

    def maker(self, graph: DeployedGraph, toolchain: Toolchain) -> Maker:
        """What makes, judges and keeps the engines."""
        store = EngineStore(self._store_folder)
        return Maker(graph, toolchain, store, self.calibration, self.gate)

    @property
    def _store_folder(self) -> Path:
        return self.state_dir / STORE_NAME
