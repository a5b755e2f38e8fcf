"""Trains a Hugging Face LLaMA folder with PyTorch, transformers and PEFT; prints one JSON object.

    python tests/scripts/train_peer.py MODEL_DIR --rows ROWS.json --method lora|full [settings]

Settings have the names and the meaning of RUN.toml's keys. Rows are taken in the order of the file,
batch after batch, in every epoch: run Paddock with `--shuffle false --validation 0`. To compare a
LoRA run both sides must start from the same adapter: pass one to both as --init-adapter, for
example the one that --save-init writes here.

Prints {"loss", "grad_norm", "lr"} (one number a step: loss before the update, norm before
clipping), "steps", "rows", "trained_tokens", and "final_nll" (the sum of token losses of each row,
run alone, after the last step).
"""

import json

import torch

import peer
import text_rows


def arguments():
    parser = peer.argument_parser(__doc__)
    parser.add_argument("model")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--rows", help="JSON rows of token ids")
    source.add_argument("--data", help="JSONL rows of {prompt, completion}")
    parser.add_argument("--method", choices=("lora", "full"), default="lora")
    parser.add_argument("--dtype", choices=("f32", "f64"), default="f32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of a new adapter")
    parser.add_argument("--optimizer", choices=("adamw", "adam"), default="adamw")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--lr-schedule", choices=peer.SCHEDULES, default="linear")
    parser.add_argument("--warmup-steps", type=int, default=0)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--max-grad-norm", type=float, default=1.0, help="0: no clipping")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a step")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-steps", type=int, default=0, help="0: as --epochs says")
    parser.add_argument("--max-seq-len", type=int, default=0, help="longer rows are dropped")
    parser.add_argument("--lora-rank", type=int, default=8)
    parser.add_argument("--lora-alpha", type=float, default=16.0)
    parser.add_argument("--lora-targets", default="all-linear", help="all-linear or a,b,c")
    parser.add_argument("--rslora", action="store_true")
    parser.add_argument("--init-adapter", help="PEFT folder to start from")
    parser.add_argument("--save-init", help="PEFT folder for the adapter before the first step")
    parser.add_argument("--out", help="folder for the adapter or the model after the last step")
    return parser.parse_args()


def open_model(options):
    model = peer.load_model(options.model, options.dtype)
    if options.method == "full":
        return model
    if options.init_adapter:
        return peer.open_lora(model, options.init_adapter, trainable=True)
    targets = options.lora_targets
    targets = targets if targets == "all-linear" else targets.split(",")
    alpha = int(options.lora_alpha) if options.lora_alpha.is_integer() else options.lora_alpha
    return peer.add_lora(model, options.lora_rank, alpha, targets, options.rslora, options.seed)


def make_batches(rows, options):
    """The rows of each step: in order, the last batch of an epoch may be short."""
    size = options.batch_size
    epoch = [rows[i : i + size] for i in range(0, len(rows), size)]
    steps = options.max_steps or options.epochs * len(epoch)
    return [epoch[step % len(epoch)] for step in range(steps)]


def save(model, folder):
    """In f32, whatever the run computed in."""
    model.to(torch.float32).save_pretrained(folder)


def row_losses(model, rows, options):
    losses = []
    for row in rows:
        peer.fresh_rope(model, options.dtype)
        with peer.in_dtype(options.dtype), torch.no_grad():
            losses.append(peer.row_nll(peer.batch_logits(model, [row])[0], row).sum().item())
    return losses


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.rows:
        rows = peer.read_rows(options.rows)
    else:
        rows = text_rows.read_text_rows(options.model, options.data)
    limit = options.max_seq_len or max(len(row["tokens"]) for row in rows)
    rows = [row for row in rows if len(row["tokens"]) <= limit and row["trained"]]
    model = open_model(options)
    if options.save_init and options.method == "lora":
        save(model, options.save_init)  # rounded to f32 here too, so that both sides start alike
        if options.dtype == "f64":
            model.to(torch.float64)
    batches = make_batches(rows, options)
    settings = {key: getattr(options, key) for key in peer.DEFAULTS if hasattr(options, key)}
    with peer.in_dtype(options.dtype):
        history = peer.train(model, batches, settings)
    history |= {
        "steps": len(batches),
        "rows": len(rows),
        "trained_tokens": sum(len(row["trained"]) for row in rows),
        "final_nll": row_losses(model, rows, options),
    }
    if options.out:
        save(model, options.out)
    print(json.dumps(history))


if __name__ == "__main__":
    main()
