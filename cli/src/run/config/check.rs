//! Ranges of the settings, and those that do not go together. What needs the model (widths, module
//! names) is checked when the model is open.

use super::{
    BackendChoice, EarlyStopOn, Method, Optimizer, Parameters, Precision, RunConfig, Validation,
};

/// A key and what is wrong with it.
type Found = Vec<(&'static str, String)>;

impl RunConfig {
    /// Everything that is wrong, by key.
    pub(super) fn problems(&self) -> Found {
        let mut found = Found::new();
        self.check_inputs(&mut found);
        self.check_optimizer(&mut found);
        self.check_lora(&mut found);
        self.check_validation(&mut found);
        self.check_counts(&mut found);
        self.check_mixture(&mut found);
        found
    }

    fn check_inputs(&self, found: &mut Found) {
        let is_empty = |text: &Option<String>| text.as_deref().is_some_and(|t| t.trim().is_empty());
        let texts = [
            ("model", &self.model),
            ("template", &self.template),
            ("out", &self.out),
            ("init_adapter", &self.init_adapter),
            ("device", &self.device),
            ("replay_template", &self.replay_template),
        ];
        for (key, text) in texts {
            if is_empty(text) {
                found.push((key, format!("{key} is empty; leave it out or give a name")));
            }
            if text.as_deref().is_some_and(|t| t.contains('\0')) {
                found.push((key, format!("{key} contains a NUL character")));
            }
        }
        if self.data.iter().any(|path| path.trim().is_empty() || path.contains('\0')) {
            found.push(("data", "data contains an empty name or one with a NUL".to_string()));
        }
        if !(self.replay_share > 0.0 && self.replay_share < 1.0) {
            let text =
                "replay_share must be above 0 and below 1; leave replay out to mix nothing in";
            found.push(("replay_share", text.to_string()));
        }
        if self.init_adapter.is_some() && self.method != Method::Lora {
            let text = "init_adapter goes on from a LoRA adapter, so it needs method = \"lora\"";
            found.push(("init_adapter", text.to_string()));
        }
        let chooses = matches!(self.backend, BackendChoice::Wgpu | BackendChoice::Cuda);
        self.check_types(found);
        if self.device.is_some() && !chooses {
            let text =
                "device names a graphics card; set backend = \"wgpu\" (or \"cuda\") beside it";
            found.push(("device", text.to_string()));
        }
    }

    /// Types that not every back-end offers.
    fn check_types(&self, found: &mut Found) {
        let cuda = self.backend == BackendChoice::Cuda;
        let text = match (self.precision, self.backend) {
            (Precision::Auto, _) | (_, BackendChoice::Cuda) => None,
            (Precision::F16, BackendChoice::Wgpu) | (Precision::Bf16, BackendChoice::Cpu) => None,
            (Precision::Bf16, BackendChoice::Wgpu) => Some(
                "precision = \"bf16\" is for NVIDIA cards (backend = \"cuda\") and processors; set precision = \"f16\", \
                 or leave it out for f32",
            ),
            (Precision::F16, BackendChoice::Cpu) => Some(
                "precision = \"f16\" is for graphics cards; with backend = \"cpu\" set precision = \"bf16\", or leave \
                 it out for f32",
            ),
            _ => Some(
                "precision goes with a back-end that is named; set backend = \"cuda\", \"wgpu\" or \"cpu\" beside it",
            ),
        };
        found.extend(text.map(|text| ("precision", text.to_string())));
        if self.parameters == Parameters::F32 {
            return;
        }
        let text = match (cuda, self.method, self.optimizer) {
            (false, ..) => "parameters = \"bf16\" is for NVIDIA cards; set backend = \"cuda\"",
            (_, Method::Lora, _) => {
                "parameters = \"bf16\" is for method = \"full\"; a LoRA's are few"
            }
            (.., Optimizer::Adam) => "parameters = \"bf16\" goes with optimizer = \"adamw\"",
            _ if self.precision == Precision::F16 => {
                "parameters = \"bf16\" does not go with precision = \"f16\""
            }
            _ => return,
        };
        found.push(("parameters", text.to_string()));
    }

    fn check_optimizer(&self, found: &mut Found) {
        let mut number = |key, value: f64, good: bool, expected: &str| {
            if !good || !value.is_finite() {
                found.push((key, format!("{key} is {value}, but must be {expected}")));
            }
        };
        let lr = self.effective_lr();
        number("lr", lr, lr > 0.0 && lr <= 10.0, "above 0 and at most 10");
        let epochs = self.epochs;
        number("epochs", epochs, epochs > 0.0 && epochs <= 1e6, "above 0 and at most 1000000");
        let decay = self.weight_decay;
        number("weight_decay", decay, (0.0..=10.0).contains(&decay), "from 0 to 10");
        let norm = self.max_grad_norm;
        number("max_grad_norm", norm, norm >= 0.0, "0 (off) or more");
        for (key, beta) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            number(key, beta, (0.0..1.0).contains(&beta), "from 0 to below 1");
        }
        number("adam_eps", self.adam_eps, self.adam_eps > 0.0, "above 0");
        let (warmup, steps) = (self.warmup_steps, self.max_steps);
        if let (Some(warmup), Some(steps)) = (warmup, steps)
            && warmup > steps
        {
            let text = format!(
                "warmup_steps is {warmup}, but the run ends after max_steps = {steps}: the \
                 learning rate would never be reached"
            );
            found.push(("warmup_steps", text));
        }
    }

    fn check_lora(&self, found: &mut Found) {
        if self.lora_rank == 0 {
            found.push(("lora_rank", "lora_rank is 0, but must be 1 or more".to_string()));
        }
        let alpha = self.effective_lora_alpha();
        // Without a rank the default has no value either; that is told once.
        let has_value = self.lora_alpha.is_some() || self.lora_rank > 0;
        if has_value && (!alpha.is_finite() || alpha <= 0.0) {
            let text = format!("lora_alpha is {alpha}, but must be above 0");
            found.push(("lora_alpha", text));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            let text =
                format!("lora_dropout is {}, but must be from 0 to below 1", self.lora_dropout);
            found.push(("lora_dropout", text));
        }
        if self.lora_targets.is_empty() || self.lora_targets.iter().any(|t| t.trim().is_empty()) {
            let text = "lora_targets is empty; write all-linear or names such as q_proj, v_proj";
            found.push(("lora_targets", text.to_string()));
        }
    }

    fn check_validation(&self, found: &mut Found) {
        match &self.validation {
            Validation::Share(share) if !(*share > 0.0 && *share < 1.0) => {
                let text = format!(
                    "validation is {share}, but a share must be between 0 and 1; write a whole \
                     number for rows, or none"
                );
                found.push(("validation", text));
            }
            Validation::Rows(0) => {
                found.push(("validation", "validation is 0 rows; write none for none".to_string()));
            }
            Validation::File(path) if path.trim().is_empty() => {
                found.push(("validation", "validation is empty; write none for none".to_string()));
            }
            Validation::None
                if self.patience.is_some() && self.early_stop_on == EarlyStopOn::Validation =>
            {
                let text = "patience watches the validation loss, but there is no validation; set \
                            validation, or early_stop_on = \"train\"";
                found.push(("patience", text.to_string()));
            }
            _ => {}
        }
    }

    fn check_counts(&self, found: &mut Found) {
        let required = [
            ("batch_size", Some(self.batch_size)),
            ("micro_batch_tokens", Some(self.micro_batch_tokens)),
            ("max_steps", self.max_steps),
            ("max_seq_len", self.max_seq_len),
            ("patience", self.patience),
            ("eval_every", self.eval_every),
            ("save_every", self.save_every),
            ("keep_checkpoints", Some(self.keep_checkpoints)),
            ("sample_tokens", Some(self.sample_tokens)),
            ("threads", self.threads),
        ];
        for (key, count) in required {
            if count == Some(0) {
                found.push((key, format!("{key} is 0, but must be 1 or more")));
            }
        }
        if self.threads.is_some_and(|threads| threads > 1024) {
            found.push(("threads", "threads is above 1024".to_string()));
        }
    }
}
