//! `paddock`: the desktop app. With `core-cli` as its first word it is the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use eframe::egui::{Theme, vec2};
use paddock_cli::commands::{Cli, run};
use paddock_cli::guard::{Guarded, watch_templates};
use paddock_gui::app::App;
use paddock_gui::engine::{AS_CLI, AS_RUN, Engine};

/// With limits for templates, which may be a stranger's. A template that passes them ends the window (a run
/// goes on), which is better than a machine without memory.
#[global_allocator]
static MEMORY: Guarded = Guarded;

fn main() -> ExitCode {
    watch_templates();
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let first = arguments.get(1).cloned().unwrap_or_default();
    if first == AS_CLI || first == AS_RUN {
        if first == AS_RUN {
            paddock_cli::run::process::own_session();
        }
        arguments.remove(1);
        return run(Cli::parse_from(arguments));
    }
    if first == "--help" || first == "-h" {
        println!(
            "Usage: paddock [FILE | FOLDER]\n\nOpens Paddock's window, with rows, a model or a run if named."
        );
        return ExitCode::SUCCESS;
    }
    if first == "--version" || first == "-V" {
        println!("paddock {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match open_window((!first.is_empty()).then(|| PathBuf::from(first))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "error: the window cannot be opened: {error}. Without a display, core-cli does the same work."
            );
            ExitCode::FAILURE
        }
    }
}

/// Tries OpenGL first, which the oldest machines have, then Vulkan and its like.
fn open_window(path: Option<PathBuf>) -> eframe::Result {
    let forced = std::env::var("PADDOCK_RENDERER").ok();
    let renderers = match forced.as_deref() {
        Some("wgpu") => vec![eframe::Renderer::Wgpu],
        Some("glow") => vec![eframe::Renderer::Glow],
        _ => vec![eframe::Renderer::Glow, eframe::Renderer::Wgpu],
    };
    let mut result = Ok(());
    for renderer in renderers {
        let viewport = eframe::egui::ViewportBuilder::default()
            .with_title("Paddock")
            .with_app_id("paddock")
            .with_inner_size(vec2(1180.0, 760.0))
            .with_min_inner_size(vec2(720.0, 480.0))
            .with_drag_and_drop(true);
        let options =
            eframe::NativeOptions { viewport, renderer, ..eframe::NativeOptions::default() };
        let path = path.clone();
        result = eframe::run_native(
            "Paddock",
            options,
            Box::new(move |created| {
                let ctx = &created.egui_ctx;
                match std::env::var("PADDOCK_THEME").as_deref() {
                    Ok("light") => ctx.set_theme(Theme::Light),
                    Ok("dark") => ctx.set_theme(Theme::Dark),
                    _ => {}
                }
                let mut app = App::new(ctx, Engine::here()?);
                if let Some(path) = path {
                    app.open_path(ctx, &path);
                }
                Ok(Box::new(app))
            }),
        );
        if result.is_ok() {
            break;
        }
    }
    result
}
