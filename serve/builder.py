"""The application for a Serve config file: what a RayService or ``serve deploy`` names as its import path.

::

    applications:
      - name: restock
        import_path: serve.builder:application
        args: {config: /etc/restock/restock.toml}
"""

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from cluster.config import load_settings
from cluster.runtime import set_environment
from serve.app import build


class BuildArguments(BaseModel):
    """``args`` of the application in a Serve config file; a misspelt one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str = Field(description="TOML file, or the name of a shipped one")
    overrides: tuple[str, ...] = Field((), description="settings, as after --set")
    revision: str = Field(
        "", description="any text: Serve builds again when it changes, and so takes the champions of that moment"
    )


def application(args: BuildArguments) -> serve.Application:
    """The application over the champions of the model store, under the settings that ``args`` name.

    Raises
    ------
    ConfigError
        If a setting is wrong.
    ArtifactError, DataError
        If a model or the dataset is missing: Serve shows the message and keeps what it serves.
    """
    set_environment()
    return build(load_settings(args.config, overrides=args.overrides))
