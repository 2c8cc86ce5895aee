//! `rocketmq`: the entry point of the RocketMQ image. `start` prepares a role's configuration and becomes its Java process, `probe` and
//! `serve-probes` tell people and the kubelet whether that process can serve, `admin` runs the engine's own admin tool with the cluster's addresses
//! filled in.

mod arguments;
mod java;
mod placeholders;
mod probe;
mod role;
mod settings;
mod start;

use std::convert::Infallible;
use std::env;
use std::process::ExitCode;

use arguments::Verb;
use settings::Settings;

fn main() -> ExitCode {
    let settings = settings();
    match Verb::parse(env::args().skip(1)) {
        Ok(Verb::Help) => say(arguments::USAGE),
        Ok(Verb::Start(role)) => never(start::start(role, &settings)),
        Ok(Verb::ServeProbes(role)) => never(probe::serve(role, self::settings)),
        Ok(Verb::Admin(arguments)) => never(java::admin(&settings, arguments)),
        Ok(Verb::Probe { role, live }) => match probe::probe(role, live, &settings) {
            Ok(sentence) => say(&sentence),
            Err(sentence) => {
                println!("{sentence}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("rocketmq: {error}\n\n{}", arguments::USAGE);
            ExitCode::from(2)
        }
    }
}

/// What the operator says now.
fn settings() -> Settings {
    let live = std::fs::read_to_string(start::LIVE).ok();
    Settings::from_lookup(|name| env::var(name).ok()).with_live(live.as_deref())
}

fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

/// Of what becomes another process only the failure to do so comes back.
fn never<E: std::error::Error>(outcome: Result<Infallible, E>) -> ExitCode {
    match outcome {
        Ok(never) => match never {},
        Err(error) => {
            let mut line = format!("rocketmq: {error}");
            let mut cause = error.source();
            while let Some(next) = cause {
                line.push_str(&format!(": {next}"));
                cause = next.source();
            }
            eprintln!("{line}");
            ExitCode::FAILURE
        }
    }
}
