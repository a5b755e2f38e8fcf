//! `core-cli data template list`

use paddock_datasets::template::{Body, Template, clusters, library};

use crate::data::show::short;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A cluster (cluster:sentiment) or a file [default: all that come with the program].
    from: Option<String>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if let Some(from) = args.from {
        for template in library::find(&from)? {
            println!("{}", line(&template));
        }
        return Ok(());
    }
    println!("alpaca    the Alpaca prompts: columns instruction, input (may be absent), output");
    println!("prompt    prompt and answer as they are: columns prompt, completion");
    println!("text      plain text, all of it trained: column text");
    println!("conversation  several turns as plain text: columns messages or conversations");
    println!("chat      the model's own chat template (with --model)");
    println!("\nclusters of tasks (core-cli data template list cluster:NAME shows what is in one)");
    for name in clusters::names() {
        let Some(cluster) = clusters::bundled(name) else { continue };
        let cluster = cluster?;
        let inverted = cluster.templates.iter().filter(|t| t.inverted).count();
        let columns: Vec<&str> = cluster.columns.keys().map(String::as_str).collect();
        println!("cluster:{name}");
        println!("    {}", cluster.about);
        println!(
            "    {} templates, {inverted} of them ask for the input; columns {}",
            cluster.templates.len(),
            columns.join(", ")
        );
    }
    Ok(())
}

fn line(template: &Template) -> String {
    let what = match &template.body {
        Body::Jinja(body) => {
            let kind = if body.original_task { "" } else { " (not the original task)" };
            format!("{}{kind}", short(&body.jinja, 80))
        }
        _ => String::new(),
    };
    format!("{}\n    {what}", template.name)
}
