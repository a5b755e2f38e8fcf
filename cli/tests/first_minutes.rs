//! What a newcomer meets: the built-in model and data, and a model made from raw text.

use paddock_tests::desk::Desk;
use serde_json::Value;

fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

/// Runs with a cache folder of its own, so that the built-in files are written anew.
fn run(desk: &Desk, args: &str, code: i32) -> (String, String) {
    let mut command = desk.command(args);
    let output =
        command.env("PADDOCK_CACHE", desk.path("cache")).output().expect("core-cli starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "core-cli {args}\n{out}\n{err}");
    (out, err)
}

#[test]
fn the_built_in_model_is_judged_on_unseen_stories() {
    let desk = desk();
    let (out, err) = run(
        &desk,
        "train --model bundled:tiny --data bundled:stories --max-steps 4 --batch-size 4 --test-rows 12 \
         --samples 3 --sample-tokens 8 --validation 20 --out run",
        0,
    );
    assert!(err.contains("to learn from"), "{err}");
    for words in ["12 unseen instructions", "wishes fulfilled", "base", "tuned", "Of 100 things"] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    // Each loss says which rows it is of.
    assert!(out.contains("loss on these") && out.contains("the 20 held-out rows"), "{out}");
    // The time before the first step, no path of the cache, and at the end what to do next.
    let (plan, course) = err.split_once("step 0:").expect("a look before the first step");
    assert!(plan.contains("\nTime       about ") && plan.contains("(an estimate)"), "{plan}");
    assert!(!course.contains("Time") && !err.contains(".jsonl"), "{err}");
    assert!(out.contains("open run/report.html in a browser"), "{out}");
    let chat = "chat --model bundled:tiny --adapter run/adapter";
    let next = out.lines().skip_while(|line| *line != "Talk with it:").nth(1).expect("a command");
    let program = env!("CARGO_BIN_EXE_core-cli");
    assert!(next.ends_with(chat) && next.trim_start().starts_with(program), "{next}");
    let report = String::from_utf8(desk.bytes("run/report.html")).expect("text");
    assert!(report.contains("wishes fulfilled"));
    // The rows to judge by are part of the record, and a second start finds the built-in files in place.
    let record = String::from_utf8(desk.bytes("run/run.toml")).expect("text");
    assert!(record.contains("test.jsonl"), "{record}");
    let (_, err) = run(&desk, "train --model bundled:huge --data bundled:stories", 2);
    assert!(err.contains("bundled:tiny"), "{err}");
    let (_, err) = run(&desk, "train --model bundled:tiny --data bundled:tales", 2);
    assert!(err.contains("bundled:stories"), "{err}");
}

#[test]
fn help_begins_with_what_to_do_and_a_plan_of_the_built_in_model_needs_no_rows() {
    let desk = desk();
    let (help, _) = run(&desk, "--help", 0);
    let (begin, _) = help.split_once("Usage:").expect("usage");
    let first = "core-cli train --model bundled:tiny --data bundled:stories";
    assert!(begin.contains("Begin with") && begin.contains(first), "{help}");
    let (plan, err) = run(&desk, "plan --no-probe --model bundled:tiny", 0);
    assert!(plan.contains("3200 to learn from") && err.contains("bundled:stories"), "{plan}{err}");
    assert!(!err.contains("cache"), "{err}");
    let (_, err) = run(&desk, "plan --no-probe --lora-rank 4 --model model", 2);
    assert!(err.contains("data"), "{err}");
}

#[test]
fn the_built_in_model_tells_a_story() {
    let desk = desk();
    let mut command =
        desk.command("generate --model bundled:tiny --raw --json --max-new-tokens 120");
    command.args(["--prompt", "One day, a little girl named Mia went to the park"]);
    let output =
        command.env("PADDOCK_CACHE", desk.path("cache")).output().expect("core-cli starts");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = answer["text"].as_str().expect("a text");
    let sentences = text.matches(['.', '!', '?']).count();
    assert!(sentences >= 3 && (text.contains("She") || text.contains("she")), "{text}");
}

const RECIPE: &str = "seed = 3\n[model]\ndim = 16\nlayers = 1\nheads = 2\nhidden = 24\ncontext = 48\n\
    [vocabulary]\ntokens = 300\ntexts = 50\n[text]\nfiles = [\"tales.txt\"]\ntimes = 2\nstories = 40\n\
    [training]\nlr = 0.01\nbatch_size = 8\nvalidation = 20\nsave_every = 5\nsamples = 1\nsample_tokens = 4\n";

#[test]
fn a_model_is_made_from_raw_text_and_goes_on_after_a_stop() {
    let desk = desk();
    let tale = "Once there was a mare. She lived by the river.";
    std::fs::write(desk.path("tales.txt"), format!("{tale}\n<|endoftext|>\n{tale} The end.\n"))
        .unwrap();
    std::fs::write(desk.path("recipe.toml"), RECIPE).unwrap();
    run(&desk, "pretrain recipe.toml --out whole --set max_steps=12", 0);
    run(&desk, "pretrain recipe.toml --out parts --set max_steps=12 --set keep_checkpoints=9", 0);
    // Cut the second one back to its first checkpoint and let it go on: the same bytes.
    for step in ["10", "12"] {
        let dir = desk.path(&format!("parts/run/checkpoints/step-{step}"));
        let _ = std::fs::remove_dir_all(dir);
    }
    run(&desk, "pretrain recipe.toml --out parts --resume --set max_steps=12", 0);
    let weights = "run/model/model.safetensors";
    assert_eq!(desk.bytes(&format!("whole/{weights}")), desk.bytes(&format!("parts/{weights}")));
    // Both files and stories were read, and every text is learned from its first word on.
    let corpus = desk.json_lines("whole/corpus.jsonl");
    assert_eq!(corpus.len(), 44);
    assert_eq!(corpus.iter().filter(|row| row["text"] == tale).count(), 2);
    let (answer, _) =
        run(&desk, "generate --model whole/run/model --raw --prompt Once --max-new-tokens 4", 0);
    assert!(!answer.trim().is_empty());

    // An existing model can read more.
    let more = "[model]\nfrom = \"whole/run/model\"\n[text]\nfiles = [\"tales.txt\"]\n[training]\nmax_steps = 1\n\
                validation = \"none\"\n";
    std::fs::write(desk.path("more.toml"), more).unwrap();
    run(&desk, "pretrain more.toml --out more", 0);

    let (_, err) = run(&desk, "pretrain recipe.toml --out whole", 2);
    assert!(err.contains("--resume"), "{err}");
    let wrong = RECIPE.replace("heads = 2", "hedas = 2");
    std::fs::write(desk.path("wrong.toml"), wrong).unwrap();
    let (_, err) = run(&desk, "pretrain wrong.toml --out bad", 2);
    assert!(err.contains("hedas") && err.contains("heads"), "{err}");
}
