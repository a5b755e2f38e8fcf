//! Slots: places in planned memory, named by region, offset and length, never by a pointer.

/// The kinds of planned memory. A back-end gives each one buffer (or several) and its element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Region {
    /// Parameters being trained (f32 master values).
    Params,
    /// Gradients of `Params`, at the same offsets.
    Grads,
    /// Adam's first moments (`0..P`), then second moments (`P..2P`).
    Moments,
    /// Always f32: reciprocal deviations, log-sum-exps, losses, rotary tables, scalars.
    Stats,
    /// Activations that forward writes.
    Acts,
    /// Gradients of activations that backward writes.
    ActGrads,
    /// Cached keys and values of decoding.
    Kv,
    /// The back-end's own working space.
    Scratch,
}

impl Region {
    /// Every region, in declaration order.
    pub const ALL: [Region; 8] = [
        Region::Params,
        Region::Grads,
        Region::Moments,
        Region::Stats,
        Region::Acts,
        Region::ActGrads,
        Region::Kv,
        Region::Scratch,
    ];
}

/// `len` elements of `region`, beginning at element `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The region that holds the elements.
    pub region: Region,
    /// The first element.
    pub offset: u64,
    /// How many elements.
    pub len: u64,
}

impl Slot {
    /// A slot of `len` elements of `region` from element `offset` on.
    pub const fn new(region: Region, offset: u64, len: u64) -> Slot {
        Slot { region, offset, len }
    }

    /// The first `len` elements: how a slot planned for the largest batch serves a smaller one.
    /// Longer than the slot itself is a caller's mistake and is cut to the slot's end.
    pub fn first(self, len: u64) -> Slot {
        Slot { len: if len < self.len { len } else { self.len }, ..self }
    }

    /// `len` elements from element `start` of this slot on.
    pub fn part(self, start: u64, len: u64) -> Slot {
        debug_assert!(start + len <= self.len);
        Slot { region: self.region, offset: self.offset + start, len }
    }

    /// The same place in another region (gradients lie at their parameters' offsets).
    pub fn in_region(self, region: Region) -> Slot {
        Slot { region, ..self }
    }

    /// The element after the last one.
    pub fn end(self) -> u64 {
        self.offset + self.len
    }

    /// Whether two slots share an element.
    pub fn overlaps(self, other: Slot) -> bool {
        self.region == other.region
            && self.len > 0
            && other.len > 0
            && self.offset < other.end()
            && other.offset < self.end()
    }
}
