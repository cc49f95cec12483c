"""How text is generated, and by what: one class an engine, chosen by `type`."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from grandrounds.params.section import Section


class Sampling(Section):
    temperature: NonNegativeFloat = 1.0  # 0: greedy
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: PositiveInt = 64


class TransformersEngine(Section):
    """A transformers model in this process. Neither setting changes what it says."""

    type: Literal["transformers"] = "transformers"
    batch: PositiveInt = 256  # samples at once, at most
    memory: PositiveFloat = 2.0  # GiB beside the weights, for prompts, caches and logits; a batch is cut to fit


class VllmEngine(Section):
    """vLLM in this process, on a GPU (the extra `vllm`)."""

    type: Literal["vllm"]
    memory: Annotated[float, Field(gt=0, le=1)] = 0.9  # share of the GPU's memory
    context: PositiveInt | None = None  # longest prompt and answer together, in tokens; None: the model's own


class Price(Section):
    """US dollars for a million tokens."""

    input: NonNegativeFloat = 0.0
    output: NonNegativeFloat = 0.0


# No user, key or query in it: params.yaml is committed and logged, and keys are in neither.
Url = Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")]


class _Endpoint(Section):
    timeout: PositiveFloat = 120  # seconds a request
    price: Price = Price()
    budget: PositiveFloat | None = None  # US dollars a run; no request is made that could pass it

    @model_validator(mode="after")
    def _budget_has_a_price(self) -> Self:
        if self.budget is not None and not self.price.input + self.price.output:
            raise ValueError("a budget needs the price, in US dollars for a million tokens: {input: ..., output: ...}")
        return self


class OpenAIEngine(_Endpoint):
    """Any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, `transformers serve`, OpenAI). The key comes from
    OPENAI_API_KEY only.
    """

    type: Literal["openai"]
    model: str = "gpt-4o-mini"
    endpoints: Annotated[tuple[Url, ...], Field(min_length=1)] = ("https://api.openai.com/v1",)  # all serve the model
    concurrency: PositiveInt = 32  # requests under way at once, over all endpoints


class GeminiEngine(_Endpoint):
    """google-generativeai. The key comes from GEMINI_API_KEY (or GOOGLE_API_KEY) only."""

    type: Literal["gemini"]
    model: str = "gemini-1.5-flash"
    concurrency: PositiveInt = 4


class RayEngine(Section):
    """Many transformers or vLLM engines at once, each in a Ray actor, on this machine or over a cluster (the extra
    `ray`). Neither their number nor their loss changes what is said.
    """

    type: Literal["ray"]
    holds: Annotated[TransformersEngine | VllmEngine, Field(discriminator="type")] = TransformersEngine()
    actors: PositiveInt = 2
    gpus: Annotated[float, Field(ge=0, le=1)] = 1.0  # an actor's: 0 is the CPU, 0.5 lets two share a GPU
    cpus: PositiveFloat = 1.0  # an actor's, and the threads that it computes on
    address: Annotated[str, Field(pattern=r"^(auto|(ray://)?[^\s/@?#]+:\d+)$")] | None = (
        None  # None: this machine alone
    )
    deal: PositiveInt = 1024  # requests an actor gets at once; two such deals an actor are under way
    losses: Annotated[int, Field(ge=0)] = 3  # actors that one deal may lose, or one place may lose while loading
    wait: PositiveFloat = 900.0  # seconds in which one actor has to be ready

    @model_validator(mode="after")
    def _vllm_has_a_gpu(self) -> Self:
        if isinstance(self.holds, VllmEngine) and not self.gpus:
            raise ValueError("'gpus' is 0, but vllm needs a GPU: 1, or a share of one")
        return self


RemoteSettings = OpenAIEngine | GeminiEngine
FolderSettings = TransformersEngine | VllmEngine | RayEngine  # engines that load a model's folder, and an adapter's
AnyEngine = Annotated[FolderSettings | RemoteSettings, Field(discriminator="type")]
FolderEngine = Annotated[FolderSettings, Field(discriminator="type")]
