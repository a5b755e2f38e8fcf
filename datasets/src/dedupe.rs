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
/// least `threshold`. Texts with such a twin are not kept themselves, so chains do not drift.
pub fn near(texts: &[&str], threshold: f64) -> Vec<Option<usize>> {
    let shingles: Vec<Vec<u64>> = texts.par_iter().map(|text| shingles_of(text)).collect();
    let bands: Vec<[u64; BANDS]> = shingles.par_iter().map(|s| bands_of(s)).collect();
    let mut buckets: FxHashMap<(usize, u64), Vec<usize>> = FxHashMap::default();
    let mut found = Vec::with_capacity(texts.len());
    for (i, own) in bands.iter().enumerate() {
        let mut candidates: Vec<usize> = Vec::new();
        if !shingles[i].is_empty() {
            let buckets_of =
                own.iter().enumerate().filter_map(|band| buckets.get(&(band.0, *band.1)));
            candidates.extend(buckets_of.flatten());
            candidates.sort_unstable();
            candidates.dedup();
        }
        let twin =
            candidates.into_iter().find(|j| jaccard(&shingles[*j], &shingles[i]) >= threshold);
        if twin.is_none() && !shingles[i].is_empty() {
            for (band, hash) in own.iter().enumerate() {
                buckets.entry((band, *hash)).or_default().push(i);
            }
        }
        found.push(twin);
    }
    found
}

/// Similarity of two texts from 0 to 1: common shingles among all.
pub fn similarity(a: &str, b: &str) -> f64 {
    jaccard(&shingles_of(a), &shingles_of(b))
}

/// Hashes of the shingles, ascending, each once. Case and punctuation do not count.
fn shingles_of(text: &str) -> Vec<u64> {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let hash = |words: &[&str]| {
        words.iter().flat_map(|w| w.bytes().chain([0])).fold(0xcbf2_9ce4_8422_2325, |h, byte| {
            (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let set: FxHashSet<u64> = if words.len() < SHINGLE {
        words.chunks(1).map(hash).collect()
    } else {
        words.windows(SHINGLE).map(hash).collect()
    };
    let mut list: Vec<u64> = set.into_iter().collect();
    list.sort_unstable();
    list
}

fn bands_of(shingles: &[u64]) -> [u64; BANDS] {
    let mut least = [u64::MAX; BANDS * ROWS];
    for shingle in shingles {
        for (i, least) in least.iter_mut().enumerate() {
            *least = (*least).min(mix(shingle ^ mix(i as u64 + 1)));
        }
    }
    std::array::from_fn(|band| {
        least[band * ROWS..(band + 1) * ROWS].iter().fold(0, |h, value| mix(h ^ value))
    })
}

/// A good mixing of 64 bits (the finaliser of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn jaccard(a: &[u64], b: &[u64]) -> f64 {
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
