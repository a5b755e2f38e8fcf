"""ROUGE by rouge-score and BLEU by sacrebleu for text pairs; writes tests/fixtures/metrics.json.

    python tests/scripts/make_metrics_golden.py
"""

import json
import pathlib

from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

OUT = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "metrics.json"
KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]

# (what a model wrote, what was wanted)
PAIRS = [
    ("The mare is in the stable.", "The mare is in the stable."),
    ("The mare is in the stable.", "The foal sleeps in the big stable."),
    ("the mare is in the stable", "The Mare Is In The Stable!"),
    ("", "Nothing was written."),
    ("Nothing was wanted.", ""),
    ("", ""),
    ("yes", "yes"),
    ("Yes.", "no"),
    ("positive", "Positive"),
    ("...", "?!"),
    ("A", "a b"),
    ("hay hay hay hay", "hay oats"),
    ("hay oats", "hay hay hay hay"),
    ("oats and hay and straw", "straw and hay and oats"),
    ("He was running happily between the ponies.", "He runs happy between a pony and a pony."),
    ("generalization of relational operators", "generalizations relate to operating operations"),
    ("She rode 12 miles, then 3.5 more.", "She rode 12 miles and then 3.5 miles more."),
    ("It costs $1,250.00 (or 5% less).", "It costs $1,250.00, or 5 % less."),
    ("well-known half-brother's saddle", "well known half brother 's saddle"),
    ("Don't they've we'll", "Do not they have we will"),
    ("Der Hengst läuft über die Straße.", "Die Stute läuft über die große Straße."),
    ("小马过河", "小马过了河"),
    ("naïve café", "naive cafe"),
    ("🐎 runs", "🐴 runs"),
    ("one\ntwo three\nfour", "one two\nthree\nfour five"),
    ("The gate was open.\nThe horses left.\n", "The horses left.\nSomeone had opened the gate."),
    ("a b c d e f g h", "a c e g b d f h"),
    ("first point\n\n\nsecond point", "second point\nfirst point"),
    ("  spaces   around   words  ", "spaces around words"),
    ("tabs\tand\nlines", "tabs and lines"),
    ("&quot;Whoa&quot; &amp; stop &lt;here&gt;", '"Whoa" & stop <here>'),
    ("foo_bar snake_case x1 x2", "foo bar snake case x1 x2"),
    ("U.S. e.g. i.e. etc.", "US eg ie etc"),
    ("A goat, a goat, two hens for a goat!", "A goat! A goat! Three hens for a goat."),
    ("Answer: B", "B"),
    ("The answer is 42", "42"),
    (
        "The committee agreed that the old barn should be repaired before winter comes.",
        "The committee decided to repair the old barn before the winter.",
    ),
    (
        "Feed the horse twice a day, give it fresh water, and brush its coat every morning.",
        "Give the horse fresh water, feed it twice daily, and brush its coat in the morning.",
    ),
    (
        "Rain fell all night. By dawn the meadow was flooded and the sheep stood on the hill.",
        "It rained through the night.\nThe meadow was under water by dawn.\nSheep had gone uphill.",
    ),
    (
        "we had rain or no rain and so the hay is late",
        "we had rain or no rain and so the hay is late again",
    ),
    ("cats dogs mice geese", "mare foal colt filly"),
    ("x" * 30 + " end", "x" * 30 + " end"),
]
WORDS = """
    harnesses berries pies harness reins tried need freed shared shed grazing swing inflated
    doubled prized trotting planned calling tossing buzzed trailing baling lucky shy dry
    traditional fictional optional infancy vacancy stabilizer comfortably basically patiently
    agilely hideously domestication dedication curator tribalism inventiveness thankfulness
    seriousness locality activity flexibility duplicate normative personalize publicity identical
    helpful kindness survival endurance reference trainer metallic portable sensible coolant
    settlement equipment excellent donation nationalism calibrate regularity numerous creative
    modernize debate late fleece enroll toll saying prying buying trays views winnings farrings
    horses horse riding rode rides enjoy enjoyed enjoyment dried dries tries spry cried day days
    farmers farming possibly happily readily winner winning wins trees free was have
    organization organisation oxen geese hooves hoofed whinnied neighing canter cantered galloping
    generated generator generic generously a at the eed eing sses 2nd x1 ox
""".split()


def rouge():
    result = {}
    for label, stem in (("plain", False), ("stemmed", True)):
        scorer = RougeScorer(KINDS, use_stemmer=stem)
        scores = [scorer.score(target=wanted, prediction=wrote) for wrote, wanted in PAIRS]
        result[label] = {
            kind: [[s[kind].precision, s[kind].recall, s[kind].fmeasure] for s in scores]
            for kind in KINDS
        }
    return result


def corpus_bleu(pairs, **settings):
    wrote, wanted = [p[0] for p in pairs], [p[1] for p in pairs]
    score = BLEU(**settings).corpus_score(wrote, [wanted])
    return {
        "settings": settings,
        "score": score.score,
        "precisions": score.precisions,
        "counts": score.counts,
        "totals": score.totals,
        "brevity_penalty": score.bp,
        "wrote_tokens": score.sys_len,
        "wanted_tokens": score.ref_len,
    }


def sentence_bleu():
    metric = BLEU(effective_order=True)
    return [metric.sentence_score(wrote, [wanted]).score for wrote, wanted in PAIRS]


def two_references():
    """Each text against two references: the wanted one and that of the next pair."""
    wrote, wanted = [p[0] for p in PAIRS], [p[1] for p in PAIRS]
    score = BLEU().corpus_score(wrote, [wanted, wanted[1:] + wanted[:1]])
    return {"score": score.score, "wanted_tokens": score.ref_len, "counts": score.counts}


def main():
    stemmer, tokenizer = PorterStemmer(), Tokenizer13a()
    sections = {
        "pairs": PAIRS,
        "rouge": rouge(),
        "stems": [[word, stemmer.stem(word)] for word in WORDS],
        "tokens_13a": [tokenizer(text.rstrip()) for text, _ in PAIRS],
        "bleu": [
            corpus_bleu(PAIRS),
            corpus_bleu(PAIRS, lowercase=True),
            corpus_bleu(PAIRS, tokenize="none"),
            corpus_bleu(PAIRS, smooth_method="none"),
            corpus_bleu(PAIRS[36:39]),
            corpus_bleu(PAIRS[40:41]),
            corpus_bleu(PAIRS[3:4]),
        ],
        "bleu_slices": [[0, len(PAIRS)]] * 4 + [[36, 39], [40, 41], [3, 4]],
        "sentence_bleu": sentence_bleu(),
        "bleu_two_references": two_references(),
    }
    lines = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in sections.items()]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
