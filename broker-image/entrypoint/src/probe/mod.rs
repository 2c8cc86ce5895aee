//! `rocketmq probe`: facts are gathered here, by asking; [`verdict`] judges them; [`server`] answers the kubelet.

mod facts;
mod server;
mod verdict;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::role::Role;
use crate::settings::Settings;
pub use server::serve;
use verdict::Unfit;

/// The longest a probe takes. Longer than all its questions one after another, shorter than the five seconds after which the operator's probes give up.
const WHOLE: Duration = Duration::from_secs(4);

/// Judges a role's process: a sentence that says why it can serve (or, for `live`, that it does not hang), or why not.
pub fn probe(role: Role, live: bool, settings: &Settings) -> Result<String, String> {
    let settings = settings.clone();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let judged = if live { liveness(role, &settings) } else { readiness(role, &settings) };
        // Nobody listens any more when it took too long.
        let _ = sender.send(judged.map_err(|reason| reason.to_string()));
    });
    receiver.recv_timeout(WHOLE).unwrap_or_else(|_| {
        let sentence = format!("the questions were not answered within {} s", WHOLE.as_secs());
        // What hangs is proven by a connection without an answer, never by slowness of this machine.
        if live { Ok(sentence) } else { Err(sentence) }
    })
}

/// Succeeds when some name server lists a master that takes messages.
pub fn writable_master(settings: &Settings) -> Result<String, Unfit> {
    verdict::writable_master(&facts::writable_masters(settings))
}

fn readiness(role: Role, settings: &Settings) -> Result<String, Unfit> {
    match role {
        Role::NameServer => verdict::name_server(&facts::name_server(settings)),
        Role::Controller => verdict::controller(&facts::controller(settings)),
        Role::Broker => verdict::broker(&facts::broker(settings)),
        Role::Proxy => verdict::proxy(&facts::proxy(settings)),
    }
}

fn liveness(role: Role, settings: &Settings) -> Result<String, Unfit> {
    verdict::live(role, &facts::life(role, settings))
}
