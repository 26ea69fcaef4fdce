"""Recipes in msgpack form: the same in sidecars and in log records. FORMAT.md section "Recipe".

A recipe is an array of layers in the order in which a writer applied them; a layer is `[name, version, parameters]`.
"""

from __future__ import annotations

from rs3d.types.recipe import PLAIN, LayerRecipe, LayerValue, Recipe

LAYER_LIMIT = 16
"""Layers of one recipe; far above any sensible stack, so that a forged sidecar cannot make a reader build a tower."""

LayerRow = tuple[str, int, dict[str, LayerValue]]


def recipe_rows(recipe: Recipe) -> list[LayerRow]:
    """`recipe` as plain values for msgpack; the empty list for plain bytes."""
    return [(layer.name, layer.version, dict(layer.parameters)) for layer in recipe.layers]


def recipe_of(rows: list[LayerRow]) -> Recipe:
    """The reverse of `recipe_rows`, of rows whose types were checked while decoding. Unknown layers are kept: whoever
    runs the recipe refuses them by name.

    Raises:
        ValueError: more than LAYER_LIMIT layers.
    """
    if not rows:
        return PLAIN
    if len(rows) > LAYER_LIMIT:
        raise ValueError(f"{len(rows)} layers; at most {LAYER_LIMIT} are allowed")
    return Recipe(tuple(LayerRecipe(name, version, tuple(given.items())) for name, version, given in rows))
