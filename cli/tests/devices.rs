//! What the command line says about devices that are not there, and what the processor multiplies in.

use paddock_kernels::cpu::simd::amx::Amx;
use paddock_kernels::cuda::{available, why_not};
use paddock_tests::desk::Desk;

/// A folder with a toy model and rows, for this program.
fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

const TRAIN: &str = "train --model model --data rows.json --lora-rank 4 --max-steps 2 --samples 0";

#[test]
fn f53_without_a_cuda_device_training_says_why_in_one_line_and_what_it_does_instead() {
    let Some(why) = why_not() else {
        println!("SKIPPED: this machine has a CUDA device");
        return;
    };
    let desk = desk();
    let (_, err) = desk.run(&format!("{TRAIN} --backend cuda --out run"), 0);
    let lines: Vec<&str> = err.lines().filter(|line| line.contains("CUDA")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    assert!(lines[0].contains("--backend cuda: ") && lines[0].contains(&why), "{err}");
    assert!(lines[0].contains("trained on the processor instead"), "{err}");
    let [said, read] = ["processor instead", "rows.json"].map(|text| err.find(text).unwrap());
    assert!(said < read, "it is said before rows are read: {err}");
    let recorded = String::from_utf8(desk.bytes("run/run.toml")).unwrap();
    assert!(recorded.contains("backend = \"cpu\"") && !recorded.contains("\"cuda\""), "{recorded}");
    // The same words again go on with the same run.
    desk.run(&format!("{TRAIN} --backend cuda --out run --resume"), 0);
    // One that was begun on a card does not change over by itself.
    let begun = recorded.replace("backend = \"cpu\"", "backend = \"cuda\"");
    std::fs::write(desk.path("run/run.toml"), begun).unwrap();
    let (_, err) = desk.run("train --resume --out run", 2);
    assert!(err.contains(&why) && err.contains("--backend cpu --allow-changes"), "{err}");
}

#[test]
fn f53_other_commands_say_why_there_is_no_cuda() {
    let Err(why) = available() else {
        println!("SKIPPED: this machine has a CUDA device");
        return;
    };
    assert!(why.contains("--backend cpu"), "{why}");
    let desk = desk();
    let (out, _) = desk.run("doctor", 0);
    assert!(out.lines().any(|line| line.starts_with("CUDA ") && line.contains(&why)), "{out}");
    let (_, err) = desk.run("verify --backend cuda", 2);
    assert!(err.contains(&why), "{err}");
}

#[test]
fn a_run_with_products_in_bf16_is_recorded_and_goes_on_to_the_same_bits() {
    let desk = desk();
    let train = "train --model model --data rows.json --lora-rank 4 --lr 0.01 --max-steps 12 --samples 0 \
                 --save-every 4 --keep-checkpoints 9 --backend cpu";
    let narrow = format!("{train} --precision bf16");
    if Amx::detect().is_none() {
        println!("SKIPPED: this processor has no matrix instructions for bf16");
        let (_, err) = desk.run(&format!("{narrow} --out none"), 2);
        assert!(err.contains("no matrix instructions") && !desk.path("none").exists(), "{err}");
        return;
    }
    desk.run(&format!("{train} --out wide"), 0);
    desk.run(&format!("{narrow} --out whole"), 0);
    let (wide, whole) = (desk.losses("wide"), desk.losses("whole"));
    assert_eq!((wide.len(), whole.len()), (12, 12));
    let off =
        wide.iter().zip(&whole).map(|(f32, bf16)| (f32 - bf16).abs() / f32).fold(0.0, f64::max);
    assert!(off > 0.0 && off < 2e-3, "off by {off:e}");
    let record = String::from_utf8(desk.bytes("whole/run.toml")).unwrap();
    for words in ["precision = \"bf16\"", "products in bf16"] {
        assert!(record.contains(words), "{words}: {record}");
    }
    // Interrupted after any step, it ends in the same bits.
    desk.run(&format!("{narrow} --out parts"), 0);
    for step in ["step-8", "step-12"] {
        std::fs::remove_dir_all(desk.path("parts/checkpoints").join(step)).unwrap();
    }
    desk.run("train --resume --out parts", 0);
    let weights = "adapter/adapter_model.safetensors";
    assert_eq!(desk.bytes(&format!("whole/{weights}")), desk.bytes(&format!("parts/{weights}")));
    let (out, _) = desk.run("doctor", 0);
    assert!(out.contains("--precision bf16"), "{out}");
}

#[test]
fn precision_goes_with_a_back_end_that_has_it() {
    let desk = desk();
    let (_, err) = desk.run("verify --precision bf16", 2);
    assert!(err.contains("--backend cuda, wgpu or cpu"), "{err}");
    let mut command = desk.command("verify --backend cpu --precision bf16 --cases 1");
    let output = command.env("PADDOCK_SIMD", "scalar").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("no matrix instructions for bf16"), "{err}");
}
