//! What a checkpoint holds of a run in memory: weights, moments, position; out and back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;

use anyhow::Context;
use paddock_core::model::{Model, init};
use paddock_core::slot::{Region, Slot};
use paddock_core::train::Run;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::{Map, json};

use super::session::Session;
use super::tensors::{Tensor, bytes_of, tensors, write_tensors};
use crate::run::checkpoint::{Checkpoint, Entry, Found, Keep, Payload, Reader, Saved, save};
use crate::storage::Storage;

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.bin";

/// Numbers on their way from a checkpoint at once. Its files are as large as what is trained, and no plan has room
/// for that a second time.
const PIECE: u64 = 1 << 15;

/// Longest header of a file of tensors that is believed.
const HEADER_CAP: u64 = 100 << 20;

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
        let list = tensors(&params, &[("m.", Region::Moments, 0), ("v.", Region::Moments, half)]);
        self.upload(storage, found, OPTIMIZER, &list)?;
        self.run = Run::from_bytes(&found.read(storage, STATE)?)
            .with_context(|| format!("{STATE} of {}", found.path.display()))?;
        let elapsed = found.manifest.info.get("elapsed_s").and_then(|x| x.as_f64());
        Ok(elapsed.unwrap_or(0.0))
    }

    /// Takes only the weights of a checkpoint: the best one, at the end.
    pub fn restore_weights(&mut self, storage: &dyn Storage, found: &Found) -> anyhow::Result<()> {
        let params = self.model.params.items.clone();
        self.upload(storage, found, WEIGHTS, &tensors(&params, &[("", Region::Params, 0)]))
    }

    /// Puts the tensors of a checkpoint's file back in their places. All of the file was compared with its manifest
    /// when it was found, and is once more on its way; an error means that the session cannot be used.
    fn upload(
        &mut self,
        storage: &dyn Storage,
        found: &Found,
        name: &str,
        list: &[Tensor],
    ) -> anyhow::Result<()> {
        let mut file = found.open(storage, name)?;
        self.upload_tensors(&mut file, list)
            .with_context(|| format!("{name} of {}", found.path.display()))?;
        Ok(file.finish()?)
    }

    /// The tensors of a file, in the order in which they lie there.
    fn upload_tensors(&mut self, file: &mut Reader<'_>, list: &[Tensor]) -> anyhow::Result<()> {
        let header = header(file)?;
        let places: HashMap<&str, Slot> = list.iter().map(|t| (t.name.as_str(), t.slot)).collect();
        let names = header.offset_keys();
        let (found, expected) = (names.len(), list.len());
        anyhow::ensure!(found == expected, "it holds {found} tensors, expected {expected}");
        let mut numbers = vec![0.0_f32; PIECE as usize];
        for name in names {
            let (Some(&slot), Some(info)) = (places.get(name.as_str()), header.info(&name)) else {
                anyhow::bail!("it holds `{name}`, which this run does not train");
            };
            let (start, end) = info.data_offsets;
            anyhow::ensure!(
                info.dtype == Dtype::F32 && (end - start) as u64 == 4 * slot.len,
                "`{name}` has {} bytes of {:?}, expected {} numbers of F32",
                end - start,
                info.dtype,
                slot.len
            );
            for first in (0..slot.len).step_by(PIECE as usize) {
                let part = slot.part(first, PIECE.min(slot.len - first));
                let numbers = &mut numbers[..part.len as usize];
                file.read_exact(bytemuck::cast_slice_mut(numbers))?;
                // The file's bytes are little-endian on every machine.
                numbers.iter_mut().for_each(|x| *x = f32::from_bits(u32::from_le(x.to_bits())));
                self.b.upload(part, numbers)?;
            }
        }
        Ok(())
    }
}

/// Reads the header of a file of tensors, which fill the rest of the file without gap or overlap.
fn header(file: &mut Reader<'_>) -> anyhow::Result<Metadata> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let (length, left) = (u64::from_le_bytes(length), file.left());
    anyhow::ensure!(length <= left.min(HEADER_CAP), "its header claims {length} bytes of {left}");
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
    let header: Metadata = serde_json::from_slice(&text).context("its header is damaged")?;
    let (claimed, left) = (header.data_len() as u64, file.left());
    anyhow::ensure!(claimed == left, "its tensors claim {claimed} bytes of {left}");
    Ok(header)
}

/// Bytes of one checkpoint of this model.
pub fn checkpoint_bytes(model: &Model) -> u64 {
    let params = &model.params.items;
    let moments = [("m.", Region::Moments, 0), ("v.", Region::Moments, model.params.len())];
    bytes_of(&tensors(params, &[("", Region::Params, 0)]))
        + bytes_of(&tensors(params, &moments))
        + Run::default().to_bytes().len() as u64
}
