//! The system's dialogs for files and folders, asked on a thread so that the window goes on.

use std::path::PathBuf;

use eframe::egui::Context;

use crate::data::ENDINGS;
use crate::task::Task;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A file with rows.
    Rows,
    /// A model's folder.
    Model,
    /// A model's file of weights, in its folder.
    Weights,
    /// A run's folder.
    Run,
    /// The folder that holds runs.
    Runs,
    /// A place for an exported model.
    Export,
    /// A template file.
    Template,
    /// A name for a picture of a plot.
    Picture,
}

/// A dialog that is open.
#[derive(Debug)]
pub struct Dialog {
    /// What it asks for.
    pub ask: Ask,
    task: Task<Option<PathBuf>>,
}

impl Dialog {
    /// Opens the dialog.
    pub fn open(ctx: &Context, ask: Ask) -> Dialog {
        Dialog { ask, task: Task::spawn(ctx, move |_| Ok(show(ask))) }
    }

    /// What was chosen: nothing yet, nothing at all, or a path.
    pub fn poll(&mut self) -> Option<Option<PathBuf>> {
        self.task.poll().map(|result| result.ok().flatten())
    }
}

fn show(ask: Ask) -> Option<PathBuf> {
    let dialog = rfd::FileDialog::new();
    match ask {
        Ask::Rows => dialog
            .set_title("Open rows")
            .add_filter("Rows (CSV, JSON, Parquet and others)", &ENDINGS)
            .add_filter("All files", &["*"])
            .pick_file(),
        Ask::Model => dialog.set_title("The folder of a model").pick_folder(),
        Ask::Weights => dialog
            .set_title("A model's weights")
            .add_filter("Weights (safetensors)", &["safetensors"])
            .pick_file(),
        Ask::Run => dialog.set_title("The folder of a run").pick_folder(),
        Ask::Runs => dialog.set_title("Where runs are kept").pick_folder(),
        Ask::Export => dialog.set_title("A new folder for the model").save_file(),
        Ask::Template => dialog
            .set_title("A template file")
            .add_filter("Templates", &["json", "yaml", "yml"])
            .pick_file(),
        Ask::Picture => dialog
            .set_title("Save the plot")
            .set_file_name("loss.png")
            .add_filter("PNG, SVG or CSV", &["png", "svg", "csv"])
            .save_file(),
    }
}
