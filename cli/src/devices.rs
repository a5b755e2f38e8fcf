//! What runs can compute on, in words for people: the processor, NVIDIA cards, other graphics cards.

use paddock_kernels::wgpu::{AdapterReport, describe_adapters};
use paddock_kernels::{Card, cards, describe_machine};
use serde::{Deserialize, Serialize};

use crate::train::report::{bytes, count};

/// Something that a run can compute on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeDevice {
    /// What people call it.
    pub name: String,
    /// What kind of thing it is, in a few words.
    pub kind: String,
    /// What it is good for, in a sentence or two.
    pub about: String,
    /// Settings of a run that computes on it; none for what a run takes by itself.
    pub flags: Vec<(String, String)>,
    /// Bytes of its own memory, where they are known.
    pub memory_bytes: Option<u64>,
    /// Why it cannot be used, if it cannot.
    pub unusable: Option<String>,
}

/// Bytes of a card for each number of a model that is trained by an adapter: two for the number itself, the
/// rest for activations and what is trained.
const BYTES_A_NUMBER: u64 = 4;

/// Looks at the machine: the processor first, then NVIDIA cards, then adapters of other interfaces. May take
/// seconds where drivers have to be started.
pub fn devices() -> Vec<ComputeDevice> {
    let mut all = vec![processor()];
    all.extend(cards().unwrap_or_default().into_iter().map(nvidia));
    all.extend(describe_adapters().into_iter().map(adapter));
    all
}

fn processor() -> ComputeDevice {
    ComputeDevice {
        name: describe_machine(),
        kind: "processor".into(),
        about:
            "Always there. Small models train in minutes, models of billions of numbers in days."
                .into(),
        ..ComputeDevice::default()
    }
}

/// `--backend NAME --device NUMBER`.
fn flags(backend: &str, number: impl ToString) -> Vec<(String, String)> {
    vec![("backend".into(), backend.into()), ("device".into(), number.to_string())]
}

fn nvidia(card: Card) -> ComputeDevice {
    let most = card.memory_bytes / BYTES_A_NUMBER;
    ComputeDevice {
        about: format!(
            "The fastest. With its {} of memory it trains adapters for models of up to about {} numbers.",
            bytes(card.memory_bytes),
            count(most)
        ),
        name: card.name,
        kind: "NVIDIA card".into(),
        flags: flags("cuda", card.number),
        memory_bytes: Some(card.memory_bytes),
        unusable: card.unusable,
    }
}

fn adapter(a: AdapterReport) -> ComputeDevice {
    let about = match a.kind {
        "software" => {
            "No card: the processor draws by itself. Slower than the processor above; only to try whether it works."
        }
        "integrated GPU" => {
            "Shares the machine's memory. Try it on a short run: it may be faster than the processor, or slower."
        }
        _ => {
            "A graphics card. Faster than the processor on larger models; NVIDIA cards are faster by CUDA."
        }
    };
    ComputeDevice {
        kind: format!("{}, {}", a.kind, interface(&a.api)),
        about: about.to_string(),
        flags: flags("wgpu", a.number),
        name: a.name,
        memory_bytes: None,
        unusable: a.unusable,
    }
}

fn interface(api: &str) -> &str {
    match api {
        "vulkan" => "Vulkan",
        "metal" => "Metal",
        "dx12" => "Direct3D 12",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::Layers;

    #[test]
    fn every_device_has_words_and_settings_that_are_valid() {
        let card =
            Card { number: 1, name: "A card".into(), memory_bytes: 80 << 30, unusable: None };
        let mut all = devices();
        all.push(nvidia(card));
        assert_eq!((all[0].kind.as_str(), all[0].flags.len()), ("processor", 0));
        for device in &all {
            assert!(!device.name.is_empty() && device.about.ends_with('.'), "{device:?}");
            let layers = Layers::new().flags(&device.flags).expect("known keys");
            layers.build().expect("values in range");
        }
        let last = all.last().expect("the card");
        assert!(last.about.contains("85.9 GB") && last.about.contains("21.47 billion"), "{last:?}");
    }
}
