"""Estimates the peak memory of a step on each device, in bytes, from the model's sizes alone. Torch-free.

P parameters, T trained parameters (all, or LoRA's r * (in + out) per matrix), W ranks, ZeRO stage z. Numbers of a weight:
`model.dtype` without DeepSpeed (float32 masters, computed on in bfloat16 by autocast), `model.compute_dtype` with it:
DeepSpeed casts the whole model, also the reference, and keeps float32 in the master copy only. FSDP2 with mixed precision
keeps trained weights in float32.

    weights      P * bytes of dtype + LoRA's T           / W if z = 3 or FSDP2; of a quantized model, the matrices of its
                 layers have fewer bytes (r1exp.model.quantization)
    gradients    T * bytes of dtype                      / W if z >= 2 or FSDP2; twice that with plain data parallelism,
                 which also keeps buckets
    optimizer    AdamW, two moments: 2 * T * bytes       / W if z >= 1; ZeRO keeps them and a master copy in
                 float32: 12 * T                         (arXiv:1910.02054, section 3.1)
    update       ZeRO's flat copy of the gradients and that in float32: 6 * T / W; with z = 3 of one sub-group of 10^9
                 numbers at a time
    reference    P * bytes of dtype                      / W if z = 3 or FSDP2; none with LoRA
    critic       weights and optimizer of a value model; its gradients and activations count with the others
    others       models of rewards, in their own dtype, on every rank
    bucket       DeepSpeed's buffer of gradients that are reduced together; with z = 3 it is never freed
    buffers      with z = 3 the gathered weights that are kept for reuse; with FSDP2 two layers and the embeddings (a critic's
                 and the reference's too) in the compute dtype, and the gradients of one of them, also in float32
    sampling     keys and values of all rows, for one layer a second copy and a copy per query head, logits;
                 with z = 3 and FSDP2 the gathered weights; with vLLM the largest weight that is gathered or merged into a copy
    activations  r1exp.model.activations
    context      CUDA's context with its kernels, and NCCL's buffers where there are several ranks

Sampling, the forward and backward passes and the optimizer step run one after the other. The backward pass
frees activations while it allocates gradients, so the peak holds the larger of the two. With gradient
accumulation, the gradients of earlier passes are held in addition.

docs/models.md has a table of what each term was checked with. Not counted: fragmentation of the allocator.
"""

from dataclasses import dataclass

from r1exp.model.activations import activation_bytes, sampling_bytes
from r1exp.model.settings import BYTES_PER_NUMBER, ModelSettings, ModelShape
from r1exp.model.shapes import (
    count_lora,
    count_parameters,
    critic_parameters,
    linear_layers,
    num_embeddings,
    trained_critic_parameters,
    weight_bytes,
)
from r1exp.model.workload import Load

_FLOAT32 = 4  # bytes
# Numbers; DeepSpeed 0.19's defaults of reduce_bucket_size, stage3_max_reuse_distance, sub_group_size.
_BUCKET, _REUSED, _SUB_GROUP = 500_000_000, 1_000_000_000, 1_000_000_000
_CONTEXT = 600_000_000  # bytes of CUDA's context, and of the workspaces of cuBLAS
_NCCL = 400_000_000  # bytes of NCCL's channels between several ranks


