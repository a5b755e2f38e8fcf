//! The 32 banks of shared memory: how many passes an access takes.

use crate::counters::Counters;

/// Counts the passes that one warp instruction needs through the 32 banks of four bytes. An access
/// of 8 bytes a lane goes by half warps, of 16 bytes by quarter warps, as the hardware does it.
pub(crate) fn count_passes(
    addresses: &[u64; 32],
    active: u32,
    bytes: u32,
    counters: &mut Counters,
) {
    let lanes_a_phase = match bytes {
        16 => 8,
        8 => 16,
        _ => 32,
    };
    for phase in 0..32 / lanes_a_phase {
        let lanes = phase * lanes_a_phase..(phase + 1) * lanes_a_phase;
        let mut words = [0_u64; 32];
        let mut count = 0;
        for lane in lanes.filter(|lane| active >> lane & 1 == 1) {
            for word in 0..u64::from(bytes.div_ceil(4)) {
                words[count] = addresses[lane] / 4 + word;
                count += 1;
            }
        }
        if count > 0 {
            let passes = passes(&mut words[..count]);
            counters.shared_passes += passes;
            counters.bank_conflicts += passes - 1;
        }
    }
}

/// Most distinct words in one bank.
fn passes(words: &mut [u64]) -> u64 {
    let mut first = [u64::MAX; 32];
    let clean = words.iter().all(|&word| {
        let slot = &mut first[(word % 32) as usize];
        if *slot == u64::MAX {
            *slot = word;
        }
        *slot == word
    });
    if clean {
        return 1;
    }
    words.sort_unstable();
    let mut in_bank = [0_u64; 32];
    let mut before = u64::MAX;
    for &word in words.iter() {
        in_bank[(word % 32) as usize] += u64::from(word != before);
        before = word;
    }
    in_bank.into_iter().max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflicts(bytes: u32, address: impl Fn(u64) -> u64) -> (u64, u64) {
        let mut counters = Counters::default();
        let addresses = std::array::from_fn(|lane| address(lane as u64));
        count_passes(&addresses, !0, bytes, &mut counters);
        (counters.shared_passes, counters.bank_conflicts)
    }

    #[test]
    fn bank_conflicts_by_hand() {
        assert_eq!(conflicts(4, |lane| 4 * lane), (1, 0));
        assert_eq!(conflicts(4, |_| 64), (1, 0), "a broadcast");
        assert_eq!(conflicts(4, |lane| 8 * lane), (2, 1));
        assert_eq!(conflicts(4, |lane| 128 * lane), (32, 31));
        assert_eq!(conflicts(2, |lane| 2 * lane), (1, 0), "two halves of one word");
        assert_eq!(conflicts(8, |lane| 8 * lane), (2, 0));
        assert_eq!(conflicts(16, |lane| 16 * lane), (4, 0));
        assert_eq!(conflicts(16, |lane| 128 * lane), (32, 28), "rows of 128 bytes, not swizzled");
        assert_eq!(conflicts(16, |lane| 128 * lane + 16 * (lane % 8)), (4, 0), "swizzled");
    }
}
