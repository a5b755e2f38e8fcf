//! The PTX files, and what their texts say about their kernels.

use std::borrow::Cow;

use super::convert::Half;
use super::driver::Type;
use super::matmul_sm90::{Product, SUM_SOURCE};
use super::spelling;

/// A file of kernels.
#[derive(Clone)]
pub struct Source {
    /// Its name without `.ptx`.
    pub stem: &'static str,
    /// Its text.
    pub text: Cow<'static, str>,
}

/// The file of this name beside this one.
macro_rules! file {
    ($stem:literal) => {
        Source { stem: $stem, text: Cow::Borrowed(include_str!(concat!($stem, ".ptx"))) }
    };
}

/// One of Hopper's products.
macro_rules! product {
    ($stem:literal, $product:ident) => {
        Source { stem: $stem, text: Cow::Borrowed(Product::$product.source()) }
    };
}

/// Every file. Each says by `.target` which devices it is for.
pub const SOURCES: &[Source] = &[
    file!("adamw"),
    file!("adamw_narrow"),
    file!("attention_any"),
    file!("attention_backward"),
    file!("attention_forward"),
    file!("bf16_to_f16"),
    file!("convert"),
    file!("dropout"),
    file!("elementwise"),
    file!("embed"),
    file!("linear_cross_entropy"),
    file!("matmul_any"),
    file!("matmul_backward_input"),
    file!("matmul_backward_weight"),
    file!("matmul_f16"),
    file!("matmul_forward"),
    Source { stem: "matmul_sum", text: Cow::Borrowed(SUM_SOURCE) },
    file!("rms_norm"),
    file!("rope"),
    file!("sm90/attention_backward"),
    file!("sm90/attention_forward"),
    product!("sm90/matmul_backward_input", BackwardInput),
    product!("sm90/matmul_backward_weight", BackwardWeight),
    product!("sm90/matmul_forward", Forward),
    file!("swiglu"),
];

impl Source {
    /// The file for a device with such 16-bit numbers; some serve one type alone.
    pub fn of(&self, half: Half) -> Option<Source> {
        match (half, self.stem) {
            (Half::Bf16, "bf16_to_f16" | "matmul_f16") => None,
            (Half::Bf16, _) | (Half::F16, "bf16_to_f16" | "matmul_f16") => Some(self.clone()),
            (Half::F16, "adamw_narrow" | "matmul_any") => None,
            (Half::F16, stem) if stem.starts_with("sm90/") => None,
            (Half::F16, stem) => {
                Some(Source { stem, text: Cow::Owned(spelling::in_f16(&self.text)) })
            }
        }
    }

    /// What follows `directive` in its text.
    fn after(&self, directive: &str) -> &str {
        let found = self.text.lines().find_map(|line| line.trim().strip_prefix(directive));
        found.unwrap_or("").trim()
    }

    /// Whether a device of this compute capability can run it: a plain target serves all later devices,
    /// one with a letter only its own.
    pub fn runs_on(&self, (major, minor): (u32, u32)) -> bool {
        let digits = self.after(".target sm_");
        let found = 10 * major + minor;
        match digits.strip_suffix('a') {
            Some(exact) => exact.parse() == Ok(found),
            None => digits.parse().is_ok_and(|least: u32| found >= least),
        }
    }

    /// Whether a driver for this version of CUDA reads it: PTX 7.x came with CUDA 11, 8.x with 12.
    pub fn read_by(&self, (major, _): (i32, i32)) -> bool {
        let version = self.after(".version ").split('.').next().unwrap_or("");
        version.parse().is_ok_and(|version: i32| version + 4 <= major)
    }

    /// Name and parameter types of each kernel.
    pub fn entries(&self) -> Vec<(String, Vec<Type>)> {
        let parts = self.text.split(".visible .entry ").skip(1);
        parts
            .filter_map(|part| {
                let (name, rest) = part.split_once('(')?;
                let (list, _) = rest.split_once(')')?;
                let types = list.split(".param").skip(1).filter_map(|parameter| {
                    match parameter.split_whitespace().next()? {
                        ".u64" => Some(Type::U64),
                        ".u32" => Some(Type::U32),
                        ".f32" => Some(Type::F32),
                        ".align" => Some(Type::Map),
                        _ => None,
                    }
                });
                Some((name.trim().to_owned(), types.collect()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_all_parameters_are_understood() {
        let mut names = HashSet::new();
        for source in SOURCES {
            let entries = source.entries();
            assert!(!entries.is_empty(), "{}", source.stem);
            let parameters: usize = entries.iter().map(|(_, types)| types.len()).sum();
            let declared = source.text.matches(".param .").count();
            assert_eq!(parameters, declared, "{}: a parameter of another type", source.stem);
            for (name, _) in entries {
                assert!(names.insert(name.clone()), "{name} stands in two files");
            }
        }
    }

    #[test]
    fn files_run_where_their_target_says() {
        let source = |text| Source { stem: "x", text: Cow::Borrowed(text) };
        let plain = source("\n.version 7.0\n.target sm_80\n");
        let special = source(".version 8.0\n.target sm_90a\n");
        assert!(plain.read_by((11, 0)) && special.read_by((12, 4)) && !special.read_by((11, 8)));
        assert!(plain.runs_on((8, 0)) && plain.runs_on((12, 0)) && !plain.runs_on((7, 5)));
        assert!(special.runs_on((9, 0)) && !special.runs_on((10, 0)) && !special.runs_on((8, 9)));
    }
}
