"""Speed and memory of PyTorch + transformers + PEFT on real rows; one JSON line.

    python tests/scripts/bench_rows.py --model FOLDER --rows FILE --mode padded|packed
        [--batch 16] [--rank 16] [--threads 2]

FILE holds {"prompt": …, "completion": …}, a JSON object a line (`core-cli data convert --template`
writes it). A step is one batch of rows in the file's order: forward, backward, clipping to norm 1
and AdamW, with LoRA on all linear layers. `padded` is the collator's default, padding to the
longest row of the batch; `packed` puts the rows of a batch behind each other with a mask of blocks
and positions that begin again, so that nothing is padded. The first batch warms up and does not
count.
"""

import json
import resource
import statistics
import time

import torch
import transformers

import peer
import text_rows


def arguments():
    parser = peer.argument_parser(__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--mode", choices=("padded", "packed"), required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def labels_of(row):
    trained = set(row["trained"])
    return [token if p in trained else -100 for p, token in enumerate(row["tokens"])]


def padded(rows):
    longest = max(len(row["tokens"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        n = len(row["tokens"])
        ids[i, :n] = torch.tensor(row["tokens"])
        labels[i, :n] = torch.tensor(labels_of(row))
        mask[i, :n] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def packed(rows):
    ids = [token for row in rows for token in row["tokens"]]
    labels = [label for row in rows for label in labels_of(row)]
    positions = [p for row in rows for p in range(len(row["tokens"]))]
    block = torch.tensor([i for i, row in enumerate(rows) for _ in row["tokens"]])
    n = len(ids)
    seen = (block[:, None] == block[None, :]) & torch.ones(n, n, dtype=torch.bool).tril()
    mask = torch.zeros(n, n).masked_fill(~seen, torch.finfo(torch.float32).min)
    return {
        "input_ids": torch.tensor([ids]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": mask[None, None],
    }


def one_step(model, optimizer, rows, mode):
    """Seconds of a whole step from token rows on, and its loss."""
    start = time.perf_counter()
    inputs = {"padded": padded, "packed": packed}[mode](rows)
    loss = model(**inputs, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - start, loss.item()


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    model = peer.add_lora(peer.load_model(options.model), options.rank, 2 * options.rank).train()
    optimizer = peer.make_optimizer(model, peer.DEFAULTS | {"lr": 1e-4})
    rows = text_rows.read_text_rows(options.model, options.rows)
    batches = [rows[i : i + options.batch] for i in range(0, len(rows), options.batch)]
    _, first_loss = one_step(model, optimizer, batches[0], options.mode)
    seconds = [one_step(model, optimizer, batch, options.mode)[0] for batch in batches[1:]]
    done = sum(len(batch) for batch in batches[1:])
    tokens = sum(len(row["tokens"]) for batch in batches[1:] for row in batch)
    result = {
        "stack": f"torch {torch.__version__} transformers {transformers.__version__}",
        "mode": options.mode,
        "rows": done,
        "tokens": tokens,
        "rows_per_s": done / sum(seconds),
        "median_step_s": statistics.median(seconds),
        "first_loss": first_loss,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
