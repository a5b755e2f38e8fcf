//! The trained parameters: names, places, and which of them decay.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::Config;
use crate::model::Method;
use crate::model::names::{Module, tensors};
use crate::slot::{Region, Slot};

/// One trained tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// As in the checkpoint (full), or as PEFT calls it after "base_model.model." (LoRA).
    pub name: String,
    /// Its place in `Params`; gradients and moments lie at the same offsets.
    pub slot: Slot,
    /// Rows; 1 for a vector.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Whether it is a vector.
    pub vector: bool,
    /// Whether weight decay applies: to matrices, never to norms.
    pub decays: bool,
}

/// All trained tensors: those that decay first, so that the optimizer works on two plain ranges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// In order of their places.
    pub items: Vec<Param>,
    /// For full training: the item of each tensor of [`tensors`].
    pub(crate) of_tensor: Vec<usize>,
    /// For LoRA: the item of each (layer, module)'s A; B follows it.
    of_module: Vec<[Option<usize>; 7]>,
    decaying: u64,
    len: u64,
}

impl Params {
    /// Lays out what `method` trains.
    pub fn new(config: &Config, method: Method) -> Params {
        let mut params = Params::default();
        match method {
            Method::Frozen => {}
            Method::Full => {
                let list = tensors(config);
                params.of_tensor.resize(list.len(), 0);
                for vector in [false, true] {
                    for (i, t) in list.iter().enumerate().filter(|(_, t)| t.vector == vector) {
                        params.of_tensor[i] = params.items.len();
                        params.push(t.name.clone(), t.rows, t.cols, vector);
                    }
                }
            }
            Method::Lora(lora) => {
                for l in 0..config.n_layers {
                    let mut row = [None; 7];
                    for module in Module::ALL.into_iter().filter(|&m| lora.targets[m as usize]) {
                        row[module as usize] = Some(params.items.len());
                        let (rows, cols) = module.shape(config);
                        let path = format!("model.layers.{l}.{}", module.path());
                        params.push(format!("{path}.lora_A.weight"), lora.rank, cols, false);
                        params.push(format!("{path}.lora_B.weight"), rows, lora.rank, false);
                    }
                    params.of_module.push(row);
                }
            }
        }
        params
    }

    fn push(&mut self, name: String, rows: u32, cols: u32, vector: bool) {
        let elements = u64::from(rows) * u64::from(cols);
        let slot = Slot::new(Region::Params, self.len, elements);
        self.len = (self.len + elements).next_multiple_of(64);
        if !vector {
            self.decaying = self.len;
        }
        self.items.push(Param { name, slot, rows, cols, vector, decays: !vector });
    }

    /// Elements of the whole range, gaps (always zero) included.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Trained numbers, gaps not counted.
    pub fn count(&self) -> u64 {
        self.items.iter().map(|p| p.slot.len).sum()
    }

    /// The whole range.
    pub fn all(&self) -> Slot {
        Slot::new(Region::Params, 0, self.len)
    }

    /// (range, decays) of the two groups; a group may be empty.
    pub fn groups(&self) -> [(Slot, bool); 2] {
        let rest = self.len - self.decaying;
        [
            (Slot::new(Region::Params, 0, self.decaying), true),
            (Slot::new(Region::Params, self.decaying, rest), false),
        ]
    }

    /// For full training: the item of each tensor, in the order of the checkpoint's tensors.
    pub fn in_tensor_order(&self) -> &[usize] {
        &self.of_tensor
    }

    /// A and B of a module.
    pub fn of_module(&self, layer: u32, module: Module) -> Option<(&Param, &Param)> {
        let index = (*self.of_module.get(layer as usize)?)[module as usize]?;
        Some((&self.items[index], &self.items[index + 1]))
    }
}
