//! The real window on a virtual display, drawn by the renderer that people get, and looked at.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that a window may take to come up on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that is there, or a loud word.
fn has(program: &str, argument: &str) -> bool {
    let found = Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        println!("SKIPPED: the real window: {program} is not here (Debian: xvfb, imagemagick)");
    }
    found
}

/// A virtual display of its own; the number is chosen by the server.
fn display(dir: &Path) -> Option<(Ends, String)> {
    let number = dir.join("display");
    let server = Command::new("sh")
        .arg("-c")
        .arg("exec Xvfb -displayfd 3 -screen 0 1280x800x24 -nolisten tcp 3>\"$0\"")
        .arg(&number)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let server = Ends(server);
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let text = std::fs::read_to_string(&number).unwrap_or_default();
        if text.ends_with('\n') {
            return Some((server, format!(":{}", text.trim())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

/// Colours of a picture of the display that are those of the app's rail and main button, in pixels.
fn looked_at(display: &str, file: &Path) -> (usize, usize) {
    let taken = Command::new("import")
        .args(["-display", display, "-window", "root"])
        .arg(file)
        .stderr(Stdio::null())
        .status();
    if !taken.is_ok_and(|status| status.success()) {
        return (0, 0);
    }
    let Ok(picture) = image::open(file) else { return (0, 0) };
    let near = |pixel: &image::Rgb<u8>, wanted: [u8; 3]| {
        pixel.0.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= 3)
    };
    let picture = picture.to_rgb8();
    let count = |wanted| picture.pixels().filter(|pixel| near(pixel, wanted)).count();
    let p = paddock_gui::theme::LIGHT;
    let rgb = |c: eframe::egui::Color32| [c.r(), c.g(), c.b()];
    (count(rgb(p.rail)), count(rgb(p.accent)))
}

fn opens_with(renderer: &str) {
    if !has("Xvfb", "-help") || !has("import", "-version") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (_server, display) = display(dir.path()).expect("a display");
    let app = Command::new(env!("CARGO_BIN_EXE_paddock"))
        .env("DISPLAY", &display)
        .env("PADDOCK_RENDERER", renderer)
        .env("PADDOCK_RUNS", dir.path().join("runs"))
        .env("PADDOCK_THEME", "light")
        .env_remove("WAYLAND_DISPLAY")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the app");
    let mut app = Ends(app);
    let file = std::env::var_os("PADDOCK_WINDOW_PICTURE")
        .map_or_else(|| dir.path().join("window.png"), std::path::PathBuf::from);
    let began = Instant::now();
    loop {
        let (rail, accent) = looked_at(&display, &file);
        if rail > 20_000 && accent > 1_000 {
            println!(
                "{renderer}: the window is there: {rail} pixels of the rail, {accent} of the accent"
            );
            break;
        }
        if let Ok(Some(status)) = app.0.try_wait() {
            use std::io::Read as _;
            let mut said = String::new();
            let _ = app.0.stderr.take().expect("stderr").read_to_string(&mut said);
            panic!("the app ended by itself ({status}): {said}");
        }
        assert!(began.elapsed() < PATIENCE, "no window: {rail} and {accent} pixels");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn the_real_window_opens_with_opengl() {
    opens_with("glow");
}

#[test]
fn the_real_window_opens_with_vulkan() {
    opens_with("wgpu");
}
