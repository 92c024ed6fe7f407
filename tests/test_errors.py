from __future__ import annotations

import inspect
from typing import List, Type

import pytest

from edge import errors
from edge.errors import ConfigError, CudaError, EdgeError, EngineError, ModelError, RestartAsked


def every_error() -> List[Type[EdgeError]]:
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, EdgeError)
    ]


@pytest.mark.parametrize("kind", every_error())
def test_only_what_the_user_must_change_is_not_restarted(kind: Type[EdgeError]) -> None:
    expected = 75 if kind is RestartAsked else 78 if issubclass(kind, ConfigError) else 70
    assert kind.exit_code == expected


@pytest.mark.parametrize("kind", every_error())
def test_the_tree_in_the_docstring_names_every_error(kind: Type[EdgeError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
    assert kind.__doc__


def test_a_bad_model_is_a_bad_configuration() -> None:
    assert issubclass(ModelError, ConfigError)


def test_cuda_error_names_the_call_and_the_error() -> None:
    error = CudaError("CUDA_ERROR_OUT_OF_MEMORY", "cuMemAlloc")
    assert isinstance(error, EngineError)
    assert str(error) == "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY"
    assert (error.name, error.call) == ("CUDA_ERROR_OUT_OF_MEMORY", "cuMemAlloc")
