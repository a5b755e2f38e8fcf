//! Rough handling: bad files, a window that is pulled about, a large table.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::common::{SMALL, USUAL, Visit};
use eframe::egui::{Key, Modifiers, Role, Vec2};
use paddock_gui::app::Screen;
use paddock_gui::task::Work;

/// Every kind of bad file, each with a word of the message that it deserves.
fn bad_files(dir: &std::path::Path) -> Vec<(PathBuf, &'static str)> {
    let utf16: Vec<u8> = "a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let workbook = [b"PK\x03\x04\x14\0\x06\0xl/workbook.xml".as_slice(), &[7; 300]].concat();
    let files: [(&str, Vec<u8>, &str); 13] = [
        ("book.xlsx", workbook, "save the sheet as CSV"),
        ("old.xls", vec![0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1], "save the sheet as CSV"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), ""),
        ("paper.pdf", b"%PDF-1.7 and so on".to_vec(), "PDF"),
        ("packed.jsonl.gz", b"\x1f\x8b\x08\0cut".to_vec(), ""),
        ("empty.csv", Vec::new(), ""),
        ("header.csv", b"question,answer\n".to_vec(), "row"),
        (
            "noise.csv",
            (0..4_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
            "",
        ),
        ("page.html", b"<!DOCTYPE html><html><body>Sign in</body></html>".to_vec(), ""),
        ("broken.json", b"[{\"instruction\": \"a\", \"output\": ".to_vec(), "JSON"),
        ("wide.csv", [vec![0xff, 0xfe], utf16].concat(), "UTF-16"),
        (
            "pointer.parquet",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec(),
            "",
        ),
        ("cut.parquet", b"PAR1 and nothing else".to_vec(), ""),
    ];
    let write = |(name, bytes, word): (&str, Vec<u8>, &'static str)| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).expect("written");
        (path, word)
    };
    let mut all: Vec<_> = files.into_iter().map(write).collect();
    all.push((dir.join("not there.csv"), "not there.csv"));
    all
}

#[test]
fn bad_files_are_told_in_words_and_do_no_harm() {
    let mut visit = Visit::new(SMALL);
    let dir = visit.dir.path().join("files");
    std::fs::create_dir(&dir).expect("a folder");
    for (path, word) in bad_files(&dir) {
        visit.drop_file(&path);
        visit.wait("an end", |h| !h.state().data.opened.busy());
        let state = visit.harness.state();
        let why = match &state.data.opened {
            Work::Failed(why) => why.clone(),
            Work::Done(opened) => panic!("{}: {:?}", path.display(), opened.table.detected),
            _ => panic!("{}: nothing happened", path.display()),
        };
        assert!(why.contains(word), "{}: {why}", path.display());
        visit.wait_for("These rows cannot be opened");
        assert!(visit.harness.state().blocked(Screen::Train).is_some());
        visit.harness.check_accessibility();
    }
    visit.drop_file(&dir);
    visit.wait_for("Drop a file with rows");
    visit.press("Put the message away");
    // And after all that a good one is opened as ever.
    let good = dir.join("good.csv");
    std::fs::write(&good, "question,answer\nWhat is the sky?,blue\nAnd grass?,green\n")
        .expect("written");
    visit.drop_file(&good);
    visit.wait("rows", |h| h.state().data.table().is_some_and(|table| table.rows.len() == 2));
}

#[test]
fn a_window_of_any_size_shows_every_screen() {
    let mut visit = Visit::new(USUAL);
    visit.press("Try the example");
    visit.wait("rows", |h| h.state().data.preview.done().is_some());
    visit.harness.state_mut().run = Some(crate::screens::run(paddock_gui::run::Stage::Finished));
    let screens = Screen::ALL;
    let mut random = 7u64;
    for i in 0..120 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (w, h) = (200 + (random >> 33) % 1_900, 120 + (random >> 45) % 1_300);
        visit.harness.state_mut().screen = screens[i % screens.len()];
        visit.harness.set_size(Vec2::new(w as f32, h as f32));
        visit.harness.step();
    }
    for scale in [0.6, 1.5, 3.0] {
        visit.harness.set_pixels_per_point(scale);
        visit.harness.step();
    }
}

