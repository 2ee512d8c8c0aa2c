"""Recipes: read, checked, described, begun."""

from curate.models.spec import ModelSpec
from curate.recipe.plan import PlannedStep, describe
from curate.recipe.reader import Recipe, Step, read_recipe
from curate.recipe.schema import recipe_schema, table_schemas
from curate.recipe.starter import init_text

__all__ = ["ModelSpec", "PlannedStep", "Recipe", "Step", "describe", "init_text", "read_recipe", "recipe_schema", "table_schemas"]
