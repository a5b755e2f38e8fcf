//! mbarriers: barriers in shared memory that count arrivals of threads and bytes of copies.
//!
//! A phase ends when no arrival is pending and no byte is outstanding. Bytes may come before they
//! are expected; the outstanding count is negative then.

use crate::clock::{Clocks, MBARRIERS, Who};
use crate::error::FaultKind;

/// Most arrivals of a phase.
const MOST_ARRIVALS: u32 = (1 << 20) - 1;
/// Most bytes outstanding, either way.
const MOST_BYTES: i64 = (1 << 20) - 1;

/// One mbarrier.
pub(crate) struct Mbarrier {
    pub(crate) address: u64,
    /// Arrivals that each phase needs, and those that this one still needs.
    expected: u32,
    pending: u32,
    /// Bytes outstanding in this phase.
    bytes: i64,
    /// Phases that have ended.
    pub(crate) phase: u32,
    /// What those know who arrived in this phase, and in those before.
    gathering: Clocks,
    pub(crate) released: Clocks,
    /// Who initialised it: component, lane, clock.
    by: (usize, u32, u32),
    /// Whether asynchronous copies may know of it.
    fenced: bool,
    /// The last phase, counted from 1, that bytes came in.
    filled: u32,
    /// The last phase that somebody saw the end of.
    seen: u32,
}

impl Mbarrier {
    fn wrong(&self, problem: String) -> FaultKind {
        FaultKind::Mbarrier { address: self.address, problem }
    }

    /// In words: what this phase still needs.
    pub(crate) fn describe(&self) -> String {
        format!(
            "phase {} (parity {}) needs {} of {} arrivals and {} bytes",
            self.phase,
            self.phase % 2,
            self.pending,
            self.expected,
            self.bytes
        )
    }

    /// `count` arrivals of threads that know `clocks`. True if that ends the phase.
    pub(crate) fn arrive(&mut self, count: u32, clocks: &Clocks) -> Result<bool, FaultKind> {
        if count == 0 || count > self.pending {
            let text = format!("{count} arrivals, but {}", self.describe());
            return Err(self.wrong(text));
        }
        self.pending -= count;
        self.gathering.join(clocks);
        Ok(self.settle())
    }

    /// `bytes` more must come before the phase ends.
    pub(crate) fn expect(&mut self, bytes: u32) -> Result<(), FaultKind> {
        self.bytes += i64::from(bytes);
        self.check_bytes()
    }

    /// `bytes` have come. True if that ends the phase.
    pub(crate) fn complete(&mut self, bytes: u32) -> Result<bool, FaultKind> {
        self.bytes -= i64::from(bytes);
        self.filled = self.phase + 1;
        self.check_bytes()?;
        Ok(self.settle())
    }

    fn check_bytes(&self) -> Result<(), FaultKind> {
        if self.bytes.abs() > MOST_BYTES {
            let text = format!("{} bytes outstanding; at most {MOST_BYTES}", self.bytes);
            return Err(self.wrong(text));
        }
        Ok(())
    }

    fn settle(&mut self) -> bool {
        let over = self.pending == 0 && self.bytes == 0;
        if over {
            self.phase += 1;
            self.pending = self.expected;
            self.released.join(&self.gathering);
        }
        over
    }

    /// One thread less arrives from the next phase on.
    pub(crate) fn drop_out(&mut self, count: u32) -> Result<(), FaultKind> {
        match self.expected.checked_sub(count) {
            Some(left) => {
                self.expected = left;
                Ok(())
            }
            None => Err(self.wrong(format!("{count} threads drop out of {}", self.expected))),
        }
    }

    /// Somebody has seen the end of all phases so far.
    pub(crate) fn note_seen(&mut self) {
        self.seen = self.phase;
    }
}

/// The mbarriers of a CTA.
pub(crate) struct Mbarriers {
    slots: Vec<Option<Mbarrier>>,
    /// Which eight bytes of shared memory hold one.
    words: Vec<bool>,
    live: usize,
}

impl Mbarriers {
    pub(crate) fn new(size: u32) -> Self {
        Self { slots: Vec::new(), words: vec![false; size.div_ceil(8) as usize], live: 0 }
    }

    pub(crate) fn reset(&mut self) {
        if !self.slots.is_empty() {
            self.slots.clear();
            self.words.fill(false);
            self.live = 0;
        }
    }

    /// Where the mbarrier in `slot` is.
    pub(crate) fn address(&self, slot: usize) -> u64 {
        self.slots.get(slot).and_then(Option::as_ref).map_or(0, |barrier| barrier.address)
    }

    /// Ordinary accesses must not touch an mbarrier.
    pub(crate) fn keep_off(&self, start: u64, end: u64, verb: &str) -> Result<(), FaultKind> {
        if self.live == 0 {
            return Ok(());
        }
        match (start / 8..end.div_ceil(8)).find(|&word| self.words[word as usize]) {
            None => Ok(()),
            Some(word) => {
                let problem = format!("a {verb}; only mbarrier instructions may touch it");
                Err(FaultKind::Mbarrier { address: 8 * word, problem })
            }
        }
    }

    fn place(&self, address: u64) -> Result<usize, FaultKind> {
        if !address.is_multiple_of(8) {
            return Err(FaultKind::Misaligned { space: "shared", address, bytes: 8 });
        }
        if address / 8 >= self.words.len() as u64 {
            let detail = format!("the CTA has {} bytes of shared memory", 8 * self.words.len());
            let (access, space, bytes) = ("mbarrier", "shared", 8);
            return Err(FaultKind::OutOfBounds { access, space, address, bytes, detail });
        }
        Ok((address / 8) as usize)
    }

