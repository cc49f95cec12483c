"""From the settings of an engine to the engine."""

from functools import partial
from pathlib import Path

from grandrounds import lora, models, runtime
from grandrounds.encoding import Encoder
from grandrounds.engines.protocol import Engine
from grandrounds.params import FolderSettings, Params, RayEngine, RemoteSettings, TransformersEngine, VllmEngine

IMAGES = Path("data/curated/images")


def make(
    settings: FolderSettings | RemoteSettings,
    model: str | Path,
    params: Params,
    seed: int,
    where: str,
    adapter: str | Path | None = None,
) -> Engine:
    """The engine of one stage, whose settings stand at the key `where` of params.yaml.

    `model`, and an adapter on it, are folders for the engines that load them; the others ask for the model that their
    settings name. Raises UserError, before anything is generated, for what can be known by then: a folder that is
    missing, a package, a key.
    """
    if adapter is not None and lora.is_whole_model(adapter):
        model, adapter = adapter, None
    if isinstance(settings, TransformersEngine):
        from grandrounds.engines.local import LocalEngine

        loaded, processor = models.load(model, runtime.device(params), params.compute.precision)
        if adapter is not None:
            lora.load_adapter(loaded, adapter)
        return LocalEngine(loaded, Encoder(processor, IMAGES), seed, settings)
    if isinstance(settings, VllmEngine):
        from grandrounds.engines.vllm import VllmInProcess

        return VllmInProcess(settings, model, adapter, params.compute.precision, seed, IMAGES)
    if isinstance(settings, RayEngine):
        from grandrounds.engines.ray import RayPool, placed

        build = partial(make, settings.holds, params=placed(params, settings, where), seed=seed, where=f"{where}.holds")
        return RayPool(settings, build, model, adapter, IMAGES, where)
    from grandrounds.engines import replies
    from grandrounds.engines.remote import RemoteEngine

    return RemoteEngine(settings, IMAGES, seed, replies.folder("engines"), where)
