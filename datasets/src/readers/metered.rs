//! What stands between a table's file and the CSV parser: it bounds what one row may take, and
//! notices a file that ends within quotes, which the parser accepts as the end of the last row.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the reader of rows and the source of their bytes both look at.
#[derive(Debug, Default)]
pub struct Meter {
    allowance: AtomicU64,
    ended_in_quotes: AtomicBool,
}

impl Meter {
    /// What the parser may read ahead beyond the row.
    const SLACK: u64 = 1 << 20;

    /// Allows another row of at most `limit` bytes.
    pub fn refill(&self, limit: usize) {
        self.allowance.store(limit as u64 + Self::SLACK, Ordering::Relaxed);
    }

    /// Whether the row took all that it may.
    pub fn is_used_up(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 0
    }

    /// Whether the file ended behind a quote that was never closed: the row that was read last is
    /// not whole, and may hold many others.
    pub fn ended_in_quotes(&self) -> bool {
        self.ended_in_quotes.load(Ordering::Relaxed)
    }
}

/// The bytes of a table, as many as its meter allows.
pub struct Metered {
    reader: Box<dyn BufRead + Send>,
    meter: Arc<Meter>,
    quotes: Option<Quotes>,
}

impl Metered {
    /// Reads `reader`; `delimiter` if quotes mean something.
    pub fn new(reader: Box<dyn BufRead + Send>, delimiter: Option<u8>, meter: Arc<Meter>) -> Self {
        let quotes = delimiter.map(|delimiter| Quotes {
            delimiter,
            open: false,
            before: b'\n',
            closed: false,
        });
        Self { reader, meter, quotes }
    }
}

impl Read for Metered {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.meter.allowance.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::other("the row is larger than the row limit"));
        }
        let take = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.reader.read(&mut out[..take])?;
        self.meter.allowance.fetch_sub(n as u64, Ordering::Relaxed);
        if let Some(quotes) = &mut self.quotes {
            quotes.follow(&out[..n]);
            // The parser asks for more only within a row, so that this is the row which it is at.
            if n == 0 && !out.is_empty() {
                self.meter.ended_in_quotes.store(quotes.open, Ordering::Relaxed);
            }
        }
        Ok(n)
    }
}

/// Whether the bytes so far end within quotes, as the CSV parser takes them: a quote opens at the
/// beginning of a field only; the next one closes; one straight behind that opens again (a doubled
/// quote).
struct Quotes {
    delimiter: u8,
    open: bool,
    before: u8,
    /// Whether the byte before is a quote that closed.
    closed: bool,
}

impl Quotes {
    fn follow(&mut self, bytes: &[u8]) {
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(|&b| b == b'"').map(|i| from + i) {
            if at > from {
                (self.before, self.closed) = (bytes[at - 1], false);
            }
            let begins = self.before == self.delimiter || matches!(self.before, b'\n' | b'\r');
            (self.open, self.closed) = (!self.open && (begins || self.closed), self.open);
            self.before = b'"';
            from = at + 1;
        }
        if let Some(&last) = bytes[from..].last() {
            (self.before, self.closed) = (last, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Quotes;

    /// Every text of six of these bytes: the parser reads a line behind it as a row of its own
    /// exactly if it did not end within quotes.
    #[test]
    fn f28_open_quotes_are_told_as_the_parser_takes_them() {
        let mut open = 0;
        for text in (0..6).fold(vec![String::new()], |all, _| {
            all.iter()
                .flat_map(|t| ["\"", ",", "a", "\n", "\r"].map(|c| format!("{t}{c}")))
                .collect()
        }) {
            let followed = |pieces: &mut dyn Iterator<Item = &[u8]>| {
                let mut quotes =
                    Quotes { delimiter: b',', open: false, before: b'\n', closed: false };
                pieces.for_each(|piece| quotes.follow(piece));
                quotes.open
            };
            let whole = followed(&mut std::iter::once(text.as_bytes()));
            assert_eq!(whole, followed(&mut text.as_bytes().chunks(1)), "{text:?}");
            let mut builder = csv::ReaderBuilder::new();
            builder.has_headers(false).flexible(true);
            let behind = format!("{text}\nz\n");
            let rows = builder.from_reader(behind.as_bytes()).into_byte_records();
            let last = rows.last().expect("a row").expect("readable");
            assert_eq!(whole, last != vec!["z"], "{text:?}: {last:?}");
            open += u32::from(whole);
        }
        assert!(open > 1000, "{open}");
    }
}
