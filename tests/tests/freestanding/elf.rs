//! As much of a 64-bit little-endian ELF file as the test needs: segments, symbols.

/// What a program file says about itself.
pub struct Elf {
    /// Whether the program asks for a dynamic loader or dynamic libraries.
    pub dynamic: bool,
    /// Bytes that are loaded from the file: code and constants.
    pub loaded_bytes: u64,
    /// Names that somebody else would have to define.
    pub undefined: Vec<String>,
    /// Names that it defines.
    pub defined: Vec<String>,
}

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const SHT_SYMTAB: u64 = 2;

impl Elf {
    /// Reads the file's bytes.
    pub fn parse(bytes: &[u8]) -> Elf {
        assert_eq!(bytes.get(..6), Some(&b"\x7fELF\x02\x01"[..]), "not a 64-bit ELF file");
        let number = |at: u64, width: usize| -> u64 {
            let field = &bytes[at as usize..at as usize + width];
            field.iter().rev().fold(0, |sum, &b| sum << 8 | u64::from(b))
        };
        let (segments, sections) = (number(32, 8), number(40, 8));
        let (segment_size, segment_count) = (number(54, 2), number(56, 2));
        let (section_size, section_count) = (number(58, 2), number(60, 2));

        let mut elf = Elf { dynamic: false, loaded_bytes: 0, undefined: vec![], defined: vec![] };
        for segment in (0..segment_count).map(|i| segments + i * segment_size) {
            match number(segment, 4) {
                PT_LOAD => elf.loaded_bytes += number(segment + 32, 8),
                PT_DYNAMIC | PT_INTERP => elf.dynamic = true,
                _ => {}
            }
        }
        for section in (0..section_count).map(|i| sections + i * section_size) {
            if number(section + 4, 4) != SHT_SYMTAB {
                continue;
            }
            let (start, len) = (number(section + 24, 8), number(section + 32, 8));
            let names = number(sections + number(section + 40, 4) * section_size + 24, 8);
            for symbol in (start..start + len).step_by(24) {
                let name = &bytes[(names + number(symbol, 4)) as usize..];
                let name = String::from_utf8_lossy(name.split(|&b| b == 0).next().unwrap_or(&[]));
                let list =
                    if number(symbol + 6, 2) == 0 { &mut elf.undefined } else { &mut elf.defined };
                if !name.is_empty() {
                    list.push(name.into_owned());
                }
            }
        }
        elf
    }

    /// Symbols, defined or not, that come from Rust's standard library (both manglings).
    pub fn of_std(&self) -> Vec<&str> {
        let of_std = |name: &&str| {
            name.starts_with("_ZN3std")
                || name.starts_with("_R")
                    && name.match_indices("_3std").any(|(at, _)| crate_root(&name[..at]))
        };
        self.undefined.iter().chain(&self.defined).map(String::as_str).filter(of_std).collect()
    }
}

/// Whether a v0-mangled name up to here ends with a crate's disambiguator ("…Cs1a2B3c").
fn crate_root(before: &str) -> bool {
    before.rfind("Cs").is_some_and(|at| before[at + 2..].bytes().all(|b| b.is_ascii_alphanumeric()))
}