/// Things that stand in the way of a model, a run or a template: each is told in words.
#[test]
fn bad_folders_and_templates_are_told_in_words() {
    let mut visit = Visit::new(SMALL);
    let dir = visit.dir.path().to_path_buf();
    let folder = |name: &str, file: &str, text: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        std::fs::write(path.join(file), text).expect("written");
        path
    };
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8,
        "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 32}"#;
    let cut = folder("cut model", "config.json", config);
    std::fs::write(cut.join("model.safetensors"), [9, 0, 0, 0]).expect("written");
    std::fs::write(cut.join("tokenizer.json"), "{}").expect("written");
    for (path, word) in [
        (folder("no weights", "config.json", config), "safetensors"),
        // Its file of weights stands for its folder.
        (cut.join("model.safetensors"), "model.safetensors"),
        (cut, "model.safetensors"),
        (folder("no config", "config.json", "{"), "config.json"),
        (folder("other model", "config.json", r#"{"model_type": "bert"}"#), "bert"),
    ] {
        visit.drop_file(&path);
        assert_eq!(visit.harness.state().screen, Screen::Model);
        visit.wait("an end", |h| !h.state().model.facts.busy());
        let why = visit.harness.state().model.missing().unwrap_or_default();
        assert!(why.contains(word), "{}: {why}", path.display());
        visit.wait_for("It cannot be used");
        assert!(visit.harness.state().blocked(Screen::Train).is_some());
    }
    visit.drop_file(&folder("broken run", "run.toml", "version = \"?"));
    visit.wait_for("holds no run that this version can read");
    visit.press("Put the message away");
    for (name, text) in [
        ("broken.yaml", "templates: !Template\n  - [unclosed"),
        ("nothing.yaml", "a: 1"),
        ("other.json", "{\"version\": 99}"),
        ("noise.yaml", "\u{1}\u{2}\u{3}"),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("written");
        let error = visit.harness.state_mut().studio.import(&path).expect_err(name);
        assert!(!error.to_string().is_empty());
        assert!(visit.harness.state().studio.chosen.is_empty(), "{name}");
    }
    // And after all that the built-in model is taken as ever.
    visit.press("Model");
    visit.press("Built-in: tiny");
    visit.wait("the model", |h| h.state().model.missing().is_none());
}

/// What a person presses or types into.
const CONTROLS: [Role; 8] = [
    Role::Button,
    Role::RadioButton,
    Role::CheckBox,
    Role::ComboBox,
    Role::SpinButton,
    Role::Slider,
    Role::TextInput,
    Role::MultilineTextInput,
];

/// Everything that can be pressed or typed into lies within the window from side to side: what is below can be
/// scrolled to, what is beside cannot.
#[test]
fn no_control_is_cut_off_on_a_small_screen() {
    use egui_kittest::kittest::NodeT;
    let mut visit = Visit::new(USUAL);
    visit.wait("devices", |h| h.state().home.devices.done().is_some());
    visit.press("Second example: product reviews");
    visit.wait("all rows", |h| h.state().data.found.done().is_some());
    visit.press("Template");
    visit.wait("the shelf", |h| h.state().studio.shelf.done().is_some());
    visit.press("Write a new one");
    visit.wait("a trial", |h| h.state().studio.tried.done().is_some());
    let app = visit.harness.state_mut();
    app.run = Some(crate::screens::run(paddock_gui::run::Stage::Paused));
    app.train.shows_command = true;
    app.train.advanced = true;
    let mut seen = 0;
    for size in [USUAL, SMALL, Vec2::new(800.0, 560.0)] {
        visit.harness.set_size(size);
        for screen in Screen::ALL {
            visit.harness.state_mut().screen = screen;
            visit.settle();
            for node in visit.harness.root().children_recursive() {
                let (role, label) = (node.accesskit_node().role(), node.accesskit_node().label());
                let label = label.unwrap_or_default();
                // Rows lie in a table that scrolls sideways by itself.
                if !CONTROLS.contains(&role) || label.starts_with("Row ") {
                    continue;
                }
                let rect = node.rect();
                seen += 1;
                let inside = rect.left() >= -0.5 && rect.right() <= size.x + 0.5;
                assert!(inside, "{screen:?} at {size}: {label:?} ({role:?}) at {rect}");
            }
        }
    }
    assert!(seen > 500, "{seen}");
}

#[test]
fn the_keyboard_reaches_everything() {
    let mut visit = Visit::new(USUAL);
    visit.wait_for("Try the example");
    // Tab goes round; Enter presses what has the focus.
    let mut found = false;
    for _ in 0..40 {
        visit.harness.key_press(Key::Tab);
        visit.harness.step();
        use egui_kittest::kittest::Queryable;
        if visit.harness.get_by_label("Try the example").is_focused() {
            found = true;
            break;
        }
    }
    assert!(found, "Tab does not come to the example");
    visit.harness.key_press(Key::Enter);
    visit.wait("rows", |h| h.state().data.table().is_some());
    visit.harness.key_press_modifiers(Modifiers::COMMAND, Key::Num4);
    visit.settle();
    assert_eq!(visit.harness.state().screen, Screen::Model);
    // A screen that is not ready yet stays closed.
    visit.harness.key_press_modifiers(Modifiers::COMMAND, Key::Num8);
    visit.settle();
    assert_eq!(visit.harness.state().screen, Screen::Model);
}

/// Nanoseconds that this thread has computed, where the system says: other programs do not count.
fn on_processor() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Measured and reported, not judged: the machine that runs this may be busy with anything.
#[test]
fn a_hundred_thousand_rows_and_a_run_leave_the_window_free() {
    let mut visit = Visit::new(USUAL);
    let path = visit.dir.path().join("large.csv");
    let mut text = "question,context,answer,source\n".to_string();
    for i in 0..100_000 {
        let long = "words and more words ".repeat(1 + i % 12);
        writeln!(text, "\"What is {i}?\",\"{long}\",The number {i},made {i}").expect("text");
    }
    std::fs::write(&path, text).expect("written");
    visit.drop_file(&path);
    visit.wait("rows", |h| h.state().data.table().is_some_and(|table| table.rows.len() == 100_000));
    visit.wait("all looked at", |h| h.state().data.found.done().is_some());
    let flags = [
        ("model", "bundled:tiny"),
        ("data", "bundled:stories"),
        ("max_steps", "40"),
        ("test_rows", "0"),
        ("samples", "0"),
        ("validation", "20"),
        ("batch_size", "4"),
    ];
    let mut flags: Vec<(String, String)> =
        flags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let out = visit.dir.path().join("runs/busy");
    flags.push(("out".into(), out.display().to_string()));
    let ctx = visit.harness.ctx.clone();
    let started = visit.harness.state().engine.start_run(&out, &flags, false).expect("a start");
    visit.harness.state_mut().run = Some(paddock_gui::run::Run::started(&ctx, &started));
    visit.harness.state_mut().frames.clear();
    let (mut frames, mut steps) = (0, Vec::new());
    while frames < 300 || visit.harness.state().run.as_ref().is_some_and(|run| run.active()) {
        let event = eframe::egui::Event::MouseWheel {
            unit: eframe::egui::MouseWheelUnit::Point,
            delta: Vec2::new(0.0, -90.0),
            phase: eframe::egui::TouchPhase::Move,
            source: eframe::egui::MouseWheelSource::Unknown,
            modifiers: Modifiers::NONE,
        };
        visit.harness.hover_at(eframe::egui::pos2(420.0, 430.0));
        visit.harness.event(event);
        let screen = if frames % 40 < 30 { Screen::Data } else { Screen::Run };
        visit.harness.state_mut().screen = screen;
        let before = on_processor();
        visit.harness.step();
        steps.extend(before.zip(on_processor()).map(|(before, after)| after - before));
        frames += 1;
        assert!(frames < 200_000, "the run does not end");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let state = visit.harness.state();
    let ms = |share| state.frames.quantile(share).map_or(0.0, |d| d.as_secs_f64() * 1e3);
    println!(
        "MEASURED: {frames} frames with 100,000 rows and a run: work of the window's thread: median {:.2} ms, \
         p95 {:.2} ms, most {:.2} ms",
        ms(0.5),
        ms(0.95),
        ms(1.0)
    );
    steps.sort_unstable();
    if let Some(nanoseconds) = steps.get(steps.len() * 95 / 100) {
        let ms = *nanoseconds as f64 / 1e6;
        println!(
            "MEASURED: on the processor, the test's own work for a frame included: p95 {ms:.2} ms"
        );
    }
    assert!(state.run.as_ref().is_some_and(|run| run.steps.len() == 40), "{:?}", state.run);
}
