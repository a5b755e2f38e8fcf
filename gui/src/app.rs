//! The app: what is shown, and how one gets from one screen to the next.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eframe::egui::{Context, Key, Modifiers, Ui};
use paddock_cli::run::lock::holder;
use paddock_cli::run::overview::{Overview, Tuned};

use crate::chat::Chat;
use crate::data::Data;
use crate::dialog::{Ask, Dialog};
use crate::engine::{Engine, Flags};
use crate::evaluate::Evaluate;
use crate::export::Export;
use crate::frames::Frames;
use crate::home::Home;
use crate::model::Model;
use crate::run::{Run, Stage};
pub use crate::screen::Screen;
use crate::studio::Studio;
use crate::task::{Work, sentence};
use crate::train::Train;
use crate::{frame_ui, plot_ui, theme};

/// How often, and how far apart, it is asked whether a run that has just ended has let go of its folder.
const LETS_GO: (u32, Duration) = (8, Duration::from_millis(40));

/// Everything that the app knows.
#[derive(Debug)]
pub struct App {
    /// Where work is done.
    pub engine: Engine,
    /// The screen that is shown.
    pub screen: Screen,
    /// Where one begins.
    pub home: Home,
    /// The rows.
    pub data: Data,
    /// Which model.
    pub model: Model,
    /// Settings and forecast.
    pub train: Train,
    /// The run that is followed or open.
    pub run: Option<Run>,
    /// Templates.
    pub studio: Studio,
    /// How good the answers are.
    pub evaluate: Evaluate,
    /// Talking with the result.
    pub chat: Chat,
    /// Handing it on.
    pub export: Export,
    /// A dialog of the system that is open.
    pub dialog: Option<Dialog>,
    /// Something that went wrong, until it is put away.
    pub trouble: Option<String>,
    /// Times of frames.
    pub frames: Frames,
    /// A picture that is being written.
    picture: Work<()>,
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut Ui, _: &mut eframe::Frame) {
        let began = Instant::now();
        let ctx = ui.ctx().clone();
        self.poll(&ctx);
        self.keys(&ctx);
        frame_ui::frame_ui(self, ui);
        self.frames.push(began.elapsed());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.engine.close();
    }
}

impl App {
    /// A fresh app.
    pub fn new(ctx: &Context, engine: Engine) -> App {
        theme::apply(ctx);
        App {
            engine,
            screen: Screen::Home,
            home: Home::default(),
            data: Data::default(),
            model: Model::default(),
            train: Train::default(),
            run: None,
            studio: Studio::default(),
            evaluate: Evaluate::default(),
            chat: Chat::default(),
            export: Export::default(),
            dialog: None,
            trouble: None,
            frames: Frames::default(),
            picture: Work::Idle,
        }
    }

    /// Takes over what threads, processes and the system have brought.
    fn poll(&mut self, ctx: &Context) {
        let dropped = ctx.input(|input| input.raw.dropped_files.clone());
        if let Some(file) = dropped.first() {
            self.open_path(ctx, file.path());
        }
        self.poll_dialog(ctx);
        self.model.poll(ctx);
        let tokenizer = self.model.tokenizer().cloned();
        self.data.poll(ctx, &self.engine, tokenizer.as_ref());
        if self.screen == Screen::Template {
            let table = self.data.table().cloned();
            self.studio.poll(ctx, table.as_ref(), self.data.row, tokenizer.as_ref());
        }
        self.evaluate.poll();
        if self.screen == Screen::Home {
            self.home.poll(ctx, &self.engine);
        }
        if self.screen == Screen::Train {
            self.home.poll_devices(ctx, &self.engine);
        }
        if self.screen == Screen::Train && self.data.missing().is_none() {
            let flags = self.flags();
            self.train.poll(ctx, &self.engine, &flags);
        }
        if let Some(run) = &mut self.run {
            run.poll();
        }
        self.export.work.poll();
        if self.picture.poll()
            && let Work::Failed(why) = std::mem::take(&mut self.picture)
        {
            self.trouble = Some(why);
        }
    }

