"""How text is generated, and by what: one class an engine, chosen by `type`."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

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


class OpenAIEngine(Section):
    """Any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, `transformers serve`, OpenAI). The key comes from
    OPENAI_API_KEY only.
    """

    type: Literal["openai"]
    model: str = "gpt-4o-mini"
    endpoints: Annotated[tuple[str, ...], Field(min_length=1)] = ("https://api.openai.com/v1",)
    concurrency: PositiveInt = 32  # requests under way at once, over all endpoints
    timeout: PositiveFloat = 120  # seconds a request
    price: Price = Price()
    budget: PositiveFloat | None = None  # US dollars; no request is made that could pass it


class GeminiEngine(Section):
    """google-generativeai. The key comes from GEMINI_API_KEY only."""

    type: Literal["gemini"]
    model: str = "gemini-1.5-flash"
    concurrency: PositiveInt = 4
    timeout: PositiveFloat = 120
    price: Price = Price()
    budget: PositiveFloat | None = None


AnyEngine = Annotated[TransformersEngine | VllmEngine | OpenAIEngine | GeminiEngine, Field(discriminator="type")]
LocalEngine = Annotated[TransformersEngine | VllmEngine, Field(discriminator="type")]  # loads adapters by folder
