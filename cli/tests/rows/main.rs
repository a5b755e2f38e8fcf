//! Rows on their way into training: faults in tokenizers, templates and data (F18 to F35), mixtures, chat
//! templates, the token cache, test rows, plans; and how the program is packed.

mod chat;
mod faults_data;
mod faults_text;
mod judged;
mod mixture;
mod package;
mod plan;
