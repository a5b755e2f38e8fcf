//! Who and what a story can be about: names, animals, grown-ups, weathers, adjectives, food.

/// Names of boys and of animals that are "he".
pub const HE_NAMES: [&str; 36] = [
    "Tom", "Ben", "Sam", "Max", "Leo", "Jack", "Tim", "Finn", "Oscar", "Noah", "Adam", "Luke",
    "Omar", "Hugo", "Ravi", "Theo", "Milo", "Felix", "Paul", "Eli", "Kai", "Alex", "Daniel",
    "Peter", "Simon", "Victor", "Emil", "Jonas", "Ali", "Ken", "Marco", "Owen", "Toby", "Rami",
    "Bruno", "Nico",
];

/// Names of girls and of animals that are "she".
pub const SHE_NAMES: [&str; 36] = [
    "Lily", "Mia", "Anna", "Sara", "Emma", "Zoe", "Ella", "Nina", "Lucy", "Ruby", "Amy", "Clara",
    "Maya", "Eva", "Ida", "Molly", "Sofia", "Lena", "Kim", "Tara", "Rosa", "Julia", "Alma", "Nora",
    "Olga", "Betty", "Hana", "Leila", "Vera", "Dora", "Jane", "Wendy", "Kate", "Polly", "Mina",
    "Ada",
];

/// Animals that can be heroes and friends.
pub const ANIMALS: [&str; 30] = [
    "fox", "rabbit", "bear", "mouse", "duck", "cat", "dog", "frog", "owl", "squirrel", "hedgehog",
    "turtle", "deer", "goat", "sheep", "pig", "pony", "kitten", "puppy", "beaver", "badger",
    "mole", "otter", "monkey", "lion", "tiger", "penguin", "goose", "donkey", "lamb",
];

/// Animals that only pass by.
pub const BYSTANDERS: [&str; 12] = [
    "bird",
    "butterfly",
    "bee",
    "crow",
    "hen",
    "snail",
    "lizard",
    "beetle",
    "robin",
    "sparrow",
    "ladybug",
    "cricket",
];

/// Grown-ups: how they are spoken of after a possessive, and how they are called.
pub const ELDERS: [(&str, &str); 6] = [
    ("mom", "Mom"),
    ("dad", "Dad"),
    ("grandma", "Grandma"),
    ("grandpa", "Grandpa"),
    ("aunt", "Auntie"),
    ("uncle", "Uncle"),
];

/// Days on which one can be outside.
pub const DRY: [&str; 10] =
    ["sunny", "warm", "bright", "cloudy", "cool", "hot", "clear", "lovely", "quiet", "fine"];
/// Days with wind.
pub const WINDY: [&str; 3] = ["windy", "stormy", "gusty"];
/// Days with rain.
pub const WET: [&str; 4] = ["rainy", "wet", "gray", "stormy"];
/// Days with frost.
pub const COLD: [&str; 4] = ["cold", "snowy", "frosty", "icy"];
/// Parts of a day that goes on outside.
pub const PARTS: [&str; 3] = ["morning", "afternoon", "day"];
/// Parts of a day when it is getting dark.
pub const LATE: [&str; 2] = ["evening", "night"];

/// Weather words for evenings.
pub const NIGHT: [&str; 5] = ["dark", "quiet", "cool", "calm", "cold"];

/// Colours, for things that can be painted, dyed or sewn.
pub const COLOURS: [&str; 10] =
    ["red", "blue", "green", "yellow", "purple", "pink", "white", "brown", "black", "orange"];
/// Adjectives for anything made by hand.
pub const THING_WORDS: [&str; 4] = ["new", "old", "little", "big"];
/// Adjectives for things of metal.
pub const METAL_WORDS: [&str; 6] = ["shiny", "golden", "silver", "old", "little", "big"];
/// Adjectives for food.
pub const FOOD_WORDS: [&str; 5] = ["sweet", "big", "fresh", "tasty", "little"];
/// Adjectives for what one finds outside.
pub const NATURE_WORDS: [&str; 6] = ["smooth", "white", "tiny", "pretty", "golden", "big"];

/// Something to eat that is not the story's main object.
pub const SNACKS: [&str; 8] =
    ["soup", "bread", "cheese", "honey", "jam", "rice", "popcorn", "porridge"];

/// Where a thing can hide outside.
pub const SPOTS_OUTSIDE: [&str; 9] = [
    "under a bush",
    "behind a tree",
    "in the long grass",
    "behind a big rock",
    "under a bench",
    "beside a log",
    "in a puddle",
    "next to a fence",
    "between two roots",
];
/// Where a thing can hide inside.
pub const SPOTS_INSIDE: [&str; 8] = [
    "under a table",
    "behind a door",
    "under a chair",
    "behind a curtain",
    "in a dark corner",
    "on a high shelf",
    "under a rug",
    "next to the stairs",
];
/// Where a thing can hide beside water.
pub const SPOTS_WATER: [&str; 6] = [
    "in the wet sand",
    "behind a big rock",
    "in the reeds",
    "under a bench",
    "beside a log",
    "in the mud",
];
