//! The PTX files, and what their texts say about their kernels.

use super::driver::Type;
use super::matmul_sm90::{Product, SUM_SOURCE};

/// A file of kernels.
#[derive(Clone, Copy)]
pub struct Source {
    /// Its name without `.ptx`.
    pub stem: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The file of this name beside this one.
macro_rules! file {
    ($stem:literal) => {
        Source { stem: $stem, text: include_str!(concat!($stem, ".ptx")) }
    };
}

/// Every file. Each says by `.target` which devices it is for.
pub const SOURCES: &[Source] = &[
    file!("adamw"),
    file!("attention_any"),
    file!("attention_backward"),
    file!("attention_forward"),
    file!("convert"),
    file!("dropout"),
    file!("elementwise"),
    file!("embed"),
    file!("linear_cross_entropy"),
    file!("matmul_any"),
    file!("matmul_backward_input"),
    file!("matmul_backward_weight"),
    file!("matmul_forward"),
    Source { stem: "matmul_sum", text: SUM_SOURCE },
    file!("rms_norm"),
    file!("rope"),
    file!("sm90/attention_backward"),
    file!("sm90/attention_forward"),
    Source { stem: "sm90/matmul_backward_input", text: Product::BackwardInput.source() },
    Source { stem: "sm90/matmul_backward_weight", text: Product::BackwardWeight.source() },
    Source { stem: "sm90/matmul_forward", text: Product::Forward.source() },
    file!("swiglu"),
];

impl Source {
    /// What follows `directive` in its text.
    fn after(&self, directive: &str) -> &'static str {
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
    pub fn entries(&self) -> Vec<(&'static str, Vec<Type>)> {
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
                Some((name.trim(), types.collect()))
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
                assert!(names.insert(name), "{name} stands in two files");
            }
        }
    }

    #[test]
    fn files_run_where_their_target_says() {
        let source = |text| Source { stem: "x", text };
        let plain = source("\n.version 7.0\n.target sm_80\n");
        let special = source(".version 8.0\n.target sm_90a\n");
        assert!(plain.read_by((11, 0)) && special.read_by((12, 4)) && !special.read_by((11, 8)));
        assert!(plain.runs_on((8, 0)) && plain.runs_on((12, 0)) && !plain.runs_on((7, 5)));
        assert!(special.runs_on((9, 0)) && !special.runs_on((10, 0)) && !special.runs_on((8, 9)));
    }
}
