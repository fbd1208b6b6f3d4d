"""Parallel text for training: recipes that name their packages, and one builder that turns any of them into Parquet."""

from ._build import Built as Built
from ._build import build as build
from ._packages import Packages as Packages
from ._recipe import Recipe as Recipe
from ._recipe import load_recipe as load_recipe
from ._table import table_recipe as table_recipe
