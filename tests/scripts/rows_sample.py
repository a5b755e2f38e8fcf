"""A few consecutive batches that stand for all of a file: as much padding, as many tokens a row."""


def padded_and_plain(lengths, batch):
    """Tokens of each batch, padded to its longest row and without padding."""
    batches = [lengths[i : i + batch] for i in range(0, len(lengths), batch)]
    return [(len(rows) * max(rows), sum(rows)) for rows in batches if len(rows) == batch]


def first_of_window(lengths, batch, batches):
    """Where the batches begin whose means of padded and plain tokens are nearest to the whole's."""
    counts = padded_and_plain(lengths, batch)
    if len(counts) < batches:
        raise SystemExit(f"{batches} batches of {batch} rows were asked for; the file has {len(counts)}")
    padded, plain = (sum(column) / len(counts) for column in zip(*counts))

    def distance(first):
        window = counts[first : first + batches]
        own = [sum(column) / batches for column in zip(*window)]
        return abs(own[0] / padded - 1) + abs(own[1] / plain - 1)

    return min(range(len(counts) - batches + 1), key=distance)


def in_words(lengths, batch, first, batches):
    """How like the whole file the window is."""
    counts = padded_and_plain(lengths, batch)
    parts = []
    for name, some in (("these", counts[first : first + batches]), ("all", counts)):
        padded, plain = (sum(column) / len(some) for column in zip(*some))
        parts.append(f"{name} {len(some)}: {plain:,.0f} tokens a batch, {padded / plain:.2f} times that padded")
    return f"Batches from {first + 1} on ({'; '.join(parts)}).\n\n"
