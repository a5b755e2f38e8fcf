//! `core-cli data template show`

use paddock_datasets::template::{Body, library};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The template: a built-in name, cluster:NAME/TEMPLATE, or FILE.yaml#TEMPLATE.
    template: String,
    /// Print template.json instead.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    for template in library::find(&args.template)? {
        if args.json {
            println!("{}", template.to_json());
            continue;
        }
        println!("template  {}", template.name);
        println!("hash      {}", template.hash());
        match &template.body {
            Body::Jinja(body) => {
                let variables = template.compile()?.variables();
                let columns: Vec<&str> = variables
                    .iter()
                    .map(String::as_str)
                    .filter(|v| *v != "answer_choices")
                    .collect();
                println!("reads     {}", columns.join(", "));
                if let Some(choices) = &body.answer_choices {
                    println!("choices   {choices}");
                }
                if !body.metrics.is_empty() {
                    println!("metrics   {}", body.metrics.join(", "));
                }
                let task = if body.original_task { "the data's own" } else { "another one" };
                println!("task      {task}");
                println!("\n{}\n", body.jinja);
            }
            Body::Alpaca => {
                println!("reads     instruction, input (may be absent), output");
                println!("\nThe two prompts of Stanford Alpaca, with and without an input.\n");
            }
            _ => println!("\n{}\n", template.to_json()),
        }
    }
    Ok(())
}
