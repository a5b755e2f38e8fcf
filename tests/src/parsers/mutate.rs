//! Random changes to an input, from integers alone: the same seed gives the same inputs everywhere.

use paddock_core::philox::{Philox, Stream};

/// Words that parsers look for, and numbers at which arithmetic overflows.
const WORDS: [&[u8]; 24] = [
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{{",
    b"}}",
    b"{% for i in range(9999999) %}",
    b"|||",
    b"[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":",
    b"null",
    b"NaN",
    b"-1",
    b"1e999",
    b"18446744073709551615",
    b"9223372036854775807",
    b"4294967296",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r\n",
    b"../",
    b"\xed\xa0\x80",
];

/// Longest input that is made.
pub const MOST_BYTES: usize = 1 << 17;

/// A stream of changed inputs.
pub struct Mutator {
    philox: Philox,
    drawn: u64,
}

impl Mutator {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Mutator {
        Mutator { philox: Philox::new(seed, Stream::SAMPLE), drawn: 0 }
    }

    fn below(&mut self, n: usize) -> usize {
        self.drawn += 1;
        self.philox.below(0, self.drawn, n.max(1) as u64) as usize
    }

    fn span(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let most = (bytes.len() - start).min(1 + self.below(64));
        start..start + most
    }

    /// One of `corpus` with a few changes, perhaps joined with another.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, corpus);
        }
        bytes.truncate(MOST_BYTES);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            2 => bytes.truncate(at),
            3 => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            4 => {
                let word = WORDS[self.below(WORDS.len())];
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
            5 => _ = bytes.drain(self.span(&bytes.clone())),
            6 => {
                let part = bytes[self.span(bytes)].to_vec();
                let times = 1 + self.below(64);
                bytes.splice(at..at, part.repeat(times));
            }
            _ => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}
