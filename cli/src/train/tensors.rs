//! Tensors of a run as a safetensors file, written one at a time.

use std::cell::RefCell;
use std::io::{self, Write};

use paddock_core::backend::Backend;
use paddock_core::model::{Param, init};
use paddock_core::slot::{Region, Slot};
use serde_json::{Map, json};

/// One tensor on its way to or from a checkpoint.
pub(super) struct Tensor {
    pub(super) name: String,
    shape: [u32; 2],
    pub(super) slot: Slot,
}

/// For each (prefix, region, offset), every parameter's place there.
pub(super) fn tensors(params: &[Param], places: &[(&str, Region, u64)]) -> Vec<Tensor> {
    let mut list = Vec::new();
    for &(prefix, region, offset) in places {
        list.extend(params.iter().map(|p| Tensor {
            name: format!("{prefix}{}", p.name),
            shape: [p.rows, p.cols],
            slot: Slot::new(region, offset + p.slot.offset, p.slot.len),
        }));
    }
    list
}

/// The header of a safetensors file of these tensors.
fn header(list: &[Tensor]) -> Vec<u8> {
    let (mut map, mut offset) = (Map::new(), 0);
    for tensor in list {
        let end = offset + 4 * tensor.slot.len;
        let entry = json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, end]});
        map.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut text = serde_json::Value::Object(map).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    header
}

/// Bytes of that file.
pub(super) fn bytes_of(list: &[Tensor]) -> u64 {
    header(list).len() as u64 + list.iter().map(|t| 4 * t.slot.len).sum::<u64>()
}

/// Writes the file, one tensor in memory at a time.
pub(super) fn write_tensors(
    out: &mut dyn Write,
    list: &[Tensor],
    b: &RefCell<&mut (dyn Backend + '_)>,
) -> io::Result<()> {
    out.write_all(&header(list))?;
    for tensor in list {
        let values = init::read(&mut **b.borrow_mut(), tensor.slot).map_err(io::Error::other)?;
        out.write_all(bytemuck::cast_slice(&values))?;
    }
    Ok(())
}
