//! A person at the app: finds things by the labels that a screen reader says, presses, waits, looks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eframe::egui::{Role, Theme, Vec2};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, SnapshotOptions};
use paddock_gui::app::App;
use paddock_gui::engine::{Engine, Flags};
use tempfile::TempDir;

/// The longest that anything may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Pixels of a picture that may differ: letters are drawn a little differently by other drivers.
const DIFFERENT_PIXELS: usize = 900;

/// A person with a window and an empty folder of runs.
pub struct Visit {
    /// The window.
    pub harness: Harness<'static, App>,
    /// Presses so far.
    pub clicks: usize,
    /// Everything that is written.
    pub dir: TempDir,
    /// Whether pictures can be drawn here.
    pub draws: bool,
}

/// The smallest window that everything has to fit into.
pub const SMALL: Vec2 = Vec2::new(1024.0, 640.0);
/// A usual one.
pub const USUAL: Vec2 = Vec2::new(1280.0, 720.0);

/// Whether pictures can be drawn here; a loud word if not.
fn can_draw() -> bool {
    let setup = egui_kittest::wgpu::default_wgpu_setup;
    let options = Default::default();
    let drawn =
        std::panic::catch_unwind(|| egui_kittest::wgpu::create_render_state(setup(), options));
    if drawn.is_ok() {
        return true;
    }
    println!("SKIPPED: pictures of the app: no graphics driver, not even Mesa's in software");
    let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "wgpu"), "PADDOCK_REQUIRE names wgpu");
    false
}

/// A window of an app whose runs are kept in `dir`.
fn window(dir: &Path, size: Vec2, theme: Theme, draws: bool) -> Harness<'static, App> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_paddock"));
    let engine = Engine::new(program, dir.join("runs"));
    let builder = Harness::builder().with_size(size).with_theme(theme).with_max_steps(12);
    let builder = if draws { builder.wgpu() } else { builder };
    builder.build_eframe(|created| App::new(&created.egui_ctx, engine))
}

impl Visit {
    /// Opens the app.
    pub fn new(size: Vec2) -> Visit {
        Visit::in_theme(size, Theme::Light)
    }

    /// Opens the app by day or by night.
    pub fn in_theme(size: Vec2, theme: Theme) -> Visit {
        let dir = tempfile::tempdir().expect("a folder");
        let draws = can_draw();
        let harness = window(dir.path(), size, theme, draws);
        Visit { harness, clicks: 0, dir, draws }
    }