    fn poll_dialog(&mut self, ctx: &Context) {
        let Some(dialog) = &mut self.dialog else { return };
        let Some(answer) = dialog.poll() else { return };
        let ask = dialog.ask;
        self.dialog = None;
        let Some(path) = answer else { return };
        match ask {
            Ask::Rows => self.open_rows(ctx, &path.display().to_string()),
            Ask::Model => self.choose_model(ctx, &path.display().to_string()),
            Ask::Weights => {
                let folder = path.parent().unwrap_or(&path);
                self.choose_model(ctx, &folder.display().to_string());
            }
            Ask::Run => self.open_path(ctx, &path),
            Ask::Runs => {
                self.engine.runs = path;
                self.home.look(ctx, &self.engine);
            }
            Ask::Export => self.export.path = path.display().to_string(),
            Ask::Template => {
                if let Err(error) = self.studio.import(&path) {
                    self.trouble = Some(sentence(&error));
                }
            }
            Ask::Picture => self.save_curves(ctx, &path),
        }
    }

    /// Ctrl and a number shows a screen.
    fn keys(&mut self, ctx: &Context) {
        const NUMBERS: [Key; 9] = [
            Key::Num1,
            Key::Num2,
            Key::Num3,
            Key::Num4,
            Key::Num5,
            Key::Num6,
            Key::Num7,
            Key::Num8,
            Key::Num9,
        ];
        for (key, screen) in NUMBERS.into_iter().zip(Screen::ALL) {
            let pressed = ctx.input_mut(|input| input.consume_key(Modifiers::COMMAND, key));
            if pressed && self.blocked(screen).is_none() {
                self.show(ctx, screen);
            }
        }
    }

    /// Shows a screen, and begins what it needs.
    pub fn show(&mut self, ctx: &Context, screen: Screen) {
        self.screen = screen;
        match screen {
            Screen::Train => self.train.try_again(),
            Screen::Chat => self.open_chat(ctx),
            Screen::Evaluate => self.prepare_evaluate(),
            Screen::Export => self.prepare_export(),
            _ => {}
        }
    }

    /// Why a screen cannot be shown yet, in words.
    pub fn blocked(&self, screen: Screen) -> Option<String> {
        match screen {
            Screen::Home | Screen::Data | Screen::Template | Screen::Model => None,
            Screen::Train => self.data.missing().or_else(|| self.model.missing()),
            Screen::Run => {
                self.run.is_none().then(|| "No run was started or opened yet.".to_string())
            }
            Screen::Evaluate | Screen::Chat | Screen::Export => self.result().err(),
        }
    }

    /// The result of the run that is open, or why there is none.
    pub fn result(&self) -> Result<Tuned, String> {
        let Some(run) = &self.run else {
            return Err("There is no tuned model yet: start or open a run first.".to_string());
        };
        match run.stage {
            Stage::Finished => {
                run.tuned.clone().ok_or_else(|| "The run left no model behind.".to_string())
            }
            Stage::Failed => Err("The run failed, so there is no tuned model.".to_string()),
            Stage::Stopped => Err("The run was stopped before its end: let it go on.".to_string()),
            _ => Err("The run is not over yet.".to_string()),
        }
    }

    /// Opens rows, and shows them.
    pub fn open_rows(&mut self, ctx: &Context, name: &str) {
        self.data.open(ctx, name);
        self.train.forget();
        self.screen = Screen::Data;
    }

    /// Chooses a model; what was forecast with another one, or as it was before, holds no more.
    pub fn choose_model(&mut self, ctx: &Context, name: &str) {
        self.model.choose(ctx, name);
        self.train.forget();
    }

    /// Opens whatever was dropped or chosen: a run, a model, or rows.
    pub fn open_path(&mut self, ctx: &Context, path: &Path) {
        if path.join("run.toml").is_file() {
            self.open_run(ctx, path);
        } else if let Some(folder) = model_folder(path) {
            self.choose_model(ctx, &folder.display().to_string());
            self.screen = Screen::Model;
        } else if path.is_dir() {
            self.trouble = Some(format!(
                "{} is a folder with neither a model (config.json) nor a run (run.toml) in it. Drop a file \
                 with rows, a model's folder or a run's folder.",
                path.display()
            ));
        } else {
            self.open_rows(ctx, &path.display().to_string());
        }
    }

    /// Opens a run by its folder, whether it goes on or is over.
    pub fn open_run(&mut self, ctx: &Context, path: &Path) {
        match Run::open(ctx, path) {
            Some(run) => {
                self.run = Some(run);
                self.screen = Screen::Run;
            }
            None => {
                self.trouble = Some(format!(
                    "{} holds no run that this version can read: its run.toml is missing or damaged.",
                    path.display()
                ));
            }
        }
    }

