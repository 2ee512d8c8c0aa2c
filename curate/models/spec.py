"""A model as a recipe names it: which one, where it runs, what it costs."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

Backend = Literal["openai", "vllm", "sentence_transformers", "transformers", "hashing", "fake"]
VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class Price(BaseModel):
    """What a million tokens cost."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    into: float = Field(default=0.0, ge=0, alias="in", description="US dollars a million prompt tokens.")
    out: float = Field(default=0.0, ge=0, description="US dollars a million response tokens.")


class ModelSpec(BaseModel):
    """A model that steps refer to by its key under `models`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Backend = Field(description="What runs it.")
    name: str = Field(min_length=1, description="Hub id, endpoint's model name or local path.")
    revision: Annotated[str | None, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)] = Field(
        default=None, description="Commit or tag of the weights; the newest if not given."
    )
    kind: Literal["chat", "reward", "embed"] | None = Field(default=None, description="Its use; told by the step if not given.")
    base_url: str | None = Field(default=None, description="Address of an OpenAI-compatible endpoint.")
    api_key: SecretStr | None = Field(default=None, description="Always ${VARIABLE}: the key itself stays in the environment.")
    usd_per_mtok: Price | None = Field(default=None, description="Its price, for estimates and --max-cost.")
    python: str | None = Field(default=None, description="Interpreter of the environment that the back end is installed in.")
    options: dict[str, str | bool | int | float | None] = Field(default={}, description="Further settings for the back end.")


def key_fault(written: object) -> str | None:
    """Why an `api_key` as the recipe has it would give the key away, or None."""
    if written is None or (isinstance(written, str) and VARIABLE.fullmatch(written)):
        return None
    return "a key in a recipe is published with the recipe; put it in the environment and write ${NAME_OF_THE_VARIABLE}"
