//! Equal and nearly equal texts. Near ones are found by MinHash over word three-grams (or words,
//! in very short texts), candidates by banded hashing, and each candidate is checked exactly.

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use sha2::{Digest, Sha256};

/// Hash functions, in bands of rows: 32 bands of 4 find a pair of similarity 0.7 with 99.98 %.
const BANDS: usize = 32;
const ROWS: usize = 4;
/// Words of a shingle.
const SHINGLE: usize = 3;
/// One text in so many: a shingle that more of them hold, as those of a system prompt, tells no twins.
const COMMON_SHARE: usize = 10;
/// Up to so many texts may hold a shingle in any case: in a small set every one counts.
const COMMON_LEAST: usize = 100;
/// Shingles are counted by so many of their first bits, before those that may be common are by all.
const PLACE_BITS: u32 = 22;

/// For each text, the first equal one before it. Blanks and case count.
pub fn exact(texts: &[&str]) -> Vec<Option<usize>> {
    let keys: Vec<[u8; 32]> =
        texts.par_iter().map(|t| Sha256::digest(t.as_bytes()).into()).collect();
    let mut first: FxHashMap<[u8; 32], usize> = FxHashMap::default();
    let mut found = Vec::with_capacity(texts.len());
    for (i, key) in keys.into_iter().enumerate() {
        let known = *first.entry(key).or_insert(i);
        found.push((known != i).then_some(known));
    }
    found
}

/// For each text, the first kept text before it whose similarity (Jaccard, over shingles) is at
/// least `threshold`. Texts with such a twin are not kept themselves, so chains do not drift. What a
/// tenth of the texts have in common does not count, as [`Near::find`] says.
pub fn near(texts: &[&str], threshold: f64) -> Vec<Option<usize>> {
    let mut twins = Near::default();
    twins.push(texts);
    twins.find(threshold)
}

/// Looks for near twins among texts that come some at a time. Of each text only its shingles are
/// kept: 4 bytes a word, and some 150 bytes a text while looking.
#[derive(Default)]
pub struct Near {
    shingles: Vec<u32>,
    /// Where each text's shingles end.
    ends: Vec<usize>,
}

impl Near {
    /// Adds texts.
    pub fn push(&mut self, texts: &[&str]) {
        let sets: Vec<Vec<u32>> = texts.par_iter().map(|text| shingles_of(text)).collect();
        for set in sets {
            self.shingles.extend(set);
            self.ends.push(self.shingles.len());
        }
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Shingles of all texts: what memory grows with.
    pub fn shingles(&self) -> usize {
        self.shingles.len()
    }

    fn of(&self, i: usize) -> &[u32] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.shingles[start..self.ends[i]]
    }

    /// For each text the first kept one before it that is at least this similar. Shingles that stand
    /// in more than 100 texts and more than a tenth of them count only in texts that have no others:
    /// a long part that many texts share would make all of them alike, and each be compared with
    /// every one before it.
    pub fn find(mut self, threshold: f64) -> Vec<Option<usize>> {
        self.leave_out_common();
        let rows = self.len();
        // For each band and text, the nearest text before it in the same bucket; later the nearest
        // kept one. Itself if there is none.
        let mut before: Vec<Vec<u32>> = (0..BANDS).map(|band| self.chain(band)).collect();
        let mut kept = vec![true; rows];
        let mut found = vec![None; rows];
        let mut candidates: Vec<usize> = Vec::new();
        for i in 0..rows {
            if self.of(i).is_empty() {
                continue;
            }
            candidates.clear();
            for chain in &mut before {
                let mut at = first_kept(chain, &kept, i);
                while let Some(j) = at {
                    candidates.push(j);
                    at = first_kept(chain, &kept, j);
                }
            }
            candidates.sort_unstable();
            candidates.dedup();
            let own = self.of(i);
            found[i] = candidates.iter().copied().find(|j| jaccard(self.of(*j), own) >= threshold);
            kept[i] = found[i].is_none();
        }
        found
    }

