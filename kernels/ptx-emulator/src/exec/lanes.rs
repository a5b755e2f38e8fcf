//! Macros that lift an expression over one lane to a function over all 32.

macro_rules! lanes {
    ($file:ty, $element:ty, $zero:expr, |$($name:ident $at:tt),+| $body:expr) => {
        (|sources: [&$file; 4]| -> $file {
            let mut out = [$zero; 32];
            for lane in 0..32 {
                $(let $name: $element = sources[$at][lane];)+
                out[lane] = $body;
            }
            out
        }) as fn([&$file; 4]) -> $file
    };
}

/// `narrow!(|a, b| …)`: u32 lanes in and out.
macro_rules! narrow {
    (|$a:ident| $body:expr) => {
        $crate::exec::lanes::lanes!($crate::ir::L32, u32, 0_u32, |$a 0| $body)
    };
    (|$a:ident, $b:ident| $body:expr) => {
        $crate::exec::lanes::lanes!($crate::ir::L32, u32, 0_u32, |$a 0, $b 1| $body)
    };
    (|$a:ident, $b:ident, $c:ident| $body:expr) => {
        $crate::exec::lanes::lanes!($crate::ir::L32, u32, 0_u32, |$a 0, $b 1, $c 2| $body)
    };
    (|$a:ident, $b:ident, $c:ident, $d:ident| $body:expr) => {
        $crate::exec::lanes::lanes!($crate::ir::L32, u32, 0_u32, |$a 0, $b 1, $c 2, $d 3| $body)
    };
}

/// `wide!(|a, b| …)`: u64 lanes in and out.
macro_rules! wide {
    (|$a:ident| $body:expr) => {
        $crate::exec::lanes::lanes!($crate::ir::L64, u64, 0_u64, |$a 0| $body)
    };
    (|$a:ident, $b:ident| $body:expr) => {
        $crate::exec::lanes::lanes!($crate::ir::L64, u64, 0_u64, |$a 0, $b 1| $body)
    };
    (|$a:ident, $b:ident, $c:ident| $body:expr) => {
        $crate::exec::lanes::lanes!($crate::ir::L64, u64, 0_u64, |$a 0, $b 1, $c 2| $body)
    };
    (|$a:ident, $b:ident, $c:ident, $d:ident| $body:expr) => {
        $crate::exec::lanes::lanes!($crate::ir::L64, u64, 0_u64, |$a 0, $b 1, $c 2, $d 3| $body)
    };
}

pub(crate) use {lanes, narrow, wide};