    pub(crate) fn init(&mut self, address: u64, count: u32, who: &Who) -> Result<(), FaultKind> {
        let word = self.place(address)?;
        let wrong = |problem: String| Err(FaultKind::Mbarrier { address, problem });
        if self.words[word] {
            return wrong("initialised a second time without mbarrier.inval".to_string());
        }
        if count == 0 || count > MOST_ARRIVALS {
            return wrong(format!("{count} arrivals; 1 to {MOST_ARRIVALS} are possible"));
        }
        if self.slots.len() == MBARRIERS {
            return wrong(format!("more than {MBARRIERS} mbarriers in a CTA are not supported"));
        }
        self.words[word] = true;
        self.live += 1;
        self.slots.push(Some(Mbarrier {
            address,
            expected: count,
            pending: count,
            bytes: 0,
            phase: 0,
            gathering: Clocks::default(),
            released: Clocks::default(),
            by: (who.warp, who.lane, who.now()),
            fenced: false,
            filled: 0,
            seen: 0,
        }));
        Ok(())
    }

    pub(crate) fn invalidate(&mut self, address: u64, who: &Who) -> Result<(), FaultKind> {
        let slot = self.find(address, who)?;
        self.words[(address / 8) as usize] = false;
        self.live -= 1;
        self.slots[slot] = None;
        Ok(())
    }

    /// The mbarrier at `address`, whose initialisation `who` must know of.
    pub(crate) fn find(&self, address: u64, who: &Who) -> Result<usize, FaultKind> {
        self.place(address)?;
        let here = |slot: &Option<Mbarrier>| {
            slot.as_ref().is_some_and(|barrier| barrier.address == address)
        };
        let slot = self.slots.iter().position(here).ok_or_else(|| {
            let problem = "there is none: it has not been initialised".to_string();
            FaultKind::Mbarrier { address, problem }
        })?;
        let (component, lane, then) = self.get(slot).map_or((0, 0, 0), |barrier| barrier.by);
        if !who.is_after(component, lane, then) {
            let problem = "used with no barrier between mbarrier.init and here".to_string();
            return Err(FaultKind::Mbarrier { address, problem });
        }
        Ok(slot)
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Mbarrier> {
        self.slots.get(slot).and_then(Option::as_ref)
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Mbarrier> {
        self.slots.get_mut(slot).and_then(Option::as_mut)
    }

    /// `fence.mbarrier_init` (or `fence.proxy.async`) by this warp: copies may know of those
    /// mbarriers that it initialised.
    pub(crate) fn fence(&mut self, warp: usize) {
        let own = self.slots.iter_mut().flatten().filter(|barrier| barrier.by.0 == warp);
        own.for_each(|barrier| barrier.fenced = true);
    }

    /// Copies may use the mbarrier only behind a fence.
    pub(crate) fn check_fenced(&self, slot: usize) -> Result<(), FaultKind> {
        match self.get(slot) {
            Some(barrier) if !barrier.fenced => Err(barrier.wrong(
                "used by a copy with no fence.mbarrier_init or fence.proxy.async since \
                 mbarrier.init"
                    .to_string(),
            )),
            _ => Ok(()),
        }
    }

    /// At the CTA's end nothing may be on its way.
    pub(crate) fn check_end(&self) -> Result<(), FaultKind> {
        for barrier in self.slots.iter().flatten() {
            if barrier.bytes != 0 {
                let text = format!("the CTA ends, but {}", barrier.describe());
                return Err(barrier.wrong(text));
            }
            if barrier.filled > barrier.seen {
                let text = format!(
                    "the CTA ends and nobody waited for the bytes of phase {}",
                    barrier.filled - 1
                );
                return Err(barrier.wrong(text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Layout;

    fn one(count: u32) -> (Mbarriers, Clocks) {
        let layout = Layout { warps: 1, ctas: 1, asynchronous: true };
        let mut clocks = Clocks::default();
        clocks.reset(&layout);
        let mut barriers = Mbarriers::new(64);
        let who = Who { warp: 0, lane: 0, clocks: &clocks, met: 0 };
        barriers.init(8, count, &who).unwrap();
        (barriers, clocks)
    }

    #[test]
    fn a_phase_needs_arrivals_and_bytes() {
        let (mut barriers, clocks) = one(2);
        let barrier = barriers.get_mut(0).unwrap();
        assert_eq!(barrier.arrive(1, &clocks), Ok(false));
        barrier.expect(96).unwrap();
        assert_eq!(barrier.arrive(1, &clocks), Ok(false));
        assert_eq!(barrier.complete(64), Ok(false));
        assert_eq!((barrier.phase, barrier.complete(32)), (0, Ok(true)));
        assert_eq!((barrier.phase, barrier.pending), (1, 2));
    }

    #[test]
    fn bytes_may_come_first() {
        let (mut barriers, clocks) = one(1);
        let barrier = barriers.get_mut(0).unwrap();
        assert_eq!(barrier.complete(128), Ok(false));
        barrier.expect(128).unwrap();
        assert_eq!(barrier.arrive(1, &clocks), Ok(true));
    }

    #[test]
    fn too_much_is_refused() {
        let (mut barriers, clocks) = one(1);
        let barrier = barriers.get_mut(0).unwrap();
        assert!(barrier.arrive(2, &clocks).is_err());
        assert!(barrier.expect(1 << 20).is_err());
        assert!(barriers.keep_off(0, 8, "read").is_ok());
        assert!(barriers.keep_off(4, 12, "read").is_err());
        let end = barriers.check_end().unwrap_err();
        assert!(end.to_string().contains("the CTA ends, but phase 0"), "{end}");
    }
}
