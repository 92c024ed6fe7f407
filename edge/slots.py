"""How many slots frames are drawn into, and how many rows they have.

Part of the composition root, with `line.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Optional

from edge.batching.ring import within_memory
from edge.building.tuning_file import TuningKey, batch_target
from edge.config.schema import Config
from edge.health.host import free_memory_bytes
from edge.inference.batch_cap import cap_of
from edge.records import BatchTarget, DeployedGraph, EngineInfo

# Besides the batches in the pipeline: the slot being filled.
SPARE_SLOTS = 1
# Besides a priority camera's frames in the engine: one waits for it, while a newer one is drawn.
PRIORITY_SPARE_SLOTS = 2


def depth_of(in_flight: int) -> int:
    """Batches in the pipeline: those the engine works on, and one whose results are handed on.

    An engine that works on one at a time takes the next as soon as it is done; until then it is
    bound late, as more depth would only add age.
    """
    return 1 if in_flight == 1 else in_flight + 1


def tuning_key(
    config: Config, graph: DeployedGraph, engine: EngineInfo, module: Optional[str]
) -> TuningKey:
    """What a measurement is found by; `module` is the Jetson's name, None elsewhere."""
    # Not the cap of today: that may also depend on the memory that is free at the moment.
    cap, _ = cap_of(engine, config.engine.max_batch, module)
    return TuningKey.of(graph, dataclasses.replace(engine, max_batch=cap))


def effective_target(
    config: Config,
    graph: DeployedGraph,
    engine: EngineInfo,
    in_flight: int,
    module: Optional[str],
) -> BatchTarget:
    """The size at which batches leave, and who decided it."""
    key = tuning_key(config, graph, engine, module)
    wanted = batch_target(config.batching, config.device.state_dir, key)
    input_wh = graph.preprocessing.input_wh
    return within_memory(wanted, depth_of(in_flight) + SPARE_SLOTS, input_wh, free_memory_bytes())


def with_target(config: Config, target: BatchTarget) -> Config:
    """The configuration with the size that was decided on."""
    batching = config.batching.model_copy(update={"target": target.frames})
    return config.model_copy(update={"batching": batching})
