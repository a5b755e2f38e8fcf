//! The screens.

/// The screens, in the order of a visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Screen {
    /// Where one begins.
    #[default]
    Home,
    /// The rows.
    Data,
    /// Words around question and answer.
    Template,
    /// Which model.
    Model,
    /// Settings and forecast.
    Train,
    /// The run.
    Run,
    /// How good the answers are.
    Evaluate,
    /// Talking with the result.
    Chat,
    /// Handing it on.
    Export,
}

impl Screen {
    /// All of them.
    pub const ALL: [Screen; 9] = [
        Screen::Home,
        Screen::Data,
        Screen::Template,
        Screen::Model,
        Screen::Train,
        Screen::Run,
        Screen::Evaluate,
        Screen::Chat,
        Screen::Export,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Screen::Home => "Home",
            Screen::Data => "Data",
            Screen::Template => "Template",
            Screen::Model => "Model",
            Screen::Train => "Train",
            Screen::Run => "Run",
            Screen::Evaluate => "Evaluate",
            Screen::Chat => "Chat",
            Screen::Export => "Export",
        }
    }
}
