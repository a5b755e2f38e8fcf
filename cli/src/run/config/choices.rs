//! The keys of RUN.toml that take one of a few words.

use serde::{Deserialize, Serialize};

use super::kinds::{KeyType, Kind};

/// Defines an enum of words: `Variant = "word"`.
macro_rules! choice {
    ($(#[$doc:meta])+ $name:ident {
        $($(#[$variant_doc:meta])+ $variant:ident = $word:literal,)+
    }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word in RUN.toml.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl KeyType for $name {
            const KIND: Kind = Kind::Choice(&[$($word),+]);
        }
    };
}

choice! {
    /// What is trained.
    Method {
        /// Small matrices beside the frozen ones.
        Lora = "lora",
        /// Every parameter.
        Full = "full",
    }
}

choice! {
    /// How the learning rate changes during a run.
    LrSchedule {
        /// It stays the same after the warm-up.
        Constant = "constant",
        /// It falls in a straight line to 0.
        Linear = "linear",
        /// It falls along half a cosine to 0.
        Cosine = "cosine",
    }
}

choice! {
    /// What happens to rows that are longer than `max_seq_len`.
    OverLength {
        /// They are left out and counted.
        Drop = "drop",
        /// The beginning of the prompt is cut off; an answer is never cut.
        CutPrompt = "cut_prompt",
        /// They are an error.
        Refuse = "refuse",
        /// They are cut into several rows: for plain text (template text) only.
        Pieces = "pieces",
    }
}

choice! {
    /// The rule by which gradients change the parameters.
    Optimizer {
        /// Adam with decoupled weight decay.
        AdamW = "adamw",
        /// Adam; weight decay is added to the gradient.
        Adam = "adam",
    }
}

choice! {
    /// Which loss `patience` watches.
    EarlyStopOn {
        /// The loss on the validation rows.
        Validation = "validation",
        /// The training loss.
        Train = "train",
    }
}

choice! {
    /// What computes.
    BackendChoice {
        /// The fastest device found.
        Auto = "auto",
        /// The processor.
        Cpu = "cpu",
        /// Any graphics card, through Vulkan, Metal or DirectX 12.
        Wgpu = "wgpu",
        /// An NVIDIA card.
        Cuda = "cuda",
        /// The slow, plain specification, for comparison.
        Reference = "reference",
    }
}

choice! {
    /// What activations are kept in on a graphics card, and what a processor multiplies in.
    Precision {
        /// With CUDA bf16 where the card has it, else f16; with wgpu and on the processor f32.
        Auto = "auto",
        /// bf16, with CUDA; on processors with matrix instructions in products alone.
        Bf16 = "bf16",
        /// f16, with a loss scale.
        F16 = "f16",
    }
}

choice! {
    /// What trained parameters are kept in on an NVIDIA card.
    Parameters {
        /// f32, with a copy in 16 bits for products.
        F32 = "f32",
        /// bf16 alone, rounded at random.
        Bf16 = "bf16",
    }
}

choice! {
    /// What happens when the loss of a step is far above the steps before it.
    LossSpike {
        /// It is said, with the rows of the step.
        Warn = "warn",
        /// It is said, and the step changes nothing.
        Skip = "skip",
        /// It is said, and the run goes back to its last checkpoint that was due and leaves out the rows since then.
        Rewind = "rewind",
        /// Nothing.
        Off = "off",
    }
}

choice! {
    /// How worked examples are chosen.
    ShotsBy {
        /// Any, by seed.
        Random = "random",
        /// As many of each answer as can be, by seed.
        Balanced = "balanced",
        /// The nearest to the question by BM25.
        Nearest = "nearest",
    }
}

choice! {
    /// Whether activations are kept or computed again when they are needed.
    Recompute {
        /// They are kept.
        Off = "off",
        /// Those of norms and of SwiGLU are computed again: about 1% of the time for a third of their memory.
        Cheap = "cheap",
        /// Each layer's are computed again in the backward pass: less memory, the same bits.
        Layers = "layers",
    }
}
