//! The things of the stories, each with what can happen to it.

/// Can be carried, put down and lost.
pub const LOSE: u32 = 1;
/// Can break and be mended.
pub const BREAK: u32 = 1 << 1;
/// Two can play with it or take turns.
pub const PLAY: u32 = 1 << 2;
/// Can be eaten.
pub const FOOD: u32 = 1 << 3;
/// The wind can take it.
pub const FLY: u32 = 1 << 4;
/// Falls into water and drifts.
pub const FLOAT: u32 = 1 << 5;
/// A child can make it.
pub const MAKE: u32 = 1 << 6;
/// Makes a nice present.
pub const GIFT: u32 = 1 << 7;
/// Lies about outside; nobody owns it.
pub const FIND: u32 = 1 << 8;
/// Gives light.
pub const LIGHT: u32 = 1 << 9;
/// One learns to use it.
pub const SKILL: u32 = 1 << 10;
/// Keeps somebody warm or dry.
pub const WARM: u32 = 1 << 11;
/// Could lie in a treasure chest.
pub const TREASURE: u32 = 1 << 12;
/// Makes music or noise.
pub const SOUND: u32 = 1 << 13;
/// Grows in a garden.
pub const GROW: u32 = 1 << 14;
/// Is baked in an oven.
pub const BAKE: u32 = 1 << 15;
/// Goes to bed with a child.
pub const CUDDLE: u32 = 1 << 16;

/// Which adjectives suit a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// Colours and words such as "new".
    Painted,
    /// "shiny", "golden".
    Metal,
    /// "sweet", "fresh".
    Edible,
    /// "smooth", "tiny".
    Natural,
}

/// A thing: its noun, what can happen to it, and how it looks.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    /// Singular noun.
    pub noun: &'static str,
    /// Bits of the constants above.
    pub can: u32,
    /// Which adjectives suit it.
    pub looks: Looks,
}

const fn made(noun: &'static str, can: u32) -> Object {
    Object { noun, can, looks: Looks::Painted }
}
const fn metal(noun: &'static str, can: u32) -> Object {
    Object { noun, can, looks: Looks::Metal }
}
const fn food(noun: &'static str, can: u32) -> Object {
    Object { noun, can: can | FOOD, looks: Looks::Edible }
}
const fn found(noun: &'static str, can: u32) -> Object {
    Object { noun, can: can | FIND | LOSE, looks: Looks::Natural }
}

