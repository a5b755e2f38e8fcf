//! Where stories happen, with the preposition that each place wants.

/// In the open air.
pub const OUTSIDE: u32 = 1;
/// Under a roof.
pub const INSIDE: u32 = 1 << 1;
/// Beside water (and outside).
pub const WATER: u32 = 1 << 2;
/// There are trees.
pub const TREES: u32 = 1 << 3;
/// One can run there.
pub const WIDE: u32 = 1 << 4;
/// Somebody bakes or cooks there.
pub const KITCHEN: u32 = 1 << 5;
/// Things grow there.
pub const SOIL: u32 = 1 << 6;
/// Many people come there.
pub const BUSY: u32 = 1 << 7;
/// One can get lost there.
pub const DEEP: u32 = 1 << 8;
/// There is snow in winter.
pub const SLOPE: u32 = 1 << 9;
/// A home or like a home.
pub const HOME: u32 = 1 << 10;

/// Things are sold there.
pub const STALLS: u32 = 1 << 11;

/// A place: noun, preposition for being there, what it is like.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Noun, used with "the".
    pub noun: &'static str,
    /// "at", "in", "by" or "on".
    pub at: &'static str,
    /// Bits of the constants above.
    pub is: u32,
}

const fn place(at: &'static str, noun: &'static str, is: u32) -> Place {
    Place { noun, at, is }
}

/// All places.
pub const PLACES: [Place; 66] = [
    place("at", "park", OUTSIDE | TREES | WIDE | BUSY),
    place("at", "beach", OUTSIDE | WATER | WIDE | BUSY),
    place("in", "forest", OUTSIDE | TREES | DEEP),
    place("in", "garden", OUTSIDE | TREES | SOIL),
    place("on", "farm", OUTSIDE | SOIL | WIDE),
    place("by", "lake", OUTSIDE | WATER | TREES),
    place("by", "river", OUTSIDE | WATER | TREES),
    place("by", "pond", OUTSIDE | WATER | TREES),
    place("by", "stream", OUTSIDE | WATER | TREES),
    place("by", "sea", OUTSIDE | WATER | WIDE),
    place("on", "hill", OUTSIDE | WIDE | SLOPE | TREES),
    place("in", "field", OUTSIDE | WIDE | SOIL),
    place("in", "meadow", OUTSIDE | WIDE | SOIL),
    place("at", "playground", OUTSIDE | BUSY | WIDE),
    place("in", "yard", OUTSIDE | SOIL | WIDE | HOME),
    place("at", "zoo", OUTSIDE | BUSY | DEEP | STALLS),
    place("at", "market", OUTSIDE | BUSY | DEEP | STALLS),
    place("on", "bridge", OUTSIDE | WATER),
    place("on", "mountain", OUTSIDE | DEEP | SLOPE),
    place("in", "valley", OUTSIDE | TREES | DEEP | SLOPE | WIDE),
    place("on", "island", OUTSIDE | WATER | TREES | DEEP),
    place("in", "harbor", OUTSIDE | WATER | BUSY | STALLS),
    place("in", "orchard", OUTSIDE | TREES | SOIL),
    place("in", "woods", OUTSIDE | TREES | DEEP),
    place("at", "camp", OUTSIDE | TREES | BUSY),
    place("in", "jungle", OUTSIDE | TREES | DEEP),
    place("by", "swamp", OUTSIDE | WATER | TREES | DEEP),
    place("by", "waterfall", OUTSIDE | WATER | TREES),
    place("by", "fountain", OUTSIDE | WATER | BUSY),
    place("on", "pier", OUTSIDE | WATER | BUSY | STALLS),
    place("in", "village", OUTSIDE | BUSY | SLOPE | STALLS),
    place("in", "town", OUTSIDE | BUSY | DEEP | STALLS),
    place("on", "road", OUTSIDE | TREES),
    place("on", "dock", OUTSIDE | WATER),
    place("in", "vineyard", OUTSIDE | SOIL | SLOPE),
    place("at", "carnival", OUTSIDE | BUSY | DEEP | WIDE | STALLS),
    place("at", "circus", OUTSIDE | BUSY | STALLS),
    place("by", "canal", OUTSIDE | WATER),
    place("on", "shore", OUTSIDE | WATER | WIDE),
    place("at", "pool", OUTSIDE | WATER | BUSY),
    place("at", "school", INSIDE | BUSY),
    place("in", "library", INSIDE | BUSY),
    place("in", "kitchen", INSIDE | KITCHEN | HOME),
    place("in", "bakery", INSIDE | KITCHEN | BUSY | STALLS),
    place("in", "shop", INSIDE | BUSY | STALLS),
    place("in", "barn", INSIDE),
    place("in", "attic", INSIDE | HOME),
    place("in", "cellar", INSIDE | HOME),
    place("in", "museum", INSIDE | BUSY | DEEP | STALLS),
    place("at", "station", INSIDE | BUSY | DEEP | STALLS),
    place("in", "bedroom", INSIDE | HOME),
    place("in", "classroom", INSIDE | BUSY),
    place("in", "castle", INSIDE | DEEP | BUSY),
    place("in", "palace", INSIDE | DEEP | BUSY),
    place("in", "tower", INSIDE),
    place("in", "cabin", INSIDE | KITCHEN | HOME),
    place("in", "hut", INSIDE | KITCHEN | HOME),
    place("in", "cave", INSIDE | DEEP),
    place("in", "mill", INSIDE | KITCHEN),
    place("at", "theater", INSIDE | BUSY),
    place("in", "gym", INSIDE | BUSY),
    place("on", "ship", INSIDE | BUSY),
    place("in", "workshop", INSIDE),
    place("in", "hall", INSIDE | BUSY),
    place("at", "hotel", INSIDE | BUSY | KITCHEN | STALLS),
    place("in", "cottage", INSIDE | KITCHEN | HOME),
];

/// The bits of a word in a plot's heading, or None when there is no such word.
pub fn place_bits(word: &str) -> Option<u32> {
    Some(match word {
        "any" => u32::MAX,
        "outside" => OUTSIDE,
        "inside" => INSIDE,
        "water" => WATER,
        "trees" => TREES,
        "wide" => WIDE,
        "kitchen" => KITCHEN,
        "soil" => SOIL,
        "busy" => BUSY,
        "deep" => DEEP,
        "slope" => SLOPE,
        "home" => HOME,
        "stalls" => STALLS,
        _ => return None,
    })
}