@dataclass(frozen=True, slots=True)
class Memory:
    """The estimate for one device, by part, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    update: int
    reference: int
    critic: int
    others: int
    bucket: int
    buffers: int
    sampling: int
    activations: int
    last_layers: int  # allocated at the end of the backward pass, in addition to all gradients
    context: int
    keeps_bucket: bool
    accumulates: bool

    @property
    def permanent(self) -> int:
        """Return the parts that are held during the whole step."""
        models = self.weights + self.optimizer + self.reference + self.critic + self.others
        return models + self.context + (self.bucket if self.keeps_bucket else 0)

    @property
    def total(self) -> int:
        """Return the peak: the permanent parts plus the largest of sampling, the passes, their end and the update."""
        buffers = self.buffers + (0 if self.keeps_bucket else self.bucket)
        passes = buffers + self.activations + (self.gradients if self.accumulates else 0)
        end = buffers + self.gradients + self.last_layers
        return self.permanent + max(self.sampling, passes, end, self.gradients + self.update)

    def lines(self) -> list[str]:
        """Return the estimate as `plan` shows it."""
        parts = (f"{name} {readable(size)}" for name, size in self.parts().items())
        return [f"memory per device: about {readable(self.total)} ({', '.join(parts)}; not all at once)"]

    def parts(self) -> dict[str, int]:
        """Return the parts by name; those that few steps have are left out where they are 0."""
        always = ("weights", "optimizer", "reference", "critic", "gradients", "sampling", "activations")
        sizes = {
            name: getattr(self, name)
            for name in (*always, "others", "bucket", "buffers", "update", "context")
        }
        return {name: size for name, size in sizes.items() if size or name in always}


def memory_per_device(shape: ModelShape, model: ModelSettings, load: Load) -> Memory:
    """Return the estimate for one device at the peak of a step."""
    if load.zero_stage:
        model = model.model_copy(update={"dtype": model.compute_dtype})  # DeepSpeed casts the whole model
    width = BYTES_PER_NUMBER[model.dtype]
    num_adapted = count_lora(shape, model.lora)
    num_trained = (num_adapted or count_parameters(shape)) if load.trains else 0
    num_valued = critic_parameters(load.critic)
    valued_trained = trained_critic_parameters(load.critic, model.lora)
    adapter_width = width if load.zero_stage else _FLOAT32  # peft keeps adapters in float32
    trained_width = adapter_width if num_adapted else width
    if load.fsdp and model.compute_dtype != "float32" and load.trains:
        trained_width = _FLOAT32
    moments = 0 if load.offload else 12 if load.zero_stage else 2 * trained_width
    buckets = 2 if load.world_size > 1 and not load.zero_stage and not load.fsdp else 1

    weights = weight_bytes(shape, model) + num_adapted * adapter_width
    if load.fsdp and not num_adapted:
        weights = count_parameters(shape) * trained_width if load.trains else weights
    gathered = _gathered_to_sample(shape, model, weights, load) if load.gathers else 0
    has_reference = load.keeps_reference and load.trains and not num_adapted
    gradients = (num_trained + valued_trained) * trained_width
    # In the host's memory: gradients with the optimizer, and with z = 3 the weights, the reference's and the critic's too.
    has_gradients = not (load.offload and load.zero_stage >= 2)
    has_weights = not (load.offload and load.zero_stage == 3)
    in_step = min(
        _shared(num_trained + valued_trained, 1, load), _SUB_GROUP if load.zero_stage == 3 else 1 << 62
    )
    has_copies = load.zero_stage > 0 and not load.offload
    return Memory(
        weights=_shared(weights, 3, load) if has_weights else 0,
        gradients=_shared(gradients * buckets, 2, load) if has_gradients else 0,
        optimizer=_shared(num_trained * moments, 1, load),
        update=in_step * (_FLOAT32 + (width if width < _FLOAT32 else 0)) if has_copies else 0,
        reference=_shared(count_parameters(shape) * width, 3, load) if has_reference and has_weights else 0,
        critic=(
            _shared(num_valued * (width if num_adapted else trained_width), 3, load) if has_weights else 0
        )
        + _shared(valued_trained * moments, 1, load),
        others=load.others,
        bucket=_BUCKET * width if load.trains and load.zero_stage and load.device == "cuda" else 0,
        buffers=_gathered_bytes(shape, model, load) if load.trains else 0,
        sampling=max(sampling_bytes(shape, model, load) + gathered, _sync_bytes(shape, model, load)),
        activations=activation_bytes(shape, model, load) if load.trains else 0,
        last_layers=num_embeddings(shape) * width if load.trains and not num_adapted else 0,
        context=0 if load.device == "cpu" else _CONTEXT + (_NCCL if load.world_size > 1 else 0),
        keeps_bucket=load.zero_stage == 3,
        accumulates=load.accumulates or load.world_size > 1,
    )


def _shared(size: int, from_stage: int, load: Load) -> int:
    """Return the part of one rank: of everything with FSDP2, and from that ZeRO stage on."""
    return -(-size // load.world_size) if load.fsdp or load.zero_stage >= from_stage else size


def _gathered_to_sample(shape: ModelShape, model: ModelSettings, weights: int, load: Load) -> int:
    """Return what ZeRO-3 adds to a rank's partition to have whole weights, or FSDP2, which casts them, beside its shards."""
    if load.fsdp:
        return count_parameters(shape) * BYTES_PER_NUMBER[model.compute_dtype]
    return weights - _shared(weights, 3, load)


def _sync_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    """Return what sending the weights to vLLM needs: one weight, gathered, and with its adapters summed in float32."""
    if not load.syncs:
        return 0
    width = BYTES_PER_NUMBER[model.dtype]
    gathered = num_embeddings(shape) * width if load.zero_stage == 3 or load.fsdp else 0
    if not model.lora.r:
        return gathered
    matrix = max(rows * columns for rows, columns in linear_layers(shape).values())
    return max(gathered, matrix * (2 * width + 3 * _FLOAT32))


def _gathered_bytes(shape: ModelShape, model: ModelSettings, load: Load) -> int:
    """Return the weights that ZeRO-3 or FSDP2 gathers for the passes, besides its own partition."""
    width = BYTES_PER_NUMBER[model.compute_dtype]
    if load.fsdp:
        layer = sum(rows * columns for rows, columns in linear_layers(shape).values())
        embeddings = num_embeddings(shape) * (1 if shape.tie_word_embeddings else 2)
        others = embeddings if load.keeps_reference and not model.lora.r else 0
        others += 0 if load.critic is None else num_embeddings(load.critic)
        largest = max(
            layer, num_embeddings(shape)
        )  # embedding and output matrix are parts of their own, unless they are one
        reduced = largest * (width + (_FLOAT32 if width < _FLOAT32 else 0))
        return width * (2 * layer + embeddings + others) + (0 if model.lora.r else reduced)
    if load.zero_stage < 3:
        return 0
    live = min(count_parameters(shape), _REUSED + num_embeddings(shape))
    own = 0 if load.offload else 1  # of the ranks' partitions, which is on the device already
    return live * width * (load.world_size - own) // load.world_size


def readable(size: int) -> str:
    """Return a number of bytes with a unit in powers of 1000, for example 1.5 GB."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
