//! Three ways to begin: settings for those who would rather not set anything.

/// A named set of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// One short pass: to see whether data and template do what they should.
    Quick,
    /// What most runs should be.
    Balanced,
    /// More passes and wider matrices, until it gets no better.
    Thorough,
}

impl Preset {
    /// All of them, the shortest first.
    pub const ALL: [Preset; 3] = [Preset::Quick, Preset::Balanced, Preset::Thorough];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Quick => "Quick look",
            Preset::Balanced => "Balanced",
            Preset::Thorough => "Thorough",
        }
    }

    /// What it is for, in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Preset::Quick => "One pass over the rows, to see that everything fits together.",
            Preset::Balanced => "Three passes. The best state on held-out rows is kept.",
            Preset::Thorough => {
                "Up to eight passes with wider matrices; stops when it gets no better."
            }
        }
    }

    /// Its settings as flags, for a model of so many parameters: small models learn at a higher rate.
    pub fn flags(self, parameters: u64) -> Vec<(String, String)> {
        let lr = match parameters {
            0..=20_000_000 => "2e-3",
            20_000_001..=300_000_000 => "5e-4",
            _ => "2e-4",
        };
        let list: &[(&str, &str)] = match self {
            Preset::Quick => &[("epochs", "1"), ("lora_rank", "16"), ("test_rows", "60")],
            Preset::Balanced => &[("epochs", "3"), ("lora_rank", "32"), ("test_rows", "200")],
            Preset::Thorough => {
                &[("epochs", "8"), ("lora_rank", "64"), ("test_rows", "200"), ("patience", "2")]
            }
        };
        let own = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        let rest = [("lr", lr), ("samples", "4"), ("sample_tokens", "96")];
        list.iter().chain(&rest).map(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::Layers;

    #[test]
    fn presets_are_valid_settings_and_differ() {
        let mut seen = Vec::new();
        for preset in Preset::ALL {
            for parameters in [1_000, 100_000_000, 7_000_000_000] {
                let layers = Layers::new().flags(&preset.flags(parameters)).expect("known keys");
                let (config, _) = layers.build().expect("values in range");
                assert!(!seen.contains(&config), "{preset:?}");
                seen.push(config);
            }
        }
    }
}
