//! The operator's command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gantry::config::Settings;
use gantry::import::Import;

/// Kubernetes operator for Apache RocketMQ 5.
#[derive(Parser)]
#[command(name = "gantry", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator.
    Run(Settings),
    /// Print the definitions of all kinds as YAML, or apply them.
    Crds {
        /// Apply them to the cluster, and wait until it serves them.
        #[arg(long)]
        apply: bool,
        /// In whose name they are applied. Helm's, where Helm installed them: its next install would find a conflict otherwise.
        #[arg(long, default_value = gantry::labels::MANAGER, requires = "apply")]
        field_manager: String,
    },
    /// Show what manifests would create or change, or why they would be refused, without a cluster.
    Plan {
        /// Manifests, each of one or more documents; `-` is standard input.
        #[arg(short, required = true, num_args = 1..)]
        filename: Vec<PathBuf>,
        /// The manifests as they are applied now: only differences are shown.
        #[arg(long, num_args = 1..)]
        from: Vec<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Print the topics and consumer groups that a cluster's brokers hold as manifests, e.g. in the operator's pod.
    Import(Import),
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Crds { apply: true, field_manager } => {
            gantry::telemetry::init();
            runtime()?.block_on(gantry::definitions::run(&field_manager))
        }
        Command::Crds { .. } => {
            print!("{}", gantry::offline::definitions()?);
            Ok(())
        }
        Command::Plan { filename, from, settings } => {
            print!("{}", gantry::offline::plan(&filename, &from, &settings)?);
            Ok(())
        }
        Command::Import(what) => {
            print!("{}", runtime()?.block_on(gantry::import::import(&what))?);
            Ok(())
        }
        Command::Run(settings) => {
            gantry::telemetry::init();
            runtime()?.block_on(gantry::run::run(settings))
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    // One TLS provider for the whole process, whatever dependencies would choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
