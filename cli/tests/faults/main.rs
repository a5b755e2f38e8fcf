//! Faults that a run must survive or refuse in words (F1 to F80 of docs/reliability.md): model files, adapters,
//! storage, kills and signals, exact resume, numbers, memory. Those of rows and templates are in `rows`.

mod adapters;
mod devices_that_err;
mod exact;
mod going_on;
mod inputs;
#[cfg(unix)]
mod kills;
#[cfg(target_os = "linux")]
mod memory;
mod model;
mod numbers;
mod outside;
mod results;
mod space;
mod spikes;
mod stops;

use paddock_tests::desk::Desk;
use paddock_tests::parsers::memory::Scarce;
use safetensors::{Dtype, SafeTensors};

/// Gives all memory, unless a test says otherwise.
#[global_allocator]
static MEMORY: Scarce = Scarce;

fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

const PLAN: &str = "plan --no-probe --lora-rank 4 --model model --data rows.json";
const TRAIN: &str = "train --model model --data rows.json --batch-size 8 --lr 0.01 --samples 1 --sample-tokens 4 \
                     --lora-rank 4";

fn write(desk: &Desk, name: &str, contents: impl AsRef<[u8]>) {
    std::fs::write(desk.path(name), contents).expect("a file");
}

/// Exit code 2, a message with all of the words, and no folder of a run.
fn refuses(desk: &Desk, command: &str, words: &[&str]) {
    let (_, err) = desk.run(command, 2);
    for word in words {
        assert!(err.contains(word), "core-cli {command}: expected {word:?} in\n{err}");
    }
    assert!(!desk.path("bad").exists(), "core-cli {command} left a folder");
}

/// A tensor of the toy model on its way to a file.
#[derive(Clone)]
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn read_tensors(desk: &Desk, file: &str) -> Vec<Tensor> {
    let bytes = desk.bytes(file);
    let all = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| Tensor {
        name,
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    all.tensors().into_iter().map(tensor).collect()
}

fn write_tensors(desk: &Desk, file: &str, tensors: &[Tensor]) {
    let views = tensors.iter().map(|t| {
        let view = safetensors::tensor::TensorView::new(t.dtype, t.shape.clone(), &t.bytes);
        (t.name.clone(), view.expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, &desk.path(file)).expect("a file");
}

const WEIGHTS: &str = "model/model.safetensors";

/// The toy model with some tensors changed.
fn change_weights(desk: &Desk, change: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors = read_tensors(desk, WEIGHTS);
    change(&mut tensors);
    write_tensors(desk, WEIGHTS, &tensors);
}

fn tensor<'a>(tensors: &'a mut [Tensor], name: &str) -> &'a mut Tensor {
    tensors.iter_mut().find(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Every file below a folder of the desk, by its path in it.
fn files_below(desk: &Desk, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(desk.path(folder)).expect("a folder").flatten() {
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            found.extend(files_below(desk, &name));
        } else {
            found.push(name);
        }
    }
    found
}
