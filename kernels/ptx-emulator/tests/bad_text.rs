//! Damaged PTX text gives an error or still runs; it never panics.

use paddock_ptx_emulator::{DeviceConfig, Machine};

const FILES: [&str; 3] = [
    include_str!("../../src/cuda/swiglu.ptx"),
    include_str!("../../src/cuda/matmul_any.ptx"),
    include_str!("../../src/cuda/matmul_forward.ptx"),
];

/// Words that fit somewhere, put where they do not.
const PIECES: [&str; 20] = [
    "{",
    "}",
    "[",
    "]",
    "%p",
    "@",
    "!",
    ",",
    ";",
    ":",
    ".reg",
    "<4096>",
    "-1",
    "0x",
    "0f3F800000",
    ".shared .b8 x[67108864];",
    "|",
    "bra",
    ".v4",
    "18446744073709551615",
];

#[test]
fn damaged_text_never_panics() {
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let (mut refused, rounds) = (0, 600);
    for round in 0..rounds {
        let mut text = FILES[round % FILES.len()].as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(text.len());
            match random(4) {
                0 => text.truncate(at),
                1 => text[at] = random(128) as u8,
                2 => drop(text.drain(at..(at + random(40)).min(text.len()))),
                _ => drop(text.splice(at..at, PIECES[random(PIECES.len())].bytes())),
            }
            if text.is_empty() {
                text.push(b'.');
            }
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        refused += usize::from(Machine::new(DeviceConfig::default()).load(&text).is_err());
    }
    println!("{refused} of {rounds} damaged texts were refused");
    assert!(refused > rounds / 4, "the damage does nothing");
}
