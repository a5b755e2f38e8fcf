//! All templates that a person may choose from, with what they are called, and templates written by hand.

use std::path::{Path, PathBuf};

use anyhow::Context;
use paddock_datasets::template::{Body, Template, clusters, library};
use paddock_datasets::tokenizer::Tokenizer;

use crate::run::folder::check_name;
use crate::train::reader::{CHAT, chat_template, named_template};

/// Templates that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are called together.
    pub name: String,
    /// What is asked in them.
    pub about: String,
    /// The templates, as `--template` takes them.
    pub names: Vec<String>,
    /// Those of them that ask for the input, given the answer.
    pub inverted: Vec<String>,
}

/// What comes with the program: the built-in ones, then a group for each cluster of tasks.
pub fn built_in() -> anyhow::Result<Vec<Group>> {
    let mut groups = vec![Group {
        name: "built in".into(),
        about: "They fit the columns that data usually have.".into(),
        names: ["prompt", "alpaca", CHAT, "conversation"].map(str::to_string).to_vec(),
        inverted: Vec::new(),
    }];
    for name in clusters::names() {
        let Some(cluster) = clusters::bundled(name) else { continue };
        let cluster = cluster?;
        let called =
            |t: &clusters::ClusterTemplate| format!("{}{}", library::CLUSTER, t.template.name);
        groups.push(Group {
            name: cluster.name.replace('_', " "),
            about: cluster.about.clone(),
            names: cluster.templates.iter().map(called).collect(),
            inverted: cluster.templates.iter().filter(|t| t.inverted).map(called).collect(),
        });
    }
    Ok(groups)
}

/// The templates of a file (template.json, promptsource's YAML, a cluster's YAML) as a group.
pub fn of_file(path: &Path) -> anyhow::Result<Group> {
    let found = library::load(path)?;
    let file = path.display().to_string();
    let called = |t: &Template| match found.len() {
        1 => file.clone(),
        _ => format!("{file}#{}", t.name),
    };
    let name = path.file_name().map(|name| name.to_string_lossy().to_string());
    Ok(Group {
        name: name.unwrap_or_else(|| file.clone()),
        about: file.clone(),
        names: found.iter().map(called).collect(),
        inverted: Vec::new(),
    })
}

/// Question, answer and choices of a template that is written in Jinja; `None` for one that is a part of the
/// program.
pub fn source(template: &Template) -> Option<(String, String)> {
    match &template.body {
        Body::Jinja(body) => {
            Some((body.jinja.clone(), body.answer_choices.clone().unwrap_or_default()))
        }
        _ => None,
    }
}

/// What a template of the shelf is for, where its name does not say.
pub fn about(name: &str) -> Option<&'static str> {
    Some(match name {
        "prompt" => "The question as it is, then the answer.",
        "alpaca" => "Alpaca's words around the question: \"Below is an instruction …\"",
        CHAT => "The chat format that the model was made with, if it has one.",
        "conversation" => "A conversation as plain text, for models without a chat format.",
        _ => return None,
    })
}

/// The template of a name; `chat` is that of the model whose tokenizer is given.
///
/// # Errors
/// If there is none, with what there is.
pub fn named(name: &str, tokenizer: Option<&Tokenizer>) -> anyhow::Result<Template> {
    match tokenizer {
        Some(tokenizer) if name == CHAT => chat_template(tokenizer, None),
        None if name == CHAT => {
            Err(crate::error::bad_input("the chat format is the model's own: choose a model first"))
        }
        _ => named_template(name),
    }
}

/// A template that asks for what the rows ask, given their answer.
pub fn inverted(prompt: &str, answer: &str) -> String {
    format!(
        "{{{{ {answer} }}}}\n\nWrite something to which this is the right answer. ||| {{{{ {prompt} }}}}"
    )
}

/// A template of one's own.
pub fn written(name: &str, jinja: &str, choices: &str) -> Template {
    let choices = Some(choices.trim()).filter(|choices| !choices.is_empty());
    Template::jinja(name, jinja, choices)
}

/// Writes a template as a file of that name in `folder`; where another one has the name already, with a number
/// behind it: runs may have been made with that one.
///
/// # Errors
/// A name that is no name for a file; what the system says.
pub fn keep(folder: &Path, template: &Template) -> anyhow::Result<PathBuf> {
    check_name(&template.name)?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let place = |n: u32| match n {
        1 => folder.join(format!("{}.json", template.name)),
        n => folder.join(format!("{}-{n}.json", template.name)),
    };
    let same = |path: &PathBuf| {
        let known = Template::load(path);
        !path.exists() || known.is_ok_and(|known| known.hash() == template.hash())
    };
    let path = (1..).map(place).find(same).unwrap_or_default();
    std::fs::write(&path, template.to_json())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_of_the_shelf_can_be_used_by_its_name() -> anyhow::Result<()> {
        let groups = built_in()?;
        let names: Vec<&String> = groups.iter().flat_map(|group| &group.names).collect();
        assert!(names.len() > 150, "{}", names.len());
        for name in names.into_iter().filter(|name| *name != CHAT) {
            named(name, None)?;
        }
        assert!(named(CHAT, None).is_err());
        assert!(groups.iter().map(|group| group.inverted.len()).sum::<usize>() > 5);
        Ok(())
    }

    #[test]
    fn a_template_of_ones_own_comes_back() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let template = written("mine", "{{ a }} ||| {{ b }}", " yes ||| no ");
        let path = keep(dir.path(), &template)?;
        let group = of_file(&path)?;
        assert_eq!(group.names, [path.display().to_string()]);
        let found = named_template(&group.names[0])?;
        assert_eq!(found.hash(), template.hash());
        assert_eq!(source(&found), Some(("{{ a }} ||| {{ b }}".into(), "yes ||| no".into())));
        assert_eq!(keep(dir.path(), &template)?, path);
        let other = keep(dir.path(), &written("mine", "x ||| y", ""))?;
        assert!(other.ends_with("mine-2.json"), "{}", other.display());
        assert!(keep(dir.path(), &written("../out", "x ||| y", "")).is_err());
        Ok(())
    }
}
