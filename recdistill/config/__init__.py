"""The one typed experiment file: every key, its unit and its default; a wrong key or value is refused by name."""

from recdistill.config.base import NAME, Name, Strict, check_name, shortened, slug
from recdistill.config.data import (
    BehaviorsConfig,
    ColumnsConfig,
    DataConfig,
    NegativesConfig,
    SamplingConfig,
    TaskColumn,
)
from recdistill.config.experiment import EvaluateConfig, Experiment
from recdistill.config.load import checked, load_file, load_text, override, parsed, put, read_text
from recdistill.config.models import (
    AdapterConfig,
    CandidatesConfig,
    CrossfitConfig,
    DistillConfig,
    GateConfig,
    ModelConfig,
    PretrainConfig,
    StaleConfig,
    StatesConfig,
    StudentConfig,
    TeacherConfig,
)
from recdistill.config.stream import HealthConfig, LabelsConfig, SourceConfig, StreamConfig

__all__ = [
    "NAME",
    "AdapterConfig",
    "BehaviorsConfig",
    "CandidatesConfig",
    "ColumnsConfig",
    "CrossfitConfig",
    "DataConfig",
    "DistillConfig",
    "EvaluateConfig",
    "Experiment",
    "GateConfig",
    "HealthConfig",
    "LabelsConfig",
    "ModelConfig",
    "Name",
    "NegativesConfig",
    "PretrainConfig",
    "SamplingConfig",
    "SourceConfig",
    "StaleConfig",
    "StatesConfig",
    "StreamConfig",
    "Strict",
    "StudentConfig",
    "TaskColumn",
    "TeacherConfig",
    "check_name",
    "checked",
    "load_file",
    "load_text",
    "override",
    "parsed",
    "put",
    "read_text",
    "shortened",
    "slug",
]
