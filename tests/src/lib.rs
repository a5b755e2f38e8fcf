//! Shared by the tests of the whole house: golden values, back-ends to check, forests.

pub mod desk;
pub mod forests;
pub mod golden;
pub mod parsers;
pub mod toy;

use std::path::PathBuf;

use paddock_core::backend::Backend;
use paddock_core::checked::Checked;
use paddock_core::reference::Reference;
use paddock_core::weights::Weights;
use paddock_kernels::cpu::Cpu;

/// The repository's root.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// A file or folder of the shared data, or a loud word that it is missing.
pub fn shared(path: &str) -> Option<PathBuf> {
    let base =
        std::env::var_os("PADDOCK_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let full = base.join(path);
    if full.exists() {
        return Some(full);
    }
    eprintln!("SKIPPED: {} is not here; set PADDOCK_SHARED to run this test", full.display());
    None
}

/// A way to open a back-end.
pub type Open = for<'w> fn(Weights<'w>) -> Box<dyn Backend + 'w>;

/// Every back-end of this machine.
pub fn backends() -> Vec<(&'static str, Open)> {
    vec![
        ("reference f64", |w| Box::new(Reference::<f64>::new(w))),
        ("cpu", |w| Box::new(Cpu::new(w, 0, None).expect("a processor"))),
        ("reference f32", |w| Box::new(Reference::<f32>::new(w))),
        ("checked f32", |w| Box::new(Checked::new(Box::new(Reference::<f32>::new(w))))),
    ]
}
