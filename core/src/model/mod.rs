//! A LLaMA as handles: which matrix is frozen in the checkpoint, which is trained, where its
//! gradient lies.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::backend::LoraMats;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::philox::Stream;
use crate::slot::{Region, Slot};
use crate::weights::{Mat, Weight};

pub mod backward;
pub mod forward;
pub mod init;
pub mod linear;
pub mod names;
pub mod params;

pub use linear::{Linear, Lora};
pub use names::{Module, tensors};
pub use params::{Param, Params};

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Nothing: the model is used as it is.
    Frozen,
    /// Every weight, in f32.
    Full,
    /// Low-rank updates beside frozen weights (Hu et al. 2021).
    Lora(LoraConfig),
}

/// Settings of LoRA, as PEFT understands them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraConfig {
    /// R.
    pub rank: u32,
    /// The update is scaled by alpha / R.
    pub alpha: f64,
    /// Scale by alpha / sqrt(R) instead (rank-stabilised LoRA).
    pub rank_stabilised: bool,
    /// Probability of dropout before A.
    pub dropout: f32,
    /// Which linears have an adapter, by [`Module`].
    pub targets: [bool; 7],
}

impl LoraConfig {
    /// What B·A is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = f64::from(self.rank);
        self.alpha / if self.rank_stabilised { libm::sqrt(rank) } else { rank }
    }

    /// Refuses settings that cannot train.
    pub fn validate(&self, config: &Config) -> Result<()> {
        let fail = |field, found: String, expected: &str| {
            Err(Error::Config { field, found, expected: expected.to_string() })
        };
        let smallest = config.dim.min(config.kv_dim()).min(config.hidden_dim);
        if self.rank == 0 || self.rank > smallest {
            return fail("lora_rank", self.rank.to_string(), &format!("1 to {smallest}"));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return fail("lora_alpha", self.alpha.to_string(), "a positive number");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail("lora_dropout", self.dropout.to_string(), "0 up to, not including, 1");
        }
        if !self.targets.contains(&true) {
            return fail("lora_targets", "nothing".to_string(), "at least one module");
        }
        Ok(())
    }
}

/// One norm's weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// weight (1,C)
    pub w: Mat,
    /// Its gradient, if trained.
    pub dw: Option<Slot>,
}

/// One block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// Before attention.
    pub norm1: Norm,
    /// Before the feed-forward layer.
    pub norm2: Norm,
    /// The seven linears, by [`Module`].
    pub linears: [Linear; 7],
}

impl Layer {
    /// One of the seven linears.
    pub fn linear(&self, module: Module) -> &Linear {
        &self.linears[module as usize]
    }
}

/// The whole model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its shape.
    pub config: Config,
    /// What is trained.
    pub method: Method,
    /// Token table (V,C).
    pub embed: Mat,
    /// Its gradient, if trained.
    pub dembed: Option<Slot>,
    /// The blocks.
    pub layers: Vec<Layer>,
    /// The last norm.
    pub norm: Norm,
    /// Output head (V,C); the token table itself where tied.
    pub head: Mat,
    /// Its gradient, if trained.
    pub dhead: Option<Slot>,
    /// Everything trained, by name.
    pub params: Params,
}

impl Model {
    /// Lays out a model. Frozen weights are numbered as [`tensors`] lists them.
    pub fn new(config: Config, method: Method) -> Result<Model> {
        config.validate()?;
        if let Method::Lora(lora) = method {
            lora.validate(&config)?;
        }
        let params = Params::new(&config, method);
        let full = method == Method::Full;
        let mat = |index: usize, rows: u32, cols: u32| {
            if full {
                let slot = params.items[params.of_tensor[index]].slot;
                (Mat::trained(slot, rows, cols), Some(slot.in_region(Region::Grads)))
            } else {
                (Mat::frozen(Weight(index as u32), rows, cols), None)
            }
        };
        let list = tensors(&config);
        let mut next = list.iter().enumerate().map(|(i, t)| mat(i, t.rows, t.cols));
        let mut take = || next.next().ok_or(Error::State { what: "tensor list" });
        let (embed, dembed) = take()?;
        let mut layers = Vec::with_capacity(config.n_layers as usize);
        for l in 0..config.n_layers {
            let (w, dw) = take()?;
            let norm1 = Norm { w, dw };
            let mut linears = [Linear::plain(embed, None); 7];
            for module in Module::ATTENTION {
                let (w, dw) = take()?;
                linears[module as usize] = Linear::plain(w, dw);
            }
            let (w, dw) = take()?;
            let norm2 = Norm { w, dw };
            for module in Module::FEED_FORWARD {
                let (w, dw) = take()?;
                linears[module as usize] = Linear::plain(w, dw);
            }
            for module in Module::ALL {
                linears[module as usize].lora = params.lora(l, module, method);
            }
            layers.push(Layer { norm1, norm2, linears });
        }
        let (w, dw) = take()?;
        let (head, dhead) = if config.tied { (embed, dembed) } else { take()? };
        drop(next);
        let norm = Norm { w, dw };
        Ok(Model { config, method, embed, dembed, layers, norm, head, dhead, params })
    }

    /// The same model without its adapters: the base that it started from.
    pub fn base(&self) -> Model {
        let mut base = self.clone();
        for layer in &mut base.layers {
            layer.linears.iter_mut().for_each(|linear| linear.lora = None);
        }
        base
    }

    /// The adapter rank of a module, if it has one.
    pub fn rank_of(&self, module: Module) -> Option<u32> {
        match self.method {
            Method::Lora(lora) if lora.targets[module as usize] => Some(lora.rank),
            _ => None,
        }
    }

    /// The largest adapter rank; 0 without adapters.
    pub fn largest_rank(&self) -> u32 {
        Module::ALL.iter().filter_map(|&m| self.rank_of(m)).max().unwrap_or(0)
    }

    /// Probability of dropout before the adapters.
    pub fn dropout(&self) -> f32 {
        match self.method {
            Method::Lora(lora) => lora.dropout,
            _ => 0.0,
        }
    }

    /// Dropout's stream of one module of one layer.
    pub(crate) fn dropout_stream(layer: usize, module: Module) -> Stream {
        Stream::dropout((layer * 7 + module as usize) as u16)
    }
}

impl Params {
    fn lora(&self, layer: u32, module: Module, method: Method) -> Option<Lora> {
        let Method::Lora(config) = method else { return None };
        let (a, b) = self.of_module(layer, module)?;
        let mats = LoraMats {
            a: Mat::trained(a.slot, a.rows, a.cols),
            b: Mat::trained(b.slot, b.rows, b.cols),
            scale: config.scale() as f32,
        };
        let (da, db) = (a.slot.in_region(Region::Grads), b.slot.in_region(Region::Grads));
        Some(Lora { mats, da, db })
    }
}
