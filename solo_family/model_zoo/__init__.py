"""The configs that come with the package, and the weights that are published for them.

    from solo_family import model_zoo

    model_zoo.list()                                        # names of configs
    model_zoo.get_config_file("SOLOv2/solov2_R50_3x.yaml")  # a path
    cfg = model_zoo.get_config("SOLOv2/solov2_R50_3x.yaml")
    model = model_zoo.get("SOLOv2/solov2_R50_3x.yaml")      # with the published weights
    model = model_zoo.get("hf:OWNER/REPO")                  # a model of the HuggingFace Hub

Only trained models are downloaded; everything else works without a network.
"""

from ..fetch.configs import get_config_file
from ..fetch.table import names as list
from .models import get, get_config

__all__ = ["get", "get_config", "get_config_file", "list"]
