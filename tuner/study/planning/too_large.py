"""The layouts of a space that can't hold the model: they are not tried. Pure."""

from itertools import product

from tuner.config.checks.memory import ModelTooLarge
from tuner.config.errors import ConfigError
from tuner.config.groups.space import ENGINE, Point
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.search.space import LAYOUT, SearchSpace


def too_large(config: StudyConfig, space: SearchSpace) -> str:
    """A line that counts them, with the need of the largest; empty if there is none.

    All other settings are the defaults: a smaller precision may fit a layout that is counted here.
    """
    paths = [path for path in space.parameters if path.startswith(LAYOUT)]
    grids = [space.parameters[path].grid() or () for path in paths]
    layouts = [dict(zip(paths, each, strict=True)) for each in product(*grids)] if paths else []
    reasons: list[ModelTooLarge] = []
    for engine in config.engine:
        chosen: Point = {ENGINE: engine} if len(config.engine) > 1 else {}
        for layout in layouts:
            if not space.possible({**chosen, **layout}):
                continue
            try:
                trial_config(config, {**chosen, **layout})
            except ModelTooLarge as error:
                reasons.append(error)
            except ConfigError:
                continue
    if not reasons:
        return ""
    first = str(reasons[0]).removeprefix("topology: ")
    return (
        f"{len(reasons)} of {len(layouts) * len(config.engine)} layouts of the space can't hold the model "
        f"with default settings, and are not tried: {first}"
    )
