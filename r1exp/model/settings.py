"""Settings of the model that a step starts from. Torch-free: they are read before torch is loaded."""

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.settings import Name, Probability, Settings

Dtype = Literal["float32", "bfloat16", "float16"]
Quantization = Literal["4bit", "8bit"]
TinyWords = Literal["arithmetic", "bilingual"]
BYTES_PER_NUMBER: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


class ModelShape(Settings):
    """The sizes of a decoder-only transformer, under the names of its Hugging Face `config.json`."""

    hidden_size: PositiveInt  # features
    num_hidden_layers: PositiveInt  # transformer blocks
    num_attention_heads: PositiveInt  # query heads per layer
    num_key_value_heads: PositiveInt  # key and value heads per layer
    head_dim: PositiveInt | None = None  # features per head; null: hidden_size / num_attention_heads
    intermediate_size: PositiveInt  # features inside the gated MLP
    vocab_size: PositiveInt  # tokens
    max_position_embeddings: PositiveInt  # tokens in the longest sequence
    tie_word_embeddings: bool  # true: input and output share one embedding matrix
    qkv_bias: bool = False  # true: query, key and value projections have a bias (Qwen2)
    num_norms_per_layer: PositiveInt = 2  # RMSNorms over hidden_size per layer (Gemma 2 and 3: 4)
    # true: an RMSNorm over each query and key head (Qwen3, Gemma 3). In no key where it is false.
    qk_norm: bool = Field(default=False, exclude_if=lambda value: not value)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads={self.num_key_value_heads}; every key head serves the same "
                "number of query heads: change model.shape.num_key_value_heads"
            )
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of "
                f"num_attention_heads={self.num_attention_heads}: set model.shape.head_dim"
            )
        return self

    @property
    def features_per_head(self) -> int:
        """Return `head_dim`, or hidden_size / num_attention_heads if it is not set."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


class LoraSettings(Settings):
    """Low-rank adapters (arXiv:2106.09685). They are merged into the weights when a step ends."""

    r: NonNegativeInt = 0  # rank; 0: no adapters, every weight is trained
    alpha: PositiveInt = 32  # adapters are scaled by alpha / r
    dropout: Probability = 0.0  # probability that an adapter's input feature is dropped
    target_modules: Literal["all-linear"] | tuple[Name, ...] = "all-linear"  # names of linear layers

    @model_validator(mode="after")
    def _has_targets(self) -> Self:
        if not self.target_modules:
            raise ValueError(
                "target_modules is empty, so no weight would be trained: "
                "use model.lora.target_modules=all-linear, or model.lora.r=0 for no adapters"
            )
        return self

    @model_validator(mode="after")
    def _has_a_rank(self) -> Self:
        fields = type(self).model_fields
        changed = [name for name in fields if name != "r" and getattr(self, name) != fields[name].default]
        if self.r == 0 and changed:
            raise ValueError(
                f"model.lora.{changed[0]}={getattr(self, changed[0])} has no effect without adapters: give their rank as "
                f"well, for example model.lora.r=16, or leave out model.lora.{changed[0]}"
            )
        return self


class LearningRates(Settings):
    """Default learning rates of this model; the top-level `learning_rate` interpolates them."""

    sft: PositiveFloat  # of AdamW in stage=sft
    rl: PositiveFloat  # of AdamW in stage=rl
    # Of PPO's critic; a model without one needs algorithm.critic.learning_rate.
    critic: PositiveFloat | None = None


class RowsPerDevice(Settings):
    """Rows of one forward and backward pass on a device; auto: as many as the memory estimate allows."""

    sft: PositiveInt | Literal["auto"]  # rows
    rl: PositiveInt | Literal["auto"]  # completions

    def at_most(self, number: int) -> "RowsPerDevice":
        """Return the settings with `number` in place of auto."""
        return RowsPerDevice(
            sft=number if self.sft == "auto" else self.sft, rl=number if self.rl == "auto" else self.rl
        )


class ModelSettings(Settings):
    """The policy that a step starts from."""

    kind: Literal["tiny", "pretrained"]  # tiny: built on this machine if `path` is null
    path: Name | None = None  # hub id, folder of a model, or run directory of r1exp
    revision: Name | None = None  # branch, tag or commit of a hub id; null: its main branch
    dtype: Dtype = "float32"  # of the weights while training
    # Dtype of forward and backward; bfloat16 or float16: mixed precision (autocast).
    compute_dtype: Dtype = "float32"
    learning_rate: LearningRates  # defaults of the top-level learning_rate, for SFT and for RL
    rows_per_device: RowsPerDevice  # rows of one forward and backward pass on one device
    # Recompute activations in the backward pass: less memory, slower. auto: where the memory estimate asks for it.
    gradient_checkpointing: bool | Literal["auto"] = False
    # eager, sdpa, flash_attention_2; auto: by model and card; null: transformers chooses
    attn_implementation: Name | None = None
    shape: ModelShape | None = None  # tiny: sizes to build; else: published sizes, for estimates
    lora: LoraSettings = Field(default_factory=LoraSettings)  # low-rank adapters; r=0 trains all weights
    init_seed: NonNegativeInt | None = None  # seed of a tiny model's random weights
    # The generated task whose words a tiny model's tokenizer encodes as one token each. In no key where it is arithmetic.
    words: TinyWords = Field(default="arithmetic", exclude_if=lambda value: value == "arithmetic")
    # Bits of the frozen weights below LoRA adapters (bitsandbytes); null: those of `dtype`. In no key where it is null.
    quantization: Quantization | None = Field(default=None, exclude_if=lambda value: value is None)
    # Run the Python code of the model's repository, which then has your rights (docs/security.md). In no key where it is false.
    trust_remote_code: bool = Field(default=False, exclude_if=lambda value: not value)
    # Variables of the chat template, for example enable_thinking=false. In no key where it is empty.
    chat_template_kwargs: dict[str, str | int | float | bool] = Field(
        default_factory=dict, exclude_if=lambda value: not value
    )

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.kind == "pretrained" and self.path is None:
            raise ValueError(
                "a pretrained model needs model.path: a hub id (Qwen/Qwen2.5-0.5B-Instruct), "
                "a folder with config.json, or the directory of an earlier run"
            )
        if self.kind == "pretrained" and self.init_seed is not None:
            raise ValueError(
                f"init_seed={self.init_seed} seeds the random weights of a tiny model, and a pretrained model "
                "has its own weights: drop model.init_seed, or use model=tiny"
            )
        return self

    @model_validator(mode="after")
    def _only_a_pretrained_model_has_code(self) -> Self:
        if self.kind == "tiny" and self.trust_remote_code:
            raise ValueError(
                "trust_remote_code=true runs the Python code of a model's repository, and a tiny model has none: "
                "drop model.trust_remote_code, or use model=hf model.path=..."
            )
        return self

    @model_validator(mode="after")
    def _quantization_trains_adapters(self) -> Self:
        if self.quantization is not None and self.lora.r == 0:
            raise ValueError(
                f"quantization={self.quantization}: weights of so few bits cannot be trained, only adapters on top of "
                "them; give model.lora.r as well, for example model.lora.r=16"
            )
        return self

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if self.kind != "tiny":
            return self
        if self.shape is None or self.init_seed is None:
            raise ValueError(
                "a tiny model is built from model.shape and model.init_seed, and one of them is null: "
                "use model=tiny as it is"
            )
        if self.shape.qkv_bias or self.shape.qk_norm or self.shape.num_norms_per_layer != 2:
            raise ValueError(
                "a tiny model is a Llama: no biases, two norms per layer; "
                "drop model.shape.qkv_bias, model.shape.qk_norm and model.shape.num_norms_per_layer"
            )
        return self

    @property
    def built_from(self) -> dict[str, Any]:
        """All that decides the files of a tiny model: its weights and its tokenizer."""
        return self.model_dump(mode="json", include={"shape", "init_seed", "words"})