    /// Closes the window and opens it again: what is only in memory is lost.
    pub fn come_back(&mut self, size: Vec2) {
        self.harness = window(self.dir.path(), size, Theme::Light, self.draws);
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn wait(&mut self, what: &str, so: impl Fn(&Harness<'static, App>) -> bool) {
        let began = Instant::now();
        loop {
            self.harness.step();
            if so(&self.harness) {
                return;
            }
            if began.elapsed() > PATIENCE {
                let seen = self.labels().join("\n");
                panic!("waited in vain for {what}; on the screen:\n{seen}");
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Waits until a label is on the screen that contains these words.
    #[track_caller]
    pub fn wait_for(&mut self, words: &str) {
        let wanted = words.to_string();
        self.wait(words, move |h| h.query_all_by_label_contains(&wanted).next().is_some());
    }

    /// Waits until a button can be pressed, and presses it.
    #[track_caller]
    pub fn press(&mut self, label: &str) {
        let wanted = label.to_string();
        self.wait(&format!("a button {label}"), move |h| {
            let mut found = h.query_all_by_label(&wanted);
            found.any(|node| !node.accesskit_node().is_disabled())
        });
        // What is out of sight is scrolled to, as a person would.
        self.button(label).scroll_to_me();
        self.settle();
        self.button(label).click();
        self.clicks += 1;
        self.settle();
    }

    /// The button of that name.
    #[track_caller]
    fn button(&self, label: &str) -> egui_kittest::Node<'_> {
        let pressable = |role| {
            matches!(
                role,
                Role::Button | Role::RadioButton | Role::CheckBox | Role::DisclosureTriangle
            )
        };
        let wanted = label.to_string();
        let mut all = self.harness.root().children_recursive();
        let found = all.find(|node| {
            let node = node.accesskit_node();
            pressable(node.role()) && node.label().as_deref() == Some(&wanted)
        });
        found.unwrap_or_else(|| panic!("{label} is no button"))
    }

    /// Lets the window come to rest.
    pub fn settle(&mut self) {
        for _ in 0..3 {
            self.harness.step();
        }
    }

    /// Types into a field.
    #[track_caller]
    pub fn write(&mut self, field: &str, text: &str) {
        let found = self.harness.get_by_role_and_label(Role::TextInput, field);
        found.focus();
        self.harness.step();
        self.harness.get_by_role_and_label(Role::TextInput, field).type_text(text);
        self.settle();
    }

    /// Chooses from a list that opens when it is pressed.
    #[track_caller]
    pub fn choose(&mut self, list: &str, option: &str) {
        self.wait(&format!("a list {list}"), {
            let list = list.to_string();
            move |h| h.query_by_role_and_label(Role::ComboBox, &list).is_some()
        });
        self.harness.get_by_role_and_label(Role::ComboBox, list).scroll_to_me();
        self.settle();
        self.harness.get_by_role_and_label(Role::ComboBox, list).click();
        self.settle();
        self.press(option);
        self.clicks += 1;
    }

    /// Scrolls to something, as a person would who wants to see it.
    pub fn scroll_to(&mut self, label: &str) {
        self.harness.get_by_label(label).scroll_to_me();
        for _ in 0..8 {
            self.settle();
        }
    }

    /// Settings of a short run in the folder of runs, but for model and rows.
    pub fn flags(&self, name: &str) -> (PathBuf, Flags) {
        let out = self.dir.path().join("runs").join(name);
        let list = [
            ("max_steps", "6"),
            ("lr", "2e-3"),
            ("batch_size", "4"),
            ("test_rows", "0"),
            ("samples", "0"),
        ];
        let mut flags: Flags = list.map(|(k, v)| (k.to_string(), v.to_string())).to_vec();
        flags.push(("out".into(), out.display().to_string()));
        (out, flags)
    }

    /// Drops a file or folder on the window.
    pub fn drop_file(&mut self, path: &Path) {
        #[derive(Debug)]
        struct Dropped(PathBuf);
        impl eframe::egui::DroppedFile for Dropped {
            fn path(&self) -> &Path {
                &self.0
            }
            fn bytes(&self) -> Result<Vec<u8>, String> {
                std::fs::read(&self.0).map_err(|error| error.to_string())
            }
        }
        let file = std::sync::Arc::new(Dropped(path.to_path_buf()));
        self.harness.input_mut().dropped_files.push(file);
        self.settle();
    }

    /// All labels on the screen.
    pub fn labels(&self) -> Vec<String> {
        let nodes = self.harness.root().children_recursive();
        nodes.filter_map(|node| node.accesskit_node().label()).collect()
    }

    /// Every control has a name; and the screen looks as it did.
    #[track_caller]
    pub fn look(&mut self, name: &str) {
        self.harness.remove_cursor();
        self.settle();
        self.harness.check_accessibility();
        if !self.draws {
            return;
        }
        let options = SnapshotOptions::new().threshold(1.2).max_failed_pixels(DIFFERENT_PIXELS);
        self.harness.snapshot_options(name, &options);
    }

    /// A picture for docs/app.md, drawn anew where PADDOCK_DOCS asks for it.
    pub fn picture(&mut self, name: &str) {
        self.harness.remove_cursor();
        self.settle();
        self.harness.check_accessibility();
        if !self.draws || std::env::var_os("PADDOCK_DOCS").is_none() {
            return;
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/app");
        std::fs::create_dir_all(&folder).expect("docs/app");
        let image = self.harness.render().expect("a picture");
        image.save(folder.join(format!("{name}.png"))).expect("written");
    }
}
