"""Recipes in msgpack form: the same in sidecars and in log records. FORMAT.md section "Recipe".

A recipe is an array of layers in the order in which a writer applied them; a layer is `[name, version, parameters]`.
"""

from __future__ import annotations

from rs3d.types.recipe import PLAIN, LayerRecipe, LayerValue, Recipe

LAYER_LIMIT = 16
"""Layers of one recipe; far above any sensible stack, so that a forged sidecar cannot make a reader build a tower."""

LayerRow = tuple[str, int, dict[str, object]]


def recipe_rows(recipe: Recipe) -> list[LayerRow]:
    """`recipe` as plain values for msgpack; the empty list for plain bytes."""
    return [(layer.name, layer.version, dict(layer.parameters)) for layer in recipe.layers]


def recipe_of(rows: list[LayerRow]) -> Recipe:
    """The reverse of `recipe_rows`, of rows whose outer types were checked while decoding. Unknown layers are kept:
    whoever runs the recipe refuses them by name.

    Raises:
        ValueError: more than LAYER_LIMIT layers, or a parameter that is no integer, text, bytes or nil.
    """
    if not rows:
        return PLAIN
    if len(rows) > LAYER_LIMIT:
        raise ValueError(f"{len(rows)} layers; at most {LAYER_LIMIT} are allowed")
    return Recipe(tuple(LayerRecipe(name, version, _parameters(name, given)) for name, version, given in rows))


def _parameters(layer: str, given: dict[str, object]) -> tuple[tuple[str, LayerValue], ...]:
    parameters: list[tuple[str, LayerValue]] = []
    for name, value in given.items():
        if value is not None and not isinstance(value, int | str | bytes):
            raise ValueError(f"layer {layer!r}: parameter {name!r} is a {type(value).__name__}")
        parameters.append((name, value))
    return tuple(parameters)