/// All things.
pub const OBJECTS: [Object; 84] = [
    made("ball", LOSE | PLAY | FLOAT | GIFT),
    made("kite", LOSE | BREAK | PLAY | FLY | MAKE | GIFT | SKILL),
    made("doll", LOSE | BREAK | PLAY | MAKE | GIFT | CUDDLE),
    made("drum", LOSE | BREAK | PLAY | GIFT | SKILL | SOUND),
    made("boat", LOSE | BREAK | PLAY | FLOAT | MAKE | GIFT | CUDDLE),
    made("robot", LOSE | BREAK | PLAY | MAKE | GIFT | CUDDLE),
    made("wagon", BREAK | PLAY | GIFT | MAKE),
    made("sled", BREAK | PLAY | GIFT | MAKE | SKILL),
    made("puppet", LOSE | BREAK | PLAY | MAKE | GIFT | CUDDLE),
    made("rocket", LOSE | BREAK | PLAY | MAKE | GIFT | CUDDLE),
    made("truck", LOSE | BREAK | PLAY | GIFT | CUDDLE),
    made("puzzle", PLAY | GIFT),
    metal("whistle", LOSE | PLAY | GIFT | SKILL | SOUND),
    made("flute", LOSE | BREAK | PLAY | GIFT | SKILL | SOUND),
    metal("bell", LOSE | GIFT | SOUND | TREASURE),
    metal("trumpet", LOSE | BREAK | PLAY | GIFT | SKILL | SOUND),
    made("balloon", LOSE | PLAY | FLY | GIFT),
    made("marble", LOSE | PLAY | GIFT | TREASURE),
    made("bike", BREAK | PLAY | GIFT | SKILL),
    made("scooter", BREAK | PLAY | GIFT | SKILL),
    made("rope", LOSE | PLAY | SKILL),
    made("hat", LOSE | FLY | FLOAT | MAKE | GIFT | WARM),
    made("scarf", LOSE | FLY | GIFT | WARM),
    made("coat", LOSE | GIFT | WARM),
    made("cape", LOSE | FLY | MAKE | GIFT | WARM),
    made("mitten", LOSE | FLOAT | WARM),
    made("sock", LOSE | FLOAT | WARM),
    made("blanket", LOSE | GIFT | WARM | CUDDLE),
    made("pillow", LOSE | GIFT | CUDDLE),
    made("umbrella", LOSE | BREAK | FLY | GIFT | WARM),
    made("tent", BREAK | PLAY | WARM | GIFT),
    made("button", LOSE | TREASURE),
    made("ribbon", LOSE | FLY | GIFT),
    made("bag", LOSE | FLOAT | MAKE | GIFT),
    made("basket", LOSE | BREAK | FLOAT | MAKE | GIFT),
    made("bucket", LOSE | FLOAT | PLAY),
    made("cup", LOSE | BREAK | MAKE | GIFT | TREASURE),
    made("bowl", BREAK | MAKE | GIFT),
    metal("spoon", LOSE | TREASURE),
    made("vase", BREAK | MAKE | GIFT),
    made("jar", BREAK | LOSE | GIFT),
    made("bottle", BREAK | LOSE | FLOAT),
    made("lamp", BREAK | LIGHT | GIFT | MAKE | CUDDLE),
    made("lantern", BREAK | LIGHT | LOSE | GIFT | MAKE | CUDDLE),
    made("candle", LIGHT | LOSE | GIFT | MAKE),
    made("torch", LIGHT | LOSE | GIFT),
    metal("key", LOSE | TREASURE),
    metal("coin", LOSE | TREASURE | GIFT),
    metal("ring", LOSE | TREASURE | GIFT),
    metal("necklace", LOSE | BREAK | TREASURE | GIFT | MAKE),
    metal("crown", LOSE | BREAK | TREASURE | GIFT | MAKE),
    made("clock", BREAK | GIFT),
    made("mirror", BREAK | GIFT | TREASURE),
    made("camera", LOSE | BREAK | GIFT | SKILL),
    made("book", LOSE | GIFT | MAKE | CUDDLE),
    made("letter", LOSE | FLY | MAKE),
    made("map", LOSE | FLY | MAKE),
    made("picture", LOSE | FLY | MAKE | GIFT | CUDDLE),
    made("pencil", LOSE | GIFT),
    made("brush", LOSE | GIFT | SKILL),
    made("flag", LOSE | FLY | MAKE | PLAY),
    made("mask", LOSE | BREAK | MAKE | PLAY | GIFT),
    made("shovel", LOSE | PLAY),
    made("net", LOSE | BREAK | PLAY | MAKE),
    found("shell", GIFT | TREASURE),
    found("stone", GIFT | TREASURE),
    found("feather", GIFT | FLY | FLOAT),
    found("leaf", FLY | FLOAT),
    found("flower", GIFT | GROW),
    found("acorn", 0),
    found("nut", 0),
    food("apple", LOSE | GIFT | FLOAT),
    food("pear", LOSE | GIFT),
    food("peach", LOSE | GIFT),
    food("plum", LOSE | GIFT),
    food("carrot", LOSE | GROW),
    food("pumpkin", GIFT | GROW | FLOAT),
    food("melon", GIFT | GROW),
    food("cake", GIFT | BAKE),
    food("pie", GIFT | BAKE),
    food("cookie", LOSE | GIFT | BAKE),
    food("bun", LOSE | GIFT | BAKE),
    food("muffin", LOSE | GIFT | BAKE),
    food("sandwich", LOSE),
];

/// The bits of a word in a plot's heading, or None when there is no such word.
pub fn object_bits(word: &str) -> Option<u32> {
    Some(match word {
        "any" => u32::MAX,
        "lose" => LOSE,
        "break" => BREAK,
        "play" => PLAY,
        "food" => FOOD,
        "fly" => FLY,
        "float" => FLOAT,
        "make" => MAKE,
        "gift" => GIFT,
        "find" => FIND,
        "light" => LIGHT,
        "skill" => SKILL,
        "warm" => WARM,
        "treasure" => TREASURE,
        "sound" => SOUND,
        "grow" => GROW,
        "bake" => BAKE,
        "cuddle" => CUDDLE,
        _ => return None,
    })
}
