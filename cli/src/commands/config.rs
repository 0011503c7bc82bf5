//! `tandem config`: what can be said about the configuration without a running daemon, where it
//! differs from another node's, and bringing a changed one to both.

mod apply;
mod diff;

use anyhow::Result;

use crate::args::ConfigCommand;
use crate::config::{Dirs, load, show_duration};
use crate::exit::Exit;

pub(crate) fn run(dirs: &Dirs, command: &ConfigCommand) -> Result<Exit> {
    match command {
        ConfigCommand::Check => check(dirs),
        ConfigCommand::Apply(args) => apply::run(dirs, args),
        ConfigCommand::Diff { node } => diff::run(dirs, node.as_deref()),
    }
}

/// Prints every problem, or what the configuration says.
fn check(dirs: &Dirs) -> Result<Exit> {
    let loaded = load(dirs);
    for file in &loaded.ignored {
        println!("{}: ignored, a module's file ends in .ron", file.display());
    }
    let config = loaded.complete()?;
    let names: Vec<_> = config
        .modules
        .iter()
        .map(|module| module.name.as_str())
        .collect();
    let modules = match names.as_slice() {
        [] => "no modules".into(),
        [one] => format!("module {one}"),
        more => format!("modules {}", more.join(", ")),
    };
    println!(
        "configuration is valid: cluster {}, node {}, {modules}",
        config.cluster.name, config.node
    );
    for module in &config.modules {
        let [first, second] = &module.nodes;
        println!(
            "  {}: mirror on {first} and {second}, port {}, ack {}, stall limit {}",
            module.name,
            module.port.value,
            format!("{:?}", module.ack).to_lowercase(),
            show_duration(module.stall_limit),
        );
        for directory in &module.directories {
            println!("    {}", directory.value.path.display());
        }
    }
    Ok(Exit::Done)
}
