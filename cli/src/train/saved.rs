//! What a checkpoint holds of a run in memory: weights, moments, position; out and back.

use std::cell::RefCell;
use std::io::Write;

use anyhow::Context;
use paddock_core::model::{Model, init};
use paddock_core::slot::{Region, Slot};
use paddock_core::train::Run;
use serde_json::{Map, json};

use super::session::Session;
use super::tensors::{Tensor, bytes_of, tensors, write_tensors};
use crate::run::checkpoint::{Checkpoint, Entry, Found, Keep, Payload, Saved, save};
use crate::storage::Storage;

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.bin";

impl Session<'_> {
    /// Values of every trained tensor.
    pub fn values(&mut self) -> anyhow::Result<Vec<Vec<f32>>> {
        let slots: Vec<Slot> = self.model.params.items.iter().map(|p| p.slot).collect();
        slots.into_iter().map(|slot| Ok(init::read(&mut *self.b, slot)?)).collect()
    }

    /// Saves weights, moments and position by the checkpoint protocol.
    pub fn save(
        &mut self,
        storage: &dyn Storage,
        dir: &std::path::Path,
        keep: &Keep,
        elapsed_s: f64,
    ) -> anyhow::Result<Saved> {
        let params = self.model.params.items.clone();
        let (run, half) = (self.run, self.model.params.len());
        let weights = tensors(&params, &[("", Region::Params, 0)]);
        let moments =
            tensors(&params, &[("m.", Region::Moments, 0), ("v.", Region::Moments, half)]);
        let b = RefCell::new(&mut *self.b);
        let write_weights = |out: &mut dyn Write| write_tensors(out, &weights, &b);
        let write_moments = |out: &mut dyn Write| write_tensors(out, &moments, &b);
        let stream = |list: &[Tensor], write| Payload::Stream { bytes: bytes_of(list), write };
        let state = run.to_bytes();
        let files = [
            Entry { name: WEIGHTS, payload: stream(&weights, &write_weights) },
            Entry { name: OPTIMIZER, payload: stream(&moments, &write_moments) },
            Entry { name: STATE, payload: Payload::Bytes(&state) },
        ];
        let mut info = Map::new();
        info.insert("elapsed_s".into(), json!(elapsed_s));
        info.insert("best_step".into(), json!(run.best_step));
        Ok(save(storage, dir, &Checkpoint { step: run.step, files: &files, info }, keep)?)
    }

    /// Goes back to a checkpoint: weights, moments and position. Returns the seconds trained until
    /// then.
    pub fn restore(&mut self, storage: &dyn Storage, found: &Found) -> anyhow::Result<f64> {
        self.restore_weights(storage, found)?;
        let half = self.model.params.len();
        let params = self.model.params.items.clone();
        let moments = found.read(storage, OPTIMIZER)?;
        let list = tensors(&params, &[("m.", Region::Moments, 0), ("v.", Region::Moments, half)]);
        self.upload(&list, &moments)
            .with_context(|| format!("{OPTIMIZER} of {}", found.path.display()))?;
        self.run = Run::from_bytes(&found.read(storage, STATE)?)?;
        let elapsed = found.manifest.info.get("elapsed_s").and_then(|x| x.as_f64());
        Ok(elapsed.unwrap_or(0.0))
    }

    /// Takes only the weights of a checkpoint: the best one, at the end.
    pub fn restore_weights(&mut self, storage: &dyn Storage, found: &Found) -> anyhow::Result<()> {
        let params = self.model.params.items.clone();
        let weights = found.read(storage, WEIGHTS)?;
        self.upload(&tensors(&params, &[("", Region::Params, 0)]), &weights)
            .with_context(|| format!("{WEIGHTS} of {}", found.path.display()))
    }

    fn upload(&mut self, list: &[Tensor], bytes: &[u8]) -> anyhow::Result<()> {
        let file = safetensors::SafeTensors::deserialize(bytes)?;
        for tensor in list {
            let view = file.tensor(&tensor.name)?;
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            anyhow::ensure!(
                values.len() as u64 == tensor.slot.len,
                "`{}` has {} numbers, expected {}",
                tensor.name,
                values.len(),
                tensor.slot.len
            );
            self.b.upload(tensor.slot, &values)?;
        }
        Ok(())
    }
}

/// Bytes of one checkpoint of this model.
pub fn checkpoint_bytes(model: &Model) -> u64 {
    let params = &model.params.items;
    let moments = [("m.", Region::Moments, 0), ("v.", Region::Moments, model.params.len())];
    bytes_of(&tensors(params, &[("", Region::Params, 0)]))
        + bytes_of(&tensors(params, &moments))
        + Run::default().to_bytes().len() as u64
}
