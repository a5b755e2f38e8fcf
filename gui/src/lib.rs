//! Paddock's desktop app: fine-tuning for people who do not program.
//!
//! State stands apart from widgets: `data.rs` is what is known of the rows, `data_ui.rs` how that is shown, and
//! so for each screen. Short work is done on threads ([`task`]) or by core-cli as a child process ([`engine`]);
//! a run is a process of its own that lives on when the window closes, and is followed through its files
//! ([`follow`]). The app holds no logic that core-cli lacks.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod app;
pub mod chat;
mod chat_ui;
pub mod data;
mod data_ui;
pub mod dialog;
pub mod engine;
pub mod evaluate;
mod evaluate_ui;
pub mod export;
mod export_ui;
pub mod follow;
pub mod forgetting;
mod forgetting_ui;
mod frame_ui;
pub mod frames;
pub mod grading;
mod grading_ui;
pub mod home;
mod home_ui;
pub mod mix;
mod mix_ui;
pub mod model;
mod model_ui;
mod parts;
pub mod plot_ui;
pub mod run;
mod run_ui;
mod samples_ui;
pub mod screen;
pub mod split;
mod split_ui;
pub mod studio;
mod studio_ui;
mod table_ui;
pub mod task;
pub mod theme;
pub mod train;
mod train_ui;
mod voting_ui;
