"""Speed and memory of PyTorch + transformers + PEFT on one training shape; one JSON line.

    python tests/scripts/bench_peer.py --shape DIM,LAYERS,HEADS,KV,HIDDEN,VOCAB --batch B --seq S
        --method lora|full [--rank 16] [--tie] [--weights f32|bf16] [--threads 2] [--compile]
        [--steps 5] [--warmup 2]
    python tests/scripts/bench_peer.py --from FOLDER --method lora|full …

Flags and fields are those of `core-cli bench train`. Rows are random tokens, unpadded, every
position but the first is trained; a step is forward, backward, clipping to norm 1 and AdamW.
Times are medians over --steps; `first_loss` is that of the very first step, before any update.
FOLDER is what `core-cli bench train --keep FOLDER` writes: config.json, model.safetensors and
rows.json, so that model and rows are the same on all sides; --weights is then what PyTorch computes
in. Else both are drawn, in one of the shapes in use (or --preset NAME):

    dim288  288,6,6,6,768,32000     --batch 8 --seq 256
    dim768  768,12,12,12,2048,32000 --batch 4 --seq 512
    1b      2048,22,32,4,5632,32000 --batch 1 --seq 512 (LoRA)
"""

import json
import pathlib
import resource
import statistics
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig

import peer

PRESETS = {
    "dim288": ("288,6,6,6,768,32000", 8, 256),
    "dim768": ("768,12,12,12,2048,32000", 4, 512),
    "1b": ("2048,22,32,4,5632,32000", 1, 512),
}


def arguments():
    parser = peer.argument_parser(__doc__)
    parser.add_argument("--shape")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--seq", type=int)
    parser.add_argument("--preset", choices=tuple(PRESETS))
    parser.add_argument("--from", dest="folder", type=pathlib.Path, help="model and rows to use")
    parser.add_argument("--method", choices=("lora", "full"), required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--tie", action="store_true")
    parser.add_argument("--weights", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    options = parser.parse_args()
    if options.preset:
        shape, batch, seq = PRESETS[options.preset]
        options.shape = options.shape or shape
        options.batch = options.batch or batch
        options.seq = options.seq or seq
    complete = options.shape and options.batch and options.seq
    if options.folder and (options.shape or options.batch or options.seq or options.tie):
        parser.error("--from says shape and rows; leave the flags for them out")
    if not (options.folder or complete):
        parser.error("give --from, --preset, or --shape, --batch and --seq")
    return options


def opened(options, dtype):
    """The model and the rows of a folder; the options say afterwards what they are."""
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=dtype)
    config = model.config
    shape = (
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.intermediate_size,
        config.vocab_size,
    )
    ids = torch.tensor(json.loads((options.folder / "rows.json").read_text()))
    options.shape = ",".join(map(str, shape))
    options.tie = config.tie_word_embeddings
    options.batch, options.seq = ids.shape
    return model, ids


def drawn(options, dtype):
    """A random model of a shape, and random rows."""
    dim, layers, heads, kv, hidden, vocab = map(int, options.shape.split(","))
    config = LlamaConfig(
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        intermediate_size=hidden,
        vocab_size=vocab,
        max_position_embeddings=max(2048, options.seq),
        tie_word_embeddings=options.tie,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model, torch.randint(3, vocab, (options.batch, options.seq))


def build(options):
    """The model, ready to train, its configuration and the rows."""
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[options.weights]
    model, ids = (opened if options.folder else drawn)(options, dtype)
    config = model.config
    if options.method == "lora":
        # B starts at zero, so that the first loss is the base model's.
        model = peer.add_lora(model, options.rank, 2 * options.rank)
    return model.train(), config, ids


def products_per_step(model, config, options):
    """Floating-point operations of the matrix products and of causal attention in one step.

    Each product counts once forward, once for its input's gradient, and once more for its weight's
    where that is trained (the first layer's unneeded input gradient counts too).
    """
    tokens = options.batch * options.seq
    frozen = trained = 0
    for name, value in model.named_parameters():
        if value.ndim == 2 and "embed_tokens" not in name:
            trained += value.numel() * value.requires_grad
            frozen += value.numel() * (not value.requires_grad)
    if options.tie:
        head = config.vocab_size * config.hidden_size
        trained += head * (options.method == "full")
        frozen += head * (options.method == "lora")
    width = config.num_attention_heads * config.head_dim
    attention = config.num_hidden_layers * 2 * 2 * width * tokens * (options.seq + 1) / 2
    return 2 * tokens * (2 * frozen + 3 * trained) + 3 * attention


def one_step(model, optimizer, ids):
    """Seconds of forward (with the loss), backward, and clipping + update; and the loss."""
    marks = [time.perf_counter()]
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    marks.append(time.perf_counter())
    loss.backward()
    marks.append(time.perf_counter())
    torch.nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    marks.append(time.perf_counter())
    return [b - a for a, b in zip(marks, marks[1:])], loss.item()


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model, config, ids = build(options)
    optimizer = peer.make_optimizer(model, peer.DEFAULTS | {"lr": 1e-4})
    flops = products_per_step(model, config, options)
    run = torch.compile(model) if options.compile else model
    made = [one_step(run, optimizer, ids) for _ in range(options.warmup + options.steps)]
    steps = made[options.warmup :]
    forward, backward, update = (statistics.median(s[0][i] for s in steps) for i in range(3))
    seconds = statistics.median(sum(s[0]) for s in steps)
    tokens = options.batch * options.seq
    result = {
        "stack": f"torch {torch.__version__} transformers {transformers.__version__}",
        "mode": "compiled" if options.compile else "eager",
        "shape": options.shape,
        "tie": options.tie,
        "weights": options.weights,
        "batch": options.batch,
        "seq": options.seq,
        "method": options.method,
        "rank": options.rank if options.method == "lora" else None,
        "threads": options.threads,
        "steps": options.steps,
        "tokens_per_s": tokens / seconds,
        "gflops": flops / seconds / 1e9,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "planned_bytes": None,
        "import_rss_bytes": baseline,
        "step_s": seconds,
        "forward_s": forward,
        "backward_s": backward,
        "optimizer_s": update,
        "first_loss": made[0][1],
        "loss": steps[-1][1],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
