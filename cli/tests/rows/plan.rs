//! `core-cli plan`: memory by purpose, time from a few steps, disk, cost, and what would make it fit.

use paddock_tests::desk::Desk;
use serde_json::Value;

fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

#[test]
fn a_plan_tells_memory_time_disk_and_cost() {
    let desk = desk();
    let command =
        "plan --lora-rank 4 --model model --data rows.json --epochs 2 --price-per-hour 3.6";
    let (out, _) = desk.run(command, 0);
    for word in
        ["Memory", "activations", "a checkpoint", "for the 2 that are kept", "Time       about"]
    {
        assert!(out.contains(word), "{word}: {out}");
    }
    assert!(out.contains("Cost       about") && out.contains("at 3.6 an hour"), "{out}");
    assert!(out.contains("Fits       "), "{out}");
    assert!(!desk.path("runs").exists(), "a plan leaves nothing behind");
    let (out, _) = desk.run(&format!("{command} --json"), 0);
    let plan: Value = serde_json::from_str(&out).expect("JSON");
    let number = |key: &str| plan[key].as_f64().unwrap_or_else(|| panic!("{key}: {plan}"));
    assert!(number("step_s") > 0.0 && number("total_s") >= number("step_s") * number("steps"));
    assert!((number("cost") - number("total_s") * 0.001).abs() < 1e-9);
    assert_eq!(number("disk_bytes"), 2.0 * number("checkpoint_bytes"));
    let (_, err) =
        desk.run("plan --lora-rank 4 --model model --data rows.json --price-per-hour=-1", 2);
    assert!(err.contains("0 or more"), "{err}");
}

#[test]
fn a_shape_is_enough_for_memory_and_what_would_make_it_fit_is_named() {
    let desk = desk();
    let shape = "plan --json --shape 4096,32,32,8,14336,128256";
    let json = |flags: &str| -> Value {
        let (out, _) = desk.run(&format!("{shape} {flags}"), 0);
        serde_json::from_str(&out).expect("JSON")
    };
    let full = json("--method full");
    // 8 billion parameters with gradients and two moments at four bytes each.
    let parameters = full["parameters"].as_f64().expect("a number");
    assert!((8.0e9..8.1e9).contains(&parameters), "{full}");
    let memory = |plan: &Value| plan["memory_bytes"].as_f64().expect("a number");
    assert!(memory(&full) > 16.0 * parameters && memory(&full) < 20.0 * parameters, "{full}");
    let lora = json("");
    assert!(memory(&lora) < 0.4 * memory(&full), "{lora}");
    let others = full["alternatives"].as_array().expect("a list");
    let flags: Vec<&str> = others.iter().filter_map(|a| a["flags"].as_str()).collect();
    assert!(flags.contains(&"--recompute layers") && flags.contains(&"--method lora"), "{flags:?}");
    // What the list says of other settings is what a plan with them says (the program's own memory aside).
    let layers = json("--method full --recompute layers");
    let said = others.iter().find(|a| a["flags"] == "--recompute layers").expect("it is there");
    let said = said["memory_bytes"].as_f64().expect("a number");
    assert!((said / memory(&layers) - 1.0).abs() < 0.01, "{said} {layers}");

    let (out, _) = desk.run("plan --method full --shape 8192,80,64,8,28672,128256", 0);
    assert!(out.contains("Does not fit:"), "{out}");
    let (out, _) = desk.run("plan --lora-rank 4 --shape model/config.json --max-seq-len 32", 0);
    assert!(out.contains("Fits") && out.contains("frozen weights"), "{out}");
    for (shape, words) in [("1,2,3", "expected six whole numbers"), ("0,2,2,2,8,100", "--shape")] {
        let (_, err) = desk.run(&format!("plan --shape {shape}"), 2);
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn it_is_said_where_the_trained_model_is_written_with_fewer_digits() {
    let desk = desk();
    let said = |flags: &str| -> bool {
        let (_, err) = desk.run(&format!("plan --no-probe --data rows.json {flags}"), 0);
        err.contains("model/ is written in bfloat16 as the model's own files are")
    };
    assert!(said("--method full --model bundled:tiny"));
    assert!(!said("--method lora --model bundled:tiny"));
    assert!(!said("--method full --model model"));
}