    /// All settings of the run that would be started now.
    pub fn flags(&self) -> Flags {
        let mut flags: Flags = vec![("model".to_string(), self.model.name.clone())];
        flags.extend(self.data.flags());
        // What is typed among all settings wins.
        flags.retain(|(key, _)| !self.train.changed.contains_key(key));
        let parameters = self.model.facts.done().map_or(0, |facts| facts.parameters);
        flags.extend(self.train.flags(parameters));
        flags
    }

    /// The folder of the run that would be started now.
    pub fn out(&self) -> PathBuf {
        let name = self.train.name.trim();
        if !name.is_empty() {
            return self.engine.runs.join(name);
        }
        let stem = |text: &str| -> String {
            let text = text.strip_prefix("bundled:").unwrap_or(text);
            let stem = Path::new(text).file_stem().map(|s| s.to_string_lossy().to_string());
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
            stem.unwrap_or_default().chars().map(plain).take(24).collect()
        };
        let data = self.data.opened.done().map_or("rows", |opened| &opened.name);
        let stem = format!("{}-{}", stem(&self.model.name), stem(data));
        self.engine.runs.join(self.engine.free_name(stem.trim_matches('-')))
    }

    /// Starts the run.
    pub fn start_run(&mut self, ctx: &Context) {
        if let Some(wrong) = self.train.wrong_name() {
            self.trouble = Some(wrong);
            return;
        }
        let out = self.out();
        let mut flags = self.flags();
        flags.push(("out".to_string(), out.display().to_string()));
        self.launch(ctx, &out, &flags, false);
    }

    /// Settings like those of the run that is open, but with a third of its learning rate.
    pub fn smaller_steps(&mut self) {
        let overview = self.run.as_ref().and_then(|run| Overview::of(&run.out));
        if let Some(lr) = overview.and_then(|overview| overview.config.lr) {
            self.train.changed.insert("lr".to_string(), format!("{:.1e}", lr / 3.0));
        }
    }

    /// Goes on with the run that is open; one that goes on already, from another window, is watched.
    pub fn resume_run(&mut self, ctx: &Context) {
        let Some(out) = self.run.as_ref().map(|run| run.out.clone()) else { return };
        // A process that has said its last word may need a moment to let go.
        let (times, apart) = LETS_GO;
        let held = (0..times).all(|_| {
            let held = holder(&out).is_some();
            if held {
                std::thread::sleep(apart);
            }
            held
        });
        if held {
            self.open_run(ctx, &out);
            return;
        }
        let flags = vec![("out".to_string(), out.display().to_string())];
        self.launch(ctx, &out, &flags, true);
    }

    fn launch(&mut self, ctx: &Context, out: &Path, flags: &Flags, resume: bool) {
        match self.engine.start_run(out, flags, resume) {
            Ok(started) => {
                let mut run = Run::started(ctx, &started);
                if resume && let Some(before) = self.run.take() {
                    run.goes_on_from(before);
                }
                self.run = Some(run);
                self.chat = Chat::default();
                self.export = Export::default();
                self.train.name.clear();
                self.screen = Screen::Run;
            }
            Err(error) => self.trouble = Some(sentence(&error)),
        }
    }

    /// Begins talking with the result of the run.
    pub fn open_chat(&mut self, ctx: &Context) {
        let (Some(run), Ok(tuned)) = (&self.run, self.result()) else { return };
        let base = run.base.as_deref();
        self.chat.open(ctx, run.out.clone(), &tuned, base, &run.machine);
    }

    /// Writes the curves of the run as a file; the ending of its name says what it is.
    pub fn save_curves(&mut self, ctx: &Context, path: &Path) {
        let Some(run) = &self.run else { return };
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
            let Some(plot) = run.plot else { return };
            self.picture = plot_ui::save_png(ctx, plot, path);
        } else if let Err(error) = plot_ui::save(run, path) {
            self.trouble = Some(sentence(&error));
        }
    }

    fn prepare_evaluate(&mut self) {
        let Some(run) = &self.run else { return };
        if self.evaluate.run == run.out {
            return;
        }
        let config = Overview::of(&run.out).map(|overview| overview.config);
        self.evaluate = Evaluate::of_run(&run.out, config);
    }

    fn prepare_export(&mut self) {
        let Some(run) = &self.run else { return };
        if self.export.path.is_empty() {
            self.export.path = run.out.join("merged").display().to_string();
        }
    }
}

/// The model's folder, if `path` is one or a file of weights in one.
fn model_folder(path: &Path) -> Option<&Path> {
    let weights = path.extension().is_some_and(|end| end == "safetensors");
    let folder = if weights { path.parent()? } else { path };
    folder.join("config.json").is_file().then_some(folder)
}