    /// Shingles that too many texts hold.
    fn common(&self) -> FxHashSet<u32> {
        let most = COMMON_LEAST.max(self.len() / COMMON_SHARE);
        if self.len() <= most {
            return FxHashSet::default();
        }
        // Counted in a fixed number of places first: the different shingles may be very many.
        let place = |shingle: &u32| (*shingle >> (32 - PLACE_BITS)) as usize;
        let mut places = vec![0u32; 1 << PLACE_BITS];
        for shingle in &self.shingles {
            let count = &mut places[place(shingle)];
            *count = count.saturating_add(1);
        }
        let mut counts: FxHashMap<u32, usize> = FxHashMap::default();
        for shingle in self.shingles.iter().filter(|&s| places[place(s)] as usize > most) {
            *counts.entry(*shingle).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count > most).map(|(s, _)| s).collect()
    }

    /// Leaves the common shingles out, except of texts that have no others.
    fn leave_out_common(&mut self) {
        let common = self.common();
        if common.is_empty() {
            return;
        }
        let (mut start, mut kept) = (0, 0);
        for end in &mut self.ends {
            let own = start..*end;
            let tells = self.shingles[own.clone()].iter().any(|s| !common.contains(s));
            for at in own {
                let shingle = self.shingles[at];
                if !tells || !common.contains(&shingle) {
                    self.shingles[kept] = shingle;
                    kept += 1;
                }
            }
            (start, *end) = (*end, kept);
        }
        self.shingles.truncate(kept);
    }

    /// For each text the nearest one before it whose hash of this band is the same; itself if none.
    fn chain(&self, band: usize) -> Vec<u32> {
        let hash = |i: usize| (band_of(self.of(i), band), i as u32);
        let mut order: Vec<(u64, u32)> = (0..self.len()).into_par_iter().map(hash).collect();
        order.par_sort_unstable();
        let mut before: Vec<u32> = (0..self.len() as u32).collect();
        for pair in order.windows(2) {
            if pair[0].0 == pair[1].0 {
                before[pair[1].1 as usize] = pair[0].1;
            }
        }
        before
    }
}

/// The nearest kept text before `i` in a chain. What was passed over is not passed again.
fn first_kept(chain: &mut [u32], kept: &[bool], i: usize) -> Option<usize> {
    let mut at = i;
    loop {
        let next = chain[at] as usize;
        if next == at {
            chain[i] = i as u32;
            return None;
        }
        if kept[next] {
            chain[i] = next as u32;
            return Some(next);
        }
        at = next;
    }
}

/// Fewest words of a text that says something by being equal to another.
const TELLING_WORDS: usize = 5;

/// Hash of a text's words, whatever case and punctuation; 0 for texts of a few words.
pub fn text_key(text: &str) -> u64 {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    let (mut hash, mut count) = (0xcbf2_9ce4_8422_2325u64, 0);
    for word in words {
        count += 1;
        for byte in word.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    if count < TELLING_WORDS { 0 } else { mix(hash) }
}

/// Similarity of two texts from 0 to 1: common shingles among all.
pub fn similarity(a: &str, b: &str) -> f64 {
    jaccard(&shingles_of(a), &shingles_of(b))
}

/// Hashes of the shingles, ascending, each once. Case and punctuation do not count.
fn shingles_of(text: &str) -> Vec<u32> {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let hash = |words: &[&str]| {
        let hash = words
            .iter()
            .flat_map(|w| w.bytes().chain([0]))
            .fold(0xcbf2_9ce4_8422_2325u64, |h, byte| {
                (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        (mix(hash) >> 32) as u32
    };
    let mut list: Vec<u32> = if words.len() < SHINGLE {
        words.chunks(1).map(hash).collect()
    } else {
        words.windows(SHINGLE).map(hash).collect()
    };
    list.sort_unstable();
    list.dedup();
    list
}

/// Hash of a band: of the least values that its hash functions give the shingles.
fn band_of(shingles: &[u32], band: usize) -> u64 {
    let mut least = [u64::MAX; ROWS];
    for shingle in shingles {
        for (row, least) in least.iter_mut().enumerate() {
            let function = mix((band * ROWS + row) as u64 + 1);
            *least = (*least).min(mix(u64::from(*shingle) ^ function));
        }
    }
    least.iter().fold(0, |h, value| mix(h ^ value))
}

/// A good mixing of 64 bits (the finaliser of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                (i, j, common) = (i + 1, j + 1, common + 1);
            }
        }
    }
    let all = a.len() + b.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}
