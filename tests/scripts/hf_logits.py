"""What transformers (and PEFT) compute for rows of token ids, as one JSON object a row.

    python tests/scripts/hf_logits.py MODEL_DIR [ADAPTER_DIR] --rows ROWS.json
        [--data ROWS.jsonl] [--dtype f32|f64] [--greedy N] [--logits]

ROWS.json holds rows of ids (see peer.py; without "trained", all but the first are targets);
--data takes {"prompt", "completion"} lines instead (see text_rows.py). Each row runs alone.
Prints {"row", "tokens", "trained_tokens", "nll", "token_nll"} and, if asked, "greedy", "logits".
"""

import json

import torch

import peer
import text_rows


def arguments():
    parser = peer.argument_parser(__doc__)
    parser.add_argument("model")
    parser.add_argument("adapter", nargs="?")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--rows", help="JSON rows of token ids")
    source.add_argument("--data", help="JSONL rows of text")
    parser.add_argument("--dtype", choices=("f32", "f64"), default="f32")
    parser.add_argument("--greedy", type=int, default=0, metavar="N", help="new tokens a row")
    parser.add_argument("--logits", action="store_true", help="print all logits too")
    return parser.parse_args()


def describe(model, row, options):
    """One row's figures, in a batch of its own."""
    peer.fresh_rope(model, options.dtype)
    with peer.in_dtype(options.dtype), torch.no_grad():
        logits = peer.batch_logits(model, [row])[0]
        nll = peer.row_nll(logits, row)
        result = {
            "tokens": row["tokens"],
            "trained_tokens": len(row["trained"]),
            "nll": nll.sum().item(),
            "token_nll": nll.tolist(),
        }
        if options.greedy:
            peer.fresh_rope(model, options.dtype)
            tokens, lead = peer.greedy(model, row["tokens"], options.greedy, cached=True)
            result |= {"greedy": tokens, "smallest_lead": lead}
        if options.logits:
            result["logits"] = logits.tolist()
    return result


def main():
    options = arguments()
    if options.rows:
        rows = peer.read_rows(options.rows)
    else:
        rows = text_rows.read_text_rows(options.model, options.data)
    model = peer.load_model(options.model, options.dtype)
    if options.adapter:
        model = peer.open_lora(model, options.adapter)
    for number, row in enumerate(rows):
        print(json.dumps({"row": number} | describe(model, row, options)))


if __name__ == "__main__":
    main()
